"""Two operators in a row that are one, or none. Each rule takes the inner and the outer node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from fcc import ir
from fcc.analysis.shapes import elements

from ._lossless import bypasses
from ._no_op_layout import Found, first
from ._operands import integers, present, small_constant
from ._targets import reshape_entries

Rule = Callable[[ir.Node, ir.Node], Found]


def _involution(inner: ir.Node, outer: ir.Node) -> Found:
    """f(f(x)) = x."""
    return first(inner)


def _idempotent(inner: ir.Node, outer: ir.Node) -> Found:
    """f(f(x)) = f(x)."""
    return inner.outputs[0]


def _transpose(inner: ir.Node, outer: ir.Node) -> Found:
    dims = ir.dims_of(first(inner))
    rank = len(inner.attributes.get_ints("perm", ()) or outer.attributes.get_ints("perm", ()) or dims or ())
    if not rank:
        return first(inner) if dims == () else "the rank is not known"
    back = tuple(reversed(range(rank)))
    p, q = (tuple(n.attributes.get_ints("perm", back)) for n in (inner, outer))
    if not len(p) == len(q) == (rank if dims is None else len(dims)):
        return "a permutation is of another rank"
    perm = [p[i] for i in q]
    if perm == sorted(perm):
        return first(inner)
    return lambda rw: rw.op("Transpose", first(inner), perm=perm)


def _cast(inner: ir.Node, outer: ir.Node) -> Found:
    x, middle, target = first(inner), inner.outputs[0].dtype, outer.outputs[0].dtype
    if x.dtype is None or middle is None or target is None:
        return "a type is not known"
    if not bypasses(x.dtype, middle, target):
        return f"{middle} does not keep every value of {x.dtype}, or decides how it becomes {target}"
    if target == x.dtype:
        return x
    return lambda rw: rw.op("Cast", x, to=int(target))


def _reshape(inner: ir.Node, outer: ir.Node) -> Found:
    """Two of Reshape, Flatten, Squeeze, Unsqueeze: the order of elements stays, only the last shape counts."""
    x, out = first(inner), ir.dims_of(outer.outputs[0])
    source = ir.dims_of(x)
    if not all(proves_shape(n) for n in (inner, outer)) or out is None or None in out:
        return "the shape is not known"
    if source == out:
        return x
    target = integers(outer, 1, "shape") if outer.op_type == "Reshape" else None
    copies = target is None or (0 in target and not outer.attributes.get_int("allowzero", 0))
    if target is not None and not copies and not any(isinstance(t, ir.Dim) for t in target):
        return lambda rw: rw.like(outer, x, outer.inputs[1])
    dims = [d for d in out if d is not None]
    if 0 in dims:
        return "a dimension is 0"
    entries = reshape_entries(source, dims, False)
    if isinstance(entries, str):
        return entries
    return lambda rw: rw.op("Reshape", x, np.asarray(entries, dtype=np.int64))


def proves_shape(node: ir.Node) -> bool:
    """Return whether the shape of the result follows from the shape of the input, not from a declaration."""
    if node.op_type == "Reshape":
        return elements(node.inputs[1]) is not None
    if node.op_type == "Squeeze" and not present(node, 1, "axes"):
        return all(isinstance(d, int) for d in ir.dims_of(first(node)) or (None,))
    return node.op_type == "Flatten" or integers(node, 1, "axes") is not None


def _clamp(inner: ir.Node, outer: ir.Node) -> Found:
    """Clamps with ordered bounds compose: [a, b] then [c, d] is [clamp(a, c, d), clamp(b, c, d)]."""
    if first(inner).dtype is None or first(outer).dtype is None:
        return "a type is not known"
    before, after = _bounds(inner), _bounds(outer)
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    merged = tuple(min(max(bound, after[0]), after[1]) for bound in before)
    if merged == before:
        return inner.outputs[0]
    x, (lowest, highest) = first(inner), _limits(inner)
    kind = x.dtype.numpy() if x.dtype is not None else None
    low = None if merged[0] == lowest else np.asarray(merged[0], kind)
    high = None if merged[1] == highest else np.asarray(merged[1], kind)
    return lambda rw: rw.op("Clip", x, *((low,) if high is None else (low, high)))


def _bounds(node: ir.Node) -> tuple[Any, Any] | str:
    lowest, highest = _limits(node)
    if node.op_type == "Relu":
        return type(lowest)(0), float("inf") if isinstance(lowest, float) else highest
    if "min" in node.attributes or "max" in node.attributes:
        return "the bounds are attributes (opset below 11)"
    found = []
    for index, default in ((1, lowest), (2, highest)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = small_constant(value)
        if value is not None and (array is None or array.size != 1):
            return "a bound is not constant"
        found.append(default if array is None else type(lowest)(array.reshape(-1)[0]))
    low, high = found
    return (low, high) if low <= high else "the bounds are not ordered"


def _limits(node: ir.Node) -> tuple[Any, Any]:
    """Return the bounds that Clip takes for absent ones: the smallest and largest finite numbers of the type."""
    dtype = first(node).dtype
    assert dtype is not None
    if dtype.is_floating_point():
        floats: Any = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
        return float(floats.min), float(floats.max)
    integers_of = np.iinfo(dtype.numpy())
    return int(integers_of.min), int(integers_of.max)


def _turned_twice(inner: ir.Node, outer: ir.Node) -> Found:
    """Slices that take all of one axis backwards."""
    axes = [_turns(n) for n in (inner, outer)]
    return first(inner) if axes[0] is not None and axes[0] == axes[1] else "they do not turn one axis over twice"


def _turns(node: ir.Node) -> int | None:
    """Return the only axis that a Slice takes all of, the last element first."""
    dims, given = ir.dims_of(first(node)), [integers(node, i, "") for i in range(1, 5)]
    if not dims or any(g is None or len(g) != 1 for g in given):
        return None
    start, end, axis, step = (g[0] for g in given if g is not None)
    if not all(isinstance(e, int) for e in (start, end, axis, step)) or step != -1:
        return None
    size = dims[axis]
    last = start == -1 or start >= _BEYOND or (isinstance(size, int) and start >= size - 1)
    return axis % len(dims) if last and (end <= -_BEYOND or (isinstance(size, int) and end < -size)) else None


_BEYOND = 2**31 - 1  # no axis is as long
_RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
CHAINS: dict[tuple[str, str], Rule] = {
    **{(f, f): _idempotent for f in ("Abs", "Ceil", "Floor", "Relu", "Round", "Sign")},
    **{(f, f): _involution for f in ("Neg", "Not")},
    **{(f, g): _reshape for f in _RESHAPES for g in _RESHAPES},
    ("Cast", "Cast"): _cast,
    ("Clip", "Clip"): _clamp,
    ("Clip", "Relu"): _clamp,
    ("Relu", "Clip"): _clamp,
    ("Slice", "Slice"): _turned_twice,
    ("Transpose", "Transpose"): _transpose,
}
