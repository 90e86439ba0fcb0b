"""Module -> ModelProto without the initializers of its main graph."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from onnx import GraphProto, ModelProto, TypeProto
from onnx_ir import serde

from fcc import ir
from fcc.errors import VerifyError

_CONTRIB_VERSION = 1
_PLAIN = str.isidentifier
_ANNOTATION = "quant_parameter_tensor_names"  # where onnx_ir keeps the quantization annotation of a value


def skeleton(module: ir.Module, keep_info: Callable[[str], bool]) -> ModelProto:
    """Return the model with everything but the initializers of the main graph, whose order is that of the module.

    ``keep_info`` says which values get a value_info. Inputs and outputs are declared as the source declared them.

    Raises:
        VerifyError: the inputs or outputs are no longer those of the source.
    """
    model, proto = module.model, ModelProto()
    shell = ir.Model(
        ir.Graph([], [], nodes=[], name=model.graph.name),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=list(model.functions.values()),
        metadata_props=dict(model.metadata_props),
    )
    shell.graph.opset_imports.update(_imports(module))
    proto = serde.serialize_model(shell)
    for imported in proto.opset_import:
        if not imported.domain:
            imported.ClearField("domain")
    _fill(proto.graph, model.graph, model.ir_version, keep_info)
    if module.source is not None:
        module.source.declare(proto)
        _check_contract(proto.graph, module.source)
    return proto


def _fill(proto: GraphProto, graph: ir.Graph, ir_version: int, keep_info: Callable[[str], bool]) -> None:
    if graph.doc_string:
        proto.doc_string = graph.doc_string
    for key, text in graph.metadata_props.items():
        proto.metadata_props.add(key=key, value=text)
    for value in graph.inputs:
        serde.serialize_value_into(proto.input.add(), value)
    for value in graph.outputs:
        serde.serialize_value_into(proto.output.add(), value)
    unnamed = {n.name for n in graph.all_nodes() if n.meta.get(ir.GENERATED)}
    for node in graph:
        made = proto.node.add()
        serde.serialize_node_into(made, node, model_ir_version=ir_version)
        if made.name in unnamed:
            made.ClearField("name")
        for nested in _nested(made):
            _trim_nested(nested, keep_info, unnamed)
    for value in _informative(graph, keep_info):
        serde.serialize_value_into(proto.value_info.add(), value)
    for info in (*proto.input, *proto.output, *proto.value_info):
        forget_odd_symbols(info.type)
    for value in (*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)):
        annotation = value.meta.get(_ANNOTATION)
        if annotation:
            added = proto.quantization_annotation.add(tensor_name=value.name)
            for key, text in annotation.items():
                added.quant_parameter_tensor_names.add(key=key, value=text)


def _informative(graph: ir.Graph, keep_info: Callable[[str], bool]) -> Iterator[ir.Value]:
    for node in graph:
        for value in node.outputs:
            if value.name and value.type is not None and not value.is_graph_output() and keep_info(value.name):
                yield value


def _nested(node: Any) -> Iterator[GraphProto]:
    """Yield the graphs inside a node, at every depth."""
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield graph
            for inner in graph.node:
                yield from _nested(inner)


def _trim_nested(graph: GraphProto, keep_info: Callable[[str], bool], unnamed: Container[str | None]) -> None:
    for node in graph.node:
        if node.name in unnamed:
            node.ClearField("name")
    constants = {t.name for t in graph.initializer}
    kept = [i for i in graph.value_info if i.name not in constants and i.HasField("type") and keep_info(i.name)]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for info in (*graph.input, *graph.output, *graph.value_info):
        forget_odd_symbols(info.type)


def forget_odd_symbols(kind: TypeProto) -> None:
    """Make dimensions whose symbol is no plain identifier ("x:0", "2*batch") unknown, in place."""
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        forget_odd_symbols(getattr(kind, which).elem_type)
    elif which in ("tensor_type", "sparse_tensor_type"):
        for dim in getattr(kind, which).shape.dim:
            if dim.dim_param and not _PLAIN(dim.dim_param):
                dim.ClearField("dim_param")


def _imports(module: ir.Module) -> dict[str, int]:
    """Return the opset imports that nodes and functions use; a contrib domain that a pass brought in gets version 1."""
    functions = module.model.functions.values()
    used = {"", *(n.domain for n in module.nodes()), *(f.domain for f in functions)}
    used.update(n.domain for f in functions for n in f.all_nodes())
    known: Mapping[str, int] = module.model.opset_imports
    return {domain: known.get(domain, _CONTRIB_VERSION) for domain in sorted(used)}


def _check_contract(graph: GraphProto, source: Any) -> None:
    for what, infos, specs in (("inputs", graph.input, source.inputs), ("outputs", graph.output, source.outputs)):
        found, wanted = _names(infos), _names(specs)
        if found != wanted:
            raise VerifyError(f"the {what} became {found} instead of {wanted}")


def _names(things: Iterable[Any]) -> list[str]:
    return [t.name for t in things]
