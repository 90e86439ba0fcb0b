"""How often a Loop or Scan runs, and integers of its body as polynomials of the number of the trip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import ir
from . import shapes
from .evaluate import symbolic
from .loops import Looped, plain

Array = np.ndarray[Any, Any]
Size = ir.Dim | int
TRIP = ir.Dim.symbol("trip#")  # no name of a dimension has a #
_ENDLESS = 2**31 - 1
_DEPTH = 16
# Comparison -> (which operand must be the larger one, by how much at least).
_ORDER = {"Less": (1, 1), "LessOrEqual": (1, 0), "Greater": (0, 1), "GreaterOrEqual": (0, 0)}


@dataclass
class Counters:
    """Integers of a body, TRIP being the number of the trip from 0: the counter, and what grows by a constant."""

    loop: Looped
    _known: dict[ir.Value, Array | None] = field(default_factory=dict)

    def of(self, value: ir.Value | None, depth: int = 0) -> Array | None:
        """Return the contents of a small integer tensor in trip TRIP, None when they are not known."""
        if value is None:
            return None
        found = shapes.elements(value)
        if found is not None:
            return found
        if value not in self._known:
            self._known[value] = None  # what depends on itself is not known
            self._known[value] = self._find(value, depth)
        return self._known[value]

    def number(self, value: ir.Value | None) -> Size | None:
        """Return the only element of a tensor in trip TRIP."""
        found = self.of(value)
        return None if found is None or found.size != 1 else _plain(found.reshape(-1)[0])

    def _find(self, value: ir.Value, depth: int) -> Array | None:
        if value is self.loop.counter:
            return _shaped(TRIP, value)
        for carried in self.loop.carried:
            if value is carried.inner:
                return self._growing(value, carried.init, carried.given)
        node = value.producer()
        if node is None or node.graph is not self.loop.body or node.domain or len(node.outputs) != 1 or depth > _DEPTH:
            return None
        inputs = [self.of(v, depth + 1) for v in node.inputs]
        if any(a is None and v is not None for a, v in zip(inputs, node.inputs, strict=True)):
            return None
        return symbolic(node, inputs)

    def _growing(self, inner: ir.Value, init: ir.Value, given: ir.Value) -> Array | None:
        """init + step * TRIP, for what a trip hands on as itself plus a constant."""
        start = shapes.elements(init)
        if start is None or start.size != 1:
            return None
        step = _added(plain(given, self.loop.body), inner, self.loop.body)
        return None if step is None else _shaped(_plain(start.reshape(-1)[0]) + step * TRIP, init)


def _added(value: ir.Value, to: ir.Value, body: ir.Graph) -> int | None:
    """Return c when value is to + c, or to - (-c)."""
    node = value.producer()
    if node is None or node.graph is not body or node.domain or node.op_type not in ("Add", "Sub"):
        return None
    a, b = node.inputs
    if b is to and node.op_type == "Add":
        a, b = b, a
    found = shapes.elements(b) if a is to else None
    if found is None or found.size != 1 or not isinstance(number := _plain(found.reshape(-1)[0]), int):
        return None
    return number if node.op_type == "Add" else -number


def _plain(x: Any) -> Any:
    return x if isinstance(x, ir.Dim) else int(x)


def _shaped(number: Any, like: ir.Value) -> Array:
    out = np.empty((1,) * len(ir.dims_of(like) or ()), dtype=object)
    out[...] = number
    return out


def trips(loop: Looped) -> Size | None:
    """Return how often the body runs, as a number or a polynomial of symbols; None when that is not known."""
    if loop.node.op_type == "Scan":
        sizes = [_size(e.source, e.axis) for e in loop.elements]
        return next((s for s in sizes if isinstance(s, int)), sizes[0] if sizes else None)
    most, starts = loop.node.inputs[:2]
    limit = None if most is None else _single(most)
    if most is not None and limit is None:
        return None
    first = True if starts is None else _truth(starts)
    if first is False:
        return 0
    assert loop.goes_on is not None
    lasting = _lasting(loop, plain(loop.goes_on, loop.body), starts, Counters(loop))
    if lasting is None or (first is None and not lasting.starts):
        return None
    return _least([*([limit] if limit is not None else []), *lasting.limits])


def _size(value: ir.Value, axis: int) -> Size | None:
    dims = ir.dims_of(value)
    return None if not dims else dims[axis]


def _single(value: ir.Value) -> Size | None:
    found = shapes.elements(value)
    return None if found is None or found.size != 1 else _plain(found.reshape(-1)[0])


def _truth(value: ir.Value) -> bool | None:
    found = _single(value)
    return bool(found) if isinstance(found, int) else None


@dataclass(frozen=True)
class _Lasting:
    """Numbers of trips after which a condition ends a loop; ``starts``: the first trip is decided by the same rule."""

    limits: tuple[Size, ...]
    starts: bool


def _lasting(loop: Looped, goes_on: ir.Value, starts: ir.Value | None, counters: Counters) -> _Lasting | None:
    begins = starts is not None and _truth(starts) is True
    if goes_on is loop.condition:  # it held, or this trip would not run
        return _Lasting((), begins)
    known = _truth(goes_on)
    if known is not None:
        return _Lasting(() if known else (1,), begins)
    node, outer = goes_on.producer(), None if starts is None else starts.producer()
    if node is None or node.graph is not loop.body or node.domain:
        return None
    if node.op_type == "And":
        return _both(loop, node, outer, counters)
    margin = _margin(node, counters.number)
    if margin is None:
        return None
    before = None if outer is None else _margin(outer, _single)
    return _counted(margin, before)


def _both(loop: Looped, node: ir.Node, outer: ir.Node | None, counters: Counters) -> _Lasting | None:
    """Two conditions, the loop going on while both hold; those in front of the loop are taken in the same order."""
    paired = outer is not None and outer.op_type == "And" and outer.domain == ""
    parts = []
    for i, value in enumerate(node.inputs):
        assert value is not None
        start = outer.inputs[i] if paired and outer is not None else None
        parts.append(_lasting(loop, plain(value, loop.body), start, counters))
    if parts[0] is None or parts[1] is None:
        return None
    return _Lasting(parts[0].limits + parts[1].limits, parts[0].starts and parts[1].starts)


def _margin(node: ir.Node, number: Any) -> Size | None:
    """Return what must be at least 1 for a comparison of two integers to hold."""
    if node.op_type not in _ORDER or node.domain:
        return None
    larger, by = _ORDER[node.op_type]
    high, low = number(node.inputs[larger]), number(node.inputs[1 - larger])
    return None if high is None or low is None else high - low + (1 - by)


def _counted(margin: Size, before: Size | None) -> _Lasting | None:
    """A margin d - s * TRIP (s >= 1) lets the loop go on to trip TRIP + 1 while it is at least 1."""
    step = -coefficient(margin)
    left = margin + step * TRIP
    if step < 1 or _depends(left):
        return None
    if isinstance(left, int):  # whether such a loop starts is a known number too
        return _Lasting((1 + max(0, (left + step - 1) // step),), False)
    starts = before is not None and before == left + step
    surely = ir.at_least(left + 1, 0) if starts else ir.at_least(left, 0)
    return _Lasting((left + 1,), starts) if step == 1 and surely else None


def at_trip(d: Size, trip: Size) -> Size:
    """Return a polynomial of degree 1 in TRIP for one trip."""
    return d + coefficient(d) * (trip - TRIP)


def coefficient(d: Size) -> int:
    """Return by how much a polynomial of degree 1 in TRIP grows with each trip."""
    (symbol,) = TRIP.terms
    return d.terms.get(symbol, 0) if isinstance(d, ir.Dim) else 0


def _depends(d: Size) -> bool:
    return isinstance(d, ir.Dim) and not TRIP.symbols().isdisjoint(d.symbols())


def _least(limits: list[Size]) -> Size | None:
    """Return the smallest of some numbers of trips; one that no loop reaches does not count."""
    counted = [n for n in limits if not (isinstance(n, int) and n >= _ENDLESS)]
    if not counted:
        return None
    numbers = [n for n in counted if isinstance(n, int)]
    if len(numbers) == len(counted):
        return max(0, min(numbers))
    first = counted[0]
    return first if all(n == first for n in counted) and ir.at_least(first, 0) else None
