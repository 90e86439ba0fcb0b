"""Low rank by output PCA: the best factors W ~ A B of a layer for the rows it really reads, for every rank at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .moments import Moments, Product, merged
from .second import Form, damped, solve

Floats = NDArray[np.float64]

ANCHOR = 1e-2  # ridge of the refit, towards the weight as it was, relative to the mean power of a feature
RIDGE = 1e-2  # of the projection, where there are not enough samples to choose it
RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
FEW_RIDGES = (1e-3, 1e-1, 10.0)
FOLDS = 4
WIDE = 1024  # outputs above which fewer ridges are tried


@dataclass(frozen=True)
class Layer:
    """A layer to approximate, one group of it: W [m, n], the bias [n], and whether the bias may move.

    ``moments`` (one group) tell what it reads and should write: x is its input, y the output in the original model.
    With ``y`` = "input", y is the input in the original model, so that y W is what it wrote there. With ``x`` =
    "output", x is what the layer, as it is, writes (bias included): for inputs too wide for a matrix.
    """

    weight: Floats
    bias: Floats
    moments: Moments
    moves: bool = True
    x: str = "input"
    y: str = "output"

    def refit(self) -> Refit:
        """Return the layer that reproduces the original outputs best from what it reads now.

        W + (G + ridge I)^-1 (X'Y - G W): least squares with a ridge towards W.
        """
        g, cross = self.moments.xx.moment(self.moves)[0], self.moments.xy.moment(self.moves)[0]
        if self.y == "input":
            cross = cross @ self.weight
        start = np.eye(len(g)) if self.x == "output" else self.weight
        fitted = start + solve(damped(g, ANCHOR), cross - g @ start)
        mean = self.moments.xx.a[0]
        if self.x == "output":
            return Refit(self.weight @ fitted, Form(fitted.T @ g @ fitted), (mean - self.bias) @ fitted)
        return Refit(fitted, Form(g, fitted), mean @ fitted)

    def mean(self) -> Floats:
        """Return the mean of the original outputs."""
        mean = self.moments.xy.b[0]
        return np.asarray(mean @ self.weight + self.bias) if self.y == "input" else mean

    def original(self, fold: Product) -> Form:
        """Return the second moment of the original outputs over a fold."""
        return Form(fold.moment(self.moves)[0], self.weight if self.y == "input" else None)

    def power(self) -> float:
        """Return the mean square of a feature of the input (by the outputs, where the input is too wide)."""
        if self.x == "input":
            return float(np.trace(self.moments.xx.moment(self.moves)[0])) / len(self.weight)
        return float(np.trace(self.moments.xx.moment(self.moves)[0])) / max(float(np.sum(self.weight**2)), 1e-300)


@dataclass(frozen=True)
class Refit:
    """A weight, the second moment of its outputs, and their mean without the bias."""

    weight: Floats
    outputs: Form
    mean: Floats


@dataclass(frozen=True)
class Spectrum:
    """Factors of every rank: ``basis`` [n, k] in order of importance, ``errors`` [k + 1] of the outputs at rank 0..k.

    ``errors`` are relative, on samples left out where there were enough (``held_out``); ``weight`` is W, refitted.
    """

    weight: Floats
    basis: Floats
    errors: Floats
    ridge: float = 0.0
    held_out: bool = False
    layer: Layer | None = None
    mean: Floats | None = None

    @property
    def measure(self) -> str:
        """What the errors are of."""
        return "weight" if self.layer is None else "output"

    def factors(self, rank: int) -> tuple[Floats, Floats]:
        """Return A [m, rank] and B [rank, n]."""
        kept = self.basis[:, :rank]
        return self.weight @ kept, kept.T

    def bias(self, rank: int, before: Floats) -> Floats:
        """Return the bias by which the factors of a rank keep the mean of the original outputs."""
        if self.layer is None or self.mean is None or not self.layer.moves:
            return before
        kept = self.basis[:, :rank]
        return self.layer.mean() - (self.mean @ kept) @ kept.T

    def rank_for(self, energy: float) -> int:
        """Return the smallest rank that keeps a share of the squares, 1 - error^2 >= energy; the highest if none."""
        enough = np.flatnonzero(1 - self.errors**2 >= energy - 1e-12)
        return max(1, int(enough[0])) if len(enough) else len(self.errors) - 1


def by_weight(weight: Floats) -> Spectrum:
    """Return the spectrum of a weight alone, its singular vectors (Eckart & Young 1936)."""
    _, s, vt = scipy.linalg.svd(weight, full_matrices=False)
    return Spectrum(weight, vt.T, _errors(s**2, float(np.sum(s**2))))


def by_outputs(layer: Layer, rank: int) -> Spectrum:
    """Return the spectrum of the outputs of a layer with the ridge that is best at a rank; see ``Spectra``."""
    return Spectra(layer).at(rank)


@dataclass
class Spectra:
    """Spectra of the outputs of a layer, refitted to what the original model wrote; every rank costs one choice only.

    min ||X (W - A B)||: with K = W'(G + ridge power I) W and V its leading eigenvectors, A = W V, B = V'. The ridge is
    the prior that inputs are white: of seven the one that captures most of the outputs of left-out samples at a rank
    (4 folds; every hundredfold step first, then the two beside the best), or 1e-2 with fewer than two folds.

    Source: Zhang et al. 2015 (arXiv 1505.06798), sec. 3, the refit as its asymmetric reconstruction.
    """

    layer: Layer
    _captured: dict[float, Floats] = field(default_factory=dict)
    _bases: dict[float, Floats] = field(default_factory=dict)

    def at(self, rank: int) -> Spectrum:
        """Return the spectrum by the ridge of a rank.

        Raises:
            LinAlgError: the moments are degenerate.
        """
        refit, folds = self._refit, self._folds
        ridge = self._ridge(max(1, min(rank, *self.layer.weight.shape))) if folds else RIDGE
        if ridge not in self._bases:
            self._bases[ridge] = refit.outputs.damped(ridge * self._power, self._white).leading(self._limit)
        basis = self._bases[ridge]
        if folds:
            captured, total = self._captured[ridge][: basis.shape[1]], self._total
        else:
            captured, total = refit.outputs.captured(basis), refit.outputs.trace()
        return Spectrum(refit.weight, basis, _errors(captured, total), ridge, bool(folds), self.layer, refit.mean)

    def _ridge(self, rank: int) -> float:
        """Return the ridge by which most of the outputs of left-out samples is captured at a rank."""

        def score(ridge: float) -> float:
            return float(self._captured[ridge][:rank].sum())

        self._gather(FEW_RIDGES)
        best = max(FEW_RIDGES, key=score)
        if self.layer.weight.shape[1] > WIDE:
            return best
        at = RIDGES.index(best)
        near = RIDGES[max(at - 1, 0) : at + 2]
        self._gather(near)
        return max(near, key=score)

    def _gather(self, ridges: Sequence[float]) -> None:
        """Measure what the leading directions of every rank capture of the samples of each fold, fitted to the rest."""
        missing = [r for r in ridges if r not in self._captured]
        self._captured |= {r: np.zeros(self._limit) for r in missing}
        for own in self._folds if missing else ():
            rest = self.layer.original(merged([f for f in self._folds if f is not own]))
            judge = self.layer.original(own)
            for ridge in missing:
                basis = rest.damped(ridge * self._power, self._white).leading(self._limit)
                self._captured[ridge][: basis.shape[1]] += own.count * judge.captured(basis)

    @cached_property
    def _folds(self) -> list[Product]:
        found = [f for f in self.layer.moments.folds if f is not None]
        return found if len(found) > 1 else []

    @cached_property
    def _total(self) -> float:
        return float(sum(own.count * self.layer.original(own).trace() for own in self._folds))

    @cached_property
    def _refit(self) -> Refit:
        return self.layer.refit()

    @cached_property
    def _white(self) -> Floats:
        return self.layer.weight.T @ self.layer.weight

    @cached_property
    def _power(self) -> float:
        return self.layer.power()

    @property
    def _limit(self) -> int:
        return int(min(self.layer.weight.shape))


def _errors(captured: Floats, total: float) -> Floats:
    """Return the relative error at rank 0, 1, ...: what is left of the total, never rising."""
    left = np.minimum.accumulate(total - np.concatenate([[0.0], np.cumsum(captured)]))
    return np.sqrt(np.maximum(left, 0.0) / total) if total > 0 else np.zeros(len(left))


def grouped(moments: Moments, group: int) -> Moments:
    """Return the moments of one group alone."""

    def part(p: Product, at: slice) -> Product:
        return Product(p.count, p.a[at], p.b[at], p.total[at])

    one, n = slice(group, group + 1), moments.sizes[2]
    return Moments(
        part(moments.xx, one),
        part(moments.xy, one),
        part(moments.power, slice(group * n, (group + 1) * n)),
        tuple(None if f is None else part(f, one) for f in moments.folds),
    )
