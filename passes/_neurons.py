"""Which neurons of a layer a rewrite can do without: exact tests on weights, cheap where there is nothing to find."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.channel_rules import Cut
from fcc.analysis.channel_values import Known, along, is_padded, propagate
from fcc.analysis.channels import End, Flow, Layer, positions
from fcc.analysis.linear import linear_of
from fcc.compress.prune import constant_rows, duplicate_rows

Array = np.ndarray[Any, Any]
SAMPLES = 8
NONNEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Abs", "Exp", "HardSigmoid", "Softplus"})
KEEPS_SIGN = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Reshape", "Transpose", "Squeeze"}
    | {"Unsqueeze", "Identity", "Gather", "Slice"}
)


@dataclass(frozen=True)
class Plan:
    """Which channels stay, which go because no end needs them, and which go because another one equals them.

    ``needless`` and ``merged`` are disjoint and hold what goes; ``representative`` names, per channel, the one it is
    merged into; ``known`` holds, per end, the constants that it must add to its bias.
    """

    flow: Flow
    keep: Array
    needless: Array
    merged: Array
    representative: Array
    known: dict[End, Known]

    @property
    def removed(self) -> int:
        """Number of channels that go."""
        return int(self.needless.size + self.merged.size)

    def __bool__(self) -> bool:
        return self.removed > 0


def aligned(found: Plan, block: int) -> Plan:
    """Return the plan that removes only a multiple of ``block`` channels; duplicates are spared first."""
    allowed = found.removed // block * block
    if allowed == found.removed:
        return found
    needless, merged = found.needless[:allowed], found.merged[: max(0, allowed - found.needless.size)]
    own = np.arange(found.flow.source.channels)
    goes = np.isin(own, np.concatenate([needless, merged]))
    representative = np.where(np.isin(own, merged), found.representative, own)
    return replace(found, keep=own[~goes], needless=needless, merged=merged, representative=representative)


def plan(flow: Flow, opset: int) -> Plan:
    """Decide which output channels of the source of a flow can go: every end must agree.

    An end does without a channel that holds a constant its bias can take, or that its weights ignore (all zero).
    Channels with equal weights, bias and operands on the way are duplicates. One channel always stays. All weights
    are read only of channels whose samples are suspicious.
    """
    channels = flow.source.channels
    known = propagate(flow, _start(flow.source), opset)
    needless = np.ones(channels, bool)
    for end in flow.ends:
        found = known[end.value]
        constant = found.mask & ((found.value == 0) | _takes_constants(end))
        rest = np.flatnonzero(~constant & np.repeat(needless, end.block))
        ignored = np.zeros(constant.size, bool)
        ignored[rest[zero_slices(_array(end.cut), end.cut.axis, rest)]] = True
        needless &= (constant | ignored).reshape(channels, end.block).all(axis=1)
    _spare_infinite(flow, needless)
    representative = _representatives(flow, needless)
    if needless.all():
        needless[0] = False
    own = np.arange(channels)
    merged = ~needless & (representative != own)
    ends = {end: known[end.value] for end in flow.ends}
    return Plan(flow, own[~needless & ~merged], own[needless], own[merged], representative, ends)


def _spare_infinite(flow: Flow, needless: Array) -> None:
    """A channel computed with NaN or infinity spreads it, even through weights that are zero."""
    for cut in flow.cuts:
        found = np.flatnonzero(needless)
        rows = _rows(cut, found)
        needless[found[~np.isfinite(rows.astype(np.float64)).all(axis=1)]] = False


def _rows(cut: Cut, channels: Array) -> Array:
    """Return what an operand holds for these channels, [channels, entries]."""
    rows = np.moveaxis(_array(cut), cut.axis, 0)[positions(channels, cut.block)]
    return rows.reshape(channels.size, -1) if channels.size else np.zeros((0, 1))


def _array(cut: Cut) -> Array:
    array = ir.Module.constant(cut.value)
    assert array is not None
    return array


# -- what the source computes ----------------------------------------------------------------------------------------
def _start(layer: Layer) -> Known:
    """Return which outputs of a layer are constant (zero weights), and which are <= 0 for inputs >= 0."""
    weight = ir.Module.constant(layer.weight)
    assert weight is not None
    size = layer.channels
    value, uniform = np.zeros(size), np.ones(size, bool)
    bias = ir.Module.constant(layer.bias) if layer.bias is not None else None
    if bias is not None and layer.node.op_type == "Gemm":
        value, uniform = along(bias, layer.axis, 2, size)
        value = value * layer.node.attributes.get_float("beta", 1.0)
    elif bias is not None:
        value = bias.astype(np.float64)
    mask = np.zeros(size, bool)
    mask[zero_slices(weight, layer.out_axis, np.arange(size))] = True
    return Known(mask & uniform, value, uniform & (value <= 0) & _nonpositive(layer, weight))


def _nonpositive(layer: Layer, weight: Array) -> Array:
    """Return which outputs cannot be positive because the input is >= 0 and their weights are <= 0."""
    found = np.zeros(layer.channels, bool)
    if layer.node.attributes.get_float("alpha", 1.0) >= 0 and _is_nonnegative(layer.node.inputs[0]):
        rows = np.moveaxis(weight, layer.out_axis, 0)
        suspects = np.flatnonzero((_sample(weight, layer.out_axis) <= 0).all(axis=1))
        found[suspects] = (rows[suspects] <= 0).all(axis=tuple(range(1, rows.ndim)))
    return found


def _is_nonnegative(value: ir.Value | None) -> bool:
    while value is not None:
        node = value.producer()
        if node is None or node.domain or value.index() != 0:
            return False
        if node.op_type in NONNEGATIVE:
            return True
        if node.op_type not in KEEPS_SIGN:
            return False
        value = node.inputs[0]
    return False


# -- weights ---------------------------------------------------------------------------------------------------------
def _sample(array: Array, axis: int) -> Array:
    """Return a few entries of every slice along ``axis``, [slices, samples]."""
    rows = np.moveaxis(array, axis, 0)
    size = int(np.prod(rows.shape[1:]))
    at = np.linspace(0, max(size - 1, 0), min(SAMPLES, size)).astype(np.int64)
    if rows.ndim == 1:
        return rows[:, None]
    index: tuple[Any, ...] = (slice(None), *np.unravel_index(at, rows.shape[1:]))
    return np.asarray(rows[index])


def zero_slices(array: Array, axis: int, among: Array) -> Array:
    """Return the indices into ``among`` of the slices along ``axis`` that are all zero."""
    if among.size == 0:
        return among
    suspects = np.flatnonzero((_sample(array, axis)[among] == 0).all(axis=1))
    if suspects.size == 0:
        return suspects
    return suspects[constant_rows(np.take(np.moveaxis(array, axis, 0), among[suspects], axis=0))]


def _representatives(flow: Flow, needless: Array) -> Array:
    """Return, per channel, the first channel with equal operands everywhere on the way (itself when it is needless)."""
    channels = flow.source.channels
    own = np.arange(channels)
    rest = np.flatnonzero(~needless)
    samples = [_sample(_array(cut), cut.axis).reshape(channels, -1)[rest].astype(np.float64) for cut in flow.cuts]
    outline = np.ascontiguousarray(np.concatenate(samples, axis=1) + 0.0)
    keys = outline.view(np.dtype((np.void, outline.dtype.itemsize * outline.shape[1]))).reshape(-1)
    _, group, count = np.unique(keys, return_inverse=True, return_counts=True)
    suspects = rest[count[group.reshape(-1)] > 1]
    if suspects.size == 0:
        return own
    found = np.zeros(suspects.size, np.intp)
    for cut in flow.cuts:
        found = duplicate_rows(np.stack([found, duplicate_rows(_rows(cut, suspects))], axis=1))
    own[suspects] = suspects[found]
    return own


# -- what an end can take over ---------------------------------------------------------------------------------------
def _takes_constants(end: End) -> bool:
    """Return whether the end can add constant channels to its bias: nothing is padded, the bias is a constant row."""
    node = end.layer.node
    if node.op_type == "ConvTranspose" or (node.op_type == "Conv" and is_padded(node)):
        return False
    if node.op_type == "MatMul":
        return True
    return end.layer.bias is None or (ir.Module.is_constant(end.layer.bias) and is_row(end.layer.bias))


def is_row(value: ir.Value) -> bool:
    """Return whether all but the last axis have length 1."""
    return all(d == 1 for d in (ir.dims_of(value) or ())[:-1])


def bias_of(end: End) -> tuple[ir.Node, int] | None:
    """Return the node and input that add a constant row to the product of an end, None when there is none."""
    if end.layer.node.op_type != "MatMul":
        return (end.layer.node, 2)
    linear = linear_of(end.layer.node)
    if isinstance(linear, str) or linear.bias is None or linear.nodes[1].graph is not end.layer.node.graph:
        return None
    return linear.nodes[1], list(linear.nodes[1].inputs).index(linear.bias)


def contribution(end: End, known: Known, needless: Array) -> Array:
    """Return what these constant channels add to every output of an end, in float64 (alpha not applied)."""
    at = positions(needless, end.block)
    at = at[known.mask[at] & (known.value[at] != 0)]
    if at.size == 0:
        return np.zeros(end.layer.channels)
    axes = (end.layer.in_axis, end.layer.out_axis)
    weight = np.moveaxis(np.take(_array(end.cut), at, axis=axes[0]).astype(np.float64), axes, (0, 1))
    return np.asarray(np.einsum("p,pm->m", known.value[at], weight.reshape(*weight.shape[:2], -1).sum(axis=2)))


def merged_weight(end: End, plan: Plan) -> Array:
    """Return the weight of an end without the channels that go, those of duplicates added in float64, rounded once."""
    array, axis = _array(end.cut), end.layer.in_axis
    kept = np.take(array, positions(plan.keep, end.block), axis=axis)
    if plan.merged.size == 0:
        return kept
    rows = np.moveaxis(array, axis, 0)
    targets = np.searchsorted(plan.keep, plan.representative[plan.merged])
    changed = np.unique(targets)
    sums = rows[positions(plan.keep[changed], end.block)].astype(np.float64)
    places = positions(np.searchsorted(changed, targets), end.block)
    np.add.at(sums, places, rows[positions(plan.merged, end.block)].astype(np.float64))
    np.moveaxis(kept, axis, 0)[positions(changed, end.block)] = sums.astype(array.dtype)
    return kept
