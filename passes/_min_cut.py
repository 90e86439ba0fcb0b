"""Minimum s-t cut of a directed graph, by blocking flows."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import pairwise
from typing import Final

SOURCE: Final = "source"
SINK: Final = "sink"
UNBOUNDED: Final = 1 << 62


class Network:
    """A directed graph with integer capacities between hashable vertices; SOURCE and SINK are two of them."""

    def __init__(self) -> None:
        self._residual: dict[Hashable, dict[Hashable, int]] = {SOURCE: {}, SINK: {}}

    def add(self, tail: Hashable, head: Hashable, capacity: int = UNBOUNDED) -> None:
        """Add an edge; capacities of equal edges add up."""
        self._residual.setdefault(tail, {})
        self._residual.setdefault(head, {}).setdefault(tail, 0)
        self._residual[tail][head] = min(UNBOUNDED, self._residual[tail].get(head, 0) + capacity)

    def source_side(self) -> set[Hashable]:
        """Return the smallest vertex set that holds SOURCE, not SINK, and whose leaving edges weigh least.

        Dinic 1970: a phase, O(E) where paths are short, for each length of a shortest augmenting path.

        Raises:
            ValueError: only edges without bound separate source and sink.
        """
        while True:
            levels = self._levels()
            if SINK not in levels:
                return set(levels)
            self._block(levels)

    def _levels(self) -> dict[Hashable, int]:
        """Return the distance from SOURCE of every vertex that it reaches over edges with room."""
        levels: dict[Hashable, int] = {SOURCE: 0}
        queue: deque[Hashable] = deque([SOURCE])
        while queue:
            tail = queue.popleft()
            for head, capacity in self._residual[tail].items():
                if capacity > 0 and head not in levels:
                    levels[head] = levels[tail] + 1
                    queue.append(head)
        return levels

    def _block(self, levels: dict[Hashable, int]) -> None:
        """Push flow along shortest paths until none is left."""
        heads = {v: list(self._residual[v]) for v in levels}
        path: list[Hashable] = [SOURCE]
        while path:
            tail = path[-1]
            if tail == SINK:
                self._push(path)
                path = [SOURCE]
                continue
            waiting = heads[tail]
            while waiting and not self._leads_on(levels, tail, waiting[-1]):
                waiting.pop()
            if waiting:
                path.append(waiting[-1])
            else:
                path.pop()
                if path:
                    heads[path[-1]].pop()

    def _leads_on(self, levels: dict[Hashable, int], tail: Hashable, head: Hashable) -> bool:
        return self._residual[tail][head] > 0 and levels.get(head) == levels[tail] + 1

    def _push(self, path: list[Hashable]) -> None:
        edges = list(pairwise(path))
        room = min(self._residual[tail][head] for tail, head in edges)
        if room >= UNBOUNDED:
            raise ValueError("no finite cut separates source and sink")
        for tail, head in edges:
            if self._residual[tail][head] < UNBOUNDED:
                self._residual[tail][head] -= room
            self._residual[head][tail] = min(UNBOUNDED, self._residual[head][tail] + room)
