"""Questions about uses that know graph outputs and nested graphs, and the safe way to remove a node."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_ir import AttributeType, Graph, Node, Value


def subgraphs_of(node: Node) -> Iterator[Graph]:
    """Yield the graphs held by the attributes of a node (If, Loop, Scan)."""
    for attribute in node.attributes.data.values():
        kind = attribute.type
        if kind is AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif kind is AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def operands(node: Node) -> list[Value]:
    """Return the inputs of a node that are not absent."""
    return [v for v in node.inputs if v is not None]


def producers(node: Node) -> list[Node]:
    """Return the nodes that compute the inputs of a node, one per input."""
    return [p for v in node.inputs if v is not None and (p := v.producer()) is not None]


def is_used(value: Value) -> bool:
    """Return whether any node, of any nested graph, or any graph output uses the value."""
    return bool(value.uses()) or value.is_graph_output()


def sole_user(value: Value) -> Node | None:
    """Return the only node that uses the value, or None (several users, none, or a graph output)."""
    if value.is_graph_output():
        return None
    first: Node | None = None
    for use in value.uses():
        if first is not None and use.node is not first:
            return None
        first = use.node
    return first


def is_dead(node: Node) -> bool:
    """Return whether nothing uses any output of the node."""
    return not any(is_used(v) for v in node.outputs)


def detach_nested(node: Node) -> None:
    """Forget every use that the nested graphs of a node make of a value."""
    for graph in subgraphs_of(node):
        for inner in graph:
            detach_nested(inner)
            for i in range(len(inner.inputs)):
                inner.replace_input_with(i, None)


def erase(node: Node) -> None:
    """Remove a dead node, with the uses that its nested graphs make of outer values. O(nodes inside it).

    Raises:
        ValueError: an output of the node is still used.
    """
    if not is_dead(node):
        raise ValueError(f"node {node.name!r} ({node.op_type}) is still used")
    graph = node.graph
    assert graph is not None
    detach_nested(node)
    graph.remove(node, safe=True)
