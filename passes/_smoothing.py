"""Tensors between weight ops whose channels may be scaled: made by one, read by others only, homogeneous between."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.linear import linear_of

Array = np.ndarray[Any, Any]
# f(s x) = s f(x) for s > 0, channel by channel.
HOMOGENEOUS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Identity"}
)
_WEIGHT_OPS = frozenset({"Conv", "Gemm", "MatMul"})
_Operand = tuple[ir.Node, int, int]


@dataclass(frozen=True)
class Producer:
    """What makes a tensor: its constant operands as (node, index of the input, axis of the channels).

    ``repeat`` elements in a row of the tensor are one of its ``channels`` (behind a Flatten).
    """

    operands: tuple[_Operand, ...]
    channels: int
    repeat: int = 1


def size_of(value: ir.Value | None, axis: int) -> int:
    """Return a size of a constant, 1 where its rank is too low."""
    dims: Any = ir.dims_of(value) if value is not None else None
    return int(dims[axis]) if dims and len(dims) > (axis if axis >= 0 else -axis - 1) else 1


def producer_of(x: ir.Value, axis: int) -> Producer | str:
    """Return what makes a tensor with channels along ``axis`` (1 or -1), or why they cannot be scaled."""
    repeat = 1
    while True:
        node = x.producer()
        if node is None or node.domain != "":
            return "no weight op makes its input"
        if x.is_graph_output() or any(ir.is_used(v) for v in node.outputs if v is not x):
            return f"{x.name!r} has other users"
        if node.op_type == "Flatten":
            dims: Any = ir.dims_of(node.inputs[0]) if node.inputs[0] is not None else None
            flat = axis == -1 and node.attributes.get_int("axis", 1) == 1 and dims is not None and len(dims) > 1
            if not flat or not all(isinstance(d, int) for d in dims[1:]):
                return "a Flatten does not keep the channels apart"
            axis, repeat = 1, prod(dims[2:])
        elif node.op_type not in HOMOGENEOUS:
            return _made_by(node, x, axis, repeat)
        source = node.inputs[0]
        if source is None or ir.sole_user(source) is None:
            return f"{source.name if source is not None else node.name!r} has other users"
        x = source


def _made_by(node: ir.Node, x: ir.Value, axis: int, repeat: int) -> Producer | str:
    rank = len(ir.dims_of(x) or ())
    if node.op_type == "Conv":
        return _operands([(node, 1, 0), (node, 2, 0)], repeat) if axis == 1 else "a Conv has its channels on axis 1"
    if axis not in (-1, rank - 1):
        return f"{node.op_type} has no channels on axis {axis}"
    if node.op_type == "LayerNormalization" and node.attributes.get_int("axis", -1) in (-1, rank - 1):
        return _operands([(node, 1, -1), (node, 2, -1)], repeat)
    return _linear(node, x, repeat)


def _linear(node: ir.Node, x: ir.Value, repeat: int) -> Producer | str:
    made = [v.producer() for v in node.inputs if v is not None] if node.op_type == "Add" else [node]
    first = next((n for n in made if n is not None), node)
    view = linear_of(first)
    if isinstance(view, str) or view.output is not x:
        return f"{node.op_type} is no weight op"
    operands = [(first, 1, 0 if view.transposed else 1)]
    if view.bias is not None:
        last = view.nodes[-1]
        operands.append((last, next(i for i, v in enumerate(last.inputs) if v is view.bias), -1))
    return _operands(operands, repeat)


def _operands(operands: list[_Operand], repeat: int) -> Producer | str:
    present = tuple((n, i, a) for n, i, a in operands if len(n.inputs) > i and n.inputs[i] is not None)
    node, index, axis = present[0]
    channels = size_of(node.inputs[index], axis)
    for node, i, _ in present:
        if not ir.Module.is_constant(node.inputs[i]):
            return "an operand of what makes its input is not constant"
    return Producer(present, channels, repeat)


def readers_of(x: ir.Value) -> list[ir.Node] | str:
    """Return the weight ops that read a tensor, or why it has others: each has constant weights."""
    found: list[ir.Node] = []
    for use in x.uses():
        node = use.node
        if node.op_type not in _WEIGHT_OPS or node.domain != "" or use.idx != 0 or node.graph is not x.graph:
            return f"{node.op_type} reads it too"
        view = "" if node.op_type == "Conv" else linear_of(node)
        if isinstance(view, str) and (view or not ir.Module.is_constant(node.inputs[1])):
            return view or "the weight is not constant"
        found.append(node)
    return found if len({n.op_type == "Conv" for n in found}) == 1 else "convolutions and matrix products read it"


def _grouped(node: ir.Node, array: Array) -> Array:
    """Return the weight of a reader as [group, outputs, inputs of a group, rest]."""
    if node.op_type == "Conv":
        group = node.attributes.get_int("group", 1)
        return array.reshape(group, len(array) // group, array.shape[1], -1)
    return (array if node.attributes.get_int("transB", 0) else array.T)[None, :, :, None]


def largest_by_input(node: ir.Node) -> Array:
    """Return max|w| of a reader for every channel of its input."""
    array = ir.Module.constant(node.inputs[1])
    assert array is not None
    found: Array = np.abs(_grouped(node, array)).max(axis=(1, 3), initial=0.0)
    return found.reshape(-1)


def multiplied(node: ir.Node, scale: Array) -> Array:
    """Return the weight of a reader with every channel of its input multiplied by a scale, in its dtype."""
    array = ir.Module.constant(node.inputs[1])
    assert array is not None
    wide = _grouped(node, array)
    wide = wide * scale.reshape(len(wide), 1, -1, 1).astype(array.dtype)
    if node.op_type == "Conv":
        wide = wide.reshape(array.shape)
    else:
        wide = wide[0, :, :, 0] if node.attributes.get_int("transB", 0) else wide[0, :, :, 0].T
    return np.ascontiguousarray(wide)


def divided(operand: _Operand, scale: Array) -> Array:
    """Return an operand of a producer with its channels divided by a scale, in its dtype."""
    node, index, axis = operand
    array = ir.Module.constant(node.inputs[index])
    assert array is not None
    axis = axis % array.ndim if array.ndim else 0
    shape = [1] * max(array.ndim, 1)
    shape[axis] = -1
    return np.asarray(array / scale.reshape(shape).astype(array.dtype))
