"""Which integers a tensor can hold, by the operators that made it: the domain of an index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcc import ir

from ._operands import small_constant

Bounds = tuple[int, int]
_DEPTH = 32
_SAME = frozenset(
    {"Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)


def bounds(value: ir.Value | None, depth: int = 0) -> Bounds | None:
    """Return (lowest, highest) integer that a tensor can hold, None when nothing bounds it or it is not integer.

    Bounds hold for every element of every run; a narrow integer type bounds itself.
    """
    if value is None or value.dtype is None or not (value.dtype.is_integer() or value.dtype == ir.DataType.BOOL):
        return None
    own = (0, 1) if value.dtype == ir.DataType.BOOL else _type_bounds(value.dtype)
    if ir.Module.is_constant(value):
        array = small_constant(value)
        return own if array is None or array.size == 0 else (int(array.min()), int(array.max()))
    node = value.producer()
    if node is None or node.domain != "" or depth == _DEPTH:
        return own
    rule = _RULES.get(node.op_type)
    return _tighter(None if rule is None else rule(node, depth + 1), own)


def _type_bounds(dtype: ir.DataType) -> Bounds | None:
    """Return the range of an integer type of at most 16 bits; that of a wider one is no news."""
    if dtype.itemsize > 2:
        return None
    info = np.iinfo(dtype.numpy())
    return int(info.min), int(info.max)


def _tighter(a: Bounds | None, b: Bounds | None) -> Bounds | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a[0], b[0]), min(a[1], b[1])


def _same(node: ir.Node, depth: int) -> Bounds | None:
    return bounds(node.inputs[0], depth)


def _cast(node: ir.Node, depth: int) -> Bounds | None:
    """A conversion between integers keeps what fits the result; one from floats is bounded by nothing."""
    found = bounds(node.inputs[0], depth)
    dtype = node.outputs[0].dtype
    if found is None or dtype is None or dtype == ir.DataType.BOOL:
        return None
    info = np.iinfo(dtype.numpy())
    return found if info.min <= found[0] and found[1] <= info.max else None


def _clip(node: ir.Node, depth: int) -> Bounds | None:
    """min(max(x, low), high): a bound that is absent leaves that side to x."""
    low, high = (node.inputs[i] if i < len(node.inputs) else None for i in (1, 2))
    limits = [None if v is None else small_constant(v) for v in (low, high)]
    if any(v is not None and (a is None or a.size != 1) for v, a in zip((low, high), limits, strict=True)):
        return None
    x = bounds(node.inputs[0], depth)
    if x is None and (limits[0] is None or limits[1] is None):
        return None
    start, end = x or (int(limits[0].item()), int(limits[1].item()))  # type: ignore[union-attr]
    for limit, choose in zip(limits, (max, min), strict=True):
        if limit is not None:
            start, end = choose(start, int(limit.item())), choose(end, int(limit.item()))
    return start, end


def _position(node: ir.Node, depth: int) -> Bounds | None:
    """ArgMax, ArgMin: a position on the axis."""
    dims, axis = ir.dims_of(node.inputs[0]), node.attributes.get_int("axis", 0)
    size = None if not dims else dims[axis]
    return (0, size - 1) if isinstance(size, int) and size > 0 else None


def _mod(node: ir.Node, depth: int) -> Bounds | None:
    """x mod m has the sign of m."""
    divisor = small_constant(node.inputs[1])
    if node.attributes.get_int("fmod", 0) or divisor is None or divisor.size != 1 or int(divisor.item()) < 1:
        return None
    return 0, int(divisor.item()) - 1


def _where(node: ir.Node, depth: int) -> Bounds | None:
    a, b = bounds(node.inputs[1], depth), bounds(node.inputs[2], depth)
    return None if a is None or b is None else (min(a[0], b[0]), max(a[1], b[1]))


_RULES: dict[str, Callable[[ir.Node, int], Bounds | None]] = {
    **dict.fromkeys(_SAME, _same),
    "ArgMax": _position,
    "ArgMin": _position,
    "Cast": _cast,
    "Clip": _clip,
    "Mod": _mod,
    "Where": _where,
}
