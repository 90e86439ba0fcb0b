"""Factors of a weight of low numerical rank, by which every output stays within rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear
from fcc.compress.rank_screen import largest_rank, surely_full

Array = np.ndarray[Any, Any]
# What a further node and initializer add to a file, about.
_NODE_BYTES = 256
# Elements above which a rank deficient weight is not decomposed unasked: 4096 x 4096 takes a minute.
_MAX_ELEMENTS = 1 << 23


def exact_factors(view: Linear) -> tuple[Array, Array] | str:
    """Return factors [out, rank] and [rank, in] of fewer bytes that reproduce every output, or why there are none."""
    m, n = view.out_features, view.in_features
    assert view.weight.dtype is not None
    dtype = np.dtype(view.weight.dtype.numpy())
    limit = min(largest_rank(m, n), (m * n - _NODE_BYTES // dtype.itemsize) // (m + n))
    if limit < 1:
        return f"two factors of {m} x {n} are no smaller at any rank"
    stored = ir.Module.constant(view.weight)
    assert stored is not None
    if surely_full(stored.reshape(stored.shape[:2]), limit):
        return "the weight has (nearly) full rank"
    if m * n > _MAX_ELEMENTS:
        return f"{m} x {n} is too large to be decomposed unasked"
    weight = view.array()
    return flaw(weight) or decompose(weight, dtype, limit)


def flaw(weight: Array) -> str | None:
    """Return why a weight cannot be decomposed."""
    if not np.all(np.isfinite(weight)):
        return "the weight holds NaN or infinity"
    return None if weight.any() else "the weight is zero"


def decompose(weight: Array, dtype: np.dtype[Any], limit: int) -> tuple[Array, Array] | str:
    """Factorize with rows and columns brought to one size, so that a small output keeps its digits too."""
    # Importing scipy takes 0.1 s: only where there is something to decompose.
    from fcc.compress.factorize import factorize, numerical_rank

    rows = _size(weight, axis=1)
    columns = _size(weight / rows, axis=0)
    even = weight / rows / columns
    rank = numerical_rank(even.astype(dtype))
    if rank > limit:
        return f"the rank {rank} is too high: above {limit} two factors are no smaller"
    a, b = factorize(even, rank)
    outer = np.where(weight.any(axis=1, keepdims=True), rows * a, 0).astype(dtype).astype(np.float64)
    inner = (b * columns).astype(dtype).astype(np.float64)
    lost = np.linalg.norm(outer @ inner - weight, axis=1, keepdims=True) / rows
    allowed = 8 * float(np.finfo(dtype).eps) * rank**0.5
    if not np.all(lost <= allowed):
        return f"at rank {rank} an output would move by {float(np.max(lost)):.1e} of its size"
    return outer, inner


def _size(weight: Array, axis: int) -> Array:
    norms: Array = np.linalg.norm(weight, axis=axis, keepdims=True)
    return np.where(norms > 0, norms, 1.0)
