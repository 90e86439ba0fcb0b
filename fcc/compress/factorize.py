"""Low rank: W [m, n] ~ A [m, r] @ B [r, n]."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


class Factors(NamedTuple):
    """A [m, r], B [r, n] in float64 and their relative error, of the weight or (with a Gram matrix) of the outputs."""

    a: Floats
    b: Floats
    error: float


def factorize(
    weight: Array,
    rank: int | None = None,
    *,
    energy: float | None = None,
    gram: Array | None = None,
    ridge: float = 1e-2,
) -> Factors:
    """Return the best factors of a rank, or of the smallest rank that keeps a share ``energy`` of all squares.

    Without ``gram``: min ||W - A B||_F by the SVD W = U S V', A = U_r S_r^1/2, B = S_r^1/2 V_r' (balanced);
    error = ||W - A B||_F / ||W||_F.

    With ``gram`` G = X'X / N [m, m] of the inputs: min ||X (W - A B)||_F by projecting the outputs. With
    K = W' (G + ridge * tr(G)/m * I) W and V_r its leading eigenvectors, A = W V_r, B = V_r';
    error = ||X (W - A B)|| / ||X W||. The ridge is the prior that inputs are white: 0 trusts the data alone.

    The energy of a weight is ||W||_F^2 = sum S^2, with ``gram`` that of its outputs ||X W||_F^2; kept is 1 - error^2.

    Raises ValueError unless one of 1 <= rank <= min(m, n) and 0 < energy <= 1 is given, and everything is finite.
    Source: Eckart & Young 1936; output PCA as in Zhang et al. 2015 (arXiv 1505.06798), sec. 3.
    """
    matrix = _finite(weight, "weight")
    if (rank is None) == (energy is None):
        raise ValueError("give a rank or an energy")
    if rank is not None and not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank {rank} is not within 1..{min(matrix.shape)}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy {energy} is not within 0..1")
    keep = _Keep(rank, energy)
    if gram is None:
        return _by_svd(matrix, keep)
    return _by_outputs(matrix, keep, _finite(gram, "Gram matrix"), ridge)


class _Keep(NamedTuple):
    """How many directions to keep: a number of them, or a share of their energy."""

    rank: int | None
    energy: float | None

    def of(self, energies: Floats) -> int:
        """Return the number for directions of these energies, the most important first."""
        if self.rank is not None or self.energy is None:
            return self.rank or 1
        sums = np.cumsum(energies)
        return min(int(np.searchsorted(sums, self.energy * sums[-1])) + 1, len(energies))


def numerical_rank(weight: Array, rtol: float | None = None) -> int:
    """Return how many singular values exceed ``rtol`` times the largest.

    Default threshold: what rounding the weight to its own dtype may add, eps * ||W||_F * (m^-1/2 + n^-1/2), which
    bounds the norm of a matrix of independent rounding errors (Davidson & Szarek 2001) with room to spare; and at least
    the backward error of the SVD itself.
    """
    matrix = _finite(weight, "weight")
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


def _by_svd(matrix: Floats, keep: _Keep) -> Factors:
    u, s, vt = scipy.linalg.svd(matrix, full_matrices=False)
    rank = keep.of(s**2)
    root = np.sqrt(s[:rank])
    total = float(np.linalg.norm(s))
    error = float(np.linalg.norm(s[rank:])) / total if total else 0.0
    return Factors(u[:, :rank] * root, root[:, None] * vt[:rank], error)


def _by_outputs(matrix: Floats, keep: _Keep, gram: Floats, ridge: float) -> Factors:
    m = len(matrix)
    if gram.shape != (m, m):
        raise ValueError(f"the Gram matrix is {gram.shape}, not {(m, m)}")
    values, vectors = scipy.linalg.eigh((gram + gram.T) / 2)
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ matrix
    # K = R'R with R = sqrt(D) Q' W: its eigenvectors are R's right singular vectors, without squaring the condition.
    _, _, vt = scipy.linalg.svd(np.sqrt(values + ridge * values.mean())[:, None] * rotated, full_matrices=False)
    outputs = np.sqrt(values)[:, None] * rotated
    basis = vt[: keep.of(np.sum((outputs @ vt.T) ** 2, axis=0))]
    total = float(np.linalg.norm(outputs))
    lost = float(np.linalg.norm(outputs - (outputs @ basis.T) @ basis))
    return Factors(matrix @ basis.T, basis, lost / total if total else 0.0)


def _finite(array: Array, what: str) -> Floats:
    if array.ndim != 2:
        raise ValueError(f"the {what} has rank {array.ndim}, not 2")
    matrix = array.astype(np.float64)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"the {what} holds NaN or infinity")
    return matrix
