"""Calibration statistics: per-tensor range and mean, streamed over samples in constant memory, mergeable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fcc.errors import CalibrationError, did_you_mean

from .gram import Gram


def histogram_key(name: str | None) -> str:
    """Return the key under which the histogram of a tensor is watched."""
    return f"histogram of {name}"


@dataclass
class TensorStats:
    """Elements seen of one tensor: how many finite ones, their range and mean, and how many NaN or infinite ones."""

    count: int = 0
    min: float = float("inf")
    max: float = float("-inf")
    mean: float = 0.0
    nonfinite: int = 0

    def update(self, array: NDArray[Any]) -> None:
        """Add the elements of an array of any shape, empty included; O(1) memory beside the array."""
        finite = np.isfinite(array)
        kept = array if finite.all() else array[finite]
        self.nonfinite += array.size - kept.size
        if kept.size:
            total = float(np.sum(kept, dtype=np.float64))
            self._add(kept.size, float(kept.min()), float(kept.max()), total / kept.size)

    def merged(self, other: TensorStats) -> TensorStats:
        """Return the statistics of the elements of both."""
        both = TensorStats(self.count, self.min, self.max, self.mean, self.nonfinite + other.nonfinite)
        if other.count:
            both._add(other.count, other.min, other.max, other.mean)
        return both

    def _add(self, count: int, low: float, high: float, mean: float) -> None:
        self.count += count
        self.min, self.max = min(self.min, low), max(self.max, high)
        # Chan, Golub, LeVeque 1979: stable where sums of sums are not.
        self.mean += (mean - self.mean) * (count / self.count)


class Accumulator(Protocol):
    """Something kept of a tensor, in memory that does not grow with the samples."""

    def update(self, array: NDArray[Any]) -> None:
        """Add one sample's values."""

    def merged(self, other: Any) -> Any:
        """Return what both have seen, this one first."""


@dataclass(frozen=True)
class Watch:
    """An accumulator to keep of a tensor; ``empty`` has seen nothing."""

    tensor: str
    empty: Accumulator


class CalibrationStats(Mapping[str, TensorStats]):
    """Statistics of tensors by name; ``grams`` holds the Gram matrices of those that were asked for.

    ``watched`` holds accumulators by the key they were asked for under.
    """

    def __init__(
        self,
        tensors: Mapping[str, TensorStats] | None = None,
        grams: Mapping[str, Gram] | None = None,
        watched: Mapping[str, Any] | None = None,
    ) -> None:
        self._tensors = dict(tensors or {})
        self.grams = dict(grams or {})
        self.watched = dict(watched or {})

    def __getitem__(self, name: str) -> TensorStats:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def update(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add one batch: tensor name -> values; batches may differ in shape."""
        for name, array in arrays.items():
            self._tensors.setdefault(name, TensorStats()).update(array)
            if name in self.grams and array.ndim:
                self.grams[name].update(array)

    def merged(self, other: CalibrationStats) -> CalibrationStats:
        """Return the statistics over the samples of both, as when one part each was run elsewhere."""
        names = {**self._tensors, **other._tensors}
        empty = TensorStats()
        tensors = {n: self._tensors.get(n, empty).merged(other._tensors.get(n, empty)) for n in names}
        shared = self.grams.keys() & other.grams.keys()
        grams = {**self.grams, **other.grams} | {n: self.grams[n].merged(other.grams[n]) for n in shared}
        both = self.watched.keys() & other.watched.keys()
        watched = {**self.watched, **other.watched} | {k: self.watched[k].merged(other.watched[k]) for k in both}
        return CalibrationStats(tensors, grams, watched)

    def gram(self, name: str) -> NDArray[np.float64] | None:
        """Return X'X / N of a tensor, None when it was not asked for or never seen."""
        found = self.grams.get(name)
        return None if found is None else found.matrix()

    def range(self, name: str | None, method: str = "minmax") -> tuple[float, float]:
        """Return (min, max) of a tensor, or the range by another method where its histogram is watched.

        Raises CalibrationError when the tensor was never seen, only empty, or held NaN or infinity.
        """
        histogram = self.watched.get(histogram_key(name)) if method != "minmax" else None
        if histogram is not None:
            found: tuple[float, float] = histogram.range(method)
            return found
        stats = self._tensors.get(name or "")
        if stats is None:
            raise CalibrationError(f"no statistics for tensor {name!r}", did_you_mean(name or "", self._tensors))
        if stats.nonfinite:
            raise CalibrationError(
                f"tensor {name!r} held {stats.nonfinite} NaN or infinite values in calibration",
                "check the calibration data: the model itself computes them",
            )
        if not stats.count:
            raise CalibrationError(
                f"tensor {name!r} had no elements in calibration", "give samples that reach this tensor"
            )
        return stats.min, stats.max
