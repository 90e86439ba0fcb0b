"""Operators on [N, C, L] and the same on [N, C, 1, L]."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

AXIS = 2
"""Where the axis of size 1 stands."""
_EAGER = 1 << 20
_UNARY = {
    "": frozenset(
        {"Abs", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Relu"}
        | {"Sigmoid", "Softplus", "Sqrt", "Tanh"}
    ),
    "com.microsoft": frozenset({"FastGelu", "Gelu", "QuickGelu"}),
}
_BROADCASTING = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub"})
_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
_POOLS = frozenset({"AveragePool", "MaxPool"})
_PAIRS = {"kernel_shape": 1, "strides": 1, "dilations": 1}


def is_carried(node: ir.Node, carried: frozenset[ir.Value]) -> bool:
    """Return whether a node computes on [N, C, 1, L] what it computes on [N, C, L].

    Its inputs are ``carried`` values of rank 3, or constants that ``constant_2d`` turns.
    """
    inputs = ir.operands(node)
    if any(ir.is_used(v) for v in node.outputs[1:]) or _rank(node.outputs[0]) != 3:
        return False
    if node.op_type in _UNARY.get(node.domain, ()) or (node.domain == "" and node.op_type in _GLOBAL | _POOLS):
        return inputs[0] in carried and all(_rank(v) == 0 and ir.Module.is_constant(v) for v in inputs[1:])
    if node.domain != "" or node.op_type not in _BROADCASTING:
        return False
    return all(v in carried or (ir.Module.is_constant(v) and 0 <= _rank(v) <= 3 and _is_lone(v)) for v in inputs)


def _rank(value: ir.Value) -> int:
    dims = ir.dims_of(value)
    return -1 if dims is None else len(dims)


def _is_lone(value: ir.Value) -> bool:
    """Whether turning a constant makes no second copy of it."""
    return _rank(value) < 2 or len(value.uses()) == 1


def attributes_2d(node: ir.Node) -> dict[str, Any]:
    """Return the attributes of a convolution or pooling that change: those of the new axis leave it alone."""
    if node.op_type not in _POOLS | {"Conv"}:
        return {}
    changed: dict[str, Any] = {
        name: [neutral, *found]
        for name, neutral in _PAIRS.items()
        if (found := node.attributes.get_ints(name, None)) is not None
    }
    pads = node.attributes.get_ints("pads", None)
    if pads is not None:
        changed["pads"] = [0, pads[0], 0, pads[1]]
    return changed


def constant_2d(value: ir.Value, rw: Rewriter) -> ir.Value:
    """Return a constant with the new axis in front of its last; rank 0 and 1 stay."""
    dims: Any = ir.dims_of(value)
    return value if len(dims) < 2 else reshaped(value, (*dims[:-1], 1, dims[-1]), rw)


def reshaped(value: ir.Value, shape: tuple[int, ...], rw: Rewriter) -> ir.Value:
    """Return a constant with the same elements in another shape; a large one is read when it is saved."""
    tensor = value.const_value
    assert tensor is not None
    if tensor.nbytes < _EAGER:
        return rw.const(tensor.numpy().reshape(shape))
    return rw.lazy(partial(_read, tensor, shape), ir.Value(name="", type=value.type, shape=ir.Shape(shape)))


def _read(tensor: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.numpy()).reshape(shape)
