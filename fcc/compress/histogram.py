"""Histograms of tensors whose range is known, and the ranges to quantize that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
PERCENTILE = 99.999
# Shares of the range that are tried: clipping a bit of a long tail makes the steps of all other values smaller.
SHRINK = np.linspace(0.3, 1.0, 71)


@dataclass
class Histogram:
    """Counts of the finite elements of a tensor in equal bins of [low, high]; what lies outside is in the end bins."""

    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def update(self, array: NDArray[Any]) -> None:
        """Add the elements of an array of any shape, in constant memory beside it."""
        values = np.asarray(array, np.float64).reshape(-1)
        values = np.clip(values[np.isfinite(values)], self.low, self.high)
        if self.high > self.low:
            self.counts += np.histogram(values, BINS, (self.low, self.high))[0]
        else:
            self.counts[0] += values.size

    def merged(self, other: Histogram) -> Histogram:
        """Return the histogram of the elements of both, which have the same bins."""
        return Histogram(self.low, self.high, self.counts + other.counts)

    def range(self, method: str) -> tuple[float, float]:
        """Return the range to quantize by a method of ``METHODS``; at most the range seen."""
        return METHODS[method](self) if self.counts.any() and self.high > self.low else (self.low, self.high)

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middles of the bins."""
        width = (self.high - self.low) / BINS
        middles: NDArray[np.float64] = self.low + width * (np.arange(BINS, dtype=np.float64) + 0.5)
        return middles


def minmax(histogram: Histogram) -> tuple[float, float]:
    """Return the range seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> tuple[float, float]:
    """Return the range that leaves out 0.001 % of the elements, half at each end."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (1 - PERCENTILE / 100) / 2
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    first, last = int(np.searchsorted(share, tail, "right")), int(np.searchsorted(share, 1 - tail))
    return float(edges[first]), float(edges[min(last + 1, BINS)])


def least_squares(histogram: Histogram) -> tuple[float, float]:
    """Return the part of the range at which 8-bit steps have the least mean squared error.

    sum_b n_b (c_b - Q(c_b))^2, Q rounding to 256 steps of the range with zero, shrunk by one factor at both ends.
    """
    centers, weights = histogram.centers, histogram.counts
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    step = SHRINK[:, None] * (high - low) / 255
    bottom = np.rint(low * SHRINK[:, None] / step)
    rounded = np.clip(np.rint(centers / step), bottom, bottom + 255) * step
    best = SHRINK[int(np.argmin(((centers - rounded) ** 2 * weights).sum(axis=1)))]
    return float(histogram.low * best), float(histogram.high * best)


METHODS: Mapping[str, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": least_squares,
}
