"""Structured pruning of what layers read: backward elimination on their least squares, and their closed-form repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .moments import Moments
from .second import damped, solve

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

RIDGE = 1e-3  # relative to the mean power of a feature
_LARGE = 1024  # features above which several units go per step
_STEPS = 64  # then: one in so many of the units that are left


@dataclass(frozen=True)
class Reader:
    """A layer that reads units: W [m, n], and the unit of each of its m features, -1 where that cannot go.

    ``moments`` (one group) hold what it reads now, and what it wrote in the original model; ``moves`` says whether its
    bias may change.
    """

    weight: Floats
    units: Ids
    moments: Moments
    moves: bool = True

    def quadratic(self) -> tuple[Floats, Floats, float]:
        """Return (G + ridge I, X'Y + ridge W, energy of y): those of ||X W - Y||^2 with a ridge towards W."""
        g, cross = self.moments.xx.moment(self.moves)[0], self.moments.xy.moment(self.moves)[0]
        ridge = RIDGE * float(np.trace(g)) / max(len(g), 1)
        full = g + max(ridge, np.finfo(np.float64).tiny) * np.eye(len(g))
        return full, cross + ridge * self.weight, float(self.moments.energy(self.moves)[0])


@dataclass(frozen=True)
class Elimination:
    """Units in the order in which they go, and the error of the outputs after each: ``errors``[k] without k of them."""

    order: Ids
    errors: Floats

    def cut(self, energy: float) -> int:
        """Return how many units may go so that a share of the squares of the outputs is kept."""
        return int(np.count_nonzero(1 - self.errors[1:] ** 2 >= energy - 1e-12))


def eliminate(readers: Sequence[Reader], count: int, least: int) -> Elimination:
    """Return the order in which units 0..count-1 go, down to ``least`` of them, for all their readers together.

    The unit goes whose absence raises sum over readers of ||X W - Y||^2 / ||Y||^2 least, all weights that stay being
    refitted (exact greedy): with P = (G + ridge I)^-1, the rise is tr(W_j' P_jj^-1 W_j); then W -= P_:j P_jj^-1 W_j,
    and P the same way. Readers above 1024 features lose one in 64 of the units left per step.

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


class _State:
    """The least squares of one reader while units go."""

    def __init__(self, reader: Reader, count: int) -> None:
        g, cross, self.energy = reader.quadratic()
        factor = damped(g, 0.0)
        self.inverse = solve(factor, np.eye(len(g)))
        self.weight = self.inverse @ cross
        self.energy = max(self.energy, float(np.finfo(np.float64).tiny))
        explained = float(np.sum(self.weight * reader.moments.xy.moment(reader.moves)[0]))
        self.unexplained = max(0.0, 1 - explained / self.energy)
        order = np.argsort(reader.units, kind="stable")
        units = reader.units[order]
        self.features = [order[np.searchsorted(units, u) : np.searchsorted(units, u, "right")] for u in range(count)]
        self.count = count
        sizes = np.array([len(f) for f in self.features])
        self.alike = [np.flatnonzero(sizes == s) for s in np.unique(sizes) if s > 0]
        self.left = np.ones(count, bool)

    def scores(self) -> Floats:
        """Return, per unit, the relative rise of the error if it went."""
        found = np.zeros(self.count)
        for units in self.alike:
            units = units[self.left[units]]
            if not units.size:
                continue
            at = np.stack([self.features[u] for u in units])
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
        part = np.linalg.solve(self.inverse[np.ix_(at, at)], np.concatenate([own, columns.T], axis=1))
        n = own.shape[1]
        rise = float(np.sum(own * part[:, :n]))
        self.weight -= columns @ part[:, :n]
        self.inverse -= columns @ part[:, n:]
        self.weight[at] = 0
        self.inverse[at] = self.inverse[:, at] = 0
        return rise / self.energy


def repaired(reader: Reader, stays: NDArray[np.bool_]) -> tuple[Floats, Floats | None]:
    """Return the weight of the features that stay, refitted to the original outputs, and the bias (None: as it was).

    W_S = (G_SS + ridge I)^-1 (X_S'Y + ridge W_S);  b' = mean(y) - mean(x_S) W_S.
    """
    g, cross, _ = reader.quadratic()
    weight = solve(damped(g[np.ix_(stays, stays)], 0.0), cross[stays])
    if not reader.moves:
        return weight, None
    return weight, reader.moments.xy.b[0] - reader.moments.xx.a[0][stays] @ weight
