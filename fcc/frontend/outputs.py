"""Every output of a graph becomes a value of that graph; initializers of old models leave the inputs."""

from __future__ import annotations

from fcc import ir

from .names import rename

_SEQUENCE_IDENTITY = {"SequenceType": 14, "OptionalType": 16}


def own_inputs(module: ir.Module) -> None:
    """Remove initializers from the inputs of the main graph below ir_version 4, where they are constants."""
    if (module.model.ir_version or 0) >= 4:
        return
    graph = module.graph
    for value in [v for v in graph.inputs if v.is_initializer()]:
        graph.inputs.remove(value)
    module.model.ir_version = 4


def own_outputs(module: ir.Module) -> None:
    """Put an Identity before outputs that are captured, inputs, initializers or repeated: each then has its producer.

    In the main graph an output that is an input (or repeats one) must share its name, so it stays as it is.
    """
    for graph in module.graphs():
        main = graph is module.graph
        seen: set[ir.Value] = set()
        for i, value in enumerate(list(graph.outputs)):
            producer = value.producer()
            owned = producer is not None and producer.graph is graph and value not in seen
            seen.add(value)
            if owned or module.opset() < _SEQUENCE_IDENTITY.get(type(value.type).__name__, 0):
                continue
            if not main:
                insert_identity(module, graph, i, value)
            elif producer is None and not value.is_graph_input():
                _copy_initializer(module, graph, i, value)


def insert_identity(module: ir.Module, graph: ir.Graph, i: int, value: ir.Value) -> ir.Value:
    """Make output ``i`` of a graph ``Identity(value)``, and return it."""
    node = ir.Node("", "Identity", [value], num_outputs=1)
    out = node.outputs[0]
    out.name = module.fresh(value.name or "output")
    out.type = value.type
    out.shape = value.shape.copy() if value.shape is not None else None
    node.name, node.meta[ir.GENERATED] = module.fresh(f"Identity_{out.name}"), True
    graph.append(node)
    graph.outputs[i] = out
    return out


def _copy_initializer(module: ir.Module, graph: ir.Graph, i: int, value: ir.Value) -> None:
    """The output keeps its name, so the initializer takes another one."""
    name = value.name or ""
    rename(value, module.fresh(name))
    out = insert_identity(module, graph, i, value)
    out.name = name
    for k, other in enumerate(list(graph.outputs)):
        if other is value:
            graph.outputs[k] = out
