"""Structured pruning of what layers read: backward elimination on their least squares, and their closed-form repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm

from .moments import Moments, merged
from .second import damped, solve

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

RIDGE = 1e-3  # relative to the mean power of a feature, while units are chosen
RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)  # for the repair
_LARGE = 640  # features above which several units go per step
_STEPS = 64  # then: one in so many of the units that are left


@dataclass(frozen=True)
class Reader:
    """A layer that reads units: W [m, n], and the unit of each of its m features, -1 where that cannot go.

    ``parts`` (of one group each, disjoint samples) hold what it reads now, and what it wrote in the original model;
    ``moves`` says whether its bias may change.
    """

    weight: Floats
    units: Ids
    parts: Sequence[Moments]
    moves: bool = True

    @cached_property
    def whole(self) -> Moments:
        """The moments over all samples."""
        found: Moments = merged(self.parts)
        return found

    def of(self, moments: Moments, at: Any = slice(None)) -> Quadratic:
        """Return the least squares of some moments, for some of the features."""
        g, cross = moments.xx.moment(self.moves)[0], moments.xy.moment(self.moves)[0]
        index = np.ix_(at, at) if isinstance(at, np.ndarray) else (at, at)
        means = (moments.xx.a[0][at], moments.xy.b[0]) if self.moves else (np.zeros(1), np.zeros(1))
        return Quadratic(g[index], cross[at], self.weight[at], float(moments.energy(self.moves)[0]), *means)


@dataclass(frozen=True)
class Quadratic:
    """||X V - Y||^2 by moments: G, X'Y, the weight W that a ridge draws V to, ||Y||^2, and the means of x and y."""

    g: Floats
    cross: Floats
    weight: Floats
    energy: float
    mean_x: Floats
    mean_y: Floats

    def damped(self, ridge: float) -> tuple[Floats, Floats]:
        """Return G + r I and X'Y + r W, r = ridge tr(G) / m."""
        amount = max(ridge * float(np.trace(self.g)) / max(len(self.g), 1), float(np.finfo(np.float64).tiny))
        return self.g + amount * np.eye(len(self.g)), self.cross + amount * self.weight

    def solved(self, ridge: float) -> Floats:
        """Return the best weight."""
        full, right = self.damped(ridge)
        return solve(damped(full, 0.0), right)

    def lost(self, weight: Floats, fit: Quadratic, moves: bool) -> float:
        """Return ||X V + b - Y||^2 for a weight, with the bias that the means of ``fit`` give it."""
        left = self.energy - 2 * np.sum(weight * self.cross) + np.sum(weight * (self.g @ weight))
        shift = self.mean_y - fit.mean_y - (self.mean_x - fit.mean_x) @ weight if moves else np.zeros(1)
        return float(max(left, 0.0) + np.sum(shift**2))


@dataclass(frozen=True)
class Elimination:
    """Units in the order in which they go, and the error of the outputs after each: ``errors``[k] without k of them.

    The errors are of the samples that were fitted.
    """

    order: Ids
    errors: Floats

    def until(self, least: int, count: int) -> Elimination:
        """Return the beginning of it, down to ``least`` of ``count`` units."""
        return Elimination(self.order[: count - least], self.errors[: count - least + 1])


def eliminate(readers: Sequence[Reader], count: int, least: int) -> Elimination:
    """Return the order in which units 0..count-1 go, down to ``least`` of them, for all their readers together.

    The unit goes whose absence raises sum over readers of ||X W - Y||^2 / ||Y||^2 least, all weights that stay being
    refitted (exact greedy): with P = (G + ridge I)^-1, the rise is tr(W_j' P_jj^-1 W_j); then W -= P_:j P_jj^-1 W_j,
    and P the same way. Readers above 640 features lose one in 64 of the units left per step.

    Raises:
        LinAlgError: the moments are degenerate.
    Source: Hassibi & Stork 1993 (optimal brain surgeon); by columns, Kurtic et al. 2023 (arXiv 2302.04089).
    """
    states = [_State(r, count) for r in readers]
    left, order = np.ones(count, bool), list[int]()
    base = sum(s.unexplained for s in states)
    rises, step = [base], 1
    while (remaining := int(left.sum())) > least:
        if any(len(s.weight) > _LARGE for s in states):
            step = min(max(1, remaining // _STEPS), remaining - least)
        scores = np.where(left, sum(s.scores() for s in states), np.inf)
        gone = np.argsort(scores, kind="stable")[:step]
        before = rises[-1]
        base = before + sum(s.remove(gone) for s in states)
        shares = np.cumsum(scores[gone])
        total = shares[-1] if shares[-1] > 0 else 1.0
        rises += [before + (base - before) * float(share / total) for share in shares]
        order += gone.tolist()
        left[gone] = False
    errors = np.sqrt(np.maximum.accumulate(np.maximum(np.array(rises), 0.0)) / max(len(states), 1))
    return Elimination(np.array(order, np.int64), errors)


def _size(energy: float) -> float:
    """Return what errors are relative to; outputs that never move cannot move by much."""
    return energy if energy > np.finfo(np.float64).tiny else np.inf


class _State:
    """The least squares of one reader while units go."""

    def __init__(self, reader: Reader, count: int) -> None:
        whole = reader.of(reader.whole)
        g, right = whole.damped(RIDGE)
        self.inverse = np.asfortranarray(solve(damped(g, 0.0), np.eye(len(g))))
        self.weight = np.ascontiguousarray(self.inverse @ right)
        self.energy = _size(whole.energy)
        self.unexplained = whole.lost(self.weight, whole, False) / self.energy
        order = np.argsort(reader.units, kind="stable")
        units = reader.units[order]
        self.features = [order[np.searchsorted(units, u) : np.searchsorted(units, u, "right")] for u in range(count)]
        sizes = np.array([len(f) for f in self.features])
        same = [np.flatnonzero(sizes == s) for s in np.unique(sizes) if s > 0]
        self.alike = [(units, np.stack([self.features[u] for u in units])) for units in same]
        self.left = np.ones(count, bool)

    def scores(self) -> Floats:
        """Return, per unit, the relative rise of the error if it went."""
        found = np.zeros(len(self.left))
        for units, features in self.alike:
            here = self.left[units]
            at, units = features[here], units[here]
            if at.shape[1] == 1:
                single = at[:, 0]
                found[units] = np.einsum("un,un->u", self.weight[single], self.weight[single])
                found[units] /= self.inverse[single, single]
            elif units.size:
                blocks, own = self.inverse[at[:, :, None], at[:, None, :]], self.weight[at]
                found[units] = np.einsum("ubn,ubn->u", own, np.linalg.solve(blocks, own))
        return found / self.energy

    def remove(self, units: Ids) -> float:
        """Take units out and return the relative rise of the error."""
        self.left[units] = False
        at = np.concatenate([self.features[u] for u in units])
        if not at.size:
            return 0.0
        columns, own = self.inverse[:, at], self.weight[at]
        part = np.linalg.solve(columns[at], np.concatenate([own, columns.T], axis=1))
        n = own.shape[1]
        rise = float(np.sum(own * part[:, :n]))
        self.weight = dgemm(-1.0, part[:, :n].T, columns.T, beta=1.0, c=self.weight.T, overwrite_c=1).T
        self.inverse = dgemm(-1.0, columns, part[:, n:], beta=1.0, c=self.inverse, overwrite_c=1)
        self.weight[at] = 0
        self.inverse[at] = self.inverse[:, at] = 0
        return rise / self.energy


@dataclass(frozen=True)
class Repair:
    """The weight [features that stay, n] of a reader, its bias (None: as it was), and the error of its outputs.

    The error is relative, on samples left out where there were two parts (``held_out``).
    """

    weight: Floats
    bias: Floats | None
    error: float
    ridge: float
    held_out: bool


def repaired(reader: Reader, stays: NDArray[np.bool_]) -> Repair:
    """Return the weight of the features that stay, refitted to the original outputs.

    W_S = (G_SS + ridge I)^-1 (X_S'Y + ridge W_S);  b' = mean(y) - mean(x_S) W_S. The ridge is the one of six by which
    each part of the samples, fitted to the others, is met best.

    Raises:
        LinAlgError: the moments are degenerate.
    """
    whole, moves = reader.of(reader.whole, stays), reader.moves
    ridge, error = RIDGE, 0.0
    parts = reader.parts if len(reader.parts) > 1 else ()
    if parts:
        splits = [
            (reader.of(merged([p for p in parts if p is not own]), stays), reader.of(own, stays)) for own in parts
        ]
        total = _size(sum(own.energy for _, own in splits))
        losses = {r: sum(own.lost(fit.solved(r), fit, moves) for fit, own in splits) / total for r in RIDGES}
        ridge = min(losses, key=lambda r: losses[r])
        error = losses[ridge]
    weight = whole.solved(ridge)
    if not parts:
        error = whole.lost(weight, whole, moves) / _size(whole.energy)
    bias = whole.mean_y - whole.mean_x @ weight if moves else None
    return Repair(weight, bias, error**0.5, ridge, bool(parts))
