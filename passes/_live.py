"""Which values of a graph others depend on, and which values nodes use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fcc import ir


def live_values(graph: ir.Graph, roots: Iterable[ir.Value]) -> set[ir.Value]:
    """Return the values that ``roots``, or a node of ``graph`` without outputs, depend on, with them."""
    live: set[ir.Value] = set()
    seen: set[ir.Node] = set()
    stack = [*roots, *needs(n for n in graph if not n.outputs)]
    while stack:
        value = stack.pop()
        live.add(value)
        node = value.producer()
        if node is not None and node not in seen:
            seen.add(node)
            stack += needs([node])
    return live


def needs(nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    """Yield what nodes need when they run: their inputs, and the outputs of their nested graphs."""
    for node in nodes:
        yield from (v for v in node.inputs if v is not None)
        for nested in ir.subgraphs_of(node):
            yield from nested.outputs
            yield from needs(n for n in nested if not n.outputs)


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that a node uses, those that its nested graphs use included."""
    yield from (v for v in node.inputs if v is not None)
    for nested in ir.subgraphs_of(node):
        for inner in nested:
            yield from reads(inner)
