"""Sparse tensors become dense ones on the protobuf: onnx_ir holds no sparse tensor, and onnxruntime densifies too."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from fcc.errors import LoadError

from .scopes import graphs_of

_LIMIT = 1 << 28  # bytes of all of them when dense: a few indices may stand for any amount


def densify(model: onnx.ModelProto) -> None:
    """Make sparse initializers and ``Constant(sparse_value)`` dense, in place.

    Raises:
        LoadError: indices that do not fit, external values, or more than 256 MiB when all are dense.
    """
    left = _LIMIT
    for graph in _graphs(model.graph):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(to_dense(sparse, sparse.values.name, left))
            left -= graph.initializer[-1].ByteSize()
        del graph.sparse_initializer[:]
        left = _densify_constants(graph.node, left)
    for function in model.functions:
        left = _densify_constants(function.node, left)
        for node in function.node:
            for graph in graphs_of(node):
                for inner in _graphs(graph):
                    left = _densify_constants(inner.node, left)


def _densify_constants(nodes: object, left: int) -> int:
    for node in nodes:  # type: ignore[attr-defined]
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                dense = to_dense(attribute.sparse_tensor, node.output[0], left)
                left -= dense.ByteSize()
                attribute.Clear()
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(dense)
    return left


def to_dense(sparse: onnx.SparseTensorProto, name: str, most: int) -> onnx.TensorProto:
    """Return the dense tensor: values [NNZ] put at indices [NNZ] (linear) or [NNZ, rank], zeros elsewhere.

    At most ``most`` bytes are made.

    Source: ONNX IR specification, SparseTensorProto.
    """
    dims = tuple(sparse.dims)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in (sparse.values, sparse.indices)):
        raise LoadError(f"sparse tensor {name!r} has external data", "keep it in the model")
    try:
        values = numpy_helper.to_array(sparse.values).reshape(-1)
        if math.prod(dims) * values.itemsize > most:
            needs = math.prod(dims) * values.itemsize
            raise LoadError(
                f"sparse tensor {name!r} needs {needs} bytes when dense, {most} are left", "export it dense"
            )
        indices = numpy_helper.to_array(sparse.indices) if values.size else np.zeros(0, np.int64)
        flat = np.ravel_multi_index(tuple(indices.T), dims) if indices.ndim == 2 else indices
        dense = np.zeros(math.prod(dims), values.dtype)
        if flat.size != values.size or (flat.size and flat.min() < 0):
            raise ValueError("indices and values do not agree")
        dense[flat] = values
    except (ValueError, IndexError, TypeError) as error:
        raise LoadError(f"sparse tensor {name!r} is not valid: {error}", "export the model again") from None
    return numpy_helper.from_array(dense.reshape(dims), name)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in graphs_of(node):
            yield from _graphs(inner)
