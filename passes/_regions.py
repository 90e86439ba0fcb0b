"""Regions of operators that may compute on values stored otherwise, and the cheapest border of movers around them.

A mover (Transpose, or Reshape and its kin) only lays out a value anew; a layout says how a value v is stored as v'. A
candidate operator computes either as it is (label 0) or on stored values (label 1). Between labels a mover is needed,
one per value and direction; existing movers give or take stored values for nothing. The labels that need the least
are a minimum cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.analysis.shapes import static_size
from fcc.rewrite import Rewriter

from ._min_cut import SINK, SOURCE, Network

LARGEST = 2000  # candidates of one region: bounds the time of a cut
LAUNCH = 2000  # what a mover costs beside moving its elements, in elements
SMALL = 4096  # constants up to this size may be copied in another layout

Layout = tuple[Any, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Carried:
    """How a node computes stored values: layouts of operands (None: as it is) and results, changes of the node."""

    operands: tuple[Layout | None, ...]
    results: tuple[Layout, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    inputs: dict[int, Array] = field(default_factory=dict)


class Movers(Protocol):
    """A kind of mover with its layouts."""

    def moves(self, node: ir.Node) -> bool:
        """Return whether a node is a mover of this kind."""

    def given(self, node: ir.Node) -> Layout | None:
        """Return the layout under which the result of a mover is stored as its input, None when not known."""

    def taken(self, node: ir.Node) -> Layout | None:
        """Return the layout under which the input of a mover is stored as its result, None when not known."""

    def same(self, value: ir.Value, layout: Layout) -> bool:
        """Return whether what is stored is the value itself."""

    def carried(self, node: ir.Node, index: int, layout: Layout) -> Carried | str:
        """Return how a node computes when operand ``index`` is stored under ``layout``, or why it cannot."""

    def before(self, node: ir.Node, layout: Layout) -> Carried | str:
        """Return how a node computes when its first result is stored under ``layout``, or why it cannot."""

    def fits(self, value: ir.Value, layout: Layout) -> bool:
        """Return whether movers can be written between a value and what is stored, for every size."""

    def weight(self, value: ir.Value, shapes: Mapping[str, int]) -> int:
        """Return what moving a value costs, in elements."""

    def constant(self, value: ir.Value, layout: Layout) -> Array | None:
        """Return what is stored of a small constant."""

    def store(self, rw: Rewriter, value: ir.Value, layout: Layout) -> ir.Value:
        """Make the mover from a value to what is stored."""

    def restore(self, rw: Rewriter, stored: ir.Value, value: ir.Value, layout: Layout) -> ir.Value:
        """Make the mover from what is stored to the value."""

    def turn(self, rw: Rewriter, stored: ir.Value, node: ir.Node, layout: Layout) -> ir.Value:
        """Make the result of a mover of the value from what is stored."""

    def turns(self, node: ir.Node, layout: Layout) -> bool:
        """Return whether ``turn`` can be written, for every size."""

    def remakes(self, node: ir.Node, layout: Layout) -> bool:
        """Return whether a mover from the input of this one can give what is stored instead, for every size."""


@dataclass
class Region:
    """Values with their layouts, candidates with their carried form, in the order found."""

    graph: ir.Graph
    movers: Movers
    values: dict[ir.Value, Layout] = field(default_factory=dict)
    nodes: dict[ir.Node, Carried] = field(default_factory=dict)
    seen: dict[ir.Node, None] = field(default_factory=dict)

    def gives(self, node: ir.Node | None, layout: Layout) -> bool:
        """Return whether a node of the graph is the mover from what is stored."""
        return node is not None and self.is_mover(node) and self.movers.given(node) == layout

    def takes(self, node: ir.Node, layout: Layout) -> bool:
        """Return whether a node of the graph is the mover to what is stored."""
        return self.is_mover(node) and self.movers.taken(node) == layout

    def is_mover(self, node: ir.Node) -> bool:
        return node.graph is self.graph and self.movers.moves(node)

    def remakes(self, node: ir.Node | None, layout: Layout) -> bool:
        """Return whether a mover can make either form of its result at the same cost."""
        return node is not None and self.is_mover(node) and self.movers.remakes(node, layout)

    def stands(self, node: ir.Node, layout: Layout) -> bool:
        """Return whether a mover works from either form of its input at the same cost."""
        return self.is_mover(node) and self.movers.turns(node, layout)


def grow(graph: ir.Graph, movers: Movers, value: ir.Value, layout: Layout) -> Region:
    """Return the region around ``value`` stored under ``layout``: every candidate that fits what is there already."""
    region = Region(graph, movers, {value: layout})
    queue: deque[ir.Value] = deque([value])
    refused: set[ir.Node] = set()
    while queue:
        for node in _neighbours(region, queue.popleft()):
            if node in region.nodes or node in refused or len(region.nodes) >= LARGEST:
                continue
            found = _fits(region, node)
            if found is None:
                refused.add(node)
                continue
            region.nodes[node] = found
            for v, perm in _moved(node, found):
                if v not in region.values:
                    region.values[v] = perm
                    queue.append(v)
    return region


def _neighbours(region: Region, value: ir.Value) -> Iterator[ir.Node]:
    """Yield the candidates around a value that may be stored, and note the movers."""
    if region.movers.same(value, region.values[value]):
        return
    producer = value.producer()
    for node in (*([producer] if producer is not None else []), *(u.node for u in value.uses())):
        if node.graph is not region.graph:
            continue
        if region.movers.moves(node):
            region.seen[node] = None
        else:
            yield node


def _moved(node: ir.Node, found: Carried) -> Iterator[tuple[ir.Value, Layout]]:
    for value, perm in zip(node.inputs, found.operands, strict=False):
        if value is not None and perm is not None:
            yield value, perm
    yield from zip(node.outputs, found.results, strict=True)


def _fits(region: Region, node: ir.Node) -> Carried | None:
    """Return the carried form that agrees with the permutations given so far."""
    for i, value in enumerate(node.inputs):
        if value is not None and value in region.values:
            found = region.movers.carried(node, i, region.values[value])
            if not isinstance(found, str) and found.operands[i] == region.values[value]:
                return found if _agrees(region, node, found) else None
    for value in node.outputs:
        if value in region.values:
            found = region.movers.before(node, region.values[value])
            return None if isinstance(found, str) or not _agrees(region, node, found) else found
    return None


def _agrees(region: Region, node: ir.Node, found: Carried) -> bool:
    if not any(p is not None for p in found.operands):
        return False
    return all(region.values.get(v, p) == p and region.movers.fits(v, p) for v, p in _moved(node, found))


@dataclass(frozen=True)
class Border:
    """The movers around the chosen operators.

    ``taken`` give stored values, ``dropped`` return what is stored, ``turned`` read what is stored;
    ``restored`` values are needed as they were too, ``stored`` values come from outside and must be moved first,
    ``remade`` values come from movers that give what is stored instead.
    """

    taken: tuple[ir.Node, ...]
    dropped: tuple[ir.Node, ...]
    turned: tuple[ir.Node, ...]
    restored: tuple[ir.Value, ...]
    stored: tuple[ir.Value, ...]
    remade: tuple[ir.Value, ...]


def elements(value: ir.Value, shapes: Mapping[str, int]) -> int:
    """Return the number of elements of a value; an unknown size counts as 1."""
    size = 1
    for d in sizes(value, shapes) or ():
        size *= max(d, 1)
    return min(size, 1 << 40)


def cut(region: Region, shapes: Mapping[str, int]) -> list[ir.Node]:
    """Return the candidates to compute on stored values: the labels whose border is cheapest."""
    network = Network()
    for value, perm in region.values.items():
        if not region.movers.same(value, perm):
            _add_value(network, region, value, perm, region.movers.weight(value, shapes))
    side = network.source_side()
    return [node for node in region.nodes if node in side]


def _add_value(network: Network, region: Region, value: ir.Value, perm: Layout, cost: int) -> None:
    producer = value.producer()
    maker: object = SINK
    if producer in region.nodes:
        maker = producer
    elif region.gives(producer, perm):
        maker = SOURCE
    elif free(value):
        return
    elif region.remakes(producer, perm):
        maker = (value, "made")
    restored, stored = (value, "restored"), (value, "stored")
    network.add(maker, restored, cost)
    network.add(stored, maker, cost)
    users: list[object] = [SINK] if value.is_graph_output() else []
    for use in value.uses():
        if use.node in region.nodes and region.nodes[use.node].operands[use.idx] is not None:
            users.append(use.node)
        elif region.takes(use.node, perm):
            users.append(SOURCE)
        elif not region.stands(use.node, perm):
            users.append(SINK)
    for user in dict.fromkeys(users):
        network.add(restored, user)
        network.add(user, stored)


def free(value: ir.Value) -> bool:
    """Return whether a constant may be stored permuted for nothing: it is small, or nobody else uses it."""
    if not ir.Module.is_constant(value) or isinstance(value.const_value, ir.LazyTensor):
        return False
    return (static_size(value) or 0) <= SMALL or ir.sole_user(value) is not None


def border(region: Region, chosen: list[ir.Node]) -> Border | str:
    """Return the movers that computing the chosen operators on stored values needs and saves, or why it cannot."""
    inside, same = set(chosen), region.movers.same
    made = {v: p for n in chosen for v, p in zip(n.outputs, region.nodes[n].results, strict=True) if not same(v, p)}
    used = {v: p for n in chosen for v, p in _moved(n, region.nodes[n]) if not same(v, p)}
    taken: list[ir.Node] = []
    dropped: list[ir.Node] = []
    turned: list[ir.Node] = []
    restored: list[ir.Value] = []
    stored: list[ir.Value] = []
    remade: list[ir.Value] = []
    for value, perm in used.items():
        producer = value.producer()
        outer = [u.node for u in value.uses() if not _stays_inside(region, inside, u)]
        if value in made:
            for node in dict.fromkeys(outer):
                if region.takes(node, perm):
                    dropped.append(node)
                elif region.stands(node, perm):
                    turned.append(node)
            if value.is_graph_output() or any(n not in dropped and n not in turned for n in outer):
                restored.append(value)
        elif producer is not None and region.gives(producer, perm):
            if producer.inputs[0] in made:
                return "a mover joins two values of the region"
            if not outer and not value.is_graph_output():
                taken.append(producer)
        elif not outer and not value.is_graph_output() and region.remakes(producer, perm):
            remade.append(value)
        else:
            stored.append(value)
            dropped += dict.fromkeys(n for n in outer if region.takes(n, perm))
    return Border(tuple(taken), tuple(dropped), tuple(turned), tuple(restored), tuple(stored), tuple(remade))


def _stays_inside(region: Region, inside: set[ir.Node], use: Any) -> bool:
    return use.node in inside and region.nodes[use.node].operands[use.idx] is not None


def saves(region: Region, edge: Border, shapes: Mapping[str, int]) -> tuple[int, int]:
    """Return (movers, cost) that a border saves: negative when it adds."""
    gone = [n.outputs[0] for n in dict.fromkeys((*edge.taken, *edge.dropped))]
    new = [*edge.restored, *(v for v in edge.stored if not free(v))]
    weigh = region.movers.weight
    return len(gone) - len(new), sum(weigh(v, shapes) for v in gone) - sum(weigh(v, shapes) for v in new)
