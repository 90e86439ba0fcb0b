"""Low rank: W [m, n] ~ A [m, r] @ B [r, n]."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


def factorize(weight: Array, rank: int) -> tuple[Floats, Floats]:
    """Return A [m, rank] and B [rank, n] in float64 that minimize ||W - A B||_F.

    By the SVD W = U S V': A = U_r S_r^1/2, B = S_r^1/2 V_r' (balanced). Raises ValueError unless 1 <= rank <= min(m, n)
    and the weight is finite. Source: Eckart & Young 1936.
    """
    matrix = _finite(weight)
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank {rank} is not within 1..{min(matrix.shape)}")
    u, s, vt = scipy.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def numerical_rank(weight: Array, rtol: float | None = None) -> int:
    """Return how many singular values exceed ``rtol`` times the largest.

    Default threshold: what rounding the weight to its own dtype may add, eps * ||W||_F * (m^-1/2 + n^-1/2), which
    bounds the norm of a matrix of independent rounding errors (Davidson & Szarek 2001) with room to spare; and at least
    the backward error of the SVD itself.
    """
    matrix = _finite(weight)
    if not matrix.size:
        return 0
    singular = scipy.linalg.svdvals(matrix)
    if rtol is not None:
        threshold = rtol * singular[0]
    else:
        eps = float(ml_dtypes.finfo(weight.dtype).eps)  # type: ignore[no-untyped-call]
        m, n = matrix.shape
        rounding = eps * float(np.linalg.norm(matrix)) * (m**-0.5 + n**-0.5)
        threshold = max(rounding, max(m, n) * float(np.finfo(np.float64).eps) * float(singular[0]))
    return int(np.count_nonzero(singular > threshold))


def shrinks(m: int, n: int, rank: int) -> bool:
    """Whether two factors hold fewer parameters (and multiplications) than the weight: r (m + n) < m n."""
    return rank * (m + n) < m * n


def pays(m: int, n: int, rank: int) -> bool:
    """Whether two factors are expected to run faster, the second node included: r (m + n) <= 0.75 m n."""
    return rank * (m + n) <= 0.75 * m * n


def rank_for(ratio: float, m: int, n: int) -> int:
    """Return the largest rank with r (m + n) <= ratio * m n, down to a multiple of 8 from 8 on, and at least 1.

    Raises ValueError unless ratio > 0 and m, n >= 1.
    """
    if not ratio > 0 or m < 1 or n < 1:
        raise ValueError(f"ratio {ratio} of a {m} x {n} weight means no rank")
    largest = min(int(ratio * m * n / (m + n)), m, n)
    return max(1, largest - largest % 8 if largest >= 8 else largest)


def _finite(array: Array) -> Floats:
    if array.ndim != 2:
        raise ValueError(f"the weight has rank {array.ndim}, not 2")
    matrix = array.astype(np.float64)
    if not np.all(np.isfinite(matrix)):
        raise ValueError("the weight holds NaN or infinity")
    return matrix
