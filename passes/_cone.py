"""The nodes that feed a value, and what of them dies when the value is replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from fcc import ir
from fcc.analysis import shapes

NODE_BYTES = 64


def cone(roots: Iterable[ir.Value | None], graph: ir.Graph, inside: Callable[[ir.Node], bool]) -> list[ir.Node]:
    """Return the nodes of ``graph`` that feed ``roots`` through nodes that are ``inside``, producers first."""
    found: dict[ir.Node, None] = {}
    stack = [(v, False) for v in reversed(list(roots))]
    while stack:
        value, done = stack.pop()
        node = value.producer() if value is not None else None
        if node is None or node in found or node.graph is not graph or not inside(node):
            continue
        if done:
            found[node] = None
        else:
            stack.append((value, True))
            stack.extend((v, False) for v in node.inputs)
    return list(found)


def has_elements(node: ir.Node) -> bool:
    """Return whether the result of a node is integers that are known, symbols included."""
    return not node.domain and shapes.elements(node.outputs[0]) is not None


def dying(nodes: Iterable[ir.Node], root: ir.Node) -> list[ir.Node]:
    """Return those of ``nodes`` (producers first) that nothing uses once the users of ``root`` are gone."""
    dead: dict[ir.Node, None] = {root: None}
    for node in reversed(list(nodes)):
        escapes = any(v.is_graph_output() or any(u.node not in dead for u in v.uses()) for v in node.outputs)
        if node is not root and not escapes:
            dead[node] = None
    return list(dead)


def freed_bytes(dead: Iterable[ir.Node]) -> int:
    """Return the bytes that a file loses with dead nodes: their own, estimated, and the constants only they use."""
    nodes = set(dead)
    constants = {v for n in nodes for v in n.inputs if v is not None and ir.Module.is_constant(v)}
    unused = [v for v in constants if not v.is_graph_output() and all(u.node in nodes for u in v.uses())]
    return NODE_BYTES * len(nodes) + sum(nbytes(v) or 0 for v in unused)


def nbytes(value: ir.Value) -> int | None:
    """Return the bytes of a tensor of static shape and known type, else None."""
    dims = ir.dims_of(value)
    if value.dtype is None or dims is None:
        return None
    bits = value.dtype.bitwidth
    for d in dims:
        if not isinstance(d, int):
            return None
        bits *= d
    return -(-bits // 8)


def orphans(ends: Sequence[ir.Node | None], kept: Collection[ir.Value] = ()) -> tuple[ir.Node, ...]:
    """Return nodes whose results are replaced, and what only they use, users first; ``kept`` values stay."""
    gone: dict[ir.Node, None] = {}
    queue = [n for n in ends if n is not None]
    last, graph = set(queue), queue[0].graph
    while queue:
        node = queue.pop(0)
        stays = any(v in kept or v.is_graph_output() or any(u.node not in gone for u in v.uses()) for v in node.outputs)
        if node in gone or node.graph is not graph or (stays and node not in last):
            continue
        gone[node] = None
        queue += ir.producers(node)
    return tuple(gone)
