"""GPTQ against rounding to the nearest, cross-validation, and the corrections of quantized weights."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fcc.compress import rounding
from fcc.compress.quantize import bias_shift, is_pair_safe, quantize_weight
from fcc.compress.rounding import ChannelGrid, best, cross_validated, fits, gptq, nearest, output_error
from fcc.compress.smooth import MOST, smoothing


def layer(seed: int, k: int = 24, n: int = 5, rank: int = 6) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Weights and two folds of correlated inputs."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((rank, k))
    xs = [rng.standard_normal((200, rank)) @ mix + 0.1 * rng.standard_normal((200, k)) for _ in range(3)]
    folds = [x.T @ x / len(x) for x in xs]
    return rng.standard_normal((k, n)), folds[:2], folds[2]


def grid(weight: np.ndarray, steps: int = 7) -> partial[ChannelGrid]:
    return partial(ChannelGrid, np.abs(weight).max(axis=0) / steps)


@pytest.mark.parametrize("seed", range(4))
def test_gptq_loses_less_on_unseen_inputs_and_stays_on_the_grid(seed: int) -> None:
    weight, folds, unseen = layer(seed)
    make = grid(weight)
    plain, found = nearest(weight, make()), gptq(weight, folds[0], make(), 0.01)
    assert output_error(weight - found, unseen) < 0.5 * output_error(weight - plain, unseen)
    codes = found / make().scale
    assert np.allclose(codes, np.rint(codes), atol=1e-9)


def test_gptq_is_the_greedy_least_squares_step() -> None:
    """After input 0 is rounded, the rest is moved to the least-squares optimum, computed here by solving for it."""
    weight, folds, _ = layer(0, k=2, n=3)
    scale = np.abs(weight).max(axis=0) / 5
    gram, damping = folds[0], 0.01
    damped = gram + damping * np.mean(np.diag(gram)) * np.eye(2)
    first = np.rint(weight[0] / scale) * scale
    moved = weight[1] + damped[1, 0] / damped[1, 1] * (weight[0] - first)
    expected = np.stack([first, np.rint(moved / scale) * scale])
    assert np.allclose(gptq(weight, gram, ChannelGrid(scale), damping), expected)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, folds, _ = layer(1)
    whole = gptq(weight, folds[0], grid(weight)(), 0.1)
    monkeypatch.setattr(rounding, "_BLOCK", 5)
    assert np.allclose(gptq(weight, folds[0], grid(weight)(), 0.1), whole)


def test_a_singular_covariance_is_damped_more_and_a_hopeless_one_refused() -> None:
    weight = np.eye(3)
    found = gptq(weight, np.zeros((3, 3)), ChannelGrid(np.full(3, 0.5)), 0.01)
    assert np.array_equal(found, weight)
    with pytest.raises(ValueError, match="no covariance"):
        gptq(weight, np.diag([1.0, -1e9, 1.0]), ChannelGrid(np.full(3, 0.5)), 0.01)


def test_cross_validation_trusts_neither_noise_nor_a_single_fold() -> None:
    weight, folds, _ = layer(2)
    ways = fits(weight, grid(weight))
    assert list(ways) == ["nearest", "gptq 0.01", "gptq 0.1", "gptq 1"]
    assert cross_validated(weight, folds, ways).startswith("gptq")
    assert cross_validated(weight, folds[:1], ways) == "nearest"
    rng = np.random.default_rng(0)
    strangers = [np.outer(v, v) for v in rng.standard_normal((2, 24))]  # what fits one says nothing of the other
    assert cross_validated(weight, strangers, ways) in ("nearest", "gptq 1")
    name = cross_validated(weight, folds, ways)
    assert np.array_equal(best(weight, folds, grid(weight)), ways[name](np.mean(folds, axis=0)))


@pytest.mark.parametrize("k", [6, 70])
def test_groups_are_rounded_and_chosen_for_one_by_one(k: int) -> None:
    rng = np.random.default_rng(0)
    weight, folds, _ = layer(2, k=k)
    other, _, _ = layer(5, k=k)
    strangers = [np.outer(v, v) for v in rng.standard_normal((2, k))]
    both = np.stack([weight, other])
    parts = [grid(w)() for w in both]
    make = partial(ChannelGrid, np.stack([p.scale for p in parts]))
    found = best(both, [np.stack([f, s]) for f, s in zip(folds, strangers, strict=True)], make)
    for got, w, own in zip(found, both, (folds, strangers), strict=True):
        assert np.allclose(got, best(w, own, grid(w)))
    assert np.allclose(nearest(both, make()), [nearest(w, grid(w)()) for w in both])


@pytest.mark.parametrize("axis", [0, 1])
def test_quantize_weight_by_gptq_keeps_scales_and_certificate(axis: int) -> None:
    weight, folds, unseen = layer(3, k=64, n=40)
    stored = weight.T if axis == 0 else weight
    plain = quantize_weight(stored, axis, pair_safe=True)
    found = quantize_weight(stored, axis, pair_safe=True, folds=[f[None] for f in folds])
    assert np.array_equal(found.scale, plain.scale)
    assert is_pair_safe(found.values, axis).all()
    errors = [_lost(weight, q.values.T if axis == 0 else q.values, q.scale, unseen) for q in (plain, found)]
    assert errors[1] < 0.5 * errors[0]


def test_channels_that_gptq_leaves_unsafe_stay_rounded_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, folds, _ = layer(0, k=4, n=3)
    steps = np.array([[100, 64, 1], [29, 64, 2], [1, 1, 100], [1, 1, -128]])

    def fixed(rows: np.ndarray, folds: object, make: partial[ChannelGrid]) -> np.ndarray:
        return (steps * make().scale)[None]

    monkeypatch.setattr(rounding, "best", fixed)
    plain = quantize_weight(weight, 1, pair_safe=True).values
    given = [f[None] for f in folds]
    found = quantize_weight(weight, 1, pair_safe=True, folds=given).values
    assert np.array_equal(found[:, 0], plain[:, 0])
    assert np.array_equal(found[:, 1:], steps[:, 1:])
    assert np.array_equal(quantize_weight(weight, 1, pair_safe=False, folds=given).values, steps)


def test_gptq_of_the_same_weight_and_scales_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, folds, _ = layer(3, k=64, n=40)
    given, known = [f[None] for f in folds], dict[object, object]()

    def found(w: np.ndarray, floor: float = 0.0) -> np.ndarray:
        return quantize_weight(w, 1, pair_safe=True, folds=given, known=known, floor=floor).values

    first, twice, coarse = found(weight), found(2 * weight), found(weight, 0.1)
    assert not np.array_equal(first, coarse)
    monkeypatch.setattr(rounding, "best", None)
    assert np.array_equal(found(weight), first)
    assert np.array_equal(found(2 * weight), twice)
    assert np.array_equal(found(weight, 0.1), coarse)


def test_grouped_convolutions_are_rounded_group_by_group() -> None:
    parts = [layer(seed, k=6, n=2, rank=2) for seed in (7, 8)]
    weight = np.concatenate([w.T.reshape(2, 2, 3) for w, _, _ in parts])
    folds = [np.stack([f[i] for _, f, _ in parts]) for i in (0, 1)]
    found = quantize_weight(weight, 0, pair_safe=False, folds=folds)
    for g, (w, f, _) in enumerate(parts):
        scale = found.scale[2 * g : 2 * g + 2].astype(np.float64)
        expected = best(w, f, partial(ChannelGrid, scale))
        assert np.array_equal(found.values[2 * g : 2 * g + 2].reshape(2, 6), np.rint(expected.T / scale[:, None]))


def test_bias_shift_is_the_mean_loss() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 6)) + rng.standard_normal(6)
    weight = rng.standard_normal((6, 3))
    for stored, axis in ((weight, 1), (weight.T, 0)):
        q = quantize_weight(stored, axis, pair_safe=True)
        values = q.values if axis else q.values.T
        expected = (x @ weight - x @ (values * q.scale.astype(np.float64))).mean(axis=0)
        assert np.allclose(bias_shift(stored, q, axis, x.mean(axis=0)), expected)


def test_bias_shift_of_a_grouped_convolution() -> None:
    rng = np.random.default_rng(1)
    weight, mean = rng.standard_normal((4, 3, 2)), rng.standard_normal(6)
    q = quantize_weight(weight, 0, pair_safe=True)
    lost = weight - q.values * q.scale.astype(np.float64)[:, None, None]
    expected = [lost[m].sum(axis=1) @ mean[3 * (m // 2) : 3 * (m // 2) + 3] for m in range(4)]
    assert np.allclose(bias_shift(weight, q, 0, mean), expected)


def test_smoothing_is_a_power_of_two_of_the_formula() -> None:
    x, w = np.array([8.0, 2.0, 0.5, 0.0, 1.0]), np.array([0.5, 1.0, 2.0, 1.0, 0.0])
    found = smoothing(x, w, 0.75)
    raw = x[:3] ** 0.75 / w[:3] ** 0.25
    raw = raw / np.exp(np.mean(np.log(raw)))
    assert np.array_equal(found[:3], np.exp2(np.rint(np.log2(raw))))
    assert np.array_equal(found[3:], [1, 1])
    assert np.array_equal(smoothing(np.zeros(2), np.ones(2), 0.5), [1, 1])
    assert smoothing(np.array([1e30, 1e-30]), np.ones(2), 1.0).tolist() == [2.0**MOST, 2.0**-MOST]


def _lost(weight: np.ndarray, values: np.ndarray, scale: np.ndarray, gram: np.ndarray) -> float:
    return float(output_error(weight - values * scale.astype(np.float64), gram))
