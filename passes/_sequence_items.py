"""Values that are one element of a sequence: which, of what, along which axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.trips import Size, at_trip
from fcc.rewrite import Rewriter

from ._forms import Array, Form
from ._intervals import parts_of, pieces
from ._terms_reader import Reader

Number = Callable[[ir.Value | None], Size | None]


@dataclass(frozen=True)
class Item:
    """Element ``at`` of ``sequence`` along ``axis``; the axis itself may be kept with size 1.

    ``form``: the rows are this form of the rows of the sequence, instead of those.
    """

    sequence: ir.Value
    axis: int
    at: Size
    form: Form | None = None

    @property
    def dims(self) -> tuple[ir.Dim | int | None, ...]:
        """The shape of the sequence."""
        return ir.known_dims(self.sequence)

    @property
    def length(self) -> Size | None:
        return self.dims[self.axis]

    @property
    def rest(self) -> tuple[ir.Dim | int | None, ...]:
        """The shape of an element, without axes of size 1 in front of its last two."""
        rest = self.dims[: self.axis] + self.dims[self.axis + 1 :]
        while len(rest) > 2 and rest[0] == 1:
            rest = rest[1:]
        return rest

    @property
    def columns(self) -> int | None:
        """The number of columns of the sequence."""
        size = self.rest[-1] if self.rest else None
        return size if isinstance(size, int) else None

    def matrix(self) -> Array:
        """Return what takes the rows of the sequence to those of the element."""
        count = self.columns
        assert count is not None
        return np.eye(count) if self.form is None else self.form.dense(next(self.form.sources()), count)

    def unprojected(self, outputs: int) -> Item:
        """Return the item of the sequence that a linear layer of all elements is applied to, where that saves work.

        ``outputs``: how many columns are made of the element.
        """
        producer, count = self.sequence.producer(), self.columns
        if producer is None or producer.graph is None or count is None or self.axis == len(self.dims) - 1:
            return self
        found = Reader(producer.graph, (), lambda value: False).read(self.sequence)
        form = None if found is None else found.linear
        sources = [] if form is None else list(form.sources())
        if len(sources) != 1 or not isinstance(sources[0], ir.Value) or sources[0] is self.sequence:
            return self
        source = Item(sources[0], self.axis, self.at, form)
        size = source.columns
        pays = size is not None and size * outputs <= (size + outputs) * count
        return source if pays and source.dims[:-1] == self.dims[:-1] else self


def item_of(value: ir.Value, number: Number) -> Item | None:
    """Return the element of a sequence that a value is, ``number`` giving the only element of an integer tensor."""
    node = value.producer()
    if node is None or node.domain or node.op_type not in _RULES:
        return None
    found = _RULES[node.op_type](node, value, number)
    x = node.inputs[0]
    if found is None or x is None or not ir.dims_of(x):
        return None
    axis, at = found
    item = Item(x, axis, at)
    first = at_trip(at, 0)
    if isinstance(first, int) and first < 0:  # counted from the end
        if item.length is None:
            return None
        item = Item(x, axis, item.length + at)
    return item if _is_inside(item.at, item.length) else None


def _is_inside(at: Size, length: Size | None) -> bool:
    """Return whether a position is one of an axis, as far as both are numbers."""
    return not isinstance(at, int) or not isinstance(length, int) or 0 <= at < length


def known_number(value: ir.Value | None) -> int | None:
    """Return the only element of an integer tensor, None where it is not known or depends on symbols."""
    found = shapes.elements(value)
    only = None if found is None or found.size != 1 else found.reshape(-1)[0]
    return None if only is None or isinstance(only, ir.Dim) else int(only)


def _gather(node: ir.Node, value: ir.Value, number: Number) -> tuple[int, Size] | None:
    dims, at = ir.dims_of(node.inputs[0]), number(node.inputs[1])
    return None if not dims or at is None else (node.attributes.get_int("axis", 0) % len(dims), at)


def _slice(node: ir.Node, value: ir.Value, number: Number) -> tuple[int, Size] | None:
    found = pieces(node)
    if found is not None:
        return (found[1], found[2]) if found[3] - found[2] == 1 else None
    dims, given = ir.dims_of(node.inputs[0]), [number(v) for v in node.inputs[1:]]
    if not dims or len(given) < 3 or given[0] is None or given[1] is None or not isinstance(given[2], int):
        return None
    step = given[3] if len(given) > 3 else 1
    return (given[2] % len(dims), given[0]) if step == 1 and given[1] - given[0] == 1 else None


def _split(node: ir.Node, value: ir.Value, number: Number) -> tuple[int, Size] | None:
    found, index = parts_of(node), value.index() or 0
    if found is None or found[1][index + 1] - found[1][index] != 1:
        return None
    return found[0], found[1][index]


_RULES = {"Gather": _gather, "Slice": _slice, "Split": _split}


def elements_first(item: Item, count: Size, rw: Rewriter) -> ir.Value:
    """Return ``count`` elements of a sequence, from an item on, along the first axis."""
    value, rank = item.sequence, len(item.dims)
    if (item.at, count) != (0, item.length):
        assert isinstance(count, int)
        assert isinstance(item.at, int)
        bounds = (np.array([k], np.int64) for k in (item.at, item.at + count, item.axis))
        value = rw.op("Slice", value, *bounds)
    if item.axis:
        value = rw.op("Transpose", value, perm=[item.axis, *(i for i in range(rank) if i != item.axis)])
    return value


def time_major(item: Item, count: Size, rw: Rewriter) -> ir.Value:
    """Return ``count`` elements of a sequence, from an item on, as [count, batch, columns]."""
    value, rank = elements_first(item, count, rw), len(item.dims)
    if rank > 3:
        value = rw.op("Squeeze", value, np.arange(1, rank - 2, dtype=np.int64))
    return rw.op("Unsqueeze", value, np.array([1], np.int64)) if rank == 2 else value
