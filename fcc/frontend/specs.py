"""Declared inputs and outputs as ValueSpecs, and shapes that cannot be believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from onnx_ir import serde

from fcc import ir
from fcc.errors import LoadError
from fcc.ir.source import ValueSpec

from .tensors import MAX_RANK

_ANONYMOUS = frozenset({"", "?", "None", "none", "unk", "unknown", "dynamic"})


def symbol_of(name: str) -> str | None:
    """Return the symbol a dim_param names, or None when exporters write this text for "unknown"."""
    return None if name in _ANONYMOUS or name.lstrip("-").isdigit() else name


def spec_of(info: onnx.ValueInfoProto, overridable: bool = False) -> ValueSpec:
    """Return the spec of one declared input or output."""
    if not info.type.HasField("tensor_type"):
        return ValueSpec(info.name, None, None, info.SerializeToString(), overridable)
    tensor = info.type.tensor_type
    dims = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else None
    return ValueSpec(info.name, dtype, dims, info.SerializeToString(), overridable)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return symbol_of(dim.dim_param)


def specs_of(model: ir.Model) -> tuple[tuple[ValueSpec, ...], tuple[ValueSpec, ...]]:
    """Return the specs of the inputs (required, then as declared) and outputs of an onnx_ir model."""
    graph = model.graph
    inputs = tuple(spec_of(serde.serialize_value(v), v.is_initializer()) for v in graph.inputs)
    return inputs, tuple(spec_of(serde.serialize_value(v)) for v in graph.outputs)


def proto_specs(model: onnx.ModelProto) -> tuple[tuple[ValueSpec, ...], tuple[ValueSpec, ...]]:
    """Return the specs of inputs and outputs of a ModelProto; below ir_version 4 initializers are no inputs."""
    constants = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    kept = (v for v in model.graph.input if model.ir_version >= 4 or v.name not in constants)
    return tuple(spec_of(v, v.name in constants) for v in kept), tuple(spec_of(v) for v in model.graph.output)


def loosen(model: ir.Model) -> None:
    """Make dimensions that mean "unknown" (0, negative, "?", "-1", ...) unknown in every graph, in place."""
    for graph in model.graphs():
        for value in _declared(graph):
            if value.shape is not None and any(_vague(d) for d in value.shape):
                value.shape = ir.Shape([None if _vague(d) else d for d in value.shape])


def _declared(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _vague(dim: Any) -> bool:
    if isinstance(dim, int):
        return dim <= 0
    return dim.value is not None and symbol_of(dim.value) is None


def strip_exotic_types(graph: onnx.GraphProto) -> None:
    """Clear types onnx_ir cannot hold (maps, opaque, no element type) from declarations, in place; specs keep them.

    Raises:
        LoadError: a tensor of more than 64 axes.
    """
    infos: Iterable[onnx.ValueInfoProto] = [*graph.input, *graph.output, *graph.value_info]
    for info in infos:
        rank = len(info.type.tensor_type.shape.dim) if info.type.HasField("tensor_type") else 0
        if rank > MAX_RANK:
            raise LoadError(f"{info.name!r} has {rank} axes, more than {MAX_RANK}", "export the model again")
        if _exotic(info.type):
            info.ClearField("type")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip_exotic_types(attribute.g)


def _exotic(type_: onnx.TypeProto) -> bool:
    kind = type_.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return _exotic(getattr(type_, kind).elem_type)
    return kind in ("map_type", "opaque_type") or (kind == "tensor_type" and not type_.tensor_type.elem_type)


def repair_docs(model: onnx.ModelProto) -> None:
    """Replace bytes that are not UTF-8 in doc strings, which onnxruntime does not mind and protobuf cannot write."""
    for message in (model, model.graph, *model.graph.node):
        text: str | bytes = message.doc_string
        if isinstance(text, bytes):
            message.doc_string = text.decode("utf-8", "replace")
