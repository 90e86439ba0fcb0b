"""Convex partitions: no path leaves one and comes back, whatever the graph."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.analysis.partition import borders, longest_alternation, partition, reads
from fcc.ir.text import parse


def graph_of(edges: list[list[int]]) -> ir.Module:
    """Node i reads the results of the nodes in ``edges[i]``, all of them below i."""
    body = " ".join(
        f"v{i} = Sum({', '.join(['x', *(f'v{j}' for j in sorted(set(before)))])})" for i, before in enumerate(edges)
    )
    return parse(f"g (float[2] x) => (float[2] v{len(edges) - 1}) {{ {body} }}")


def labelled(module: ir.Module, labels: str) -> dict[ir.Node, str]:
    return dict(zip(module.graph, labels, strict=True))


@pytest.mark.parametrize(
    ("edges", "labels", "expected"),
    [
        ([[], [0], [1]], "AAA", ["A:012"]),
        ([[], [0], [1]], "ABA", ["A:0", "B:1", "A:2"]),
        ([[], [0], [0], [1, 2]], "ABAA", ["A:02", "B:1", "A:3"]),
        ([[], [], [0], [1]], "ABBA", ["A:0", "B:1", "A:3", "B:2"]),
        ([[], [0], [1], [2], [3]], "ABABA", ["A:0", "B:1", "A:2", "B:3", "A:4"]),
        ([[], []], "AB", ["A:0", "B:1"]),
    ],
)
def test_partitions(edges: list[list[int]], labels: str, expected: list[str]) -> None:
    module = graph_of(edges)
    number = {n: i for i, n in enumerate(module.graph)}
    pieces = partition(module.graph, labelled(module, labels))
    assert [f"{p.label}:{''.join(str(number[n]) for n in p.nodes)}" for p in pieces] == expected


def test_an_empty_graph_has_none() -> None:
    assert partition(parse("g (float[2] x) => (float[2] x) { }").graph, {}) == []
    assert longest_alternation([]) == []


def test_borders_and_the_longest_alternation() -> None:
    module = graph_of([[], [0], [0], [1, 2], [3]])
    pieces = partition(module.graph, labelled(module, "ABAAB"))
    assert [(b.value.name, b.source, b.targets) for b in borders(pieces)] == [
        ("v0", 0, (1,)),
        ("v2", 0, (2,)),
        ("v1", 1, (2,)),
        ("v3", 2, (3,)),
    ]
    assert longest_alternation(pieces) == [0, 1, 2, 3]


def test_a_nested_graph_reads_what_it_captures() -> None:
    module = parse(
        "g (float[2] x, bool c) => (float[2] y) { a = Sin(x) b = Cos(a) y = If (c) <then_branch = t () => (float[2] u) "
        "{ w = Neg(b) u = Neg(w) }, else_branch = e () => (float[2] v) { v = Neg(x) }> }"
    )
    sin, cos, choice = module.graph
    assert {v.name for v in reads(choice)} >= {"c", "b", "x"}
    assert "w" not in {v.name for v in reads(choice)}
    pieces = partition(module.graph, {sin: "A", cos: "B", choice: "A"})
    assert [p.label for p in pieces] == ["A", "B", "A"]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), size=st.integers(1, 12))
def test_every_partition_is_convex(data: st.DataObject, size: int) -> None:
    edges = [data.draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else [] for i in range(size)]
    labels = data.draw(st.text("ABC", min_size=size, max_size=size))
    module = graph_of(edges)
    pieces = partition(module.graph, labelled(module, labels))
    number = {n: i for i, n in enumerate(module.graph)}
    assert sorted(number[n] for p in pieces for n in p.nodes) == list(range(size))
    dag = nx.DiGraph((j, i) for i, before in enumerate(edges) for j in before)
    dag.add_nodes_from(range(size))
    position = {number[n]: at for at, p in enumerate(pieces) for n in p.nodes}
    for a, b in dag.edges:
        assert position[a] <= position[b]
    for at, piece in enumerate(pieces):
        inside = {number[n] for n in piece.nodes}
        assert len({labels[i] for i in inside}) == 1
        for i in inside:
            for j in nx.descendants(dag, i) - inside:
                assert not (nx.descendants(dag, j) & inside), (i, j, at)
    changes = max((sum(labels[a] != labels[b] for a, b in pairwise(path)) for path in _paths(dag)), default=0)
    assert len({p.level for p in pieces}) == changes + 1


def _paths(dag: nx.DiGraph) -> list[list[int]]:
    roots = [n for n in dag if dag.in_degree(n) == 0]
    leaves = [n for n in dag if dag.out_degree(n) == 0]
    return [p for r in roots for leaf in leaves for p in nx.all_simple_paths(dag, r, leaf)]
