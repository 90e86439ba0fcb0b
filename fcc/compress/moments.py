"""Moments: means and second moments of pairs of rows (x, y), streamed in float64, mergeable in any fixed order.

What least squares between two models needs: x is what a layer reads in the compressed model, y what the same layer
wrote (or read) in the original one. Memory is that of the matrices, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """Sums over pairs of rows (a, b): their number, means [groups, .], and centred products [groups, a, b].

    Merging after Chan, Golub & LeVeque 1979: stable where sums of squares are not.
    """

    count: int
    a: Floats
    b: Floats
    total: Floats

    @classmethod
    def of(cls, a: Floats, b: Floats) -> Product:
        """Return the product of rows, [rows, groups, features] each, of which there is at least one."""
        mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
        total = np.matmul((a - mean_a).transpose(1, 2, 0), (b - mean_b).transpose(1, 0, 2))
        return cls(len(a), mean_a, mean_b, total)

    def merged(self, other: Product) -> Product:
        """Return the product over the rows of both."""
        count = self.count + other.count
        share = other.count / count
        da, db = other.a - self.a, other.b - self.b
        total = self.total + other.total + (self.count * share) * da[:, :, None] * db[:, None, :]
        return Product(count, self.a + share * da, self.b + share * db, total)

    def moment(self, centred: bool = True) -> Floats:
        """Return the mean product per group, about the means or about zero."""
        mean = self.total / self.count
        return mean if centred else mean + self.a[:, :, None] * self.b[:, None, :]


@dataclass(frozen=True)
class Moments:
    """Second moments of a layer: ``xx``, ``xy``, and ``folds`` of yy over disjoint samples (one for every fold seen).

    Without folds only the size of y is kept (``power``, products of single features), since y may be wide.
    ``derived`` keeps, by key, what was computed from them, for whoever asks again.
    """

    xx: Product
    xy: Product
    power: Product
    folds: tuple[Product | None, ...] = ()
    derived: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, x: Floats, y: Floats, fold: NDArray[np.int64], folds: int) -> Moments | None:
        """Return the moments of finite rows, x [rows, groups, m] and y [rows, groups, n]; None when none is left."""
        fine = np.isfinite(x).all(axis=(1, 2)) & np.isfinite(y).all(axis=(1, 2))
        x, y, fold = x[fine], y[fine], fold[fine] % max(folds, 1)
        if not len(x):
            return None
        wide = y.reshape(len(y), -1, 1)
        own = tuple(Product.of(y[fold == i], y[fold == i]) if (fold == i).any() else None for i in range(folds))
        return cls(Product.of(x, x), Product.of(x, y), Product.of(wide, wide), own)

    def merged(self, other: Moments) -> Moments:
        """Return the moments over the rows of both."""
        folds = tuple(merged(pair) for pair in zip(self.folds, other.folds, strict=True))
        return Moments(self.xx.merged(other.xx), self.xy.merged(other.xy), self.power.merged(other.power), folds)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(groups, features of x, features of y)."""
        groups, m, n = self.xy.total.shape
        return groups, m, n

    def energy(self, centred: bool = True) -> Floats:
        """Return the mean of ||y||^2 per group, about the mean or about zero."""
        per_feature = self.power.moment(centred).reshape(self.sizes[0], self.sizes[2])
        return np.asarray(per_feature.sum(axis=1))


def merged(parts: Sequence[Any]) -> Any:
    """Return what is left of several mergeable things, some of them None, joined in order."""
    found = [p for p in parts if p is not None]
    return reduce(lambda a, b: a.merged(b), found) if found else None


@dataclass
class Gathered:
    """Moments by key, gathered sample by sample and chunk by chunk."""

    found: dict[Any, Moments] = field(default_factory=dict)

    def add(self, key: Any, moments: Moments | None) -> None:
        """Merge further moments of a key."""
        if moments is not None:
            self.found[key] = self.found[key].merged(moments) if key in self.found else moments

    def merged(self, other: Gathered) -> Gathered:
        """Return the moments of both, by key."""
        total = Gathered(dict(self.found))
        for key, moments in other.found.items():
            total.add(key, moments)
        return total
