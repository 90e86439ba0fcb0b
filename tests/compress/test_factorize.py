"""Low rank: the error is the tail of the singular values, and the rank is found."""

from __future__ import annotations

from typing import Any

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
    a, b, error = factorize(weight, rank)
    singular = np.linalg.svd(weight, compute_uv=False)
    assert a.shape == (m, rank)
    assert b.shape == (rank, n)
    assert np.isclose(np.linalg.norm(weight - a @ b), np.linalg.norm(singular[rank:]), atol=1e-10)
    assert np.isclose(error, np.linalg.norm(singular[rank:]) / np.linalg.norm(singular), atol=1e-12)


def test_factors_are_balanced() -> None:
    a, b, _ = factorize(low_rank(20, 9, 5) * 1e6, 3)
    np.testing.assert_allclose(a.T @ a, b @ b.T, rtol=1e-9, atol=1e-3)


def test_deficient_weight_is_exact() -> None:
    weight = low_rank(60, 40, 7)
    a, b, error = factorize(weight, 7)
    np.testing.assert_allclose(a @ b, weight, rtol=0, atol=1e-12)
    assert error < 1e-14


def test_zero_weight() -> None:
    a, b, error = factorize(np.zeros((4, 3)), 1)
    assert error == 0
    assert not (a @ b).any()
    assert factorize(np.zeros((4, 3)), 1, gram=np.eye(4)).error == 0


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
    with pytest.raises(ValueError, match="Gram"):
        factorize(np.ones((2, 2)), 1, gram=np.full((2, 2), bad))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_only_matrices(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rank"):
        factorize(np.ones(shape), 1)


@pytest.mark.parametrize(("m", "n"), [(32, 12), (12, 32)])
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_gram_gives_the_optimum_on_outputs(m: int, n: int, rank: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, m)) @ np.diag(np.logspace(0, -3, m))
    weight = rng.normal(size=(m, n))
    a, b, error = factorize(weight, rank, gram=x.T @ x / len(x), ridge=0.0)
    singular = np.linalg.svd(x @ weight, compute_uv=False)
    best = np.linalg.norm(singular[rank:]) / np.linalg.norm(singular)
    assert np.isclose(error, best, rtol=1e-6)
    assert np.isclose(np.linalg.norm(x @ (weight - a @ b)) / np.linalg.norm(x @ weight), error, rtol=1e-6)
    plain = factorize(weight, rank)
    assert error < np.linalg.norm(x @ (weight - plain.a @ plain.b)) / np.linalg.norm(x @ weight)


def test_large_ridge_is_the_plain_factorization() -> None:
    weight, x = low_rank(8, 6, 6), np.random.default_rng(0).normal(size=(50, 8)) * np.arange(1, 9)
    ridged = factorize(weight, 2, gram=x.T @ x / 50, ridge=1e12)
    plain = factorize(weight, 2)
    np.testing.assert_allclose(ridged.a @ ridged.b, plain.a @ plain.b, atol=1e-6)


def test_singular_gram() -> None:
    x = np.random.default_rng(0).normal(size=(3, 10))
    weight = low_rank(10, 6, 6)
    assert factorize(weight, 3, gram=x.T @ x / 3, ridge=0.0).error < 1e-7


def test_gram_must_fit() -> None:
    with pytest.raises(ValueError, match="Gram"):
        factorize(np.ones((3, 5)), 1, gram=np.eye(5))


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


@pytest.mark.parametrize("energy", [0.2, 0.5, 0.9, 0.99, 0.999999, 1.0])
def test_energy_is_kept_by_the_smallest_rank(energy: float) -> None:
    weight = low_rank(40, 30, 30) * np.logspace(0, -3, 30)
    a, b, error = factorize(weight, energy=energy)
    singular = np.linalg.svd(weight, compute_uv=False) ** 2
    assert 1 - error**2 >= energy - 1e-12
    assert singular[: len(b) - 1].sum() < energy * singular.sum()
    np.testing.assert_allclose(a @ b, factorize(weight, len(b)).a @ factorize(weight, len(b)).b)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_energy_of_the_outputs(ridge: float) -> None:
    rng = np.random.default_rng(1)
    weight, x = low_rank(20, 12, 12), rng.normal(size=(200, 20)) * np.logspace(0, -2, 20)
    gram = x.T @ x / 200
    a, b, error = factorize(weight, energy=0.95, gram=gram, ridge=ridge)
    lost = np.linalg.norm(x @ (weight - a @ b)) / np.linalg.norm(x @ weight)
    assert lost == pytest.approx(error, rel=1e-6)
    assert 1 - error**2 >= 0.95
    assert len(b) == 1 or 1 - factorize(weight, len(b) - 1, gram=gram, ridge=ridge).error ** 2 < 0.95
    assert len(b) < len(factorize(weight, energy=0.95).b)


def test_a_weight_of_zeros_has_no_energy_to_lose() -> None:
    assert len(factorize(np.zeros((4, 3)), energy=0.5).b) == 1


@pytest.mark.parametrize(
    "how", [{}, {"rank": 1, "energy": 0.5}, {"energy": 0.0}, {"energy": 1.5}, {"energy": float("nan")}]
)
def test_energy_must_mean_something(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="energy"):
        factorize(np.eye(3), **how)
