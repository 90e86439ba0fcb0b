"""The first step of an unrolled recurrent layer, folded for states of zeros by an exporter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from fcc import ir

from ._cells import same
from ._sequence_items import item_of, known_number
from ._terms import Sum
from ._terms_reader import Reader
from ._unrolled_cells import Chain, Step


def with_zero_step(chain: Chain) -> Chain:
    """Return a chain with the step in front of it that computes its initial states from zeros, where there is one."""
    states = [v for v in (chain.h, chain.c) if v is not None]
    producer = states[0].producer() if states else None
    if producer is None or producer.graph is None:
        return chain
    reader = Reader(producer.graph, (), lambda value: False, eager=True)
    found = [s for v in states if (s := reader.read(v)) is not None]
    wanted = [reader.algebra.without(s, chain.sources) for s in chain.sums]
    names = _names(chain.cell.inputs(), found)
    equal = names is not None and len(found) == len(wanted)
    if not equal or not all(same(a, b, names or {}) for a, b in zip(wanted, found, strict=True)):
        return chain
    inputs = tuple(v for s in chain.cell.inputs() if isinstance(v := (names or {})[s], ir.Value))
    step = Step(states[0], states[1] if len(states) > 1 else None, inputs)
    return replace(chain, steps=(step, *chain.steps), h=None, c=None)


def _names(inputs: Sequence[Hashable], sums: Sequence[Sum]) -> dict[Hashable, Hashable] | None:
    """Return which rows of some sums stand for the inputs of a cell: elements of the same sequence."""
    theirs = [(s, item_of(s, known_number)) for total in sums for s in total.sources() if isinstance(s, ir.Value)]
    names: dict[Hashable, Hashable] = {}
    for source in inputs:
        item = item_of(source, known_number) if isinstance(source, ir.Value) else None
        found = {
            s
            for s, i in theirs
            if i is not None and item is not None and (i.sequence, i.axis) == (item.sequence, item.axis)
        }
        if len(found) != 1:
            return None
        names[source] = found.pop()
    return names
