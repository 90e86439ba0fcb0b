"""Masks that hold one number on and below a diagonal and another above it: causal masks, however they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.evaluate import evaluate

from ._axes import Size
from ._operands import integers, present, small_constant
from ._views import full_dims

_FOUND = "fcc.triangle"
_LARGEST = 1 << 24
_DEEPEST = 16
_ELEMENTWISE = frozenset(
    {"Add", "And", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Neg", "Not", "Or"}
    | {"Sub", "Where"}
)
_LAID_OUT = frozenset({"Expand", "Reshape", "Squeeze", "Unsqueeze"})
_COMPARED: Mapping[str, tuple[bool, int]] = {
    "LessOrEqual": (True, 0), "Less": (True, -1), "Greater": (False, 0), "GreaterOrEqual": (False, -1)
}  # fmt: skip
"""(what holds on and below the diagonal, its shift) for column ? row."""
_MIRRORED = {"LessOrEqual": "GreaterOrEqual", "Less": "Greater", "Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


@dataclass(frozen=True)
class Triangle:
    """t[..., i, j] is ``inside`` where j <= i + ``diagonal``, else ``outside``; of ``rows`` by ``columns``.

    Without a diagonal both are the same number everywhere.
    """

    inside: Any
    outside: Any
    diagonal: Size | None = None
    rows: Size = 1
    columns: Size = 1


def triangle(value: ir.Value | None, depth: int = 0) -> Triangle | None:
    """Return the triangle that a value is, of rank 2 or above, or None."""
    if value is None or depth > _DEEPEST:
        return None
    if ir.Module.is_constant(value):
        if _FOUND not in value.meta:
            value.meta[_FOUND] = _constant(value)
        found: Triangle | None = value.meta[_FOUND]
        return found
    node = value.producer()
    if node is None or node.domain != "" or not node.inputs:
        return None
    if node.op_type == "ConstantOfShape":
        return _uniform(_filling(node))
    if node.op_type == "Trilu":
        return _trilu(node, depth)
    if node.op_type == "Slice":
        return _slice(node, triangle(node.inputs[0], depth + 1))
    if node.op_type in _LAID_OUT:
        return _laid_out(value, node.inputs[0], triangle(node.inputs[0], depth + 1))
    if node.op_type in _ELEMENTWISE:
        return _compared(node) or _elementwise(node, value, depth)
    return None


def _uniform(number: Any) -> Triangle | None:
    return None if number is None else Triangle(number, number)


def _constant(value: ir.Value) -> Triangle | None:
    size = shapes.static_size(value)
    if size is None or not 0 < size <= _LARGEST or isinstance(value.const_value, ir.LazyTensor):
        return None
    array = ir.Module.constant(value)
    if array is None or array.dtype.kind in "OSU":
        return None
    if array.ndim < 2 or (array == array.flat[0]).all():
        return _uniform(array.flat[0]) if (array == array.flat[0]).all() else None
    planes = array.reshape(-1, *array.shape[-2:])
    inside, outside = planes[0, -1, 0], planes[0, 0, -1]
    diagonal = int((planes[0, 0] == inside).sum()) - 1
    rows, columns = array.shape[-2:]
    same = (planes == np.where(np.tri(rows, columns, diagonal, dtype=bool), inside, outside)).all()
    return Triangle(inside, outside, diagonal, rows, columns) if same else None


def _filling(node: ir.Node) -> Any:
    given = node.attributes.get("value")
    return np.float32(0) if given is None else given.value.numpy().reshape(-1)[0]


def _trilu(node: ir.Node, depth: int) -> Triangle | None:
    """Trilu keeps a uniform number on one side, and writes 0 on the other."""
    x, dims = triangle(node.inputs[0], depth + 1), full_dims(node.inputs[0])
    k = small_constant(node.inputs[1]) if present(node, 1) else np.zeros((), np.int64)
    if x is None or x.diagonal is not None or dims is None or k is None or k.size != 1:
        return None
    zero = np.zeros_like(x.inside)
    if node.attributes.get_int("upper", 1):
        return Triangle(zero, x.inside, int(k.item()) - 1, *dims[-2:])
    return Triangle(x.inside, zero, int(k.item()), *dims[-2:])


def _slice(node: ir.Node, x: Triangle | None) -> Triangle | None:
    """Rows and columns from a start on: the diagonal moves."""
    dims = ir.dims_of(node.inputs[0])
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    if x is None or x.diagonal is None or dims is None or starts is None or ends is None:
        return x if x is not None and x.diagonal is None else None
    axes = integers(node, 3, "axes") if present(node, 3, "axes") else list(range(len(starts)))
    steps = integers(node, 4, "steps") if present(node, 4) else [1] * len(starts)
    if axes is None or steps is None or any(s != 1 for s in steps):
        return None
    for axis, start, end in zip(axes, starts, ends, strict=True):
        place = axis % len(dims) - len(dims)
        if not ir.at_least(start, 0) or (isinstance(end, int) and end < 0):
            return None
        size = x.rows if place == -2 else x.columns
        stop = size if isinstance(end, int) and (not isinstance(size, int) or end > size) else end
        if place == -2:
            x = replace(x, diagonal=x.diagonal + start, rows=stop - start)
        elif place == -1:
            x = replace(x, diagonal=x.diagonal - start, columns=stop - start)
    return x


def _laid_out(value: ir.Value, source: ir.Value | None, x: Triangle | None) -> Triangle | None:
    """The last two axes stay what they are."""
    if x is None or x.diagonal is None:
        return x
    before, after = full_dims(source), full_dims(value)
    same = before is not None and after is not None and before[-2:] == after[-2:] and len(after) > 1
    return x if same else None


def _elementwise(node: ir.Node, value: ir.Value, depth: int) -> Triangle | None:
    """What an operator makes of the number inside, and of the number outside."""
    operands = [triangle(v, depth + 1) for v in node.inputs]
    shaped = [t for t in operands if t is not None and t.diagonal is not None]
    known = [t for t in operands if t is not None]
    if len(known) != len(operands) or any(_place(t) != _place(shaped[0]) for t in shaped):
        return None
    found = evaluate(node, [np.stack([t.inside, t.outside]) for t in known], 21)
    if found is None:
        return None
    inside, outside = found[0]
    return replace(shaped[0], inside=inside, outside=outside) if shaped else _uniform(inside)


def _place(x: Triangle) -> tuple[Size | None, Size, Size]:
    return x.diagonal, x.rows, x.columns


# -- comparisons of positions ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Positions:
    """start, start + 1, ... along the last axis, or along the last but one if ``down``; ``count`` of them."""

    start: Size
    count: Size
    down: bool


def _compared(node: ir.Node) -> Triangle | None:
    """Column <= row, and what is like it."""
    if node.op_type not in _COMPARED:
        return None
    a, b = (_positions(v, 0) for v in node.inputs)
    if a is None or b is None or a.down == b.down:
        return None
    column, row, op_type = (b, a, _MIRRORED[node.op_type]) if a.down else (a, b, node.op_type)
    holds, shift = _COMPARED[op_type]
    diagonal = row.start - column.start + shift
    return Triangle(np.bool_(holds), np.bool_(not holds), diagonal, row.count, column.count)


def _positions(value: ir.Value | None, depth: int) -> _Positions | None:
    node = None if value is None else value.producer()
    dims = full_dims(value)
    if node is None or node.domain != "" or dims is None or depth > _DEEPEST:
        return None
    if node.op_type == "Range":
        start, limit, step = (shapes.elements(v) for v in node.inputs)
        if start is None or limit is None or step is None or step.item() != 1:
            return None
        return _Positions(start.item(), limit.item() - start.item(), False)
    if node.op_type == "Cast":
        return _positions(node.inputs[0], depth + 1)
    if node.op_type in ("Add", "Sub"):
        x, moved = _positions(node.inputs[0], depth + 1), shapes.elements(node.inputs[1])
        if x is None or moved is None or moved.size != 1:
            return None
        shift = moved.reshape(-1)[0]
        return replace(x, start=x.start + (shift if node.op_type == "Add" else -shift))
    if node.op_type not in _LAID_OUT:
        return None
    x = _positions(node.inputs[0], depth + 1)
    if x is None or any(d != 1 for d in dims[:-2]):
        return None
    if dims[-1] == x.count:
        return replace(x, down=False) if dims[-2:-1] in ((), (1,)) else None
    return replace(x, down=True) if dims[-2:] == (x.count, 1) else None
