"""Elementwise operators, and when they leave an operand as it is. Each rule returns that operand, or why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcc import ir
from fcc.analysis.shape_rules import broadcast
from fcc.analysis.shapes import static_size

from ._no_op_layout import Found, first
from ._operands import READABLE, small_constant, uniform
from ._reductions import axes_of


def _dropout(node: ir.Node) -> Found:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    return first(node) if training is None or uniform(training, 0) else "training_mode is not constant false"


def _cast(node: ir.Node) -> Found:
    to = node.attributes.get_int("to", 0)
    return first(node) if first(node).dtype == to else "it changes the type"


def _cast_like(node: ir.Node) -> Found:
    like = node.inputs[1].dtype if node.inputs[1] is not None else None
    return first(node) if like is not None and first(node).dtype == like else "it changes the type"


def _only_operand(node: ir.Node) -> Found:
    return first(node) if len(node.inputs) == 1 else "it has several operands"


def _reduce(node: ir.Node) -> Found:
    """Over no axes, or over axes of size 1, which only go."""
    axes, dims = axes_of(node), ir.dims_of(first(node))
    absent = len(node.inputs) < 2 or node.inputs[1] is None or static_size(node.inputs[1]) == 0
    noop: int = node.attributes.get_int("noop_with_empty_axes", 0)
    if absent and noop:
        return first(node)
    if isinstance(axes, str) or dims is None or any(dims[a] != 1 for a in axes):
        return "it reduces"
    keeps: int = node.attributes.get_int("keepdims", True)
    if keeps:
        return first(node)
    if "axes" in node.attributes:
        return "Squeeze takes its axes as the node does from opset 13"
    return lambda rw: rw.op("Squeeze", first(node), np.asarray(axes, np.int64))


def keeps_shape(kept: ir.Value, others: list[ir.Value]) -> bool:
    """Return whether broadcasting ``kept`` with the others provably gives the shape of ``kept``."""
    dims = ir.dims_of(kept)
    if dims is None or None in dims:
        return False
    for other in others:
        shape = ir.dims_of(other)
        if shape is None or broadcast(dims, shape) != dims:
            return False
    return True


def _neutral(number: float, commutes: bool) -> Callable[[ir.Node], Found]:
    """Return the rule: a no-op when the right operand (or the left one, if it commutes) is ``number`` throughout."""

    def rule(node: ir.Node) -> Found:
        left, right = node.inputs[0], node.inputs[1]
        assert left is not None
        assert right is not None
        for kept, other in ((left, right), (right, left)) if commutes else ((left, right),):
            if uniform(other, number):
                return kept if keeps_shape(kept, [other]) else "it broadcasts, or may"
        return f"no operand is {number:g}"

    return rule


def changes_zero_sign(node: ir.Node) -> bool:
    """Return whether a node that adds or subtracts zeros turns -0.0 into 0.0: x + 0.0 and x - (-0.0) do."""
    dtype = node.outputs[0].dtype
    if node.op_type not in ("Add", "Sub") or dtype is None or not dtype.is_floating_point():
        return False
    zeros = next((v for v in reversed(node.inputs) if uniform(v, 0)), None)
    array = small_constant(zeros)
    return array is not None and bool((np.signbit(array.astype(np.float64)) == (node.op_type == "Sub")).any())


def _logic(neutral: bool) -> Callable[[ir.Node], Found]:
    """Return the rule of And (neutral True) and Or (neutral False), where the opposite decides the result."""
    keep = _neutral(float(neutral), True)

    def rule(node: ir.Node) -> Found:
        size = static_size(node.outputs[0])
        if any(uniform(v, float(not neutral)) for v in node.inputs) and size is not None and size <= READABLE:
            dims = node.outputs[0].shape
            assert dims is not None
            return lambda rw: rw.const(np.full(dims.numpy(), not neutral, dtype=np.bool_))
        return keep(node)

    return rule


def _where(node: ir.Node) -> Found:
    condition = small_constant(node.inputs[0])
    if condition is None or condition.size == 0:
        return "the condition is not constant"
    if condition.all() == condition.any():
        chosen, other = node.inputs[1 if condition.all() else 2], node.inputs[2 if condition.all() else 1]
        assert chosen is not None
        assert other is not None
        return chosen if keeps_shape(chosen, [other, first(node)]) else "it broadcasts, or may"
    return "the condition is mixed"


ELEMENTWISE: dict[str, Callable[[ir.Node], Found]] = {
    "Add": _neutral(0, True),
    "And": _logic(True),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Div": _neutral(1, False),
    "Dropout": _dropout,
    "Max": _only_operand,
    "Mean": _only_operand,
    "Min": _only_operand,
    "Mul": _neutral(1, True),
    "Or": _logic(False),
    "Pow": _neutral(1, False),
    "ReduceLogSumExp": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Sub": _neutral(0, False),
    "Sum": _only_operand,
    "Where": _where,
    "Xor": _neutral(0, True),
}
