"""What Slice and Split take of an axis, as intervals of integers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

from fcc import ir

from ._operands import integers, present

OPEN = 2**63 - 1


@dataclass(frozen=True)
class Interval:
    """Elements start, start + step, ... below stop (OPEN: to the end); 0 <= start, 1 <= step; stop may lie beyond."""

    start: int
    stop: int
    step: int = 1

    def of(self, outer: Interval) -> Interval:
        """Return what ``outer`` takes of the elements that this interval takes."""
        start, stop = (self.start + bound * self.step for bound in (outer.start, outer.stop))
        return Interval(start, min(self.stop, stop), self.step * outer.step)


def slice_of(node: ir.Node) -> dict[int, Interval] | str:
    """Return axis -> interval of a Slice, or why it is not known for every size of the input."""
    x = node.inputs[0]
    dims = ir.dims_of(x)
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    if dims is None or starts is None or ends is None:
        return "the bounds or the rank are not known"
    axes = integers(node, 3, "axes") if present(node, 3, "axes") else list(range(len(starts)))
    steps = integers(node, 4, "steps") if present(node, 4) else [1] * len(starts)
    if axes is None or steps is None:
        return "the axes or steps are not known"
    if not len(axes) == len(starts) == len(ends) == len(steps):
        return "there are not as many bounds as axes"
    found: dict[int, Interval] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not all(isinstance(e, int) for e in (axis, start, end, step)):
            return "a bound depends on a symbol"
        if not -len(dims) <= axis < len(dims):
            return "an axis is none of the input"
        interval = _interval(start, end, step, dims[axis])
        if isinstance(interval, str):
            return interval
        found[axis % len(dims)] = interval
    return found


def _interval(start: int, end: int, step: int, size: ir.Dim | int | None) -> Interval | str:
    if step < 1:
        return "it goes backwards"
    if isinstance(size, int):
        low, high = (min(max(b + size if b < 0 else b, 0), size) for b in (start, end))
        return Interval(low, OPEN if high == size else high, step)
    if start < 0 or end < 0:
        return "a bound counts from the end of an axis of unknown size"
    return Interval(start, OPEN if end >= 2**31 - 1 else end, step)


def parts_of(node: ir.Node) -> tuple[int, list[int]] | None:
    """Return (axis, offsets with the end) of a Split with known sizes, or of a Concat of known ones."""
    values = node.outputs if node.op_type == "Split" else node.inputs
    sizes: list[int] = []
    rank = None
    for value in values:
        dims = ir.dims_of(value)
        axis = node.attributes.get_int("axis", 0)
        if dims is None or not -len(dims) <= axis < len(dims) or not isinstance(size := dims[axis], int):
            return None
        rank = len(dims)
        sizes.append(size)
    return None if rank is None else (node.attributes.get_int("axis", 0) % rank, [0, *accumulate(sizes)])


def pieces(node: ir.Node) -> tuple[ir.Value, int, int, int] | None:
    """Return (source, axis, start, stop) of a Slice that takes one range of one axis of a known size."""
    found = slice_of(node) if node.op_type == "Slice" and node.domain == "" else "no Slice"
    x = node.inputs[0] if node.inputs else None
    if isinstance(found, str) or len(found) != 1 or x is None:
        return None
    ((axis, interval),) = found.items()
    size = ir.known_dims(x)[axis]
    if interval.step != 1 or not isinstance(size, int):
        return None
    return x, axis, interval.start, max(interval.start, min(interval.stop, size))


def adjoin(ranges: list[tuple[int, int]], size: int) -> bool:
    """Return whether sorted ranges cover an axis of ``size`` without gap, overlap or empty range."""
    return (
        bool(ranges)
        and ranges[0][0] == 0
        and ranges[-1][1] == size
        and all(a[1] == b[0] for a, b in pairwise(ranges))
        and all(start < stop for start, stop in ranges)
    )
