"""Second moments of the outputs of a layer, and least squares with a ridge on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TINY = float(np.finfo(np.float64).tiny)
_FEW = 8  # one vector in so many, or fewer, are found faster one by one than all of them by divide and conquer
_NOTHING = 1e-7  # relative singular value below which a direction is rounding


@dataclass(frozen=True)
class Form:
    """The second moment W' S W of outputs with S [m, m] and W [m, n]; S itself, [n, n], without a W."""

    s: Floats
    w: Floats | None = None

    def damped(self, amount: float, white: Floats) -> Form:
        """Return the form with white inputs of that power added: + amount * W'W, which is ``white``."""
        if self.w is not None:
            return Form(self.s + amount * np.eye(len(self.s)), self.w)
        return Form(self.s + amount * white)

    def trace(self) -> float:
        """Return the mean square of the outputs."""
        if self.w is None:
            return float(np.trace(self.s))
        return float(np.sum((self.s @ self.w) * self.w))

    def captured(self, basis: Floats) -> Floats:
        """Return the mean square of the outputs along every column of a basis [n, k]."""
        rows = basis if self.w is None else self.w @ basis
        return np.asarray(np.einsum("mk,mk->k", rows, self.s @ rows))

    def leading(self, count: int) -> Floats:
        """Return the leading eigenvectors [n, count], the first ones first; fewer where the rest is nothing."""
        if self.w is None:
            return _eigenvectors(self.s, count)[1]
        if self.w.shape[1] <= len(self.s):
            return _eigenvectors(self.w.T @ self.s @ self.w, count)[1]
        # n > m: K = R'R with R = S^1/2 W has the eigenvectors R'u / sigma of the smaller R R'.
        values, vectors = scipy.linalg.eigh((self.s + self.s.T) / 2)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))).T @ self.w
        squares, left = _eigenvectors(root @ root.T, count)
        used = squares > _NOTHING**2 * max(float(squares[0]), _TINY)
        return np.asarray(root.T @ (left[:, used] / np.sqrt(squares[used])))


def _eigenvectors(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the ``count`` largest eigenvalues and their vectors, of a symmetric matrix."""
    n, count = len(matrix), min(count, len(matrix))
    few: dict[str, Any] = {"subset_by_index": (n - count, n - 1)} if _FEW * count <= n else {"driver": "evd"}
    values, vectors = scipy.linalg.eigh((matrix + matrix.T) / 2, **few)
    return np.asarray(values[::-1][:count]), np.asarray(vectors[:, ::-1][:, :count])


def damped(g: Floats, ridge: float) -> Any:
    """Return the Cholesky factor of G + ridge * tr(G) / m * I; tenfold, up to four times, where that is singular.

    Raises:
        LinAlgError: even so it is not positive definite.
    """
    size = float(np.trace(g)) / max(len(g), 1)
    for attempt in range(5):
        try:
            factor = scipy.linalg.cho_factor(g + np.eye(len(g)) * max(ridge * 10**attempt * size, _TINY))
        except scipy.linalg.LinAlgError:
            continue
        if np.isfinite(factor[0]).all():
            return factor
    raise np.linalg.LinAlgError("the second moments are not positive definite")


def solve(factor: Any, right: Floats) -> Floats:
    """Return the inverse of a factorized matrix times ``right``."""
    return np.asarray(scipy.linalg.cho_solve(factor, right))
