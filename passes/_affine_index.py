"""Integer tensors whose elements are affine in their coordinates: offset + sum of stride * coordinate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis import shapes

from ._operands import small_constant

Size = ir.Dim | int
_DEPTH = 32
_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64})


@dataclass(frozen=True)
class Index:
    """value[i, j, ...] = offset + strides[0] * i + strides[1] * j + ...; the stride of an axis of size 1 is 0."""

    offset: Size
    strides: tuple[Size, ...]


def index_of(value: ir.Value | None, depth: int = _DEPTH) -> Index | None:
    """Return the affine form of an integer tensor of known dims, None where there is none."""
    dims = ir.dims_of(value)
    if value is None or dims is None or None in dims or value.dtype not in _INTEGERS or depth == 0:
        return None
    array = small_constant(value)
    if array is not None:
        return _of_array(array)
    node = value.producer()
    if node is None or node.domain != "":
        return None
    rule = _RULES.get(node.op_type)
    found = rule(node, depth - 1) if rule is not None else None
    if found is None:
        return None
    return Index(found.offset, tuple(0 if d == 1 else s for s, d in zip(found.strides, dims, strict=True)))


def enumerates(index: Index, dims: tuple[Any, ...]) -> bool:
    """Return whether a tensor of these dims holds 0, 1, 2, ... in row-major order."""
    expected: Size = 1
    for size, stride in zip(reversed(dims), reversed(index.strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected = expected * size
    return index.offset == 0


def _of_array(array: np.ndarray[Any, Any]) -> Index | None:
    if array.size == 0:
        return None
    first = int(array.reshape(-1)[0])
    expected = np.full(array.shape, first, np.int64)
    strides = []
    for axis, size in enumerate(array.shape):
        line = np.moveaxis(array, axis, 0).reshape(size, -1)[:, 0].astype(np.int64)
        stride = int(line[1] - line[0]) if size > 1 else 0
        strides.append(stride)
        expected += stride * np.arange(size).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    return Index(first, tuple(strides)) if np.array_equal(expected, array) else None


def _range(node: ir.Node, depth: int) -> Index | None:
    start, delta = _scalar(node.inputs[0]), _scalar(node.inputs[2])
    return None if start is None or delta is None else Index(start, (delta,))


def _scalar(value: ir.Value | None) -> Size | None:
    found = shapes.elements(value)
    if found is None or found.size != 1:
        return None
    element = found.reshape(-1).tolist()[0]
    return element if isinstance(element, ir.Dim) else int(element)


def _view(node: ir.Node, depth: int) -> Index | None:
    """Axes of size 1 come and go."""
    found = index_of(node.inputs[0], depth)
    before, after = ir.known_dims(node.inputs[0]), ir.known_dims(node.outputs[0])
    if found is None or [d for d in before if d != 1] != [d for d in after if d != 1]:
        return None
    strides = iter(s for s, d in zip(found.strides, before, strict=True) if d != 1)
    return Index(found.offset, tuple(0 if d == 1 else next(strides) for d in after))


def _mul(node: ir.Node, depth: int) -> Index | None:
    for value, other in (node.inputs, reversed(node.inputs)):
        factor, found = _scalar(other), index_of(value, depth)
        if factor is not None and found is not None and len(found.strides) == len(ir.known_dims(node.outputs[0])):
            return Index(found.offset * factor, tuple(s * factor for s in found.strides))
    return None


def _add(node: ir.Node, depth: int) -> Index | None:
    out = ir.known_dims(node.outputs[0])
    found = [index_of(v, depth) for v in node.inputs]
    if found[0] is None or found[1] is None or not all(_fits(ir.known_dims(v), out) for v in node.inputs):
        return None
    a, b = ((0,) * (len(out) - len(f.strides)) + f.strides for f in found if f is not None)
    return Index(found[0].offset + found[1].offset, tuple(x + y for x, y in zip(a, b, strict=True)))


def _fits(dims: tuple[Any, ...], out: tuple[Any, ...]) -> bool:
    """Return whether every axis is the result's, or repeated along it: a symbol that may be 1 is neither."""
    return all(d in (1, o) for d, o in zip(reversed(dims), reversed(out), strict=False))


def _same(node: ir.Node, depth: int) -> Index | None:
    return index_of(node.inputs[0], depth)


_RULES: dict[str, Callable[[ir.Node, int], Index | None]] = {
    "Range": _range,
    "Reshape": _view,
    "Unsqueeze": _view,
    "Squeeze": _view,
    "Flatten": _view,
    "Mul": _mul,
    "Add": _add,
    "Cast": _same,
    "Identity": _same,
}
