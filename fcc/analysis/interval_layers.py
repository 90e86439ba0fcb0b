"""Between which numbers the results of layers, normalizations, attention and recurrent layers lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from .. import ir
from .interval_moves import is_padded
from .intervals import (
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

_SAMPLES = 12
_KEY = "fcc.sums"  # in the meta of a weight: the sums of its positive and of its negative entries per output


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

    Few of many weights are read where the input is not bounded: one positive and one negative weight of an output show
    that neither is the output.
    """
    out, inner, taps = array.shape
    low, high = (np.broadcast_to(end, (end.shape[0] if end.ndim == 2 else 1, inner)) for end in ends)
    groups = np.arange(out) // (out // len(low))
    finite = np.isfinite(low).all() and np.isfinite(high).all()
    if finite and ends[0].ndim == 0:
        found = _by_signs(_signs(ask, array), ends[0], ends[1])
    elif finite:
        found = _by_radius(array, low, high, groups)
        _refine(found, np.flatnonzero(_at_zero(found, array)), array, low, high, groups)
    else:
        found = _Sums(*(np.full(out, end) for end in (-np.inf, np.inf, np.inf, np.inf)))
        _refine(found, np.flatnonzero(~_unbounded(array, low, high, groups)), array, low, high, groups)
    wide = array.dtype == np.float64
    relative = (inner * taps + 1) * max(epsilon(ask.node.outputs[0].dtype), 0.0 if wide else epsilon(ir.DataType.FLOAT))
    total = [found.low + bias.low, found.high + bias.high]
    sizes = [found.low_size + np.abs(bias.low), found.high_size + np.abs(bias.high)]
    bounds = Bounds(*rounded(total[0], total[1], sizes[0], sizes[1], relative), axis)
    return EVERYTHING if bounds.is_open else bounds


def _signs(ask: Ask, array: Array) -> tuple[Array, Array]:
    """Return the sums of the positive and of the negative weights of every output, remembered with the weight."""
    weight, turned = ask.value(1), "transB" in ask.node.attributes
    assert weight is not None
    found: tuple[Array, Array] | None = None if turned else weight.meta.get(_KEY)
    if found is None:
        kind = np.float64 if array.dtype == np.float64 else np.float32
        sums = [f(array, 0).sum(axis=(1, 2), dtype=kind).astype(np.float64) for f in (np.maximum, np.minimum)]
        found = sums[0], sums[1]
        if not turned:
            weight.meta[_KEY] = found
    return found


def _by_signs(signs: tuple[Array, Array], low: Array, high: Array) -> _Sums:
    """Positive weights take the bound of their own side, negative ones that of the other."""
    positive, negative = signs
    ends = [(times(positive, a), times(negative, b)) for a, b in ((low, high), (high, low))]
    return _Sums(*(p + n for p, n in ends), *(np.abs(p) + np.abs(n) for p, n in ends))


@dataclass(frozen=True)
class _Sums:
    """The least and greatest sum of every output, and the sizes of what is added up for each."""

    low: Array
    high: Array
    low_size: Array
    high_size: Array


def _refine(found: _Sums, at: Array, array: Array, low: Array, high: Array, groups: Array) -> None:
    """Sum some of the outputs by the signs of their weights, input by input."""
    if at.size == 0:
        return
    kind = np.float64 if array.dtype == np.float64 else np.float32
    parts = [f(array[at], 0).sum(axis=2, dtype=kind).astype(np.float64) for f in (np.maximum, np.minimum)]
    for own, other, total, size in ((low, high, found.low, found.low_size), (high, low, found.high, found.high_size)):
        terms = [times(parts[0], own[groups[at]]), times(parts[1], other[groups[at]])]
        total[at] = terms[0].sum(axis=1) + terms[1].sum(axis=1)
        size[at] = np.abs(terms[0]).sum(axis=1) + np.abs(terms[1]).sum(axis=1)


def _by_radius(array: Array, low: Array, high: Array, groups: Array) -> _Sums:
    """w c - |w| r and w c + |w| r for x = c +- r: two products, read at the speed of memory."""
    kind = np.float64 if array.dtype == np.float64 else np.float32
    flat = array.reshape(len(array), -1).astype(kind, copy=False)
    middle, radius = ((high + low) / 2, (high - low) / 2)
    size = np.maximum(np.abs(low), np.abs(high))
    columns = [np.repeat(v, array.shape[2], axis=1).astype(kind) for v in (middle, radius, size)]
    parts = [flat, np.abs(flat)]
    at, spread, total = (_rows(parts[i], columns[k], groups) for i, k in ((0, 0), (1, 1), (1, 2)))
    ends = [np.asarray(end, np.float64) for end in (at - spread, at + spread, total)]
    return _Sums(ends[0], ends[1], ends[2], ends[2].copy())


def _rows(weights: Array, columns: Array, groups: Array) -> Array:
    """Return every row of the weights times the column of its group."""
    if len(columns) == 1:
        return np.asarray(weights @ columns[0])
    return np.asarray((weights * columns[groups]).sum(axis=1))


def _at_zero(found: _Sums, array: Array) -> Array:
    """Return the outputs of which a bound is 0 up to cancellation: summed by signs, it is exactly that."""
    slack = 4 * epsilon(ir.DataType.FLOAT) * array[0].size * found.low_size
    return np.asarray((np.abs(found.low) <= slack) | (np.abs(found.high) <= slack))


def _unbounded(array: Array, low: Array, high: Array, groups: Array) -> Array:
    """Return the outputs of which a few weights show that nothing bounds them on either side."""
    inner, taps = array.shape[1:]
    at = np.linspace(0, inner * taps - 1, min(_SAMPLES, inner * taps)).astype(int)
    some = array.reshape(len(array), -1)[:, at]
    down, up = (np.isinf(end)[groups][:, at // taps] for end in (low, high))
    falls, rises = (some > 0) & down | (some < 0) & up, (some > 0) & up | (some < 0) & down
    return np.asarray(falls.any(axis=1) & rises.any(axis=1))


def _optional(ask: Ask, index: int, absent: float) -> Bounds:
    return ask.input(index) if ask.value(index) is not None else between(absent, absent)


def sampled(ask: Ask) -> Bounds | None:
    """Return what the bounds of some outputs of a layer certainly include, from a few weights; None where that is open.

    Where the input may be 0, every further weight can only widen the bounds.
    """
    weight, x, node = _weight(ask), ask.input(0).whole(), ask.node
    scaled = any(node.attributes.get_float(k, 1.0) != 1.0 for k in ("alpha", "beta"))
    if weight is None or scaled or not x.least <= 0.0 <= x.greatest:
        return None
    stored_out_first: int = node.op_type == "Conv" or node.attributes.get_int("transB", 0)
    rows = weight.reshape(len(weight), -1) if stored_out_first else weight.T
    at = [np.linspace(0, n - 1, min(n, _SAMPLES)).astype(int) for n in rows.shape]
    some = rows[np.ix_(*at)].astype(np.float64)
    bias = _optional(ask, 2, 0.0) if node.op_type != "MatMul" else between(0.0, 0.0)
    ends = [times(some, end) for end in (x.low, x.high)]
    low, high = (choose(*ends).sum(axis=1) for choose in (np.minimum, np.maximum))
    added = [e if e.ndim == 0 else e[at[0]] for e in (bias.low, bias.high)]
    return Bounds(low + added[0], high + added[1], -1)


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
    ("", "Gemm", 0): _gemm,
    ("", "InstanceNormalization", 0): _instance_norm,
    ("", "LayerNormalization", 0): _layer_norm,
    ("", "MatMul", 0): _matmul,
    ("", "RMSNormalization", 0): _layer_norm,
    **{("", "LSTM", i): _lstm for i in (0, 1)},
    **{("", op, i): _mixed_state for op in ("GRU", "RNN") for i in (0, 1)},
}
