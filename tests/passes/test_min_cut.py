"""The minimum cut agrees with networkx, and is the one nearest to the source."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes._min_cut import SINK, SOURCE, UNBOUNDED, Network

VERTICES = [SOURCE, SINK, *range(5)]
edge = st.tuples(st.sampled_from(VERTICES), st.sampled_from(VERTICES), st.integers(0, 9)).filter(lambda e: e[0] != e[1])


@settings(max_examples=200, deadline=None)
@given(st.lists(edge, max_size=20))
def test_cut_is_minimal_and_nearest_to_the_source(edges: list[tuple[str | int, str | int, int]]) -> None:
    network, graph = Network(), nx.DiGraph()
    graph.add_nodes_from([SOURCE, SINK])
    for tail, head, capacity in edges:
        network.add(tail, head, capacity)
        before = graph.get_edge_data(tail, head, {"capacity": 0})["capacity"]
        graph.add_edge(tail, head, capacity=before + capacity)
    side = network.source_side()
    value, _ = nx.minimum_cut(graph, SOURCE, SINK)
    assert SOURCE in side
    assert SINK not in side
    assert sum(d["capacity"] for a, b, d in graph.edges(data=True) if a in side and b not in side) == value
    residual = nx.algorithms.flow.edmonds_karp(graph, SOURCE, SINK)
    open_edges = [(a, b) for a, b, d in residual.edges(data=True) if d["flow"] < d["capacity"]]
    reached = nx.descendants(nx.DiGraph([(SOURCE, SOURCE), *open_edges]), SOURCE) | {SOURCE}
    assert side == reached


def test_edges_without_bound_are_not_cut() -> None:
    network = Network()
    network.add(SOURCE, "a", 5)
    network.add("a", "b")
    network.add("b", SINK, 3)
    assert network.source_side() == {SOURCE, "a", "b"}
    network.add(SOURCE, SINK, UNBOUNDED)
    with pytest.raises(ValueError, match="no finite cut"):
        network.source_side()
