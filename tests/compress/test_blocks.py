"""Blocked weights: the formula, searched scales, HQQ and GPTQ, and what refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.compress.blocks import NORM, BlockGrid, quantize_blocks
from fcc.compress.rounding import output_error


def correlated(k: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((5, k))
    xs = [rng.standard_normal((300, 5)) @ mix + 0.2 * rng.standard_normal((300, k)) for _ in range(3)]
    return [x.T @ x / 300 for x in xs]


@given(st.integers(1, 70), st.sampled_from([4, 8]), st.sampled_from([16, 32]), st.booleans(), st.integers(0, 2**32 - 1))
def test_codes_are_within_half_a_step_or_clipped(k: int, bits: int, block: int, symmetric: bool, seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((k, 3)) * 10.0 ** np.random.default_rng(seed).integers(-6, 6)
    found, name = quantize_blocks(weight, bits, block, symmetric=symmetric)
    assert name == ("nearest" if symmetric else "hqq")
    assert found.codes.shape == (k, 3)
    assert found.scales.shape == found.zero_points.shape == (-(-k // block), 3)
    assert found.codes.max() < 1 << bits
    if symmetric:
        assert (found.zero_points == 1 << (bits - 1)).all()
    scale = np.repeat(found.scales.astype(np.float64), block, axis=0)[:k]
    inside = (found.codes > 0) & (found.codes < (1 << bits) - 1)
    assert np.all(np.abs(found.array() - weight)[inside] <= 0.5001 * scale[inside])


def test_searched_scales_lose_no_more_than_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_t(3, (32, 200))
    for symmetric in (False, True):
        grid = BlockGrid(4, 32, symmetric)
        grid.begin(rows, 0)
        low, high = np.minimum(rows.min(axis=0), 0), np.maximum(rows.max(axis=0), 0)
        scale = np.maximum(high, -low) / 7 if symmetric else (high - low) / 15
        zero = np.full(200, 8.0) if symmetric else np.clip(np.rint(-low / scale), 0, 15)
        plain = np.sum((rows - scale * (np.clip(np.rint(rows / scale) + zero, 0, 15) - zero)) ** 2, axis=0)
        found = np.sum((rows - grid._round(rows, grid.scales[0], grid.zeros[0])) ** 2, axis=0)
        assert np.all(found <= plain * (1 + 1e-6))
        assert found.sum() < 0.97 * plain.sum()


def test_hqq_lowers_the_norm_it_is_for() -> None:
    weight = np.random.default_rng(0).standard_t(3, (32, 300))
    plain, half = BlockGrid(4, 32), BlockGrid(4, 32, half_quadratic=True)
    losses = []
    for grid in (plain, half):
        grid.begin(weight, 0)
        losses.append(np.sum(np.abs(weight - grid._round(weight, grid.scales[0], grid.zeros[0])) ** NORM, axis=0))
    assert np.all(losses[1] <= losses[0])
    assert (losses[1] < losses[0]).mean() > 0.2


@pytest.mark.parametrize("symmetric", [False, True])
def test_gptq_is_chosen_for_correlated_inputs_and_loses_less(symmetric: bool) -> None:
    weight = np.random.default_rng(1).standard_normal((70, 6))
    folds = correlated(70)
    found, name = quantize_blocks(weight, 4, 32, symmetric=symmetric, folds=folds[:2])
    assert name.startswith("gptq")
    plain, _ = quantize_blocks(weight, 4, 32, symmetric=symmetric)
    assert output_error(weight - found.array(), folds[2]) < 0.5 * output_error(weight - plain.array(), folds[2])


def test_one_fold_says_nothing() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 2))
    assert quantize_blocks(weight, 4, 16, folds=correlated(8)[:1])[1] == "hqq"


def test_zeros_and_constants_are_exact() -> None:
    weight = np.zeros((32, 2))
    weight[:, 1] = 0.5
    for symmetric in (False, True):
        found, _ = quantize_blocks(weight, 4, 32, symmetric=symmetric)
        assert found.array() == pytest.approx(weight, rel=1e-6)
        assert np.isfinite(found.scales).all()
        assert (found.scales > 0).all()


def test_refused() -> None:
    for bad in (np.nan, np.inf, 1e39):
        with pytest.raises(ValueError, match="NaN or infinity"):
            quantize_blocks(np.array([[bad]]), 4, 16)
