"""Minimum s-t cut of a small directed graph, by augmenting paths."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
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

        Edmonds and Karp 1972: O(V E^2), and O(paths * E) in fact; an unbounded cut leaves only what SOURCE reaches.
        """
        while True:
            parents = self._search()
            if SINK not in parents:
                return set(parents)
            path: list[tuple[Hashable, Hashable]] = []
            head: Hashable = SINK
            while head != SOURCE:
                path.append((parents[head], head))
                head = parents[head]
            room = min(self._residual[t][h] for t, h in path)
            if room >= UNBOUNDED:
                raise ValueError("no finite cut separates source and sink")
            for tail, head in path:
                if self._residual[tail][head] < UNBOUNDED:
                    self._residual[tail][head] -= room
                self._residual[head][tail] = min(UNBOUNDED, self._residual[head][tail] + room)

    def _search(self) -> dict[Hashable, Hashable]:
        parents: dict[Hashable, Hashable] = {SOURCE: SOURCE}
        queue: deque[Hashable] = deque([SOURCE])
        while queue and SINK not in parents:
            tail = queue.popleft()
            for head, capacity in self._residual[tail].items():
                if capacity > 0 and head not in parents:
                    parents[head] = tail
                    queue.append(head)
        return parents
