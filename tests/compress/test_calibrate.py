"""Calibration statistics equal those of all samples at once, however they were split."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcc.compress.calibrate import CalibrationStats, TensorStats
from fcc.errors import CalibrationError

BATCH = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)


def stats_of(*batches: NDArray[Any]) -> TensorStats:
    stats = TensorStats()
    for batch in batches:
        stats.update(batch)
    return stats


def same(a: TensorStats, b: TensorStats) -> bool:
    exact = (a.count, a.min, a.max, a.nonfinite) == (b.count, b.min, b.max, b.nonfinite)
    return exact and bool(np.isclose(a.mean, b.mean, rtol=1e-9, atol=1e-6))


@given(st.lists(BATCH, max_size=5))
def test_ragged_batches_equal_one_array(batches: list[NDArray[np.float32]]) -> None:
    everything = np.concatenate([np.ravel(b) for b in batches]) if batches else np.zeros(0, np.float32)
    stats = stats_of(*batches)
    assert stats.count == everything.size
    if everything.size:
        assert (stats.min, stats.max) == (everything.min(), everything.max())
        assert np.isclose(stats.mean, everything.mean(dtype=np.float64), rtol=1e-9, atol=1e-6)


@given(BATCH, BATCH, BATCH)
def test_merging_is_associative_and_commutative(a: Any, b: Any, c: Any) -> None:
    x, y, z = stats_of(a), stats_of(b), stats_of(c)
    assert same(x.merged(y).merged(z), x.merged(y.merged(z)))
    assert same(x.merged(y), y.merged(x))
    assert same(x.merged(y).merged(z), stats_of(a, b, c))
    assert x.merged(TensorStats()) == x == TensorStats().merged(x)


def test_merging_leaves_its_operands() -> None:
    x, y = stats_of(np.array([1.0])), stats_of(np.array([5.0]))
    x.merged(y)
    assert (x.count, x.max, y.count) == (1, 1.0, 1)


def test_half_precision_sums_do_not_overflow() -> None:
    stats = stats_of(np.full((1000, 1000), 60000, np.float16))
    assert (stats.count, stats.mean) == (10**6, 60000.0)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float64, ml_dtypes.bfloat16])
def test_dtypes(dtype: Any) -> None:
    stats = stats_of(np.array([0, 1, 1], dtype))
    assert (stats.count, stats.min, stats.max) == (3, 0.0, 1.0)
    assert np.isclose(stats.mean, 2 / 3)


def test_nonfinite_values_are_counted_and_kept_out() -> None:
    stats = stats_of(np.array([1.0, np.nan, -2.0, np.inf, -np.inf]), np.array([np.nan]))
    assert (stats.count, stats.min, stats.max, stats.nonfinite) == (2, -2.0, 1.0, 4)
    assert stats.merged(stats).nonfinite == 8


def test_by_name() -> None:
    first, second = CalibrationStats(), CalibrationStats()
    first.update({"x": np.array([1.0, 2.0]), "h": np.array([0.0])})
    second.update({"x": np.array([[-1.0]]), "y": np.array([3.0])})
    merged = first.merged(second)
    assert set(merged) == {"x", "h", "y"}
    assert len(merged) == 3
    assert merged.range("x") == (-1.0, 2.0)
    assert merged.range("y") == (3.0, 3.0)
    assert first.range("x") == (1.0, 2.0)


def test_range_errors_name_the_tensor() -> None:
    stats = CalibrationStats()
    stats.update({"hidden": np.array([np.nan, 1.0]), "empty": np.zeros((0, 3))})
    with pytest.raises(CalibrationError, match=r"'hiden'.*did you mean 'hidden'"):
        stats.range("hiden")
    with pytest.raises(CalibrationError, match="'hidden' held 1 NaN"):
        stats.range("hidden")
    with pytest.raises(CalibrationError, match="'empty' had no elements"):
        stats.range("empty")
