"""A codebook: the few numbers that the elements of a tensor are replaced by, chosen by k-means in one dimension."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENTRIES = 256
SAMPLE = 1 << 20  # elements that the codebook is fitted to; every one of a smaller tensor
_ROUNDS = 50
_PARTS = 1024  # of equally many elements
_STILL = 1e-4  # part of the error that a round must take away


class Codebook(NamedTuple):
    """``entries`` [at most 256] ascending, and ``indices`` (uint8) of the shape of the tensor."""

    entries: NDArray[np.float32]
    indices: NDArray[np.uint8]


def fit(array: NDArray[Any], entries: int = ENTRIES) -> Codebook:
    """Return the codebook of a finite tensor: exact where it has few values, else a local minimum of the squared error.

    Deterministic.

    Source: Lloyd 1982, Least squares quantization in PCM; its start: Panter and Dite 1951; Han et al. 2015
    (arXiv 1510.00149), sec. 3.
    """
    flat = np.asarray(array, np.float32).reshape(-1)
    distinct = np.unique(flat)
    if len(distinct) <= entries:
        return Codebook(distinct, np.searchsorted(distinct, flat).astype(np.uint8).reshape(array.shape))
    seen = np.sort(flat[:: -(-flat.size // SAMPLE)]).astype(np.float64)
    centers, last = _start(seen, entries), np.inf
    for _ in range(_ROUNDS):
        which = _nearest(centers, seen)
        error = float(np.sum((seen - centers[which]) ** 2))
        if error >= last * (1 - _STILL):
            break
        last = error
        counts = np.bincount(which, minlength=entries)
        sums = np.bincount(which, weights=seen, minlength=entries)
        centers = np.where(counts > 0, sums / np.maximum(counts, 1), centers)
    stored = np.unique(centers.astype(np.float32))
    return Codebook(stored, _nearest(stored, flat).astype(np.uint8).reshape(array.shape))


def _start(seen: NDArray[np.float64], entries: int) -> NDArray[np.float64]:
    """Return entries whose density is the cube root of that of the elements: best where there are many entries."""
    edges = seen[np.linspace(0, len(seen) - 1, _PARTS + 1).astype(int)]
    mass = np.concatenate([[0.0], np.cumsum(np.diff(edges) ** (2 / 3))])
    centers: NDArray[np.float64] = np.interp((np.arange(entries) + 0.5) / entries * mass[-1], mass, edges)
    return centers


def _nearest(centers: NDArray[Any], values: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index of the nearest of ascending centers."""
    return np.searchsorted((centers[:-1] + centers[1:]) / 2, values)
