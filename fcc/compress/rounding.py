"""GPTQ: rounding the weights of a layer one input at a time, later inputs making up for what earlier ones lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Fit = Callable[[Floats], Floats]

DAMPINGS = (0.01, 0.1, 1.0)
_BLOCK = 32
_MORE = 10.0  # damping grows by that where the matrix has no factor
_TRIES = 4
_LARGE = 64  # inputs of a layer


class Grid(Protocol):
    """What weights [..., K, out] may become: told the rows of every ``span`` inputs, then asked for each in turn."""

    span: int

    def begin(self, rows: Floats, start: int) -> None:
        """Choose the steps for the rows from input ``start`` on, as they are now."""

    def round(self, row: Floats, i: int) -> Floats:
        """Return the nearest weights of input ``i``."""


@dataclass
class ChannelGrid:
    """Integers of magnitude 127 at most, times a scale [..., out] per output."""

    scale: Floats
    span: int = 1 << 62

    def begin(self, rows: Floats, start: int) -> None:
        """The scales are given."""

    def round(self, row: Floats, i: int) -> Floats:
        """Return the nearest weights of input ``i``."""
        return np.minimum(np.maximum(np.rint(row / self.scale), -127), 127) * self.scale


def nearest(weight: Floats, grid: Grid) -> Floats:
    """Return the weight [..., K, out] rounded to the nearest."""
    result = np.empty_like(weight, np.float64)
    for i in range(weight.shape[-2]):
        if i % grid.span == 0:
            grid.begin(weight[..., i : i + grid.span, :], i)
        result[..., i, :] = grid.round(weight[..., i, :], i)
    return result


def gptq(weight: Floats, gram: Floats, grid: Grid, damping: float) -> Floats:
    """Return the weight [..., K, out] on the grid with (nearly) the least ||X (W - Q)||, group by group.

    gram: X'X / N [..., K, K]. For i in order: q_i = grid(w_i), w_j -= U_ij / U_ii (w_i - q_i) for j > i, with U the
    upper Cholesky factor of the inverse of G + damping * mean(diag G) I.
    Raises ValueError when a matrix has no factor at any damping.
    Source: Frantar et al. 2022 (arXiv 2210.17323), sec. 3.
    """
    left, result = np.array(weight, np.float64), np.empty_like(weight, np.float64)
    inputs, outputs = left.shape[-2:]
    factor, block = _factor(gram, damping), min(_BLOCK, grid.span)
    for first in range(0, inputs, block):
        last = min(first + block, inputs)
        lost = np.empty((*left.shape[:-2], last - first, outputs))
        for i in range(first, last):
            if i % grid.span == 0:
                grid.begin(left[..., i : i + grid.span, :], i)
            result[..., i, :] = grid.round(left[..., i, :], i)
            lost[..., i - first, :] = (left[..., i, :] - result[..., i, :]) / factor[..., i, i, None]
            left[..., i + 1 : last, :] -= factor[..., i, i + 1 : last, None] * lost[..., i - first, None, :]
        left[..., last:, :] -= np.swapaxes(factor[..., first:last, last:], -1, -2) @ lost
    return result


def output_error(difference: Floats, gram: Floats) -> Floats:
    """Return ||X D||^2 / N, of every group."""
    return np.asarray(np.sum(difference * (gram @ difference), axis=(-2, -1)))


def fits(weight: Floats, grid: Callable[[], Grid]) -> dict[str, Fit]:
    """Return ways to round a weight on a grid, by name: each a function of a Gram matrix."""
    by_damping = {f"gptq {d:g}": lambda gram, d=d: gptq(weight, gram, grid(), d) for d in DAMPINGS}
    return {"nearest": lambda gram: nearest(weight, grid()), **by_damping}


def cross_validated(weight: Floats, folds: Sequence[Floats], ways: Mapping[str, Fit]) -> str:
    """Return the way whose fits on one fold lose least on the others; the first one when there is one fold only."""
    return list(ways)[int(_losses(weight, folds, ways).argmin(axis=0))]


def _losses(weight: Floats, folds: Sequence[Floats], ways: Mapping[str, Fit]) -> Floats:
    """Return what every way, fitted on the other folds, loses on each: [ways, ...]."""
    losses = np.zeros((len(ways), *weight.shape[:-2]))
    for k, held in enumerate(folds if len(folds) > 1 else ()):
        rest = np.mean([g for i, g in enumerate(folds) if i != k], axis=0)
        for way, fit in enumerate(ways.values()):
            losses[way] += output_error(weight - fit(rest), held)
    return losses


def best(weight: Floats, folds: Sequence[Floats], grid: Callable[[], Grid]) -> Floats:
    """Return the weight [..., K, out], every group rounded by the way that cross-validation prefers for it."""
    ways = fits(weight, grid)
    chosen, whole = _losses(weight, folds, ways).argmin(axis=0), np.mean(folds, axis=0)
    result = np.empty_like(weight, np.float64)
    for way, fit in enumerate(ways.values()):
        if (chosen == way).any():
            result = np.where((chosen == way)[..., None, None], fit(whole), result)
    return result


def _factor(gram: Floats, damping: float) -> Floats:
    """Return U, upper, with U'U the inverse of the damped matrix: U = V^-1 of V V' = H, V upper; of every group."""
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1).mean(axis=-1)
    size = np.where(diagonal != 0, diagonal, 1.0)[..., None, None]
    for _ in range(_TRIES):
        try:
            reverse = np.linalg.cholesky((gram + damping * size * np.eye(gram.shape[-1]))[..., ::-1, ::-1])
            return _inverse(np.asarray(reverse, np.float64)[..., ::-1, ::-1])
        except np.linalg.LinAlgError:
            damping *= _MORE
    raise ValueError("the inputs of the layer have no covariance that can be factorized")


def _inverse(upper: Floats) -> Floats:
    """Return the inverse of upper triangular matrices; large ones are worth a call each that knows their form."""
    import scipy.linalg

    size = upper.shape[-1]
    if size < _LARGE:
        return np.asarray(np.linalg.inv(upper))
    each = (np.asfortranarray(matrix) for matrix in upper.reshape(-1, size, size))
    return np.stack([scipy.linalg.lapack.dtrtri(m, lower=0)[0] for m in each]).reshape(upper.shape)
