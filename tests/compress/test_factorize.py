"""Low rank: the error is the tail of the singular values, and the rank is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcc.compress.factorize import factorize, numerical_rank, pays, rank_for, shrinks

SIDES = st.integers(1, 24)


def low_rank(m: int, n: int, rank: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))


@given(SIDES, SIDES, st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=50)
def test_error_is_the_tail(m: int, n: int, seed: int, data: st.DataObject) -> None:
    weight = np.random.default_rng(seed).normal(size=(m, n))
    rank = data.draw(st.integers(1, min(m, n)))
    a, b = factorize(weight, rank)
    singular = np.linalg.svd(weight, compute_uv=False)
    assert a.shape == (m, rank)
    assert b.shape == (rank, n)
    assert np.isclose(np.linalg.norm(weight - a @ b), np.linalg.norm(singular[rank:]), atol=1e-10)


def test_factors_are_balanced() -> None:
    a, b = factorize(low_rank(20, 9, 5) * 1e6, 3)
    np.testing.assert_allclose(a.T @ a, b @ b.T, rtol=1e-9, atol=1e-3)


def test_deficient_weight_is_exact() -> None:
    weight = low_rank(60, 40, 7)
    a, b = factorize(weight, 7)
    np.testing.assert_allclose(a @ b, weight, rtol=0, atol=1e-12)


def test_zero_weight() -> None:
    a, b = factorize(np.zeros((4, 3)), 1)
    assert not (a @ b).any()


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_rank_out_of_range(rank: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        factorize(np.ones((3, 5)), rank)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        factorize(np.array([[1.0, bad]]), 1)
    with pytest.raises(ValueError, match="NaN"):
        numerical_rank(np.array([[1.0, bad]]))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_only_matrices(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rank"):
        factorize(np.ones(shape), 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "rank"), [(200, 100, 17), (1, 30, 1), (300, 8, 3)])
def test_numerical_rank_sees_through_rounding(dtype: type, m: int, n: int, rank: int) -> None:
    assert numerical_rank(low_rank(m, n, rank, seed=3).astype(dtype)) == rank


def test_numerical_rank_of_dense_and_empty() -> None:
    noise = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    assert numerical_rank(noise) == 128
    assert numerical_rank(np.zeros((5, 4), np.float32)) == 0
    assert numerical_rank(np.zeros((0, 4), np.float32)) == 0


def test_numerical_rank_with_a_threshold() -> None:
    weight = np.diag([1.0, 0.1, 0.01])
    assert [numerical_rank(weight, t) for t in (0.5, 0.05, 0.001)] == [1, 2, 3]


def test_break_even() -> None:
    assert shrinks(100, 100, 49)
    assert not shrinks(100, 100, 50)
    assert pays(1024, 1024, 384)
    assert not pays(1024, 1024, 385)


@given(st.floats(0.01, 1.0), st.integers(1, 3000), st.integers(1, 3000))
def test_rank_for_keeps_the_ratio(ratio: float, m: int, n: int) -> None:
    rank = rank_for(ratio, m, n)
    assert 1 <= rank <= min(m, n)
    assert rank == 1 or rank * (m + n) <= ratio * m * n * (1 + 1e-12)
    assert rank < 8 or rank % 8 == 0
    assert rank + 8 > min(ratio * m * n / (m + n), m, n) - 1


@pytest.mark.parametrize(("ratio", "m"), [(0.0, 4), (-1.0, 4), (float("nan"), 4), (0.5, 0)])
def test_ratio_must_mean_something(ratio: float, m: int) -> None:
    with pytest.raises(ValueError, match="ratio"):
        rank_for(ratio, m, 4)
