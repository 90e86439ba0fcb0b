"""One output measured: errors, limits, what must match exactly."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.parity import Row, compare
from fcc.parity.meter import Meter, worst_of
from fcc.parity.tolerance import floor_of, limit_of


def row(*pairs: tuple[Any, Any], limit: float | None = None) -> Row:
    meter = Meter("y")
    for y0, y in pairs:
        meter.add(np.asarray(y0) if not isinstance(y0, list) else y0, np.asarray(y) if not isinstance(y, list) else y)
    return meter.row(limit if limit is not None else floor_of(meter.dtype or np.dtype(np.float32)))


def f32(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


@given(hnp.arrays(np.float32, 7, elements=st.floats(-100, 100, width=32)), st.floats(0.0009765625, 1))
def test_error_is_the_largest_difference_over_the_largest_reference(y0: np.ndarray[Any, Any], shift: float) -> None:
    y0 = np.append(y0, np.float32(100))
    y = (y0.astype(np.float64) + shift).astype(np.float32)
    found = row((y0, y))
    exact = np.abs(y.astype(np.float64) - y0.astype(np.float64))
    assert found.error == pytest.approx(exact.max() / 100)
    assert found.rel == pytest.approx(np.linalg.norm(exact) / np.linalg.norm(y0.astype(np.float64)))
    assert found.sqnr == pytest.approx(-20 * math.log10(found.rel))


def test_equal_arrays_have_no_error() -> None:
    found = row((f32(1, 2), f32(1, 2)))
    assert (found.error, found.rel, found.sqnr, found.agreement, found.ok) == (0, 0, math.inf, 1.0, True)


def test_the_worst_feed_counts_and_is_named() -> None:
    found = row((f32(100, 1), f32(100, 1)), (f32(1, 0.5), f32(1, 0.4)), (f32(100, 1), f32(100, 1.5)))
    assert found.feed == 1
    assert found.error == pytest.approx(0.1)
    assert found.max_abs == pytest.approx(0.5)


def test_agreement_counts_rows() -> None:
    y0 = np.array([[1, 2], [2, 1], [1, 2], [2, 1]], np.float32)
    y = np.array([[1, 2], [2, 1], [1, 2], [1, 2]], np.float32)
    assert row((y0, y)).agreement == 0.75
    assert row((f32(2)[:, None], f32(2)[:, None])).agreement is None


def test_agreement_of_probabilities_is_about_one_half() -> None:
    p = f32(0.1, 0.5, 0.9, 0.6)[:, None]
    assert row((p, f32(0.2, 0.49, 0.5, 0.7)[:, None])).agreement == 0.75
    assert row((p, p)).agreement == 1.0
    assert row((p, p + 1e-3), (p - 1, p - 1)).agreement is None  # then they are no probabilities
    assert row((p.astype(np.int64), p.astype(np.int64))).agreement is None


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("y0", "y", "note"),
    [
        ([1, 2], [1, NAN], "1 NaN instead of 0"),
        ([1, NAN], [1, 2], "0 NaN instead of 1"),
        ([NAN, 1], [1, NAN], "NaN elsewhere"),
        ([1, 2], [1, INF], "1 infinity instead of 0"),
        ([1, INF], [1, -INF], "infinity of the other sign"),
    ],
)
def test_nan_and_infinity_must_be_at_the_same_places(y0: list[float], y: list[float], note: str) -> None:
    found = row((f32(*y0), f32(*y)))
    assert found.error == math.inf
    assert found.note == note
    assert not found.ok


def test_nan_at_the_same_place_leaves_the_rest_compared() -> None:
    assert row((f32(NAN, INF, 2, 4), f32(NAN, INF, 2, 4))).ok
    assert row((f32(NAN, INF, 2, 4), f32(NAN, INF, 2, 5))).error == pytest.approx(0.25)
    assert row((f32(NAN, NAN), f32(NAN, NAN))).ok


@pytest.mark.parametrize(
    ("y0", "y", "note"),
    [
        (np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float32), "shape [1, 2] instead of [2, 1]"),
        (np.zeros(2, np.float32), np.zeros(2, np.float64), "type float64 instead of float32"),
        ([f32(1)], [f32(1), f32(2)], "structure ['[0]', '[1]'] instead of ['[0]']"),
    ],
)
def test_structure_must_match(y0: Any, y: Any, note: str) -> None:
    found = row((y0, y), limit=10.0)
    assert found.note == note
    assert not found.ok


def test_sequences_are_compared_element_by_element() -> None:
    assert row(([f32(1), f32(2)], [f32(1), f32(2)])).ok
    assert row(([f32(1), f32(2)], [f32(1), f32(3)])).error == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("y0", "y"),
    [
        (np.array([5, 6]), np.array([5, 7])),
        (np.array([2**60]), np.array([2**60 + 1])),
        (np.array([0]), np.array([1])),
        (np.array([True, False]), np.array([True, True])),
        (np.array(["a"], object), np.array(["b"], object)),
    ],
)
def test_what_is_not_float_must_be_equal(y0: Any, y: Any) -> None:
    assert row((y0, y0.copy())).ok
    assert not row((y0, y)).ok


def test_low_precision_has_its_own_tolerance() -> None:
    for dtype, factor in ((np.float16, 0.004), (ml_dtypes.bfloat16, 0.03), (np.float32, 5e-5)):
        y0 = np.array([1.0, 0.5], dtype)
        assert row((y0, (y0.astype(np.float64) * (1 + factor)).astype(dtype))).ok
        assert not row((y0, (y0.astype(np.float64) * (1 + 40 * factor)).astype(dtype))).ok


def test_zero_size_outputs() -> None:
    assert row((np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))).ok
    assert not row((np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32))).ok


def test_a_silent_output_is_judged_absolutely() -> None:
    assert row((f32(0, 0), f32(1e-9, 0))).ok
    assert not row((f32(0, 0), f32(1e-3, 0))).ok


def test_limits() -> None:
    assert limit_of(1e-4, 1e-6) == 1e-4
    assert limit_of(1e-4, 3e-4) == 6e-4
    assert limit_of(1e-4, math.inf) == 1e-4
    assert floor_of(np.dtype(np.float32), [np.dtype(np.float16)]) == floor_of(np.dtype(np.float16))
    assert floor_of(np.dtype(np.int64), [np.dtype(np.float16)]) == 0


def test_worst_of_takes_the_greater_strain() -> None:
    a, b = row((f32(1), f32(1.5))), row((f32(1), f32(1)))
    assert worst_of([b], [a]) == worst_of([a], [b]) == [a]


def test_compare_runs_both_and_warns_of_silence() -> None:
    parity = compare(lambda f: {"y": f["x"] * 0, "z": f["x"]}, lambda f: {"y": f["x"] * 0}, [{"x": f32(1, 2)}])
    assert parity.feeds == 1
    assert not parity.ok
    assert parity.worst is not None
    assert (parity.worst.name, parity.worst.note) == ("z", "missing")
    assert parity.warnings == ["output y has no finite value of 1e-06 or more: it can judge nothing"]
