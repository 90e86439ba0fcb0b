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


class Grid(Protocol):
    """What weights [K, out] may become: told the rows of every ``span`` inputs first, then asked for each in turn."""

    span: int

    def begin(self, rows: Floats, start: int) -> None:
        """Choose the steps for the rows from input ``start`` on, as they are now."""

    def round(self, row: Floats, i: int) -> Floats:
        """Return the nearest weights of input ``i``."""


@dataclass
class ChannelGrid:
    """Integers of magnitude 127 at most, times a scale per output."""

    scale: Floats
    span: int = 1 << 62

    def begin(self, rows: Floats, start: int) -> None:
        """The scales are given."""

    def round(self, row: Floats, i: int) -> Floats:
        """Return the nearest weights of input ``i``."""
        return np.clip(np.rint(row / self.scale), -127, 127) * self.scale


def nearest(weight: Floats, grid: Grid) -> Floats:
    """Return the weight [K, out] rounded to the nearest."""
    result = np.empty_like(weight, np.float64)
    for i, row in enumerate(weight):
        if i % grid.span == 0:
            grid.begin(weight[i : i + grid.span], i)
        result[i] = grid.round(row, i)
    return result


def gptq(weight: Floats, gram: Floats, grid: Grid, damping: float) -> Floats:
    """Return the weight [K, out] on the grid with (nearly) the least ||X (W - Q)||.

    gram: X'X / N [K, K]. For i in order: q_i = grid(w_i), w_j -= U_ij / U_ii (w_i - q_i) for j > i, with U the upper
    Cholesky factor of the inverse of G + damping * mean(diag G) I.
    Raises ValueError when the matrix has no factor at any damping.
    Source: Frantar et al. 2022 (arXiv 2210.17323), sec. 3.
    """
    left, result = np.array(weight, np.float64), np.empty_like(weight, np.float64)
    factor, block = _factor(gram, damping), min(_BLOCK, grid.span)
    for first in range(0, len(left), block):
        last = min(first + block, len(left))
        lost = np.empty((last - first, left.shape[1]))
        for i in range(first, last):
            if i % grid.span == 0:
                grid.begin(left[i : i + grid.span], i)
            result[i] = grid.round(left[i], i)
            lost[i - first] = (left[i] - result[i]) / factor[i, i]
            left[i + 1 : last] -= np.outer(factor[i, i + 1 : last], lost[i - first])
        left[last:] -= factor[first:last, last:].T @ lost
    return result


def output_error(difference: Floats, gram: Floats) -> float:
    """Return ||X D||^2 / N."""
    return float(np.einsum("ij,ij->", difference, gram @ difference))


def fits(weight: Floats, grid: Callable[[], Grid]) -> dict[str, Fit]:
    """Return ways to round a weight on a grid, by name: each a function of a Gram matrix."""
    by_damping = {f"gptq {d:g}": lambda gram, d=d: gptq(weight, gram, grid(), d) for d in DAMPINGS}
    return {"nearest": lambda gram: nearest(weight, grid()), **by_damping}


def cross_validated(weight: Floats, folds: Sequence[Floats], ways: Mapping[str, Fit]) -> str:
    """Return the way whose fits on one fold lose least on the others; the first one when there is one fold only."""
    if len(folds) < 2:
        return next(iter(ways))
    losses = dict.fromkeys(ways, 0.0)
    for k, held in enumerate(folds):
        rest = np.mean([g for i, g in enumerate(folds) if i != k], axis=0)
        for name, fit in ways.items():
            losses[name] += output_error(weight - fit(rest), held)
    return min(losses, key=lambda name: losses[name])


def best(weight: Floats, folds: Sequence[Floats], grid: Callable[[], Grid]) -> tuple[Floats, str]:
    """Return the weight rounded by the way that cross-validation prefers, fitted on all folds, and its name."""
    ways = fits(weight, grid)
    name = cross_validated(weight, folds, ways)
    return ways[name](np.mean(folds, axis=0)), name


def _factor(gram: Floats, damping: float) -> Floats:
    """Return U, upper, with U'U the inverse of the damped matrix: U = V^-1 of V V' = H, V upper."""
    import scipy.linalg

    size = float(np.mean(np.diag(gram))) or 1.0
    for _ in range(_TRIES):
        damped = gram + damping * size * np.eye(len(gram))
        try:
            reverse = scipy.linalg.cholesky(damped[::-1, ::-1], lower=True)
            factor: Floats = scipy.linalg.lapack.dtrtri(np.asfortranarray(reverse[::-1, ::-1]), lower=0)[0]
            return factor
        except scipy.linalg.LinAlgError:
            damping *= _MORE
    raise ValueError("the inputs of the layer have no covariance that can be factorized")
