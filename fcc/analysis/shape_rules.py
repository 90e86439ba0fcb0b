"""Output dimensions of operators whose result depends on contents or on sums and products of symbols.

Each rule takes the node, the dims of its inputs and the known elements of its inputs, and returns dims or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import ir
from ..ir.dims import exact_div

Known = ir.Dim | int | None
Dims = tuple[Known, ...]
Contents = Sequence[np.ndarray[Any, Any] | None]
Rule = Callable[[ir.Node, Sequence[Dims | None], Contents], Dims | None]


_CAPPED = re.compile(r"min\((\d+),.*\)")
_IMPOSSIBLE = 2**44  # elements: no machine holds such a tensor


def product(dims: Iterable[Known]) -> Known:
    """Return the product of dims, None when one is unknown."""
    total: ir.Dim | int = 1
    for d in dims:
        if d is None:
            return None
        total = d * total
    return total


def _flat(contents: np.ndarray[Any, Any] | None) -> list[Any] | None:
    if contents is None:
        return None
    return [x if isinstance(x, ir.Dim) else int(x) for x in contents.reshape(-1).tolist()]


def reshape_dims(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    """Reshape-14: 0 copies (unless allowzero), -1 takes what is left."""
    source, target = dims[0], _flat(contents[1])
    if target is None:
        return None
    copy = not node.attributes.get_int("allowzero", 0)
    out: list[Known] = []
    for i, d in enumerate(target):
        copied = copy and isinstance(d, int) and d == 0
        out.append((source[i] if source is not None and i < len(source) else None) if copied else d)
    if -1 in out:
        at = out.index(-1)
        total = None if source is None else product(source)
        rest = product(d for i, d in enumerate(out) if i != at)
        left = None if total is None or rest is None else exact_div(total, rest)
        out[at] = left
    return tuple(out)


def broadcast(a: Dims, b: Dims) -> Dims:
    """Return the multidirectional broadcast of two shapes; None where symbols do not decide."""
    n = max(len(a), len(b))
    left = (1,) * (n - len(a)) + a
    right = (1,) * (n - len(b)) + b
    out: list[Known] = []
    for p, q in zip(left, right, strict=True):
        if p == q:
            out.append(p)
        elif isinstance(p, int) and p == 1:
            out.append(q)
        elif (isinstance(q, int) and q == 1) or (isinstance(p, int) and p > 1) or is_capped(q, p):
            out.append(p)
        elif is_capped(p, q):
            out.append(q)
        else:
            out.append(q if isinstance(q, int) and q > 1 else None)
    return tuple(out)


def broadcast_dims(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    """Elementwise operators: the broadcast of all operands."""
    shapes = [d for d in dims if d is not None]
    if len(shapes) != len(dims) or any(None in d for d in shapes):
        return None
    out: Dims = ()
    for i, shape in enumerate(shapes):
        out = broadcast(out, shape) if i else shape
        if None in out:
            return None
    return out


def capped(limit: int, d: ir.Dim | int) -> ir.Dim | int:
    """Return min(limit, d), an opaque symbol: what a slice [0:d] takes of an axis of size ``limit``."""
    if isinstance(d, int):
        return min(limit, d)
    return ir.Dim.symbol(f"min({limit},{d})".replace(" ", "").replace("+", "_p_").replace("*", "_x_"))


def is_capped(q: Known, p: Known) -> bool:
    """Return whether q is min(k, p) with k > 0: broadcast with p, that gives p (or fails at run time)."""
    if not isinstance(q, ir.Dim) or not isinstance(p, ir.Dim):
        return False
    limit = _CAPPED.fullmatch(str(q))
    return limit is not None and q == capped(int(limit[1]), p)


def _expand(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    target = _flat(contents[1])
    return None if target is None or dims[0] is None else broadcast(dims[0], tuple(target))


def _constant_of_shape(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    target = _flat(contents[0])
    return None if target is None else tuple(target)


def _tile(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    repeats = _flat(contents[1])
    if repeats is None or dims[0] is None or len(repeats) != len(dims[0]):
        return None
    return tuple(None if d is None else r * d for d, r in zip(dims[0], repeats, strict=True))


def _concat(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    known = [d for d in dims if d is not None]
    if len(known) != len(dims) or len({len(d) for d in known}) != 1:
        return None
    axis = node.attributes.get_int("axis", 0) % len(known[0])
    total: Known = 0
    for d in known:
        size = d[axis]
        total = None if total is None or size is None else size + total
    merged = []
    for i in range(len(known[0])):
        column = [d[i] for d in known]
        fixed = next((c for c in column if isinstance(c, int)), column[0])
        merged.append(total if i == axis else fixed)
    return tuple(merged)


def _flatten(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    if dims[0] is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    axis = axis + len(dims[0]) if axis < 0 else axis
    return product(dims[0][:axis]), product(dims[0][axis:])


def _pad(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    pads = _flat(contents[1]) if len(contents) > 1 else None
    if pads is None or dims[0] is None or (len(contents) > 3 and node.inputs[3] is not None):
        return None
    n = len(dims[0])
    if len(pads) != 2 * n:
        return None
    return tuple(None if d is None else d + (pads[i + n] + pads[i]) for i, d in enumerate(dims[0]))


def _range(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    parts = [_flat(c) for c in contents]
    if any(p is None or len(p) != 1 for p in parts):
        return None
    start, limit, delta = (p[0] for p in parts if p is not None)
    if not isinstance(delta, int) or delta != 1 or not isinstance(start, int | ir.Dim) or not isinstance(limit, ir.Dim):
        return None
    count = limit - start
    return (count,) if ir.at_least(count, 0) else None


def reaches_end(end: Known, dims: Dims, axis: int) -> bool:
    """Return whether an index is at or beyond the end of an axis: by its size, or since no tensor is that large.

    Exporters write "to the end" as the largest int32 or int64, or as 10^9.
    """
    size = dims[axis]
    if size is not None and end is not None and ir.at_least(end - size, 0):
        return True
    others = prod(d for i, d in enumerate(dims) if i != axis and isinstance(d, int))
    return isinstance(end, int) and (end >= 2**31 - 1 or end * others >= _IMPOSSIBLE)


def _slice(node: ir.Node, dims: Sequence[Dims | None], contents: Contents) -> Dims | None:
    """Keep a symbol that a slice takes whole: [0:] up to a bound no size reaches, or up to the size itself."""
    if dims[0] is None or len(contents) < 3:
        return None
    starts, ends = _flat(contents[1]), _flat(contents[2])
    count = len(starts or ends or ())
    axes = _flat(contents[3]) if len(contents) > 3 and node.inputs[3] is not None else list(range(count)) or None
    steps = _flat(contents[4]) if len(contents) > 4 and node.inputs[4] is not None else [1] * len(axes or ())
    if axes is None:
        return None
    out = list(dims[0])
    if starts is None or ends is None or steps is None:
        return tuple(None if i in [a % len(out) for a in axes] else d for i, d in enumerate(out))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = out[axis]
        whole = step == 1 and start == 0 and reaches_end(end, dims[0], axis % len(out))
        if isinstance(size, int) and all(isinstance(x, int) for x in (start, end, step)):
            out[axis] = _taken(start, end, step, size)
        elif not whole:
            taken = start == 0 and step == 1 and isinstance(size, int) and size > 0 and ir.at_least(end, 0)
            out[axis] = capped(size, end) if taken and isinstance(size, int) else None
    return tuple(out)


def _taken(start: int, end: int, step: int, size: int) -> int:
    """Return how many elements a slice takes: Slice-13 clamps a start below the axis to 0, for negative steps too."""
    start, end = (x + size if x < 0 else x for x in (start, end))
    if step > 0:
        return len(range(min(max(start, 0), size), min(max(end, 0), size), step))
    return len(range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)) if size else 0


def recurrent_dims(node: ir.Node, dims: Sequence[Dims | None]) -> list[Dims] | None:
    """Return the dims of Y, Y_h, Y_c of LSTM, GRU, RNN: D directions, B rows, H units of x [T, B, I] (layout 0)."""
    x, r = dims[0], dims[2] if len(dims) > 2 else None
    if x is None or len(x) != 3:
        return None
    directions = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    hidden: Known = node.attributes.get_int("hidden_size", 0) or (r[2] if r is not None and len(r) == 3 else None)
    if node.attributes.get_int("layout", 0):
        state: Dims = (x[0], directions, hidden)
        return [(x[0], x[1], directions, hidden), state, state]
    state = (directions, x[1], hidden)
    return [(x[0], directions, x[1], hidden), state, state]


RECURRENT = frozenset({"LSTM", "GRU", "RNN"})

BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Where", "PRelu"}
    | {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}
)
DATA_DEPENDENT: dict[str, Rule] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": _range,
    "Reshape": reshape_dims,
    "Slice": _slice,
    "Tile": _tile,
}
