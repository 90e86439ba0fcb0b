"""Dense layers as [out, in, *kernel] arrays: Gemm, MatMul (+ Add), Conv of any kernel with one group."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear, linear_of
from fcc.rewrite import Rewriter

from ._affine import FLOATS

Array = np.ndarray[Any, Any]
DENSE = frozenset({"Gemm", "MatMul", "Conv"})


def layer_of(node: ir.Node) -> Linear | str:
    """Return the view of a layer with a constant float weight and a constant bias row, or the reason for none."""
    if node.op_type not in DENSE or node.domain != "":
        return f"{node.op_type} is no dense layer"
    found = _conv(node) if node.op_type == "Conv" else linear_of(node)
    if isinstance(found, str):
        return found
    if found.weight.dtype not in FLOATS:
        return f"weights of type {found.weight.dtype} are not combined"
    dims = ir.dims_of(found.weight)
    if dims is None or 0 in dims:
        return "the weight is empty"
    if found.x in (found.weight, found.bias):
        return "the input is one of its constants"
    return _bias_refusal(found) or found


def _conv(node: ir.Node) -> Linear | str:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    if node.attributes.get_int("group", 1) != 1:
        return "the convolution is grouped"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Linear("Conv", x, weight, bias, node.outputs[0], (node,), transposed=True)


def _bias_refusal(layer: Linear) -> str | None:
    if layer.bias is None:
        return None
    dims = ir.dims_of(layer.bias)
    if not ir.Module.is_constant(layer.bias) or dims is None:
        return "the bias is not constant"
    rank = 1 if layer.kind == "Conv" else 2
    if len(dims) > rank or any(d != 1 for d in dims[:-1]) or (dims and dims[-1] not in (1, layer.out_features)):
        return "the bias is no row"
    return None


def weights(layer: Linear) -> Array:
    """Return the weight as [out, in, *kernel] in float64, alpha included."""
    tensor = layer.weight.const_value  # not Module.constant: read again at save, when the graph has dropped the value
    assert tensor is not None
    stored = tensor.numpy().astype(np.float64)
    return stored if layer.kind == "Conv" else layer.alpha * (stored if layer.transposed else stored.T)


def row(layer: Linear) -> Array | None:
    """Return the bias as float64 [out], beta included, or None when there is none or it is zero throughout."""
    bias = ir.Module.constant(layer.bias)
    if bias is None or not np.any(bias) or layer.beta == 0:
        return None
    return np.broadcast_to(bias.astype(np.float64).reshape(-1) * layer.beta, (layer.out_features,))


def used_elsewhere(layer: Linear) -> bool:
    """Return whether other nodes, or a graph output, use the weight or the bias too; a bias of zeros does not count."""
    constants = [layer.weight] if layer.bias is None or row(layer) is None else [layer.weight, layer.bias]
    return any(v.is_graph_output() or any(u.node not in layer.nodes for u in v.uses()) for v in constants)


def rebuilt(layer: Linear, x: ir.Value, weight: Array, bias: Array | None, rw: Rewriter) -> ir.Value:
    """Return the output of a layer of the same kind, ``weight`` [out, in, *kernel] and ``bias`` [out] in float64."""
    assert layer.weight.dtype is not None
    dtype, name = layer.weight.dtype.numpy(), f"{layer.weight.name}/kept"
    added = [] if bias is None else [rw.const(bias.astype(dtype))]
    made: ir.Value
    if layer.kind == "Conv":
        made = rw.like(layer.nodes[0], x, rw.const(weight.astype(dtype), name), *added)
        return made
    matrix = rw.const(np.ascontiguousarray(weight.T.astype(dtype)), name)
    if layer.kind == "Gemm":
        made = rw.op("Gemm", x, matrix, *added)
        return made
    made = rw.op("MatMul", x, matrix)
    return rw.op("Add", made, *added) if added else made
