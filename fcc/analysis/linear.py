"""Linear: one view of every fully connected spelling, y = scale * (x @ W^T) + bias.

Gemm (transA = 0, transB, alpha, beta), MatMul with a constant right operand (any rank of x), 1x1 Conv
(stride 1, no padding, group 1). The bias of a MatMul is a following Add of a constant row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .. import ir


@dataclass(frozen=True)
class Linear:
    """A linear layer: ``weight`` is stored as the op stores it; ``array()`` gives it as [out, in] in float64.

    ``x`` is the input, ``output`` the value after the bias, ``nodes`` what computes it (linear op, then bias Add).
    """

    kind: str
    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    alpha: float = 1.0
    beta: float = 1.0
    transposed: bool = False

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self._dims()[0]

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self._dims()[1]

    def _dims(self) -> tuple[int, int]:
        dims = [int(d) for d in ir.dims_of(self.weight) or () if isinstance(d, int)]
        if self.kind == "Conv":
            return dims[0], dims[1]
        return (dims[0], dims[1]) if self.transposed else (dims[1], dims[0])

    def array(self) -> np.ndarray[Any, Any]:
        """Return the weight as [out, in] in float64, alpha included."""
        stored = ir.Module.constant(self.weight)
        assert stored is not None
        flat = stored.reshape(stored.shape[:2]) if self.kind == "Conv" else stored
        oriented = flat if self.kind == "Conv" or self.transposed else flat.T
        return oriented.astype(np.float64) * self.alpha

    def stored(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return an [out, in] array in the layout and dtype of the op's weight (alpha not divided out)."""
        assert self.weight.dtype is not None
        dtype = self.weight.dtype.numpy()
        if self.kind == "Conv":
            rank = len(ir.dims_of(self.weight) or ())
            return np.ascontiguousarray(array.reshape(array.shape + (1,) * (rank - 2)).astype(dtype))
        return np.ascontiguousarray((array if self.transposed else array.T).astype(dtype))


def linear_of(node: ir.Node) -> Linear | str:
    """Return the Linear view of a node, or the reason why it has none."""
    viewer = _VIEWS.get(node.op_type) if node.domain == "" else None
    return viewer(node) if viewer is not None else f"{node.op_type} is no linear op"


def _gemm(node: ir.Node) -> Linear | str:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    if node.attributes.get_int("transA", 0):
        return "transA is set"
    return Linear(
        "Gemm",
        x,
        weight,
        bias,
        node.outputs[0],
        (node,),
        node.attributes.get_float("alpha", 1.0),
        node.attributes.get_float("beta", 1.0),
        bool(node.attributes.get_int("transB", 0)),
    )


def _matmul(node: ir.Node) -> Linear | str:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    dims = ir.dims_of(weight)
    if dims is None or len(dims) != 2:
        return "the weight is not a matrix"
    rank = len(ir.dims_of(x) or ())
    if rank < 2:
        return "the input is a vector or its rank is unknown"
    add = ir.sole_user(node.outputs[0])
    if add is not None and add.op_type == "Add" and add.domain == "":
        other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        if other is not None and other is not node.outputs[0] and _is_row(other, dims[1]):
            return Linear("MatMul", x, weight, other, add.outputs[0], (node, add))
    return Linear("MatMul", x, weight, None, node.outputs[0], (node,))


def _is_row(value: ir.Value, size: Any) -> bool:
    dims = ir.dims_of(value)
    if not ir.Module.is_constant(value) or dims is None:
        return False
    return all(d == 1 for d in dims[:-1]) and (not dims or dims[-1] in (1, size)) and len(dims) <= 2


def _conv(node: ir.Node) -> Linear | str:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    dims = ir.dims_of(weight) or ()
    attributes = node.attributes
    if prod(d for d in dims[2:] if isinstance(d, int)) != 1:
        return "the kernel is larger than 1"
    if attributes.get_int("group", 1) != 1:
        return "the convolution is grouped"
    if any(s != 1 for s in attributes.get_ints("strides", None) or ()):
        return "the stride is not 1"
    if any(p != 0 for p in attributes.get_ints("pads", None) or ()):
        return "the input is padded"
    return Linear("Conv", x, weight, bias, node.outputs[0], (node,), transposed=True)


_VIEWS = {"Gemm": _gemm, "MatMul": _matmul, "Conv": _conv}
