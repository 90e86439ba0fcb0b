"""Types and shapes of one node's outputs, by the schema's own inference function in onnx."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import defs, shape_inference
from onnx_ir import DataType, Node, TensorType, Value, serde

from .dims import Dim, as_dim


def infer_types(
    node: Node, opsets: Mapping[str, int], known: Mapping[int, np.ndarray[Any, Any]]
) -> list[tuple[Any, tuple[Dim | int | None, ...] | None]]:
    """Return (type, dims) of each output; ``known`` holds arrays of inputs whose contents matter (shapes, axes).

    Raises:
        ValueError: the operator has no schema, or its inference refuses; the text says why.
    """
    schema = schema_of(node.op_type, node.domain, opsets.get(node.domain, 0))
    if schema is None:
        raise ValueError(f"no schema for {node.domain or 'ai.onnx'}.{node.op_type}")
    proto = serde.serialize_node(node)
    types: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for i, value in enumerate(node.inputs):
        if value is None or not value.name:
            continue
        proto_type = _type_proto(value)
        if proto_type is not None:
            types[value.name] = proto_type
        if i in known and value.name not in data:
            data[value.name] = onnx.numpy_helper.from_array(np.asarray(known[i], order="C"), value.name)
    imports = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in opsets.items()]
    try:
        inferred = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    return [_read(inferred.get(name)) for name in proto.output]


@lru_cache(maxsize=4096)
def schema_of(op_type: str, domain: str, version: int) -> Any:
    """Return the operator schema in force at an opset version, or None."""
    try:
        return defs.get_schema(op_type, version, domain)
    except Exception:
        return None


def trim(node: Node, opset: int) -> None:
    """Drop absent operands at the end of a node down to the number that its schema has at an opset at least."""
    count = len(node.inputs)
    while count and node.inputs[count - 1] is None:
        count -= 1
    if count < len(node.inputs):
        schema = schema_of(node.op_type, node.domain, opset)
        node.resize_inputs(max(count, min(len(node.inputs), schema.min_input if schema is not None else 0)))


def since_version(node: Node, opsets: Mapping[str, int]) -> int | None:
    """Return the version of the schema that a node means, or None when there is no schema."""
    schema = schema_of(node.op_type, node.domain, opsets.get(node.domain, 0))
    return None if schema is None else int(schema.since_version)


def _type_proto(value: Value) -> Any:
    if value.type is None:
        return None
    if isinstance(value.type, TensorType):
        dims = (
            None if value.shape is None else tuple(d if isinstance(d, int) else (d.value or None) for d in value.shape)
        )
        return _tensor_type(int(value.type.dtype), dims)
    proto = onnx.TypeProto()
    serde.serialize_type_into(proto, value.type)
    return proto


@lru_cache(maxsize=4096)
def _tensor_type(dtype: int, dims: tuple[int | str | None, ...] | None) -> Any:
    return onnx.helper.make_tensor_type_proto(dtype, dims)


def _read(proto: Any) -> tuple[Any, tuple[Dim | int | None, ...] | None]:
    if proto is None:
        return None, None
    kind = proto.WhichOneof("value")
    if kind is None:
        return None, None
    if kind != "tensor_type":
        return serde.deserialize_type_proto_for_type(proto), None
    tensor = proto.tensor_type
    found = TensorType(DataType(tensor.elem_type)) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return found, None
    return found, tuple(_dim(d) for d in tensor.shape.dim)


def _dim(d: Any) -> Dim | int | None:
    kind = d.WhichOneof("value")
    if kind == "dim_value":
        return int(d.dim_value)
    return as_dim(d.dim_param) if kind == "dim_param" and d.dim_param else None
