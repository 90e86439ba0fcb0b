"""The fewest nodes that bring the elements of a value into other axes: Slice, Reshape, Transpose, Reshape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._axes import Factors, Layout, Size
from ._targets import reshape_entries

Axes = Sequence[Factors]
Steps = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Rearrangement:
    """``source``, one range of some axes of it, then ``steps``: entries of a Reshape or the axes of a Transpose.

    What it gives lacks the factor ``scale``.
    """

    source: ir.Value
    slices: tuple[tuple[int, int, int], ...]
    steps: Steps
    scale: float = 1.0

    @property
    def cost(self) -> tuple[int, int]:
        """The number of nodes that move elements, and of all nodes."""
        moves = len(self.slices) + sum(kind == "Transpose" for kind, _ in self.steps)
        return moves, len(self.slices) + len(self.steps)

    def emit(self, rw: Rewriter, source: ir.Value | None = None) -> ir.Value:
        """Return the source, or a value that takes its place, in its new axes."""
        made: ir.Value = self.source if source is None else source
        for axis, start, stop in self.slices:
            made = rw.op("Slice", made, *(np.asarray([n], np.int64) for n in (start, stop, axis)))
        for kind, numbers in self.steps:
            if kind == "Reshape":
                made = rw.op("Reshape", made, np.asarray(numbers, np.int64))
            else:
                made = rw.op("Transpose", made, perm=numbers)
        return made


def rearrangement(source: ir.Value, layout: Layout, want: Axes) -> Rearrangement | None:
    """Return how to bring the factors of a source into other axes; None when it takes more than a range of each axis.

    A Reshape must be writable in constant numbers, for every value of the symbols.
    """
    if layout.steps:
        return None
    axes: list[Factors] = []
    slices: list[tuple[int, int, int]] = []
    for i, factors in enumerate(layout.source):
        fixed = [f for f in factors if f in layout.fixed]
        rest = factors[len(fixed) :]
        if tuple(fixed) != factors[: len(fixed)]:
            return None
        if fixed:
            start, size = 0, layout.size(rest)
            for f in fixed:
                length = layout.sizes[f]
                if not isinstance(length, int):
                    return None
                start = start * length + layout.fixed[f]
            if not isinstance(size, int):
                return None
            slices.append((i, start * size, (start + 1) * size))
        axes.append(rest)
    if sorted(f for a in axes for f in a) != sorted(f for a in want for f in a):
        return None
    steps = _steps(layout, axes, [tuple(a) for a in want])
    return None if steps is None else Rearrangement(source, tuple(slices), steps, layout.scale)


def _steps(layout: Layout, have: list[Factors], want: list[Factors]) -> Steps | None:
    """Return the fewest steps from one list of axes to another of the same factors."""
    before, after = ([f for a in side for f in a] for side in (have, want))
    if before == after:
        return _reshaped(layout, have, want)
    options = [_through(layout, have, want, groups) for groups in _groups(have, want, before, after)]
    return min((o for o in options if o is not None), key=len, default=None)


def _groups(have: list[Factors], want: list[Factors], before: list[int], after: list[int]) -> Iterable[list[Factors]]:
    """Yield axes that a Transpose may move: those there are, those that are wanted, and the longest common runs."""
    if all(_adjoin(a, after) for a in have):
        yield have
    if all(_adjoin(a, before) for a in want):
        order = sorted((a for a in want if a), key=lambda a: before.index(a[0]))
        yield [order.pop(0) if a else () for a in want]
    runs: list[list[int]] = [[before[0]]]
    for a, b in pairwise(before):
        at = after.index(a)
        if after[at + 1 : at + 2] == [b]:
            runs[-1].append(b)
        else:
            runs.append([b])
    yield [tuple(r) for r in runs]


def _adjoin(axis: Factors, order: list[int]) -> bool:
    """Return whether the factors of an axis follow each other in an order."""
    at = order.index(axis[0]) if axis else 0
    return tuple(order[at : at + len(axis)]) == axis


def _through(layout: Layout, have: list[Factors], want: list[Factors], groups: list[Factors]) -> Steps | None:
    """Return the steps that move these groups."""
    after = [f for a in want for f in a]
    moved = sorted((g for g in groups if g), key=lambda g: after.index(g[0]))
    spare = [i for i, g in enumerate(groups) if not g]
    order: list[int] = []
    for i, axis in enumerate(want):
        if not axis and spare and len(groups) == len(want):
            order.append(spare.pop(0))
        while axis and moved and after.index(moved[0][0]) < _end(want, i):
            order.append(groups.index(moved.pop(0)))
    order += spare
    first = _reshaped(layout, have, groups)
    last = _reshaped(layout, [groups[i] for i in order], want)
    if first is None or last is None:
        return None
    turn = (("Transpose", tuple(order)),) if order != sorted(order) else ()
    return (*first, *turn, *last)


def _end(want: list[Factors], i: int) -> int:
    return sum(len(a) for a in want[: i + 1])


def _reshaped(layout: Layout, have: Axes, want: Axes) -> Steps | None:
    """Return the Reshape between two groupings of the same order of factors, none where they agree."""
    a, b = ([layout.size(axis) for axis in side] for side in (have, want))
    if a == b:
        return ()
    found = entries(a, b)
    return None if found is None else (("Reshape", tuple(found)),)


def entries(source: Sequence[Size], target: Sequence[Size]) -> list[int] | None:
    """Return the constant entries of a Reshape, None where there are none."""
    found = reshape_entries(source, target, False)
    return None if isinstance(found, str) else found


def counted(size: ir.Dim, near: ir.Value, rw: Rewriter) -> ir.Value:
    """Return a size as an entry of a shape, read from an input of the model that has it, else from a value near."""
    value = next(v for v in (*rw.module.graph.inputs, near) if size in ir.known_dims(v))
    axis = ir.known_dims(value).index(size)
    entry: ir.Value = rw.op("Shape", value, start=axis, end=axis + 1)
    return entry
