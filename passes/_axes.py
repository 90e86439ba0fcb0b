"""Axes as products of factors: where the elements of a value come from, through Reshape, Transpose and their kind.

A Layout says of a value, over a source, of which factors each axis of both is made, in row-major order. Axes of size 1
have no factors. [B, S, N * H] seen as [B, N, S, H] is source (b)(s)(n h), axes (b)(n)(s)(h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.shape_rules import capped, is_capped
from fcc.analysis.shapes import elements

from ._chains import proves_shape
from ._intervals import parts_of, slice_of
from ._operands import small_constant
from ._permutations import permutation
from ._views import full_dims

Size = ir.Dim | int
Factors = tuple[int, ...]
_DEEPEST = 16


@dataclass(frozen=True)
class Layout:
    """``axes`` of a value by the factors of ``source`` axes; a factor that no source axis has is repeated.

    ``sizes`` holds the size of every factor; ``fixed`` those of which only one index is taken. All elements are
    multiplied by ``scale``. ``steps``: the two factors of a source axis that is taken in windows, which may overlap,
    each with the distance from one index to the next.
    """

    sizes: Mapping[int, Size]
    source: tuple[Factors, ...]
    axes: tuple[Factors, ...]
    fixed: Mapping[int, int]
    scale: float = 1.0
    steps: Mapping[int, int] = field(default_factory=dict)

    def size(self, factors: Sequence[int]) -> Size:
        """Return the product of the sizes of some factors."""
        total: Size = 1
        for f in factors:
            total = total * self.sizes[f]
        return total

    def repeats(self, factor: int) -> bool:
        """Return whether the elements are the same for every index of a factor."""
        return not any(factor in axis for axis in self.source)

    def split(self, factor: int, outer: Size, inner: Size) -> tuple[Layout, int, int]:
        """Return the layout with one factor as two, and their names."""
        a = max(self.sizes) + 1
        sizes = {**{f: s for f, s in self.sizes.items() if f != factor}, a: outer, a + 1: inner}
        source, axes = (
            tuple(tuple(g for f in axis for g in ((a, a + 1) if f == factor else (f,))) for axis in side)
            for side in (self.source, self.axes)
        )
        return replace(self, sizes=sizes, source=source, axes=axes), a, a + 1


def same_size(d: Size, size: Size) -> bool:
    """Return whether d is ``size``, or is that wherever it meets it: what a slice [0:size] takes of a longer axis."""
    return d == size or (is_capped(d, size) and d != capped(1, size))


def layout_of(dims: Sequence[Size]) -> Layout:
    """Return the layout of a value over itself."""
    axes = tuple(() if d == 1 else (i,) for i, d in enumerate(dims))
    return Layout({i: d for i, d in enumerate(dims) if d != 1}, axes, axes, {})


def layouts(value: ir.Value) -> Iterator[tuple[ir.Value, Layout, tuple[ir.Node, ...]]]:
    """Yield (source, layout of the value over it, nodes between, last first): the value itself, then further back.

    A product with a scalar constant is gone through like what lays out anew.
    """
    dims = full_dims(value)
    chain: list[tuple[ir.Node, ir.Value]] = []
    if dims is None or 0 in dims:
        return
    yield value, layout_of(dims), ()
    while len(chain) < _DEEPEST:
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in _STEPS:
            return
        source = node.inputs[0] if node.op_type != "Mul" or number(node.inputs[0]) is None else node.inputs[1]
        if source is None:
            return
        chain.append((node, value))
        value = source
        found = _along(value, chain)
        if found is None:
            return
        yield value, found, tuple(n for n, _ in chain)


def _along(source: ir.Value, chain: Sequence[tuple[ir.Node, ir.Value]]) -> Layout | None:
    dims = full_dims(source)
    if dims is None or 0 in dims:
        return None
    found: Layout | None = layout_of(dims)
    for node, value in reversed(chain):
        found = None if found is None else step(found, node, value)
    return found


def step(layout: Layout, node: ir.Node, value: ir.Value) -> Layout | None:
    """Return the layout of a result of a node over the source of that of its input, None when it has none."""
    rule, dims = _STEPS.get(node.op_type), full_dims(value)
    if node.domain != "" or rule is None or dims is None or 0 in dims:
        return None
    return rule(layout, node, value, dims)


def reshaped(layout: Layout, dims: Sequence[Size]) -> Layout | None:
    """Return the layout with the same elements in the same order as other axes; splits factors where it must."""
    queue = [f for axis in layout.axes for f in axis]
    axes: list[list[int]] = []
    for left in dims:
        axis: list[int] = []
        while left != 1:
            if not queue:
                return None
            rest = ir.exact_div(left, layout.sizes[queue[0]])
            if rest is None:
                inner = ir.exact_div(layout.sizes[queue[0]], left)
                if inner is None:
                    return None
                layout, a, b = layout.split(queue[0], left, inner)
                queue[:1], rest = [a, b], 1
            axis.append(queue.pop(0))
            left = rest
        axes.append(axis)
    return replace(layout, axes=tuple(map(tuple, axes))) if not queue else None


def _reshape(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    return reshaped(layout, dims) if proves_shape(node) else None


def _transpose(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    perm = permutation(node)
    return (
        None
        if perm is None or len(perm) != len(layout.axes)
        else replace(layout, axes=tuple(layout.axes[p] for p in perm))
    )


def _expand(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    if elements(node.inputs[1]) is None:
        return None
    lead = len(dims) - len(layout.axes)
    axes, sizes = [(), *[()] * (lead - 1), *layout.axes] if lead else list(layout.axes), dict(layout.sizes)
    for i, d in enumerate(dims):
        if not axes[i] and d != 1:
            name = max(sizes, default=-1) + 1
            axes[i], sizes[name] = (name,), d
        elif layout.size(axes[i]) != d:
            return None
    return replace(layout, axes=tuple(axes), sizes=sizes)


def _tile(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    repeats = elements(node.inputs[1])
    if repeats is None or repeats.size != len(layout.axes):
        return None
    axes, sizes = list(layout.axes), dict(layout.sizes)
    for i, r in enumerate(repeats.reshape(-1).tolist()):
        if r != 1:
            name = max(sizes, default=-1) + 1
            axes[i], sizes[name] = (name, *axes[i]), r
    return replace(layout, axes=tuple(axes), sizes=sizes)


def _gather(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    """Take one index of an axis, or windows of it."""
    index, axis = elements(node.inputs[1]), node.attributes.get_int("axis", 0) % len(layout.axes)
    if index is not None and index.ndim == 2:
        return _windows(layout, index, axis)
    if index is None or index.size != 1 or index.ndim > 1 or not isinstance(index.item(), int):
        return None
    found = _fixed(layout, axis, index.item())
    if found is None or index.ndim == 1:
        return found
    return replace(found, axes=(*found.axes[:axis], *found.axes[axis + 1 :]))


def _windows(layout: Layout, index: np.ndarray[Any, Any], axis: int) -> Layout | None:
    """Gather(x, i) with i[a, b] = a * s + b * t of a whole axis of the source, as im2col is written."""
    factors, (rows, columns) = layout.axes[axis], index.shape
    if len(factors) != 1 or factors not in layout.source or min(rows, columns) < 2 or index.dtype == object:
        return None
    down, along = int(index[1, 0]), int(index[0, 1])
    want = np.arange(rows)[:, None] * down + np.arange(columns) * along
    if not np.array_equal(index, want) or min(down, along) < 1:
        return None
    found, a, b = layout.split(factors[0], rows, columns)
    at = next(i for i, axis_ in enumerate(found.axes) if axis_ == (a, b))
    axes = (*found.axes[:at], (a,), (b,), *found.axes[at + 1 :])
    return replace(found, axes=axes, steps={**layout.steps, a: down, b: along})


def _space_to_depth(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    block = node.attributes.get_int("blocksize", 1)
    batch, channels, height, width = (layout.size(axis) for axis in layout.axes)
    rows, columns = (ir.exact_div(n, block) for n in (height, width))
    if rows is None or columns is None:
        return None
    found = reshaped(layout, (batch, channels, rows, block, columns, block))
    if found is None:
        return None
    b, c, y, dy, x, dx = found.axes
    return replace(found, axes=(b, (*dy, *dx, *c), y, x))


def _split(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    found = parts_of(node)
    if found is None:
        return None
    axis, offsets = found
    at = node.outputs.index(value)
    return _part(layout, axis, offsets[at], offsets[at + 1] - offsets[at], 1)


def _slice(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    found = slice_of(node)
    if isinstance(found, str) or len(found) != 1:
        return None
    ((axis, interval),) = found.items()
    size = dims[axis]
    return _part(layout, axis, interval.start, size, interval.step) if isinstance(size, int) else None


def _part(layout: Layout, axis: int, start: int, count: int, step: int) -> Layout | None:
    """Take one of several ranges of one length, or every step-th element: one index of an outer, or inner, factor."""
    size = layout.size(layout.axes[axis])
    if not isinstance(size, int) or count < 1 or size % count or (start % count if step == 1 else start >= step):
        return None
    parts = size // count
    if step not in (1, parts):
        return None
    sizes = [layout.size(a) for a in layout.axes]
    found = reshaped(layout, [*sizes[:axis], *((parts, count) if step == 1 else (count, parts)), *sizes[axis + 1 :]])
    at = axis if step == 1 else axis + 1
    found = None if found is None else _fixed(found, at, start // count if step == 1 else start)
    return None if found is None else replace(found, axes=(*found.axes[:at], *found.axes[at + 1 :]))


def _factor(layout: Layout, node: ir.Node, value: ir.Value, dims: tuple[Size, ...]) -> Layout | None:
    """x * c, c * x, x / c for a finite scalar c other than 0."""
    factor = number(node.inputs[1])
    if factor is None and node.op_type == "Mul":
        factor = number(node.inputs[0])
    if not factor or not isfinite(factor) or len(dims) != len(layout.axes):
        return None
    return replace(layout, scale=layout.scale * (factor if node.op_type == "Mul" else 1 / factor))


def number(value: ir.Value | None) -> float | None:
    """Return the only element of a constant of floats."""
    array = small_constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind in "fV" else None


def _fixed(layout: Layout, axis: int, index: int) -> Layout | None:
    """Return the layout with one index of an axis, which then has size 1; all its factors have known sizes."""
    factors = layout.axes[axis]
    sizes = [s for f in factors if isinstance(s := layout.sizes[f], int)]
    if len(sizes) != len(factors):
        return None
    index %= prod(sizes)
    fixed = dict(layout.fixed)
    for f, s in zip(reversed(factors), reversed(sizes), strict=True):
        fixed[f], index = index % s, index // s
    return replace(layout, axes=(*layout.axes[:axis], (), *layout.axes[axis + 1 :]), fixed=fixed)


Step = Callable[[Layout, ir.Node, ir.Value, tuple[Size, ...]], Layout | None]
_STEPS: dict[str, Step] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Div", "Mul"), _factor),
    "Expand": _expand,
    "Gather": _gather,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
}
MOVERS = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""What keeps all elements, each once."""
