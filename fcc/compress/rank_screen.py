"""Whether the rank of a matrix can be low enough to factorize it, told without a singular value decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# The largest block that is solved: 2/3 * 1024^3 operations, 20 to 40 ms.
MAX_BLOCK = 1024
# In float32 a singular block gives solutions near 1e6, an ordinary one (rows scaled to 1) below 1e3.
LARGEST_SOLUTION = 1e4
# Right-hand sides: each misses the direction that a block lacks with a probability of a few percent.
SIDES = 4


def largest_rank(m: int, n: int) -> int:
    """Return the largest rank r with r (m + n) < m n."""
    return (m * n - 1) // (m + n) if m and n else 0


def surely_full(weight: Array, rank: int) -> bool:
    """Return whether the rank of a matrix is certainly above ``rank``, or at least 1024; False when neither is certain.

    A block of min(rank + 1, 1024) seeded rows and columns that solves seeded equations with small solutions is
    regular, and rank(W) >= rank(block). O(rank^3), reading the block alone; a second try leaves out rows and
    columns of zeros.
    """
    size = min(rank + 1, MAX_BLOCK)
    return _regular(weight, size) or _regular(_without_zeros(weight), size)


def _without_zeros(weight: Array) -> Array:
    used = weight != 0
    return weight[np.ix_(used.any(axis=1), used.any(axis=0))]


def _regular(weight: Array, size: int) -> bool:
    if min(weight.shape) < size:
        return False
    rng = np.random.default_rng(0)
    rows, columns = (np.sort(rng.permutation(d)[:size]) for d in weight.shape)
    block = weight[rows][:, columns].astype(np.float32)
    scale = np.abs(block).max(axis=1)
    if not np.all(np.isfinite(scale) & (scale > 0)):
        return False
    sides = rng.standard_normal((size, SIDES)).astype(np.float32)
    try:
        solution = np.linalg.solve(block / scale[:, None], sides)
    except np.linalg.LinAlgError:
        return False
    return bool(np.abs(solution).max() < LARGEST_SOLUTION)
