"""Units: numbers for channels that must stay or go together, united as a graph is read (union-find)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int64]]


class Units:
    """Disjoint sets of numbers 0, 1, ...; a set may be blocked, with the reason that was given first."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(0, np.int64)
        self._blocked: list[tuple[Ids, str]] = []

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> Ids:
        """Return numbers that no set has, one set each."""
        start = len(self._parent)
        ids = np.arange(start, start + count)
        self._parent = np.concatenate([self._parent, ids])
        return ids

    def unite(self, a: Ids, b: Ids) -> None:
        """Unite the sets of a[i] and b[i], for every i."""
        while True:
            x, y = self.find(a), self.find(b)
            low, high = np.minimum(x, y), np.maximum(x, y)
            apart = low != high
            if not apart.any():
                return
            np.minimum.at(self._parent, high[apart], low[apart])

    def find(self, ids: Ids) -> Ids:
        """Return the smallest number of the set of every number."""
        found = self._parent[ids]
        while True:
            further = self._parent[found]
            if np.array_equal(further, found):
                return found
            found = further

    def block(self, ids: Ids, reason: str) -> None:
        """Let the sets of some numbers stay."""
        self._blocked.append((ids, reason))

    def reasons(self) -> dict[int, str]:
        """Return the first reason of every set that is blocked, by its smallest number."""
        found: dict[int, str] = {}
        for ids, reason in self._blocked:
            for root in np.unique(self.find(ids)).tolist():
                found.setdefault(root, reason)
        return found

    def joined(self, several: Iterable[Ids]) -> Ids:
        """Return, for every number, the smallest one it is connected with when all numbers of an array are."""
        wider = Units()
        wider._parent = self.find(np.arange(len(self)))
        for ids in several:
            if ids.size:
                wider.unite(ids, np.broadcast_to(ids[:1], ids.shape))
        return wider.find(np.arange(len(self)))
