"""Copies of nodes and constants under new names, nested graphs included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_ir import Attr, AttributeType, Graph, Node, Shape, Value

Fresh = Callable[[str], str]
Values = dict[Value, Value]


def copy_node(node: Node, values: Values, fresh: Fresh) -> Node:
    """Return a copy of a node, with ``values`` in place of what it uses; its own results are added to them.

    Sizes that are no numbers are forgotten: the same symbol would have to mean the same size in every copy.
    """
    inputs = [None if v is None else values.get(v, v) for v in node.inputs]
    copy = Node(
        node.domain,
        node.op_type,
        inputs,
        [_attribute(a, values, fresh) for a in node.attributes.values()],
        overload=node.overload,
        num_outputs=len(node.outputs),
        name=fresh(node.name or node.op_type),
        doc_string=node.doc_string,
        metadata_props=dict(node.metadata_props),
    )
    for old, new in zip(node.outputs, copy.outputs, strict=True):
        _describe(old, new, fresh)
        values[old] = new
    return copy


def copy_value(value: Value, fresh: Fresh) -> Value:
    """Return a copy of a value that no node makes, under a new name; a constant shares its tensor."""
    copy = Value(const_value=value.const_value)
    _describe(value, copy, fresh)
    return copy


def _describe(old: Value, new: Value, fresh: Fresh) -> None:
    new.name = fresh(old.name) if old.name else ""
    new.type = old.type
    new.shape = None if old.shape is None else Shape([d if isinstance(d, int) else None for d in old.shape])
    new.doc_string = old.doc_string
    new.metadata_props.update(old.metadata_props)


def _attribute(attribute: Attr, values: Values, fresh: Fresh) -> Attr:
    if attribute.is_ref():
        return attribute
    if attribute.type is AttributeType.GRAPH:
        return Attr(attribute.name, attribute.type, _copy_graph(attribute.as_graph(), values, fresh))
    if attribute.type is AttributeType.GRAPHS:
        graphs: Any = tuple(_copy_graph(g, values, fresh) for g in attribute.as_graphs())
        return Attr(attribute.name, attribute.type, graphs)
    return attribute


def _copy_graph(graph: Graph, values: Values, fresh: Fresh) -> Graph:
    inputs = [copy_value(v, fresh) for v in graph.inputs]
    constants = [copy_value(v, fresh) for v in graph.initializers.values()]
    values.update(zip([*graph.inputs, *graph.initializers.values()], [*inputs, *constants], strict=True))
    nodes = [copy_node(n, values, fresh) for n in graph]
    outputs = [values.get(v, v) for v in graph.outputs]
    return Graph(
        inputs, outputs, nodes=nodes, initializers=constants, opset_imports=graph.opset_imports.copy(), name=graph.name
    )
