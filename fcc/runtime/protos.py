"""Small helpers on ModelProto: walks, element types, declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "stash_type"})


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph nested in it."""
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.type == AttributeProto.GRAPH:
                yield from graphs(a.g)


def nodes(model: ModelProto) -> list[NodeProto]:
    """Return the nodes of every graph."""
    return [n for g in graphs(model.graph) for n in g.node]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every initializer and tensor attribute."""
    for g in graphs(model.graph):
        yield from g.initializer
        for n in g.node:
            yield from (a.t for a in n.attribute if a.type == AttributeProto.TENSOR)


def declared(model: ModelProto) -> Iterator[ValueInfoProto]:
    """Yield the declarations of inputs, outputs and values of every graph."""
    for g in graphs(model.graph):
        yield from (*g.input, *g.output, *g.value_info)


def dims(info: ValueInfoProto) -> list[int | str | None]:
    """Return the declared dimensions: a size, a symbol, or None."""
    found: list[int | str | None] = []
    for d in info.type.tensor_type.shape.dim:
        found.append(d.dim_param or None if d.WhichOneof("value") != "dim_value" else d.dim_value)
    return found


def inferred(model: ModelProto) -> ModelProto:
    """Return a model with inferred shapes.

    Contents of small tensors are followed too, but not where a size is 0: onnx 1.23 dies of a Slice there.

    Raises:
        Exception: inference says that the model is not valid.
    """
    empty = any(0 in dims(v) for v in declared(model)) or any(0 in t.dims for t in tensors(model))
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=not empty)


def retype(model: ModelProto, change: Callable[[int], int]) -> None:
    """Map element types everywhere they stand: tensors, declarations, and attributes that name one."""
    for t in tensors(model):
        new = change(t.data_type)
        if new != t.data_type:
            with np.errstate(all="ignore"):
                array = numpy_helper.to_array(t).astype(onnx.helper.tensor_dtype_to_np_dtype(new))
            t.CopyFrom(numpy_helper.from_array(np.asarray(array), t.name))
    for v in declared(model):
        kind = v.type.tensor_type
        if kind.elem_type:
            kind.elem_type = change(kind.elem_type)
    for n in nodes(model):
        for a in n.attribute:
            if a.name in TYPE_ATTRIBUTES and a.i in FLOATS and (a.name != "to" or n.op_type == "Cast"):
                a.i = change(a.i)


def widened(model: ModelProto) -> ModelProto:
    """Return the same computation with every float in float64."""
    copy = ModelProto.FromString(model.SerializeToString())
    retype(copy, lambda t: TensorProto.DOUBLE if t in FLOATS else t)
    return copy
