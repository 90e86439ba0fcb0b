"""Whether the rank of a matrix can be low enough to factorize it, told without a singular value decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# The most columns that are made orthogonal: 2 * 1024^3 multiplications, about 30 ms.
MAX_COLUMNS = 1024
# Rows beyond the columns, so that even the last column of an ordinary matrix keeps a part of its length.
MORE_ROWS = 128
# What is left of a unit column outside the span of the others: 0.3 in a random matrix; in a singular one up to the
# square root of the rounding of float32 (3e-4), since it is read off a Gram matrix.
LEAST_REST = 1e-2
# Products of tiles this small run on the calling thread: a BLAS that spreads larger ones over busy cores takes 50 times
# as long as alone.
TILE = 64


def largest_rank(m: int, n: int) -> int:
    """Return the largest rank r with r (m + n) < m n."""
    return (m * n - 1) // (m + n) if m and n else 0


def surely_full(weight: Array, rank: int) -> bool:
    """Return whether the rank of a matrix is certainly above ``rank``, or at least 1024; False when neither is certain.

    min(rank + 1, 1024) seeded columns, on as many seeded rows and 128 more, of which none lies in the span of the
    others prove it: rank(W) >= rank(block). O(rank^3), reading the block alone; a second try leaves out rows and
    columns of zeros.
    """
    size = min(rank + 1, MAX_COLUMNS)
    return _independent(weight, size) or _independent(_without_zeros(weight), size)


def _without_zeros(weight: Array) -> Array:
    used = weight != 0
    return weight[np.ix_(used.any(axis=1), used.any(axis=0))]


def _independent(weight: Array, size: int) -> bool:
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    if tall.shape[1] < size:
        return False
    rng = np.random.default_rng(0)
    rows, columns = (np.sort(rng.permutation(d)[:k]) for d, k in zip(tall.shape, (size + MORE_ROWS, size), strict=True))
    block = tall[rows][:, columns].astype(np.float32)
    for axis in (1, 0):
        norms = np.sqrt(np.einsum("ij,ij->i" if axis else "ij,ij->j", block, block))
        if not np.all(np.isfinite(norms) & (norms > 0)):
            return False
        block /= np.expand_dims(norms, axis)
    return _least_rest(_tiles(block)) > LEAST_REST


def _tiles(block: Array) -> Array:
    """Return a matrix as [column tile, row tile, TILE, TILE], filled up with columns orthogonal to all others."""
    m, n = block.shape
    fill = -n % TILE
    height = -(-(m + fill) // TILE) * TILE
    padded = np.zeros((height, n + fill), np.float32)
    padded[:m, :n] = block
    padded[np.arange(m, m + fill), np.arange(n, n + fill)] = 1
    tiled = padded.reshape(height // TILE, TILE, -1, TILE)
    return np.ascontiguousarray(tiled.transpose(2, 0, 1, 3))


def _least_rest(tiles: Array) -> float:
    """Return the least length left of a unit column outside the span of the columns before it; spoils ``tiles``.

    Block modified Gram-Schmidt; columns of one tile by the Cholesky factor of their Gram matrix.
    """
    least = 1.0
    for i, panel in enumerate(tiles):
        try:
            factor = np.linalg.cholesky(np.matmul(panel.transpose(0, 2, 1), panel).sum(axis=0))
        except np.linalg.LinAlgError:
            return 0.0
        least = min(least, float(np.diagonal(factor).min()))
        if not least > LEAST_REST:
            return 0.0
        basis = np.matmul(panel, np.linalg.inv(factor).T)
        later = tiles[i + 1 :]
        if len(later):
            later -= np.matmul(basis, np.matmul(basis.transpose(0, 2, 1), later).sum(axis=1, keepdims=True))
    return least
