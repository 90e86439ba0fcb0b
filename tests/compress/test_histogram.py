"""Histograms and the ranges that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.compress.calibrate import CalibrationStats, histogram_key
from fcc.compress.histogram import BINS, METHODS, Histogram


def seen(values: np.ndarray, low: float | None = None, high: float | None = None) -> Histogram:
    found = Histogram(float(values.min()) if low is None else low, float(values.max()) if high is None else high)
    found.update(values)
    return found


def _loss(values: np.ndarray, low: float, high: float) -> float:
    """The mean squared error of 255 steps from low to high."""
    step = (high - low) / 255
    return float(
        np.mean((values - np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step) ** 2)
    )


def test_every_finite_element_is_counted_whatever_the_batches() -> None:
    values = np.linspace(-1, 3, 1000).reshape(10, 100)
    whole = seen(values)
    parts = [Histogram(-1, 3) for _ in range(3)]
    for part, rows in zip(parts, np.array_split(values, 3), strict=True):
        part.update(rows)
    parts[0].update(np.array([np.nan, np.inf]))
    parts[0].update(np.zeros((0, 4)))
    merged = parts[0].merged(parts[1]).merged(parts[2])
    assert np.array_equal(merged.counts, whole.counts)
    assert whole.counts.sum() == 1000
    assert whole.centers[0] == pytest.approx(-1 + 2 / BINS)
    assert whole.centers[-1] == pytest.approx(3 - 2 / BINS)


def test_what_lies_outside_is_in_the_end_bins() -> None:
    found = seen(np.array([-5.0, 0.5, 9.0]), 0.0, 1.0)
    assert (found.counts[0], found.counts[-1], found.counts.sum()) == (1, 1, 3)


def test_percentile_cuts_both_tails() -> None:
    values = np.concatenate([np.linspace(-1, 1, 999_998), [-100.0, 100.0]])
    low, high = seen(values).range("percentile")
    assert low == pytest.approx(-1, abs=200 / BINS)
    assert high == pytest.approx(1, abs=200 / BINS)
    few = np.concatenate([np.linspace(-1, 1, 998), [-100.0, 100.0]])
    assert seen(few).range("percentile") == (-100, 100)  # one of a thousand is more than 0.001 %


def test_least_squares_clips_a_long_tail_and_keeps_a_flat_one() -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(100_000)
    values = np.concatenate([normal, [20.0]])
    low, high = seen(values).range("mse")
    assert low == pytest.approx(normal.min() * high / 20)
    losses = [_loss(values, normal.min() * h / 20, h) for h in (high - 1.5, high, high + 1.5, 20)]
    assert min(losses) == losses[1] < 0.9 * losses[3]
    flat = seen(rng.uniform(-1, 2, 100_000))
    assert flat.range("mse") == pytest.approx((flat.low, flat.high), rel=0.02)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.sampled_from(sorted(METHODS)))
def test_a_range_lies_within_what_was_seen(values: list[float], method: str) -> None:
    array = np.array(values)
    low, high = seen(array).range(method)
    assert array.min() <= low + 1e-9 * abs(low)
    assert high <= array.max() + 1e-9 * abs(high) or array.max() < 0  # negative only: shrunk towards zero
    assert low <= high


def test_equal_values_and_nothing_seen_keep_the_range() -> None:
    assert seen(np.full(3, 2.0)).range("percentile") == (2.0, 2.0)
    assert Histogram(0.0, 1.0).range("mse") == (0.0, 1.0)


def test_statistics_give_the_range_by_a_method() -> None:
    stats = CalibrationStats()
    values = np.concatenate([np.linspace(-1, 1, 999_998), [-100.0, 100.0]])
    stats.update({"x": values})
    assert stats.range("x", "percentile") == (-100, 100)  # no histogram was watched
    stats.watched[histogram_key("x")] = seen(values)
    assert stats.range("x", "percentile")[1] < 2
    assert stats.range("x") == (-100, 100)
