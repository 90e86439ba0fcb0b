"""Tables of cosines and sines that hold every number twice, made again with half of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._axes import layout_of, layouts, number, step
from ._operands import integers, present
from ._rearrange import Rearrangement, rearrangement
from ._views import full_dims

Make = Callable[[Rewriter], ir.Value]
_DEEPEST = 12
_LARGEST = 1 << 24


def halved(value: ir.Value | None, interleaved: bool, depth: int = 0) -> Make | None:
    """Return how to make a value with half of its last axis, or None where that is not known to say it all.

    The halves are equal, or, ``interleaved``, each number follows itself.
    """
    dims = full_dims(value)
    if value is None or dims is None or depth > _DEEPEST or not dims or not isinstance(dims[-1], int) or dims[-1] % 2:
        return None
    if ir.Module.is_constant(value):
        return _constant(value, dims[-1], interleaved)
    node = value.producer()
    rule = None if node is None or node.domain != "" else _RULES.get(node.op_type)
    found = None if node is None or rule is None else rule(node, interleaved, depth + 1)
    return found or _repeated(value, interleaved)


def _constant(value: ir.Value, width: int, interleaved: bool) -> Make | None:
    array = ir.Module.constant(value)
    if array is None or array.size > _LARGEST:
        return None
    half = width // 2
    first, second = (array[..., ::2], array[..., 1::2]) if interleaved else (array[..., :half], array[..., half:])
    return (lambda rw: rw.const(np.ascontiguousarray(first))) if np.array_equal(first, second) else None


def _joined(node: ir.Node, interleaved: bool, depth: int) -> Make | None:
    """Concat(f, f)."""
    dims, first = ir.known_dims(node.outputs[0]), node.inputs[0]
    last = node.attributes.get_int("axis", 0) in (-1, len(dims) - 1)
    if interleaved or first is None or not last or list(node.inputs) != [first, first]:
        return None
    return lambda rw: first


def _repeated(value: ir.Value, interleaved: bool) -> Make | None:
    """What an Expand or a Tile, and a Reshape, make twice as wide."""
    best: Rearrangement | None = None
    for source, layout, _ in layouts(value):
        last = layout.axes[-1]
        twice = [f for f in last if layout.repeats(f)]
        rest = tuple(f for f in last if f not in twice)
        if layout.scale != 1.0 or len(twice) != 1 or layout.sizes[twice[0]] != 2:
            continue
        made = rearrangement(source, layout, (*layout.axes[:-1], rest))
        fits = last == ((*rest, twice[0]) if interleaved else (twice[0], *rest))
        if made is not None and fits and (best is None or made.cost < best.cost):
            best = made
    return None if best is None else best.emit


def _elementwise(node: ir.Node, interleaved: bool, depth: int) -> Make | None:
    """f(x), or x times a number."""
    for i, value in enumerate(node.inputs):
        others = [v for j, v in enumerate(node.inputs) if j != i]
        inner = halved(value, interleaved, depth) if all(number(v) is not None for v in others) else None
        if inner is not None:
            return _with_input(node, i, inner)
    return None


def _with_input(node: ir.Node, index: int, inner: Make) -> Make:
    """Return how to make the node's result from another input."""

    def make(rw: Rewriter) -> ir.Value:
        made: ir.Value = rw.like(node, *(inner(rw) if j == index else v for j, v in enumerate(node.inputs)))
        return made

    return make


def _rows(node: ir.Node, interleaved: bool, depth: int) -> Make | None:
    """What leaves the last axis alone."""
    rank = len(ir.known_dims(node.inputs[0]))
    inner = halved(node.inputs[0], interleaved, depth) if rank > 1 and _KEEP_LAST[node.op_type](node, rank) else None
    return None if inner is None else _with_input(node, 0, inner)


def _slice_keeps(node: ir.Node, rank: int) -> bool:
    axes = integers(node, 3, "axes") if present(node, 3, "axes") else None
    return axes is not None and all(isinstance(a, int) and a % rank != rank - 1 for a in axes)


_KEEP_LAST: Mapping[str, Callable[[ir.Node, int], bool]] = {
    "Gather": lambda node, rank: node.attributes.get_int("axis", 0) % rank != rank - 1,
    "GatherND": lambda node, rank: (
        not node.attributes.get_int("batch_dims", 0) and (ir.dims_of(node.inputs[1]) or (0,))[-1] == 1
    ),
    "Slice": _slice_keeps,
    "Transpose": lambda node, rank: list(node.attributes.get_ints("perm", ()))[-1:] == [rank - 1],
}


def _moved(node: ir.Node, interleaved: bool, depth: int) -> Make | None:
    """A Reshape, Squeeze or Unsqueeze in front of the last axis."""
    dims, inner = full_dims(node.inputs[0]), halved(node.inputs[0], interleaved, depth)
    layout = None if dims is None or 0 in dims else step(layout_of(dims), node, node.outputs[0])
    if inner is None or layout is None or layout.axes[-1] != layout.source[-1]:
        return None
    last = layout.axes[-1]
    if len(last) != 1 or not isinstance(size := layout.sizes[last[0]], int):
        return None
    half = replace(layout, sizes={**layout.sizes, last[0]: size // 2})
    made = rearrangement(node.outputs[0], half, half.axes)
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return _with_input(node, 0, inner)
    return None if made is None else lambda rw: made.emit(rw, inner(rw))


_RULES: Mapping[str, Callable[[ir.Node, bool, int], Make | None]] = {
    **dict.fromkeys(("Cast", "Cos", "Div", "Mul", "Neg", "Sin"), _elementwise),
    **dict.fromkeys(_KEEP_LAST, _rows),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _moved),
    "Concat": _joined,
}
