"""Per-channel statistics of tensors: mean and largest magnitude, streamed in constant memory, mergeable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Channels:
    """The channels of a tensor lie along ``axis``; ``count`` vectors of channels were seen, finite ones only."""

    axis: int
    count: int = 0
    total: Floats | None = None
    largest: Floats | None = None

    def update(self, array: NDArray[Any]) -> None:
        """Add the elements of an array of rank >= 1; its number of channels is the same every time.

        Raises ValueError when it is not.
        """
        if not array.ndim:
            return
        rows = np.moveaxis(array, self.axis, -1)
        rows = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows):
            self._add(len(rows), rows.sum(axis=0), np.abs(rows).max(axis=0))

    def merged(self, other: Channels) -> Channels:
        """Return the statistics of the elements of both."""
        both = Channels(self.axis, self.count, self.total, self.largest)
        if other.total is not None and other.largest is not None:
            both._add(other.count, other.total, other.largest)
        return both

    def mean(self) -> Floats | None:
        """Return the mean of every channel, None when nothing was seen."""
        return None if self.total is None else self.total / self.count

    def _add(self, count: int, total: Floats, largest: Floats) -> None:
        if self.total is None or self.largest is None:
            self.count, self.total, self.largest = count, total, largest
            return
        if self.total.shape != total.shape:
            raise ValueError(f"{len(total)} channels after {len(self.total)}")
        self.count += count
        self.total = self.total + total
        self.largest = np.maximum(self.largest, largest)
