"""Convex partitions of a graph by label: the pieces that one provider can run as a whole.

A piece is convex when no path leaves it and comes back: then it can run before or after every other one. There are as
few levels as the longest alternation of labels on a path allows, every node as early as possible; two pieces of one
label lie on different levels: to join them, what reads the first would have to wait for the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import ir


@dataclass(frozen=True)
class Partition:
    """Nodes of one label, in order; ``level`` counts how often labels change on the longest path before them."""

    label: str
    level: int
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Border:
    """A value that one partition makes and others read; ``source`` and ``targets`` are positions in the list."""

    value: ir.Value
    source: int
    targets: tuple[int, ...]


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that a node reads, those that its nested graphs capture included."""
    yield from (v for v in node.inputs if v is not None)
    for nested in ir.subgraphs_of(node):
        for inner in nested:
            yield from (v for v in reads(inner) if v.graph is not nested or v.producer() is None)


def partition(graph: ir.Graph, labels: Mapping[ir.Node, str]) -> list[Partition]:
    """Return the convex partitions of a graph whose nodes have these labels, in an order they can run in. O(edges).

    networkx orders them; where all nodes have one label, it is not needed.
    """
    levels: dict[ir.Node, int] = {}
    found: dict[tuple[int, str], list[ir.Node]] = {}
    for node in graph:
        label, level = labels[node], 0
        for value in reads(node):
            producer = value.producer()
            if producer is not None and producer in levels:
                level = max(level, levels[producer] + (labels[producer] != label))
        levels[node] = level
        found.setdefault((level, label), []).append(node)
    pieces = [Partition(label, level, tuple(nodes)) for (level, label), nodes in found.items()]
    if len(pieces) < 2:
        return pieces
    import networkx as nx

    dag = _quotient(pieces)
    order = nx.lexicographical_topological_sort(dag, key=lambda i: (pieces[i].level, pieces[i].label))
    return [pieces[i] for i in order]


def _quotient(pieces: list[Partition]) -> Any:
    """Return the networkx graph of partitions: an edge where one reads what another makes."""
    import networkx as nx

    dag = nx.DiGraph()
    dag.add_nodes_from(range(len(pieces)))
    dag.add_edges_from((b.source, target) for b in borders(pieces) for target in b.targets)
    assert nx.is_directed_acyclic_graph(dag), "a partition is not convex"
    return dag


def borders(pieces: list[Partition]) -> list[Border]:
    """Return the values that cross from one partition to another, in the order of the partitions that make them."""
    home = {node: i for i, piece in enumerate(pieces) for node in piece.nodes}
    readers: dict[ir.Value, dict[int, None]] = {}
    for node, at in home.items():
        for value in reads(node):
            producer = value.producer()
            if producer is not None and producer in home and home[producer] != at:
                readers.setdefault(value, {})[at] = None
    order = {node: i for i, node in enumerate(home)}
    crossing = sorted(readers, key=lambda v: (order[v.producer()], v.index() or 0))  # type: ignore[index]
    return [Border(v, home[v.producer()], tuple(readers[v])) for v in crossing]  # type: ignore[index]


def longest_alternation(pieces: list[Partition]) -> list[int]:
    """Return the positions of the partitions on the longest path: what waits for each other at least so many times."""
    if len(pieces) < 2:
        return list(range(len(pieces)))
    import networkx as nx

    found: list[int] = nx.dag_longest_path(_quotient(pieces))
    return found
