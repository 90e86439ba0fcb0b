"""onnx-graphsurgeon graphs out of modules, and modules out of them. The package is loaded only when it is used."""

from __future__ import annotations

from fcc import ir  # isort: skip  (must come first: loads onnx_ir without sympy)

from typing import Any

from onnx_ir import to_proto

from fcc.errors import LoadError
from fcc.frontend import read
from fcc.frontend.graphsurgeon import graphsurgeon, graphsurgeon_to_proto

_MODEL_FIELDS = ("producer_name", "producer_version", "domain", "model_version", "doc_string")


def to_graphsurgeon(module: ir.Module) -> Any:
    """Return the module as an ``onnx_graphsurgeon.Graph``; weights are copied, the module is left as it is.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
        LoadError: it cannot hold the model.
    """
    gs = graphsurgeon()
    proto = to_proto(module.clone().model)
    if module.source is not None:
        module.source.declare(proto)
    try:
        return gs.import_onnx(proto)
    except Exception as error:  # any failure of the library is reported as one line
        raise LoadError(f"onnx-graphsurgeon cannot import the model: {error}") from error


def from_graphsurgeon(graph: Any, like: ir.Module | None = None) -> ir.Module:
    """Return the normalized module of an ``onnx_graphsurgeon.Graph``.

    GraphSurgeon drops metadata, doc strings of nodes and values, and types other than tensors; what ``like`` (the
    module the graph came from) says of model, graph, nodes and values is put back by name, with its source, history
    and notes. Names, types and shapes that the graph states win.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
        LoadError: the graph is not valid.
    """
    module = read(graphsurgeon_to_proto(graph))
    if like is not None:
        _restore_model(module, like)
        _restore_graphs(module, like)
        _restore_overridable(module, like)
        module.source, module.history = like.source, list(like.history)
        module.notes = [*like.notes, *(n for n in module.notes if n not in like.notes)]
    return module


def _restore_model(module: ir.Module, like: ir.Module) -> None:
    for field in _MODEL_FIELDS:
        setattr(module.model, field, getattr(like.model, field))
    module.model.ir_version = like.model.ir_version
    module.model.metadata_props.update(like.model.metadata_props)


def _restore_graphs(module: ir.Module, like: ir.Module) -> None:
    old_graphs = {g.name: g for g in like.graphs()}
    old_graphs[module.graph.name] = like.graph
    old_values: dict[str | None, ir.Value] = {}
    old_nodes: dict[str | None, ir.Node] = {}
    for graph in like.graphs():
        old_values.update((v.name, v) for v in _values(graph))
        old_nodes.update((n.name, n) for n in graph)
    for graph in module.graphs():
        if graph.name in old_graphs:
            graph.metadata_props.update(old_graphs[graph.name].metadata_props)
            graph.doc_string = graph.doc_string or old_graphs[graph.name].doc_string
        for value in _values(graph):
            if value.name in old_values:
                _restore_value(value, old_values[value.name])
        for node in graph:
            old = old_nodes.get(node.name)
            if old is not None and old.op_identifier() == node.op_identifier():
                node.doc_string = node.doc_string or old.doc_string
                node.metadata_props.update(old.metadata_props)


def _restore_value(value: ir.Value, old: ir.Value) -> None:
    value.doc_string = value.doc_string or old.doc_string
    value.metadata_props.update(old.metadata_props)
    for key, entry in old.meta.items():
        value.meta.setdefault(key, entry)
    if value.type is None:
        value.type, value.shape = old.type, old.shape


def _restore_overridable(module: ir.Module, like: ir.Module) -> None:
    """GraphSurgeon makes a constant of an input with a default; it becomes an input again at its old place."""
    present = {v.name for v in module.graph.inputs}
    for i, old in enumerate(like.graph.inputs):
        value = module.graph.initializers.get(old.name or "")
        if old.is_initializer() and value is not None and old.name not in present:
            value.type, value.shape = old.type, old.shape
            module.graph.inputs.insert(min(i, len(module.graph.inputs)), value)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs if v.name)]
