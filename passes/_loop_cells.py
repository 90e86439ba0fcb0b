"""The recurrent layer that a Loop or Scan runs: its cell, sequences and states, and who else uses what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fcc import ir
from fcc.analysis.loops import Carried, Looped, Stacked, plain
from fcc.analysis.trips import Counters, Size, trips

from ._cells import Cell, cells
from ._live import reads
from ._loop_items import read_of
from ._recurrent import Layer
from ._terms_reader import Reader


@dataclass(frozen=True, eq=False)
class LoopLayer:
    """A layer, what of the loop carries its states, the value ``hidden`` of a trip, and the nodes of the cell.

    ``whole``: nothing else that the loop computes is used; ``is_read``: other nodes of the body use ``hidden``.
    ``dying`` are the nodes of the body that nothing needs once the layer is an operator.
    """

    loop: Looped
    layer: Layer
    h: Carried
    c: Carried | None
    hidden: ir.Value
    dying: tuple[ir.Node, ...]
    whole: bool
    is_read: bool

    def gives(self, stack: Stacked) -> bool:
        """Whether a scan output stacks the hidden states."""
        return plain(stack.given, self.loop.body) is self.hidden

    @property
    def is_used(self) -> bool:
        """Whether anything needs what the layer computes."""
        results = [self.h.result] + ([self.c.result] if self.c is not None else [])
        results += [s.result for s in self.loop.stacked if self.gives(s)]
        return any(ir.is_used(r) for r in results) or (self.is_read and not self.whole)


def layer_of(loop: Looped) -> LoopLayer | str:
    """Return the recurrent layer that a loop runs, or why there is none."""
    count, counters = trips(loop), Counters(loop)
    if count is None:
        return "how often it runs is not known"
    moving = _moving(loop, counters)
    states = [c for c in loop.carried if c.inner in moving]
    reader = Reader(loop.body, {c.inner for c in states}, moving.__contains__)
    reason = "no carried value is the state of a recurrent cell"
    for h, c, cell in _matches(loop, reader, states):
        found = _layer(loop, counters, count, cell, h, c)
        described = found if isinstance(found, str) else _described(loop, found, h, c, moving)
        if not isinstance(described, str):
            return described
        reason = described
    return reason


def _moving(loop: Looped, counters: Counters) -> set[ir.Value]:
    """Return the values that depend on something carried other than a counter."""
    moving = {c.inner for c in loop.carried if counters.of(c.inner) is None}
    for node in loop.body:
        if not moving.isdisjoint(reads(node)):
            moving.update(node.outputs)
    return moving


def _matches(loop: Looped, reader: Reader, states: list[Carried]) -> Iterator[tuple[Carried, Carried | None, Cell]]:
    for h in states:
        h_next, dims = reader.read(plain(h.given, loop.body)), ir.dims_of(h.inner)
        if h_next is None or not dims or dims[-1] != h_next.width:
            continue
        for c in (None, *(s for s in states if s is not h)):
            c_next = None if c is None else reader.read(plain(c.given, loop.body))
            if c is None or c_next is not None:
                inner = None if c is None else c.inner
                yield from (
                    (h, c, cell)
                    for cell in cells(h.inner, h_next, inner, c_next)
                    if (cell.kind == "LSTM") == (c is not None)
                )


def _layer(loop: Looped, counters: Counters, count: Size, cell: Cell, h: Carried, c: Carried | None) -> Layer | str:
    found = [read_of(loop, counters, count, s) for s in cell.inputs()]
    reason = next((r for r in found if isinstance(r, str)), None)
    if reason is not None:
        return reason
    if any(_rank(plain(s.given, loop.body)) != _rank(s.inner) for s in (h, c) if s is not None):
        return "a state that a step gives has another rank than the one it takes"
    reads = [r for r in found if not isinstance(r, str)]
    directions = {r.backwards for r in reads}
    if len(directions) != 1:
        return "it reads sequences in both directions, or none"
    items = tuple(r.item.unprojected(len(cell.gates) * cell.hidden) for r in reads)
    return Layer(cell, items, count, directions.pop(), h.init, h.init, None if c is None else c.init)


def _rank(value: ir.Value) -> int | None:
    dims = ir.dims_of(value)
    return None if dims is None else len(dims)


def _described(loop: Looped, layer: Layer, h: Carried, c: Carried | None, moving: set[ir.Value]) -> LoopLayer | str:
    body = loop.body
    hidden = plain(h.given, body)
    ends = [hidden] + ([plain(c.given, body)] if c is not None else [])
    states = [h.inner] + ([c.inner] if c is not None else [])
    nodes = _cone(ends, states, moving)
    is_read = False
    for value in (*states, *(v for n in nodes for v in n.outputs)):
        others = [n for n in value.consumers() if n not in nodes and not _hands_on(n, body)]
        if others and value is not hidden:
            return f"{value.name!r} is used outside of the cell"
        is_read |= bool(others)
    given = [(s.result, plain(s.given, body)) for s in loop.stacked]
    given += [(o.result, plain(o.given, body)) for o in loop.carried if o not in (h, c)]
    inside = {*states, *(v for n in nodes for v in n.outputs)} - {hidden}
    if any(v in inside for _, v in given):
        return "the loop gives another value of the cell"
    stacks = {s.result for s in loop.stacked if plain(s.given, body) is hidden}
    whole = not any(ir.is_used(r) for r, _ in given if r not in stacks)
    inputs = {s for s in layer.cell.inputs() if isinstance(s, ir.Value)}
    dying = _dying(_cone(ends, [*states, *inputs], None), nodes, body)
    return LoopLayer(loop, layer, h, c, hidden, tuple(dying), whole, is_read)


def _dying(feeding: dict[ir.Node, None], cell: dict[ir.Node, None], body: ir.Graph) -> dict[ir.Node, None]:
    """Return what feeds a cell and nothing else, and the cell itself."""
    dead = dict(feeding)
    while True:
        alive = [
            n
            for n in dead
            if n not in cell and any(u not in dead and not _hands_on(u, body) for v in n.outputs for u in v.consumers())
        ]
        if not alive:
            return dead
        for node in alive:
            del dead[node]


def _cone(ends: list[ir.Value], stops: list[ir.Value], moving: set[ir.Value] | None) -> dict[ir.Node, None]:
    """Return the nodes between some values and the states behind a step; with ``moving``, only what makes those."""
    graph = None if ends[0].producer() is None else ends[0].producer().graph  # type: ignore[union-attr]
    found: dict[ir.Node, None] = {}
    stack = list(ends)
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None or node in found or node.graph is not graph or value in stops:
            continue
        if moving is None or value in moving:
            found[node] = None
            stack += ir.operands(node)
    return found


def _hands_on(node: ir.Node, body: ir.Graph) -> bool:
    """Whether a node only gives an output of a body its own name."""
    return node.op_type == "Identity" and node.graph is body and node.outputs[0].is_graph_output()
