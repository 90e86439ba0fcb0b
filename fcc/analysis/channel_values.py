"""Which channels hold one known value, whatever the (finite) input is, on the way from a layer to its readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ir
from .channels import Flow
from .evaluate import evaluate

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Known:
    """Per index along the lane of a value: ``mask`` where it is constant, ``value`` what it is, ``low`` where <= 0."""

    mask: Mask
    value: Array
    low: Mask

    @staticmethod
    def nothing(size: int) -> Known:
        """Return that nothing is known of ``size`` indices."""
        return Known(np.zeros(size, bool), np.zeros(size), np.zeros(size, bool))


def propagate(flow: Flow, start: Known, opset: int) -> dict[ir.Value, Known]:
    """Return what is known of every value of a flow, given what is known of the output of its source.

    Constants pass through operators as the runtime would compute them, in their dtype; a value that overflows is not
    known. A channel multiplied by zero is zero: inputs are taken to be finite.
    """
    known = {flow.source.node.outputs[0]: start}
    for node in flow.nodes:
        lane = flow.lanes[node.outputs[0]]
        rule = _RULES.get(node.op_type, _elementwise)
        found = rule(node, known, flow, opset)
        size = flow.source.channels * lane.block
        mask = found.mask & np.isfinite(found.value)
        assert mask.size == size
        known[node.outputs[0]] = Known(mask, np.where(mask, found.value, 0.0), found.low)
    return known


Rule = Callable[[ir.Node, Mapping[ir.Value, Known], Flow, int], Known]


def along(array: Array, axis: int, rank: int, size: int) -> tuple[Array, Mask]:
    """Return a broadcast operand as one value per index of ``axis``, and where it is the same at all other axes."""
    full = array.reshape((1,) * (rank - array.ndim) + array.shape).astype(np.float64)
    rows = np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1)
    uniform = (rows == rows[:, :1]).all(axis=1) if rows.shape[1] else np.zeros(len(rows), bool)
    first = rows[:, 0] if rows.shape[1] else np.zeros(len(rows))
    return np.broadcast_to(first, (size,)), np.broadcast_to(uniform, (size,))


def _input(node: ir.Node, known: Mapping[ir.Value, Known], index: int = 0) -> Known:
    value = node.inputs[index]
    assert value is not None
    return known[value]


def _same(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    return _input(node, known)


def _spread(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    """Each channel takes more, or the same number of, indices behind a reshape."""
    found, size = _input(node, known), flow.source.channels * flow.lanes[node.outputs[0]].block
    times = size // found.mask.size
    return Known(*(np.repeat(part, times) for part in (found.mask, found.value, found.low)))


def _only_zero(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    found = _input(node, known)
    return Known(found.mask & (found.value == 0), found.value, found.low)


def _unknown(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    return Known.nothing(_input(node, known).mask.size)


def _average(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    counts_zeros = is_padded(node) and node.attributes.get_int("count_include_pad", 0) != 0
    beyond = node.attributes.get_int("ceil_mode", 0) != 0  # runtimes disagree on windows that leave the input
    return (_only_zero if counts_zeros or beyond else _same)(node, known, flow, opset)


def _pad(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    found = _input(node, known)
    if node.attributes.get_string("mode", "constant") != "constant":
        return found
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    array = np.zeros(()) if fill is None else ir.Module.constant(fill)
    if array is None:
        return Known.nothing(found.mask.size)
    number = float(array.reshape(()).astype(np.float64))
    return Known(found.mask & (found.value == number), found.value, found.low & (number <= 0))


def _constants(node: ir.Node, *indices: int) -> list[Array]:
    arrays = [ir.Module.constant(node.inputs[i]) for i in indices]
    return [a.astype(np.float64) for a in arrays if a is not None]


def _batchnorm(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    found = _input(node, known)
    scale, shift, mean, var = _constants(node, 1, 2, 3, 4)
    with np.errstate(all="ignore"):
        value = (found.value - mean) * (scale / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))) + shift
    finite = np.isfinite(mean) & np.isfinite(var) & (var >= 0)
    off = (scale == 0) & finite
    return Known(found.mask | off, np.where(off, shift, value), np.zeros(off.size, bool))


def _depthwise(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    found, weight = _input(node, known), _constants(node, 1)[0]
    times = len(weight) // found.mask.size
    mask, value = np.repeat(found.mask, times), np.repeat(found.value, times)
    rows = weight.reshape(len(weight), -1)
    bias = _constants(node, 2)[0] if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(len(weight))
    off = ~rows.any(axis=1)
    inside = mask & ((value == 0) | (not is_padded(node)))
    return Known(inside | off, value * rows.sum(axis=1) + bias, np.zeros(off.size, bool))


def is_padded(node: ir.Node) -> bool:
    """Return whether a convolution (or pooling) reads zeros around its input."""
    if node.attributes.get_string("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return any(p != 0 for p in node.attributes.get_ints("pads", None) or ())


def _elementwise(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow, opset: int) -> Known:
    operands = _operands(node, known, flow)
    present = [o for o in operands if o is not None]
    nothing = np.zeros(present[0].mask.size, bool)
    mask = np.logical_and.reduce([o.mask for o in present])
    zero = low = nothing
    if node.op_type == "Mul":
        zero = np.logical_or.reduce([o.mask & (o.value == 0) for o in present])
    elif node.op_type == "Relu":
        zero = low = present[0].low
    elif node.op_type == "Add":
        low = np.logical_and.reduce([o.low for o in present])
    if not (mask | zero).any():
        return Known(nothing, np.zeros(nothing.size), low)
    result = _evaluate(node, operands, flow, opset)
    if result is None:
        return Known(zero, np.zeros(nothing.size), low)
    return Known(mask | zero, np.where(zero, 0.0, result), low)


def _operands(node: ir.Node, known: Mapping[ir.Value, Known], flow: Flow) -> list[Known | None]:
    """Return each operand as what is known of it; a constant is known where it is the same at all other axes."""
    out = node.outputs[0]
    axis, rank = flow.lanes[out].axis, len(ir.dims_of(out) or ())
    size = flow.source.channels * flow.lanes[out].block
    found: list[Known | None] = []
    for value in node.inputs:
        if value is None or value in known:
            found.append(None if value is None else known[value])
            continue
        array = ir.Module.constant(value)
        assert array is not None
        part, same = along(array, axis, rank, size)
        found.append(Known(same, part, same & (part <= 0)))
    return found


def _evaluate(node: ir.Node, operands: list[Known | None], flow: Flow, opset: int) -> Array | None:
    out = node.outputs[0]
    axis, rank = flow.lanes[out].axis, len(ir.dims_of(out) or ())
    arrays: list[Array | None] = []
    for value, operand in zip(node.inputs, operands, strict=True):
        if operand is None or value is None or value.dtype is None:
            arrays.append(None)
            continue
        column = operand.value.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))
        shaped = operand.value[:1].reshape(()) if ir.dims_of(value) == () else column
        arrays.append(shaped.astype(value.dtype.numpy()))
    try:
        with np.errstate(all="ignore"):
            results = evaluate(node, arrays, opset)
    except (ValueError, TypeError, RuntimeError, NotImplementedError):
        return None  # an operator that the evaluator lacks
    if results is None or results[0] is None:
        return None
    return np.asarray(results[0]).astype(np.float64).reshape(-1)


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _spread),
    **dict.fromkeys(("Transpose", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"), _same),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin"), _same),
    "ReduceSum": _only_zero,
    "InstanceNormalization": _unknown,
    "AveragePool": _average,
    "BatchNormalization": _batchnorm,
    "Conv": _depthwise,
    "Pad": _pad,
}
