"""Images whose blocks were moved into the channels: which pixel of a block each channel holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir

from ._attention import producer
from ._axes import Factors, Layout, layouts
from ._intervals import slice_of
from ._views import full_dims

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blocks:
    """Channel j is channel ``channel[j]`` of ``x`` at the pixel (``row[j]``, ``column[j]``) of every block.

    ``size``: rows and columns of a block.
    """

    x: ir.Value
    size: tuple[int, int]
    channel: Array
    row: Array
    column: Array

    def is_whole(self, channels: int) -> bool:
        """Return whether every channel of every pixel is there, once."""
        seen = set(zip(self.channel.tolist(), self.row.tolist(), self.column.tolist(), strict=True))
        return len(seen) == len(self.channel) == channels * self.size[0] * self.size[1]


def blocks_of(value: ir.Value) -> Blocks | None:
    """Return the image in whose channels the blocks of another lie: by layout, or by a Concat of strided slices."""
    concat = producer(value, "Concat")
    if concat is not None:
        return _sliced(concat)
    for source, layout, _ in layouts(value):
        found = _laid_out(source, layout)
        if found is not None:
            return found
    return None


def _laid_out(source: ir.Value, layout: Layout) -> Blocks | None:
    if len(layout.source) != 4 or len(layout.axes) != 4 or layout.fixed or layout.steps or layout.scale != 1.0:
        return None
    (batch, channels, rows, columns), (own, inside, down, along) = layout.source, layout.axes
    if own != batch or not down or not along or rows[:1] != down or columns[:1] != along:
        return None
    parts = (channels, rows[1:], columns[1:])
    if sorted(f for p in parts for f in p) != sorted(inside) or not (parts[1] or parts[2]):
        return None
    index = [index_of(layout, p, inside) for p in parts]
    if index[0] is None or index[1] is None or index[2] is None:
        return None
    block = [layout.size(p) for p in parts[1:]]
    assert isinstance(block[0], int)
    assert isinstance(block[1], int)
    return Blocks(source, (block[0], block[1]), index[0], index[1], index[2])


def index_of(layout: Layout, part: Factors, inside: Factors) -> Array | None:
    """Return the index along some factors of each element of an axis made of more factors, of known sizes."""
    sizes = [s for f in inside if isinstance(s := layout.sizes[f], int)]
    if len(sizes) != len(inside):
        return None
    grid = np.indices(sizes).reshape(len(sizes), -1)
    found = np.zeros(int(np.prod(sizes)), np.int64)
    for f in part:
        at = inside.index(f)
        found = found * sizes[at] + grid[at]
    return found


def _sliced(concat: ir.Node) -> Blocks | None:
    """Concat(x[.., a::s, b::t], ..) along the channels."""
    if concat.attributes.get_int("axis", 0) not in (1, -3):
        return None
    taken = [_piece(v) for v in concat.inputs]
    known = [t for t in taken if t is not None]
    if len(known) != len(taken) or any(t[0] is not known[0][0] or t[1] != known[0][1] for t in known):
        return None
    x, size = known[0][:2]
    dims = full_dims(x)
    if dims is None or len(dims) != 4 or not all(isinstance(d, int) for d in dims[1:]):
        return None
    count, height, width = (int(d) for d in dims[1:] if isinstance(d, int))
    if height % size[0] or width % size[1]:
        return None
    offsets = np.array([t[2] for t in known])
    channel = np.tile(np.arange(count), len(known))
    return Blocks(x, size, channel, np.repeat(offsets[:, 0], count), np.repeat(offsets[:, 1], count))


def _piece(value: ir.Value | None) -> tuple[ir.Value, tuple[int, int], tuple[int, int]] | None:
    """Return (x, steps, offsets) of every step-th row and column of an image, by one Slice or two."""
    x, steps, offsets = value, [1, 1], [0, 0]
    while (node := producer(x, "Slice")) is not None:
        found = slice_of(node)
        dims = ir.dims_of(node.inputs[0])
        if isinstance(found, str) or dims is None or not _goes_on(found, steps):
            return None
        for axis, interval in found.items():
            if interval.stop < (2**63 - 1) or interval.start >= interval.step:
                return None
            steps[axis - 2], offsets[axis - 2] = interval.step, interval.start
        x = node.inputs[0]
    return None if x is None else (x, (steps[0], steps[1]), (offsets[0], offsets[1]))


def _goes_on(found: dict[int, Any], steps: Sequence[int]) -> bool:
    return all(axis in (2, 3) and steps[axis - 2] == 1 for axis in found)
