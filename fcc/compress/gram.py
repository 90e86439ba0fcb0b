"""Gram matrices of the inputs of linear layers: G = X'X / N, streamed over samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows taken of one sample, evenly spaced: the positions of a sequence or an image are much alike.
ROWS_PER_SAMPLE = 256


@dataclass
class Gram:
    """The sum of x x' over the feature vectors x seen along ``axis`` of a tensor, in float64."""

    axis: int = -1
    total: NDArray[np.float64] | None = None
    rows: int = 0

    def update(self, array: NDArray[Any]) -> None:
        """Add the feature vectors of a tensor of rank >= 1; at most 256 of them, and only finite ones.

        Raises ValueError when the number of features differs from before.
        """
        features = np.moveaxis(array, self.axis, -1)
        rows = features.reshape(-1, features.shape[-1])
        rows = rows[:: max(1, -(-len(rows) // ROWS_PER_SAMPLE))].astype(np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        product = rows.T @ rows
        if self.total is not None and self.total.shape != product.shape:
            raise ValueError(f"{product.shape[0]} features after {self.total.shape[0]}")
        self.total = product if self.total is None else self.total + product
        self.rows += len(rows)

    def merged(self, other: Gram) -> Gram:
        """Return the Gram matrix of the rows of both."""
        totals = [g.total for g in (self, other) if g.total is not None]
        return Gram(self.axis, sum(totals[1:], totals[0]) if totals else None, self.rows + other.rows)

    def matrix(self) -> NDArray[np.float64] | None:
        """Return X'X / N, None when nothing was seen."""
        return None if self.total is None or not self.rows else self.total / self.rows
