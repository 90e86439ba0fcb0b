"""Between which numbers the results of layers, normalizations, attention and recurrent layers lie."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np

from .. import ir
from .bounds import (
    EVERYTHING,
    READABLE,
    Array,
    Ask,
    Bounds,
    Rule,
    aligned,
    between,
    combined,
    epsilon,
    hull,
    rounded,
    times,
)
from .interval_moves import is_padded

_SAMPLES = 12


# -- products with constant weights ------------------------------------------------------------------------------------
def _conv(ask: Ask) -> Bounds:
    weight, x, rank = _weight(ask), ask.input(0), ask.rank
    if weight is None or rank is None:
        return EVERYTHING
    x = x if x.axis == 1 - rank else x.whole()
    if is_padded(ask.node):
        x = hull(x, between(0.0, 0.0))
    group, (out, inner) = ask.node.attributes.get_int("group", 1), weight.shape[:2]
    ends = [e if e.ndim == 0 else e.reshape(group, inner) for e in (x.low, x.high)]
    return _linear(ask, weight.reshape(out, inner, -1), ends, _optional(ask, 2, 0.0), 1 - rank)


def _conv_transpose(ask: Ask) -> Bounds:
    """Every output adds up some of the taps."""
    weight, rank = _weight(ask), ask.rank
    if weight is None or rank is None or ask.node.attributes.get_int("group", 1) != 1:
        return EVERYTHING
    x = ask.input(0)
    x = hull(x if x.axis == 1 - rank else x.whole(), between(0.0, 0.0))
    array = weight.swapaxes(0, 1)
    return _linear(ask, array.reshape(*array.shape[:2], -1), [x.low, x.high], _optional(ask, 2, 0.0), 1 - rank)


def _gemm(ask: Ask) -> Bounds:
    weight, x, attributes = _weight(ask), ask.input(0), ask.node.attributes
    if weight is None or weight.ndim != 2:
        return EVERYTHING
    alpha, beta = (np.asarray(attributes.get_float(k, 1.0)) for k in ("alpha", "beta"))
    x = x if x.axis == (-2 if attributes.get_int("transA", 0) else -1) else x.whole()
    bias = _optional(ask, 2, 0.0)
    bias = _scaled(bias if bias.axis == -1 else bias.whole(), beta)
    array = weight if attributes.get_int("transB", 0) else weight.T
    x = _scaled(x, alpha)
    return _linear(ask, array[:, :, None], [x.low, x.high], bias, -1)


def _scaled(x: Bounds, factor: Array) -> Bounds:
    ends = [times(factor, end) for end in (x.low, x.high)]
    return combined(np.minimum(*ends), np.maximum(*ends), x)


def _matmul(ask: Ask) -> Bounds:
    if _is_mean(ask.value(0)):
        x = ask.input(1)
        return x if x.axis != -2 else x.whole()
    weight, x = _weight(ask), ask.input(0)
    if weight is None or weight.ndim != 2:
        return EVERYTHING
    x = x if x.axis == -1 else x.whole()
    return _linear(ask, weight.T[:, :, None], [x.low, x.high], between(0.0, 0.0), -1)


def _is_mean(value: ir.Value | None) -> bool:
    """Return whether the rows of a tensor are weights of a mean: a Softmax along the last axis."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or node.op_type != "Softmax":
        return False
    dims = ir.dims_of(value)
    return node.attributes.get_int("axis", -1) in ((-1,) if dims is None else (-1, len(dims) - 1))


def _weight(ask: Ask) -> Array | None:
    """Return the constant weight of a layer as it is stored, None when it is none, or too large to look at."""
    weight = ask.value(1)
    if weight is None or not ir.Module.is_constant(weight) or isinstance(weight.const_value, ir.LazyTensor):
        return None
    dims, tensor = ir.dims_of(weight) or (0,), weight.const_value
    if tensor is None or weight.dtype is None or not weight.dtype.is_floating_point() or 0 in dims:
        return None
    return tensor.numpy() if tensor.size <= READABLE else None


def _linear(ask: Ask, array: Array, ends: list[Array], bias: Bounds, axis: int) -> Bounds:
    """Bounds of sum_i w_i x_i + b per output, ``array`` [out, in, taps], ``ends`` of x: a number, [in], [group, in].

    Positive weights take the bound of their own side, negative ones that of the other. Outputs whose bounds decide
    nothing are left open, so that a few of their weights are read and not all.
    """
    out, inner, taps = array.shape
    low, high = (np.broadcast_to(end, (end.shape[0] if end.ndim == 2 else 1, inner)) for end in ends)
    groups = np.arange(out) // (out // len(low))
    at = np.flatnonzero(_matters(ask, array, low, high, groups, bias))
    if at.size == 0:
        return EVERYTHING
    kind = np.float64 if array.dtype == np.float64 else np.float32
    parts = [f(array[at], 0).sum(axis=2, dtype=kind).astype(np.float64) for f in (np.maximum, np.minimum)]
    relative = (inner * taps + 1) * max(epsilon(ask.node.outputs[0].dtype), float(np.finfo(kind).eps))
    found = [np.full(out, -np.inf), np.full(out, np.inf)]
    sizes = [np.zeros(out), np.zeros(out)]
    for i, (own, other, added) in enumerate(((low, high, bias.low), (high, low, bias.high))):
        terms = [times(parts[0], own[groups[at]]), times(parts[1], other[groups[at]])]
        shift = added if added.ndim == 0 else added[at]
        found[i][at] = terms[0].sum(axis=1) + terms[1].sum(axis=1) + shift
        sizes[i][at] = np.abs(terms[0]).sum(axis=1) + np.abs(terms[1]).sum(axis=1) + np.abs(shift)
    return Bounds(*rounded(found[0], found[1], sizes[0], sizes[1], relative), axis)


def _matters(ask: Ask, array: Array, low: Array, high: Array, groups: Array, bias: Bounds) -> Array:
    """Return the outputs whose exact bounds may decide something, judged by a few weights of each.

    Where every input may be 0, further weights only widen the bounds: an output that already lies on both sides of what
    the clamp behind it compares it with is left open. Without a clamp only constant outputs matter.
    """
    inner, taps = array.shape[1:]
    at = np.linspace(0, inner * taps - 1, min(_SAMPLES, inner * taps)).astype(int)
    some = array.reshape(len(array), -1)[:, at].astype(np.float64)
    terms = [times(some, end[groups][:, at // taps]) for end in (low, high)]
    least, greatest = np.minimum(*terms).sum(axis=1) + bias.low, np.maximum(*terms).sum(axis=1) + bias.high
    closed = ~(np.isneginf(least) & np.isposinf(greatest))
    if ask.thorough:
        return np.asarray(closed)
    asked = _asked(ask)
    if asked is None:
        return np.asarray(closed & ~some.any(axis=1))
    holds_zero = (low <= 0).all() and (high >= 0).all()
    return np.asarray(closed & ~(holds_zero & (least < asked[0]) & (greatest > asked[1])))


def _asked(ask: Ask) -> tuple[Array, Array] | None:
    """Return what the clamp behind a layer compares it with, infinite numbers for other questions, None for none."""
    value, shift = ask.node.outputs[0], between(0.0, 0.0)
    user = ir.sole_user(value)
    if user is not None and user.op_type == "Add" and user.domain == "":
        other = user.inputs[1] if user.inputs[0] is value else user.inputs[0]
        if ir.Module.is_constant(other):
            shift, user = ask.of(other), ir.sole_user(user.outputs[0])
            shift = shift if shift.axis in (None, -1) else shift.whole()
    if user is None or user.domain != "":
        return None
    if user.op_type == "Clip" and len(user.inputs) > 2:
        limits = [ask.of(v) for v in user.inputs[1:3]]
        return limits[0].whole().high - shift.high, limits[1].whole().low - shift.low
    if user.op_type in _AT_ZERO:
        return -shift.high, -shift.low
    return (np.asarray(-np.inf), np.asarray(np.inf)) if user.op_type in _ASKING else None


_AT_ZERO = frozenset({"Celu", "Elu", "LeakyRelu", "PRelu", "Relu"})
_ASKING = frozenset(
    {"Abs", "Clip", "Equal", "Exp", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log", "Max", "Min", "Sign"}
    | {"Sqrt", "ThresholdedRelu", "Where"}
)


def _optional(ask: Ask, index: int, absent: float) -> Bounds:
    return ask.input(index) if ask.value(index) is not None else between(absent, absent)


# -- normalizations ----------------------------------------------------------------------------------------------------
def _normalized(ask: Ask, count: int | None, scale: Bounds, shift: Bounds) -> Bounds:
    """(x - mean) / deviation of n numbers is at most sqrt(n) in size, then scaled and shifted."""
    if count is None:
        return EVERYTHING
    reach = sqrt(count) * (1 + 64 * epsilon(ir.DataType.FLOAT))
    parts = aligned(scale, shift)
    size = np.maximum(np.abs(parts[0].low), np.abs(parts[0].high)) * reach
    return combined(parts[1].low - size, parts[1].high + size, *parts)


def _layer_norm(ask: Ask) -> Bounds:
    dims, rank = ir.dims_of(ask.value(0)), ask.rank
    if dims is None or rank is None:
        return EVERYTHING
    sizes = dims[ask.node.attributes.get_int("axis", -1) % rank :]
    count = int(np.prod([int(str(d)) for d in sizes])) if all(isinstance(d, int) for d in sizes) else None
    return _normalized(ask, count, _optional(ask, 1, 1.0), _optional(ask, 2, 0.0))


def _instance_norm(ask: Ask) -> Bounds:
    dims, rank = ir.dims_of(ask.value(0)), ask.rank
    if dims is None or rank is None or not all(isinstance(d, int) for d in dims[2:]):
        return EVERYTHING
    scale, shift = (_moved(ask.input(i), 1 - rank) for i in (1, 2))
    return _normalized(ask, int(np.prod([int(str(d)) for d in dims[2:]])), scale, shift)


def _moved(x: Bounds, axis: int) -> Bounds:
    return x if x.axis is None else Bounds(x.low, x.high, axis)


def _batch_norm(ask: Ask) -> Bounds:
    if ask.node.attributes.get_int("training_mode", 0) or ask.rank is None:
        return EVERYTHING
    arrays = [ask.constant(i) for i in (1, 2, 3, 4)]
    scale, shift, mean, var = (np.zeros(0) if a is None else a for a in arrays)
    if any(a is None for a in arrays):
        return EVERYTHING
    x = ask.input(0)
    x = x if x.axis == 1 - ask.rank else x.whole()
    factor = scale / np.sqrt(var + ask.node.attributes.get_float("epsilon", 1e-5))
    ends = [times(factor, end - mean) + shift for end in (x.low, x.high)]
    sizes = [np.abs(times(factor, np.abs(end) + np.abs(mean))) + np.abs(shift) for end in (x.low, x.high)]
    low, high, size = np.minimum(*ends), np.maximum(*ends), np.maximum(*sizes)
    return Bounds(*rounded(low, high, size, size, 8 * epsilon(ask.node.outputs[0].dtype)), 1 - ask.rank)


# -- attention and recurrence ------------------------------------------------------------------------------------------
def _attention(ask: Ask) -> Bounds:
    """Every output is a mean of values, or 0 where all are masked; a past adds its own."""
    x = ask.input(2) if ask.input(2).axis != -2 else ask.input(2).whole()
    others = [ask.input(5).whole()] if ask.value(5) is not None else []
    zeros = [between(0.0, 0.0)] if ask.value(3) is not None else []
    return hull(x, *others, *zeros)


def _lstm(ask: Ask) -> Bounds:
    """o * tanh(c), with the default activations."""
    return between(-1.0, 1.0) if "activations" not in ask.node.attributes else EVERYTHING


def _mixed_state(ask: Ask) -> Bounds:
    """A mean of tanh and of the state before (GRU), or tanh (RNN); the state at the start counts."""
    if "activations" in ask.node.attributes:
        return EVERYTHING
    unit = between(-1.0, 1.0)
    return unit if ask.value(5) is None else hull(unit, ask.input(5).whole())


LAYERS: Mapping[tuple[str, str, int], Rule] = {
    ("", "Attention", 0): _attention,
    ("", "BatchNormalization", 0): _batch_norm,
    ("", "Conv", 0): _conv,
    ("", "ConvTranspose", 0): _conv_transpose,
    ("", "Gemm", 0): _gemm,
    ("", "InstanceNormalization", 0): _instance_norm,
    ("", "LayerNormalization", 0): _layer_norm,
    ("", "MatMul", 0): _matmul,
    ("", "RMSNormalization", 0): _layer_norm,
    **{("", "LSTM", i): _lstm for i in (0, 1)},
    **{("", op, i): _mixed_state for op in ("GRU", "RNN") for i in (0, 1)},
}
