"""bfloat16 on the CPU, which has no kernels for it: every node computes in float32 and its results are rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx

FLOAT, BFLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16


def emulated(model: Any) -> Any:
    """Return a model that computes what kernels of bfloat16 do that accumulate in float32; itself without bfloat16.

    Types of the border of nested graphs stay. Inputs and outputs keep their names and types.
    """
    if not any(t.data_type == BFLOAT16 for t in model.graph.initializer) and not _makes(model.graph):
        return model
    copy = onnx.shape_inference.infer_shapes(model)
    _rewrite(copy.graph, {}, {})
    return copy


def _makes(graph: Any) -> bool:
    """Return whether an attribute asks for bfloat16: of a Cast, or a constant."""
    return any(
        (a.name == "to" and a.i == BFLOAT16)
        or (a.type == onnx.AttributeProto.TENSOR and a.t.data_type == BFLOAT16)
        or (a.type == onnx.AttributeProto.GRAPH and _makes(a.g))
        for node in graph.node
        for a in node.attribute
    )


def _rewrite(graph: Any, outer: Mapping[str, int], known: Mapping[str, str]) -> None:
    declared = (*graph.input, *graph.value_info, *graph.output)
    types = {**outer, **{v.name: v.type.tensor_type.elem_type for v in declared}}
    types |= {t.name: t.data_type for t in graph.initializer}
    nodes, wide = list(graph.node), dict(known)
    del graph.node[:], graph.value_info[:]
    for node in nodes:
        if all(name not in types for name in node.output):  # no inference for it: the type goes through
            types |= dict.fromkeys(node.output, next((types[n] for n in node.input if n in types), FLOAT))
        nested = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        for inner in nested:
            _rewrite(inner, types, wide)
        graph.node.extend([node] if nested or node.op_type == "Cast" else _around(node, types, wide))


def _around(node: Any, types: dict[str, int], wide: dict[str, str]) -> Iterator[Any]:
    """Yield a node between Casts: each bfloat16 operand to float32 once, each bfloat16 result back."""
    for i, name in enumerate(node.input):
        if types.get(name) == BFLOAT16:
            if name not in wide:
                wide[name] = f"{name}/wide"
                yield onnx.helper.make_node("Cast", [name], [wide[name]], to=FLOAT)
            node.input[i] = wide[name]
    rounded = [(i, name) for i, name in enumerate(node.output) if types.get(name) == BFLOAT16]
    for i, name in rounded:
        node.output[i] = f"{name}/exact"
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == BFLOAT16:
            values = onnx.numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    yield node
    for _, name in rounded:
        yield onnx.helper.make_node("Cast", [f"{name}/exact"], [name], to=BFLOAT16)
