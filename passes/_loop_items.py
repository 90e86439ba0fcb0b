"""Elements of sequences that a Loop or Scan reads, one in each trip."""

from __future__ import annotations

from dataclasses import dataclass

from fcc import ir
from fcc.analysis.loops import Looped
from fcc.analysis.trips import TRIP, Counters, Size, at_trip, coefficient

from ._sequence_items import Item, item_of


@dataclass(frozen=True)
class Read:
    """The elements that all trips read: from ``item`` on, in order or, if ``backwards``, the last one first."""

    item: Item
    backwards: bool


def read_of(loop: Looped, counters: Counters, count: Size, value: object) -> Read | str:
    """Return the elements that a value of a body stands for, or why it is none."""
    item = _item(loop, counters, count, value) if isinstance(value, ir.Value) else None
    if item is None or coefficient(item.at) not in (1, -1):
        return "an input of the body is no element of a sequence"
    backwards = coefficient(item.at) == -1
    lowest = at_trip(item.at, count - 1 if backwards else 0)
    if not isinstance(lowest, int) or lowest < 0 or not _holds(item.length, lowest + count):
        return "it is not known to stay within the sequence"
    if lowest and not isinstance(count, int):
        return "it runs over part of a sequence whose length is a symbol"
    return Read(Item(item.sequence, item.axis, lowest), backwards)


def _item(loop: Looped, counters: Counters, count: Size, value: ir.Value) -> Item | None:
    for e in loop.elements:
        if e.inner is value:
            rank = len(ir.known_dims(e.source))
            at = count - 1 - TRIP if e.reverse else TRIP
            return Item(e.source, e.axis % rank, at) if rank else None
    producer = value.producer()
    found = item_of(value, counters.number) if producer is not None and producer.graph is loop.body else None
    return found if found is not None and is_outer(found.sequence, loop) else None


def is_outer(value: ir.Value, loop: Looped) -> bool:
    """Return whether a value is there before the loop runs."""
    producer = value.producer()
    inside = producer is not None and producer.graph is loop.body
    return not inside and value not in loop.body.inputs and value not in loop.body.initializers.values()


def _holds(length: Size | None, end: Size) -> bool:
    return length is not None and (length == end or ir.at_least(length - end, 0))
