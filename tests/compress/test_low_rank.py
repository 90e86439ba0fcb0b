"""Output PCA: optimal on the outputs, never far from held-out truth, anchored to what the original wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.compress import low_rank
from fcc.compress.low_rank import Layer, Spectra, by_outputs, by_weight, grouped
from fcc.compress.moments import Moments, merged
from fcc.compress.second import Form, damped, solve

Array = np.ndarray[Any, Any]


class Case:
    """A layer W [m, n] with correlated inputs x0 and what it reads after earlier layers were compressed, x1."""

    def __init__(self, m: int = 24, n: int = 16, rows: int = 800, noise: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        mix = np.linalg.qr(rng.standard_normal((m, m)))[0] * np.logspace(0, -2, m)
        self.x0 = rng.standard_normal((rows, m)) @ mix + 2.0
        self.x1 = self.x0 @ (np.eye(m) + 0.1 * rng.standard_normal((m, m))) if noise else self.x0
        self.w, self.b = rng.standard_normal((m, n)), rng.standard_normal(n)
        self.y = self.x0 @ self.w + self.b
        self.fold = np.arange(rows)

    def layer(self, x: str = "input", y: str = "output", moves: bool = True, folds: int = 4) -> Layer:
        written = self.x1 @ self.w + self.b
        bias = self.b
        if not moves:
            written, bias = self.x1 @ self.w, np.zeros(len(self.b))
        target = self.y if moves else self.x0 @ self.w
        moments = Moments.of(
            (self.x1 if x == "input" else written)[:, None],
            (target if y == "output" else self.x0)[:, None],
            self.fold,
            folds,
        )
        assert moments is not None
        return Layer(self.w, bias, moments, moves, x, y)

    def error(self, a: Array, b: Array, bias: Array) -> float:
        size = np.linalg.norm(self.y - self.y.mean(axis=0))
        return float(np.linalg.norm(self.x1 @ a @ b + bias - self.y) / size)


@pytest.mark.parametrize(("m", "n"), [(24, 16), (12, 30)])
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_outputs_are_projected_on_their_leading_directions(m: int, n: int, rank: int) -> None:
    case = Case(m, n)
    found = by_outputs(case.layer(), rank)
    singular = np.linalg.svd(case.y - case.y.mean(axis=0), compute_uv=False)
    best = np.linalg.norm(singular[rank:]) / np.linalg.norm(singular)
    a, b = found.factors(rank)
    assert (a.shape, b.shape) == ((m, rank), (rank, n))
    assert case.error(a, b, found.bias(rank, case.b)) == pytest.approx(best, rel=0.03)
    assert found.errors[rank] == pytest.approx(best, rel=0.1)
    u, s, vt = np.linalg.svd(case.w, full_matrices=False)
    assert best < case.error(u[:, :rank] * s[:rank], vt[:rank], case.b) / 1.2


@pytest.mark.parametrize("sides", [("input", "output"), ("input", "input"), ("output", "output")])
@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("folds", [0, 4])
def test_anchored_to_the_original_outputs(sides: tuple[str, str], moves: bool, folds: int) -> None:
    """What the layer reads has moved: the refit brings back what can be told from it."""
    case = Case(noise=1.0)
    if sides[1] == "input" and not folds:
        folds = 1
    found = by_outputs(case.layer(*sides, moves=moves, folds=folds), 12)
    a, b = found.factors(12)
    bias = found.bias(12, case.b) if moves else case.b
    plain = by_weight(case.w)
    far = case.error(*plain.factors(12), case.b)
    assert case.error(a, b, bias) < far / (3 if moves else 2)
    assert found.held_out == (folds == 4)
    assert found.measure == "output"
    written = case.x1 @ a @ b + bias
    if moves:
        np.testing.assert_allclose(written.mean(axis=0), case.y.mean(axis=0), rtol=1e-8)


def test_the_refit_leaves_a_layer_alone_whose_input_did_not_move() -> None:
    case = Case()
    for sides in (("input", "output"), ("input", "input"), ("output", "output")):
        np.testing.assert_allclose(case.layer(*sides).refit().weight, case.w, rtol=1e-7)


def test_the_ridge_is_chosen_by_left_out_samples() -> None:
    """Few samples of white inputs say nothing: trusting them would be worse than the weight alone."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((60, 40))
    x, fresh = rng.standard_normal((24, 60)), rng.standard_normal((2000, 60))
    moments = Moments.of(x[:, None], (x @ w)[:, None], np.arange(24), 4)
    assert moments is not None
    found = by_outputs(Layer(w, np.zeros(40), moments, moves=False), 10)
    assert found.ridge >= 1.0
    a, b = found.factors(10)
    lost = np.linalg.norm(fresh @ (w - a @ b)) / np.linalg.norm(fresh @ w)
    c, d = by_weight(w).factors(10)
    assert lost < 1.02 * np.linalg.norm(fresh @ (w - c @ d)) / np.linalg.norm(fresh @ w)
    assert found.errors[10] == pytest.approx(lost, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_the_weight_alone_gives_singular_values(m: int, n: int, seed: int) -> None:
    w = np.random.default_rng(seed).standard_normal((m, n))
    found, singular = by_weight(w), np.linalg.svd(w, compute_uv=False)
    for rank in range(1, min(m, n) + 1):
        a, b = found.factors(rank)
        left = np.linalg.norm(singular[rank:])
        assert np.linalg.norm(w - a @ b) == pytest.approx(left, abs=1e-9)
        assert found.errors[rank] == pytest.approx(left / np.linalg.norm(singular), abs=1e-7)
    before = w[0]
    assert found.bias(1, before) is before
    assert found.measure == "weight"


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.79, 1), (0.81, 2), (0.97, 3), (0.9999, 4), (1.0, 4)])
def test_energy_takes_the_smallest_rank(energy: float, rank: int) -> None:
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((size, 4)))[0] for size in (9, 7))
    assert by_weight((u * [4, 1.8, 0.8, 0.1]) @ v.T).rank_for(energy) == rank


def test_nothing_has_no_error() -> None:
    found = by_weight(np.zeros((3, 2)))
    assert found.errors.tolist() == [0, 0, 0]
    assert found.rank_for(0.5) == 1


def test_groups_are_taken_apart() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3, 4)), rng.standard_normal((50, 3, 2))
    both, second = Moments.of(x, y, np.arange(50), 2), Moments.of(x[:, 1:2], y[:, 1:2], np.arange(50), 2)
    assert both is not None
    assert second is not None
    found = grouped(both, 1)
    np.testing.assert_array_equal(found.xy.total, second.xy.total)
    np.testing.assert_array_equal(found.xx.total, second.xx.total)
    np.testing.assert_array_equal(found.energy(), second.energy())
    np.testing.assert_array_equal(found.folds[1].total, second.folds[1].total)  # type: ignore[union-attr]


def test_a_singular_matrix_takes_a_larger_ridge_and_nonsense_none() -> None:
    flat = np.ones((3, 3))
    np.testing.assert_allclose(solve(damped(flat, 1e-3), np.ones(3)).sum(), 1.0, rtol=1e-2)
    indefinite = np.diag([1.0, -0.05, 1.0])
    assert np.isfinite(solve(damped(indefinite, 1e-2), np.ones(3))).all()
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        damped(np.diag([1.0, -100.0]), 1e-2)


def test_forms_with_and_without_a_weight_agree() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((40, 5)), rng.standard_normal((5, 8))
    through, plain = Form(x.T @ x, w), Form(w.T @ x.T @ x @ w)
    assert through.trace() == pytest.approx(plain.trace())
    basis = through.leading(8)
    assert basis.shape == (8, 5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(through.captured(basis), plain.captured(basis), rtol=1e-9)
    np.testing.assert_allclose(np.abs(basis.T @ plain.leading(5)), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(
        through.damped(0.5, w.T @ w).captured(basis), plain.damped(0.5, w.T @ w).captured(basis), rtol=1e-9
    )


def test_spectra_of_every_rank_are_those_of_each_alone() -> None:
    """What is computed once serves all ranks, each with the ridge that is best for it."""
    case = Case(rows=60, noise=1.0)
    both = Spectra(case.layer())
    for rank in (1, 5, 12):
        one, other = both.at(rank), by_outputs(case.layer(), rank)
        assert one.ridge == other.ridge
        np.testing.assert_array_equal(one.basis, other.basis)
        np.testing.assert_array_equal(one.errors, other.errors)


@pytest.mark.parametrize("wide", [False, True])
def test_no_ridge_of_the_seven_captures_more(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if wide:
        monkeypatch.setattr(low_rank, "WIDE", 15)
    for seed in range(6):
        case = Case(rows=40, seed=seed)
        layer = case.layer()
        found = Spectra(layer)
        ridge = found.at(6).ridge
        scores = {}
        for r in low_rank.FEW_RIDGES if wide else low_rank.RIDGES:
            scores[r] = 0.0
            for fold in layer.moments.folds:
                assert fold is not None
                rest = layer.original(merged([f for f in layer.moments.folds if f is not fold]))
                basis = rest.damped(r * layer.power(), layer.weight.T @ layer.weight).leading(6)
                scores[r] += fold.count * float(layer.original(fold).captured(basis).sum())
        assert scores[ridge] == pytest.approx(max(scores.values()), rel=1e-9)
