"""The nodes between some values and the node that ends a computation, and whether they can go with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .. import ir

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Pow"})


def interior(end: ir.Node, stops: Collection[ir.Value]) -> tuple[ir.Node, ...]:
    """Return the nodes that compute the result of ``end`` from ``stops``, users first; operands like axes left out.

    All operands of arithmetic are followed, and the first one of every other node.
    """
    done: dict[ir.Node, None] = {}
    stack = [(end, False)]
    while stack:
        node, seen = stack.pop()
        if seen:
            done[node] = None
        elif node not in done:
            data = node.inputs if node.op_type in _ARITHMETIC else node.inputs[:1]
            made_by = [p for v in data if v is not None and v not in stops and (p := v.producer()) is not None]
            stack += [(node, True), *((p, False) for p in made_by)]
    return tuple(reversed(done))


def escape(nodes: Sequence[ir.Node]) -> str | None:
    """Return which value of some nodes, the first being their end, is used elsewhere; None when all can go."""
    inside, end = set(nodes), nodes[0]
    for node in nodes:
        if node.graph is not end.graph:
            return f"{node.op_type} {node.name!r} lies across a subgraph border"
        for value in node.outputs if node is not end else ():
            if value.is_graph_output():
                return f"{value.name!r} is a graph output"
            if any(u.node not in inside for u in value.uses()):
                return f"{value.name!r} has other users"
    return None
