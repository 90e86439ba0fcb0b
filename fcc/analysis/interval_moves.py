"""Between which numbers tensors lie that are moved, cut, joined, pooled or reduced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import ir
from .bounds import EVERYTHING, Array, Ask, Bounds, Rule, between, combined, epsilon, hull, rounded
from .shapes import elements

Dims = tuple[ir.Dim | int | None, ...]


def _same(ask: Ask) -> Bounds:
    return ask.input(0)


def _scattered(ask: Ask) -> Bounds:
    """Data, or an update, at each place."""
    if ask.node.attributes.get_string("reduction", "none") != "none":
        return EVERYTHING
    return hull(ask.input(0).whole(), ask.input(2).whole())


def _dropout(ask: Ask) -> Bounds:
    """Nothing is dropped at inference."""
    training = ask.value(2)
    return ask.input(0) if training is None or ask.input(2).greatest == 0 else EVERYTHING


def _whole(ask: Ask) -> Bounds:
    return ask.input(0).whole()


def _integers(ask: Ask, index: int, attribute: str) -> list[int] | None:
    """Return a known integer operand, an attribute in older opsets; None where it is not known or absent."""
    value = ask.value(index)
    if value is None:
        return list(ask.node.attributes.get_ints(attribute, ())) or None
    found = elements(value)
    entries = None if found is None else found.reshape(-1).tolist()
    return entries if entries is not None and all(isinstance(e, int) for e in entries) else None


# -- axes --------------------------------------------------------------------------------------------------------------
def _moved(x: Bounds, axis: int) -> Bounds:
    return Bounds(x.low, x.high, axis)


def _transpose(ask: Ask) -> Bounds:
    x, rank = ask.input(0), ask.rank
    if x.axis is None or rank is None:
        return x.whole()
    perm = list(ask.node.attributes.get_ints("perm", ()) or range(rank)[::-1])
    return _moved(x, perm.index(x.axis + rank) - rank)


def _reshaped(ask: Ask) -> Bounds:
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of elements stays; channels may be split, or spread over more."""
    x = ask.input(0)
    before, after = ir.dims_of(ask.value(0)), ir.dims_of(ask.node.outputs[0])
    if x.axis is None or before is None or after is None:
        return x.whole()
    return regrouped(x, before, after) or x.whole()


def regrouped(x: Bounds, before: Dims, after: Dims) -> Bounds | None:
    """Return bounds per channel of a tensor in another shape, None where its axes mix the channels."""
    assert x.axis is not None
    size, behind = x.low.size, _size(before[len(before) + x.axis + 1 :])
    for axis, count in enumerate(after):
        rest = _size(after[axis + 1 :])
        if behind and rest and isinstance(count, int) and count * rest == size * behind:
            if behind % rest == 0:
                times = behind // rest
                return Bounds(np.repeat(x.low, times), np.repeat(x.high, times), axis - len(after))
            if rest % behind == 0:
                parts = (count, rest // behind)
                return Bounds(x.low.reshape(parts).min(1), x.high.reshape(parts).max(1), axis - len(after))
    return None


def _size(dims: Dims) -> int | None:
    return prod(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


# -- parts -------------------------------------------------------------------------------------------------------------
def _taken(x: Bounds, index: Any) -> Bounds:
    if x.axis is None:
        return x
    low, high = x.low[index], x.high[index]
    return Bounds(low, high, x.axis) if low.size else x.whole()


def _slice(ask: Ask) -> Bounds:
    x, rank = ask.input(0), ask.rank
    starts, ends = _integers(ask, 1, "starts"), _integers(ask, 2, "ends")
    if x.axis is None or rank is None or starts is None or ends is None:
        return x.whole()
    axes = _integers(ask, 3, "axes") or list(range(len(starts)))
    steps = _integers(ask, 4, "") or [1] * len(starts)
    if len({len(starts), len(ends), len(axes), len(steps)}) > 1:
        return x.whole()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis % rank == x.axis + rank:
            return _taken(x, slice(start, end, step)) if step > 0 else x.whole()
    return x


def _gather(ask: Ask) -> Bounds:
    """Slices of one axis by an index; what it takes of the channels is known where the index is."""
    x, rank, index = ask.input(0), ask.rank, ir.dims_of(ask.value(1))
    if x.axis is None or rank is None or index is None:
        return x.whole()
    axis = ask.node.attributes.get_int("axis", 0) % rank
    if axis != x.axis + rank:
        return x if axis < x.axis + rank else _moved(x, x.axis + 1 - len(index))
    chosen = _integers(ask, 1, "")
    if chosen is None or not all(-x.low.size <= i < x.low.size for i in chosen) or len(index) > 1:
        return x.whole()
    return _taken(x, chosen) if index else _taken(x, chosen).whole()


def _concat(ask: Ask) -> Bounds:
    dims = [ir.dims_of(v) for v in ask.node.inputs]
    parts = [ask.of(v) for v in ask.node.inputs]
    rank = None if not dims or dims[0] is None else len(dims[0])
    if rank is None:
        return hull(*(p.whole() for p in parts))
    axis = ask.node.attributes.get_int("axis", 0) % rank - rank
    sizes = [None if d is None or len(d) != rank else d[axis] for d in dims]
    if any(p.axis not in (None, axis) for p in parts) or not all(isinstance(s, int) for s in sizes):
        return hull(*parts)
    if all(p.axis is None and p.least == parts[0].least and p.greatest == parts[0].greatest for p in parts):
        return parts[0]
    known = [int(s) for s in sizes if isinstance(s, int)]
    if sum(known) > _MAX_CHANNELS:
        return hull(*(p.whole() for p in parts))
    columns = [(np.broadcast_to(p.low, n), np.broadcast_to(p.high, n)) for p, n in zip(parts, known, strict=True)]
    return Bounds(np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns]), axis)


_MAX_CHANNELS = 1 << 16


def _split(index: int) -> Rule:
    def rule(ask: Ask) -> Bounds:
        x, rank = ask.input(0), ask.rank
        if x.axis is None or rank is None:
            return x
        axis = ask.node.attributes.get_int("axis", 0) % rank
        if axis != x.axis + rank:
            return x
        sizes = [(ir.dims_of(v) or (None,) * rank)[axis] for v in ask.node.outputs[: index + 1]]
        if not all(isinstance(s, int) for s in sizes):
            return x.whole()
        known = [int(s) for s in sizes if isinstance(s, int)]
        return _taken(x, slice(sum(known[:-1]), sum(known)))

    return rule


def _pad(ask: Ask) -> Bounds:
    x, fill = ask.input(0), ask.input(2).whole() if ask.value(2) is not None else between(0.0, 0.0)
    return hull(x, fill) if ask.node.attributes.get_string("mode", "constant") == "constant" else x


# -- pools and reductions ----------------------------------------------------------------------------------------------
def is_padded(node: ir.Node) -> bool:
    """Return whether a convolution (or pooling) reads zeros around its input."""
    if node.attributes.get_string("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return any(p != 0 for p in node.attributes.get_ints("pads", None) or ())


def computes_padding(node: ir.Node) -> bool:
    """Return whether ``pads`` does not say how a convolution (or pooling) pads."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    return mode not in ("NOTSET", "VALID") or (mode == "VALID" and any(node.attributes.get_ints("pads", ())))


def _average(ask: Ask) -> Bounds:
    """An average of the window; runtimes disagree on what windows that leave the input count."""
    node, x = ask.node, ask.input(0)
    zeros = is_padded(node) and node.attributes.get_int("count_include_pad", 0) != 0
    beyond = node.attributes.get_int("ceil_mode", 0) != 0
    return _nudged(hull(x, between(0.0, 0.0)) if zeros or beyond else x, ask)


def _nudged(x: Bounds, ask: Ask) -> Bounds:
    """Return the bounds of a mean: between the extremes, up to rounding; of equal numbers, that number."""
    if np.array_equal(x.low, x.high):
        return x
    ends = rounded(x.low, x.high, np.abs(x.low), np.abs(x.high), 8 * epsilon(ask.node.outputs[0].dtype))
    return Bounds(*ends, x.axis)


def _resize(ask: Ask) -> Bounds:
    node, x = ask.node, ask.input(0)
    inside = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
    kept = inside and node.attributes.get_string("mode", "nearest") in ("nearest", "linear")
    return _nudged(x, ask) if kept else EVERYTHING


def _axes(ask: Ask) -> list[int] | None:
    """Return the axes that a reduction takes, counted from the end; None where they are not known."""
    rank = ask.rank
    if rank is None:
        return None
    given = ask.value(1) is not None or "axes" in ask.node.attributes
    axes = _integers(ask, 1, "axes") if given else list(range(rank))
    noop: int = ask.node.attributes.get_int("noop_with_empty_axes", 0)
    if not given and noop:
        return []
    return None if axes is None else [a % rank - rank for a in axes]


def _reduced(ask: Ask, x: Bounds) -> Bounds:
    """Return bounds that hold for a choice among the reduced elements, channels where their axis stays."""
    axes = _axes(ask)
    if x.axis is None or axes is None or x.axis in axes:
        return x.whole()
    keeps: int = ask.node.attributes.get_int("keepdims", 1)
    gone = 0 if keeps else sum(a > x.axis for a in axes)
    return _moved(x, x.axis + gone)


def _chosen(ask: Ask) -> Bounds:
    return _reduced(ask, ask.input(0))


def _reduce_mean(ask: Ask) -> Bounds:
    return _nudged(_reduced(ask, ask.input(0)), ask)


def _global_average(ask: Ask) -> Bounds:
    return _nudged(ask.input(0), ask)


def _count(ask: Ask) -> int | None:
    axes, dims = _axes(ask), ir.dims_of(ask.value(0))
    sizes: Sequence[Any] = [None] if axes is None or dims is None else [dims[a] for a in axes]
    return prod(sizes) if all(isinstance(s, int) for s in sizes) else None


def _reduce_sum(ask: Ask) -> Bounds:
    """n terms; how many is not known where a size is open, and there may be none."""
    x, n = _reduced(ask, ask.input(0)), _count(ask)
    if n is None:
        return combined(np.where(x.low < 0, -np.inf, 0.0), np.where(x.high > 0, np.inf, 0.0), x)
    low, high = (_times(end, n) for end in (x.low, x.high))
    return Bounds(*rounded(low, high, np.abs(low), np.abs(high), n * epsilon(ask.node.outputs[0].dtype)), x.axis)


def _times(end: Array, n: int) -> Array:
    return np.where(end == 0, 0.0, end * n) if n else np.zeros_like(end)


def _filled(ask: Ask) -> Bounds:
    fill = ask.node.attributes.get_tensor("value", None)
    number = 0.0 if fill is None else float(fill.numpy().reshape(-1)[0])
    return between(number, number)


def _range(ask: Ask) -> Bounds:
    """From start up to, and without, limit."""
    start, limit, delta = (ask.input(i) for i in range(3))
    return between(start.least, max(start.least, limit.greatest)) if delta.least > 0 else EVERYTHING


def _nonnegative(ask: Ask) -> Bounds:
    return between(0.0, np.inf)


_REARRANGING = ("Compress", "DepthToSpace", "GatherElements", "GatherND", "SpaceToDepth", "TopK")
MOVES: Mapping[tuple[str, str, int], Rule] = {
    **{("", op, 0): _same for op in ("Identity", "MaxPool", "GlobalMaxPool", "Expand", "Tile")},
    **{("", op, 0): _reshaped for op in ("Flatten", "Reshape", "Squeeze", "Unsqueeze")},
    **{
        ("", op, 0): _whole for op in ("DepthToSpace", "SpaceToDepth", "GatherElements", "GatherND", "TopK", "Compress")
    },
    **{("", op, 0): _chosen for op in ("ReduceMax", "ReduceMin")},
    **{("", op, 0): _nonnegative for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")},
    **{("", op, 0): _scattered for op in ("ScatterElements", "ScatterND", "Scatter")},
    **{("", "Split", i): _split(i) for i in range(64)},
    ("", "AveragePool", 0): _average,
    ("", "Concat", 0): _concat,
    ("", "ConstantOfShape", 0): _filled,
    ("", "Dropout", 0): _dropout,
    ("", "Gather", 0): _gather,
    ("", "GlobalAveragePool", 0): _global_average,
    ("", "NonZero", 0): lambda ask: between(0.0, 2.0**48),
    ("", "OneHot", 0): lambda ask: ask.input(2).whole(),
    ("", "Pad", 0): _pad,
    ("", "Range", 0): _range,
    ("", "ReduceMean", 0): _reduce_mean,
    ("", "ReduceSum", 0): _reduce_sum,
    ("", "Resize", 0): _resize,
    ("", "Slice", 0): _slice,
    ("", "Transpose", 0): _transpose,
    ("", "Trilu", 0): lambda ask: hull(ask.input(0).whole(), between(0.0, 0.0)),
}
