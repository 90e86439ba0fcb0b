"""Unique, non-empty names over all nested graphs."""

from __future__ import annotations

from fcc import ir


def name_everything(module: ir.Module) -> None:
    """Give every value and node a name that no other one has; the first in order, outer before inner, keeps its own.

    Names of inputs and outputs of the main graph never change. An omitted optional output keeps its empty name.
    """
    taken: dict[str, ir.Value] = {}
    for value in (*module.graph.inputs, *module.graph.outputs):
        if value.name and taken.setdefault(value.name, value) is not value:
            rename(taken[value.name], module.fresh(value.name))  # an input hidden by an output of the same name
            taken[value.name] = value
    node_names: set[str] = set()
    for graph in module.graphs():
        for value in (*graph.inputs, *list(graph.initializers.values())):
            _name_value(module, taken, value, "value")
        for node in graph:
            for value in node.outputs:
                if value.name or value.uses() or value.is_graph_output():
                    _name_value(module, taken, value, node.op_type)
                elif value.name is None:
                    value.name = ""
            _name_node(module, node_names, node)
    module.names |= taken.keys() | node_names


def _name_value(module: ir.Module, taken: dict[str, ir.Value], value: ir.Value, base: str) -> None:
    if not value.name:
        rename(value, module.fresh(base))
    elif taken.setdefault(value.name, value) is not value:
        rename(value, module.fresh(value.name))
    assert value.name is not None
    taken[value.name] = value


def _name_node(module: ir.Module, taken: set[str], node: ir.Node) -> None:
    if not node.name or node.name in taken:
        output = next((v.name for v in node.outputs if v.name), "")
        if not node.name:
            node.meta[ir.GENERATED] = True
        node.name = module.fresh(node.name or f"{node.op_type}_{output}")
    taken.add(node.name)


def rename(value: ir.Value, name: str) -> None:
    """Rename a value but not the tensor behind it, which clones share."""
    tensor = value.const_value
    value.const_value = None
    value.name = name
    value.const_value = tensor
