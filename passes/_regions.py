"""Regions of operators that may compute with permuted axes, and the cheapest border of Transposes around them.

A candidate operator computes either as it is (label 0) or on stored values (label 1; v = Transpose(v', P(v))). Between
labels a Transpose is needed, one per value and direction; existing Transposes give or take stored values for nothing.
The labels that need the least are a minimum cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.analysis.shapes import static_size

from ._min_cut import SINK, SOURCE, Network
from ._permutations import SMALL, Carried, Perm, before, carried, composed, inverse, is_identity, permutation

LARGEST = 2000  # candidates of one region: bounds the time of a cut
LAUNCH = 2000  # what a Transpose costs beside moving its elements, in elements


@dataclass
class Region:
    """Values with their permutations, candidates with their carried form, in the order found."""

    graph: ir.Graph
    values: dict[ir.Value, Perm] = field(default_factory=dict)
    nodes: dict[ir.Node, Carried] = field(default_factory=dict)
    transposes: dict[ir.Node, None] = field(default_factory=dict)


def grow(graph: ir.Graph, value: ir.Value, p: Perm) -> Region:
    """Return the region around ``value`` stored under ``p``: every candidate that fits what is there already."""
    region = Region(graph, {value: p})
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
            for v, perm in _permuted(node, found):
                if v not in region.values:
                    region.values[v] = perm
                    queue.append(v)
    return region


def _neighbours(region: Region, value: ir.Value) -> Iterator[ir.Node]:
    """Yield the candidates around a value that may be stored, and note the Transposes."""
    if is_identity(region.values[value]):
        return
    producer = value.producer()
    for node in (*([producer] if producer is not None else []), *(u.node for u in value.uses())):
        if node.graph is not region.graph:
            continue
        if node.op_type == "Transpose" and node.domain == "":
            region.transposes[node] = None
        else:
            yield node


def _permuted(node: ir.Node, found: Carried) -> Iterator[tuple[ir.Value, Perm]]:
    for value, perm in zip(node.inputs, found.operands, strict=False):
        if value is not None and perm is not None:
            yield value, perm
    yield from zip(node.outputs, found.results, strict=True)


def _fits(region: Region, node: ir.Node) -> Carried | None:
    """Return the carried form that agrees with the permutations given so far."""
    for i, value in enumerate(node.inputs):
        if value is not None and value in region.values:
            found = carried(node, region.values[value])
            if not isinstance(found, str) and found.operands[i] == region.values[value]:
                return found if _agrees(region, node, found) else None
    for value in node.outputs:
        p = before(node, region.values[value]) if value in region.values else None
        if p is not None:
            found = carried(node, p)
            return None if isinstance(found, str) or not _agrees(region, node, found) else found
    return None


def _agrees(region: Region, node: ir.Node, found: Carried) -> bool:
    return all(region.values.get(v, perm) == perm for v, perm in _permuted(node, found)) and any(found.operands)


@dataclass(frozen=True)
class Border:
    """The Transposes around the chosen operators.

    ``taken`` give stored values, ``dropped`` return what is stored, ``turned`` are composed with a permutation;
    ``restored`` values are needed as they were too, ``stored`` values come from outside and must be permuted first.
    """

    taken: tuple[ir.Node, ...]
    dropped: tuple[ir.Node, ...]
    turned: tuple[ir.Node, ...]
    restored: tuple[ir.Value, ...]
    stored: tuple[ir.Value, ...]


def weight(value: ir.Value, shapes: Mapping[str, int]) -> int:
    """Return what transposing a value costs, in elements moved; an unknown size counts as 1."""
    total = LAUNCH
    size = 1
    for d in sizes(value, shapes) or ():
        size *= max(d, 1)
    return total + min(size, 1 << 40)


def cut(region: Region, shapes: Mapping[str, int]) -> list[ir.Node]:
    """Return the candidates to compute on stored values: the labels whose border is cheapest."""
    network = Network()
    for value, perm in region.values.items():
        if not is_identity(perm):
            _add_value(network, region, value, perm, weight(value, shapes))
    side = network.source_side()
    return [node for node in region.nodes if node in side]


def _add_value(network: Network, region: Region, value: ir.Value, perm: Perm, cost: int) -> None:
    producer = value.producer()
    maker: object = SINK
    if producer in region.nodes:
        maker = producer
    elif producer is not None and producer.graph is region.graph and gives(producer, perm):
        maker = SOURCE
    elif free(value):
        return
    restored, stored = (value, "restored"), (value, "stored")
    network.add(maker, restored, cost)
    network.add(stored, maker, cost)
    users: list[object] = [SINK] if value.is_graph_output() else []
    for use in value.uses():
        if use.node in region.nodes and region.nodes[use.node].operands[use.idx] is not None:
            users.append(use.node)
        elif takes(use.node, perm, region.graph):
            users.append(SOURCE)
        elif not is_transpose(use.node, region.graph):
            users.append(SINK)
    for user in dict.fromkeys(users):
        network.add(restored, user)
        network.add(user, stored)


def free(value: ir.Value) -> bool:
    """Return whether a constant may be stored permuted for nothing: it is small, or nobody else uses it."""
    if not ir.Module.is_constant(value) or isinstance(value.const_value, ir.LazyTensor):
        return False
    return (static_size(value) or 0) <= SMALL or ir.sole_user(value) is not None


def is_transpose(node: ir.Node, graph: ir.Graph) -> bool:
    return node.op_type == "Transpose" and node.domain == "" and node.graph is graph


def gives(producer: ir.Node, perm: Perm) -> bool:
    """Return whether a node is the Transpose of what is stored."""
    return producer.op_type == "Transpose" and producer.domain == "" and permutation(producer) == perm


def takes(user: ir.Node, perm: Perm, graph: ir.Graph) -> bool:
    """Return whether a node is the Transpose that gives what is stored."""
    return is_transpose(user, graph) and permutation(user) == inverse(perm)


def border(region: Region, chosen: list[ir.Node]) -> Border | str:
    """Return the Transposes that computing the chosen operators on stored values needs and saves, or why it cannot."""
    inside = set(chosen)
    made = {v: p for n in chosen for v, p in zip(n.outputs, region.nodes[n].results, strict=True) if not is_identity(p)}
    used = {v: p for n in chosen for v, p in _permuted(n, region.nodes[n]) if not is_identity(p)}
    taken: list[ir.Node] = []
    dropped: list[ir.Node] = []
    turned: list[ir.Node] = []
    restored: list[ir.Value] = []
    stored: list[ir.Value] = []
    for value, perm in used.items():
        producer = value.producer()
        outer = [u.node for u in value.uses() if not _stays_inside(region, inside, u)]
        if value in made:
            for node in dict.fromkeys(outer):
                if is_transpose(node, region.graph):
                    (dropped if takes(node, perm, region.graph) else turned).append(node)
            if value.is_graph_output() or any(not is_transpose(n, region.graph) for n in outer):
                restored.append(value)
        elif producer is not None and gives(producer, perm) and producer.graph is region.graph:
            if producer.inputs[0] in made:
                return "a Transpose joins two values of the region"
            if not outer and not value.is_graph_output():
                taken.append(producer)
        else:
            stored.append(value)
            dropped += dict.fromkeys(n for n in outer if takes(n, perm, region.graph))
    return Border(tuple(taken), tuple(dropped), tuple(turned), tuple(restored), tuple(stored))


def _stays_inside(region: Region, inside: set[ir.Node], use: Any) -> bool:
    return use.node in inside and region.nodes[use.node].operands[use.idx] is not None


def saves(edge: Border, shapes: Mapping[str, int]) -> tuple[int, int]:
    """Return (Transposes, cost) that a border saves: negative when it adds."""
    gone = [n.outputs[0] for n in (*edge.taken, *edge.dropped)]
    new = [*edge.restored, *(v for v in edge.stored if not free(v))]
    return len(gone) - len(new), sum(weight(v, shapes) for v in gone) - sum(weight(v, shapes) for v in new)


def turned_permutation(node: ir.Node, perm: Perm) -> Perm:
    """Return the permutation from what is stored to the result of a Transpose of the value."""
    own = permutation(node)
    assert own is not None
    return composed(perm, own)
