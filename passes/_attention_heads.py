"""How operands and result of an attention are laid out: in heads, packed, repeated over groups, after a past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcc import ir

from ._attention import Attention, producer
from ._axes import MOVERS, Factors, Layout, Size, layout_of, layouts, reshaped, step
from ._rearrange import Rearrangement, rearrangement
from ._views import full_dims

Four = tuple[Size, Size, Size, Size]
Cost = tuple[int, int]
"""The number of nodes that move elements, and of all nodes."""
_FREE = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""What moves no elements."""


@dataclass(frozen=True)
class Sizes:
    """Of an attention: queries [batch, heads, queries, size], keys [batch, groups, keys, size], values [.., width].

    ``met``: the heads of keys and values where they meet the queries.
    """

    batch: Size
    heads: int
    met: int
    groups: int
    queries: Size
    keys: Size
    size: int
    width: int


@dataclass(frozen=True)
class Past:
    """Keys or values that are joined to those of earlier steps along the sequence, [batch, groups, sequence, size]."""

    concat: ir.Node
    before: ir.Value
    added: ir.Value
    length: Size


@dataclass(frozen=True)
class Operand:
    """How to make an operand, and the cost, that of the nodes before it included."""

    made: Rearrangement
    cost: Cost


@dataclass(frozen=True)
class Form:
    """How to make the operands of one form (rank 3 or 4), how to bring its result to ``target``, and the cost.

    The cost: nodes that move elements, those that move keys or values (there may be more of them), and all nodes.
    """

    rank: int
    q: Rearrangement
    k: Rearrangement
    v: Rearrangement
    target: ir.Value
    result: Rearrangement
    cost: tuple[int, int, int]


def sizes_of(found: Attention) -> Sizes | str:
    """Return the sizes of an attention, the keys in as few groups as they are stored in, or why they do not fit."""
    dims = [full_dims(v) for v in (found.q, found.k, found.v)]
    q, k, v = ((*_leading(d, found), *d[-2:]) if d is not None and len(d) in (3, 4) else None for d in dims)
    if q is None or k is None or v is None or len(q) != 4 or len(k) != 4 or len(v) != 4:
        return "the sizes of an operand are not known, or its heads"
    batch, heads, queries, size = q
    keys, width = k[3], v[3]
    if not isinstance(heads, int) or not isinstance(size, int) or not isinstance(width, int) or 0 in (*q, *k, *v):
        return "the number of heads, or their size, is not known, or a size is 0"
    if (k[0], k[2], v[0], v[2]) != (batch, size, batch, keys):
        return "queries, keys and values are not known to have one batch, one size and one sequence"
    if k[1] != v[1] or not isinstance(k[1], int) or k[1] not in (1, heads):
        return "queries, keys and values differ in heads"
    kept = _groups(found.k, (batch, k[1], keys, size), True)
    common = sorted(set(kept) & set(_groups(found.v, (batch, k[1], keys, width), False)))
    if not common:
        return "keys and values are laid out in different ways"
    return Sizes(batch, heads, k[1], common[0], queries, keys, size, width)


def _leading(dims: tuple[Size, ...], found: Attention) -> tuple[Size, ...]:
    """Return batch and heads of an operand of rank 4, or of one that has them in one axis."""
    if len(dims) == 4:
        return dims[:2]
    heads = _heads(found)
    batch = ir.exact_div(dims[0], heads)
    return () if batch is None else (batch, heads)


def _heads(found: Attention) -> int:
    """Return the number of heads: of any value of rank 4, else what the queries were split from tells it, else 1."""
    for value in (found.q, found.v, *(n.outputs[0] for n in found.nodes)):
        dims = full_dims(value)
        if dims is not None and len(dims) == 4 and isinstance(dims[1], int):
            return dims[1]
    for _, layout, _ in layouts(found.q):
        inner = layout.axes[0][-1:] if layout.axes and len(layout.axes[0]) > 1 else ()
        size = layout.size(inner)
        if inner and isinstance(size, int):
            return size
    return 1


# -- operands --------------------------------------------------------------------------------------------------------
def _four(layout: Layout, dims: Four, turned: bool) -> Layout | None:
    """Return the layout of an operand as [batch, heads, sequence, size]; ``turned``: the last two are exchanged."""
    axes = layout.axes
    laid = replace(layout, axes=(*axes[:-2], axes[-1], axes[-2])) if turned else layout
    return reshaped(laid, dims)


def _stored(layout: Layout) -> Layout | None:
    """Return the layout without the repetition of each head for a group of queries; None for any other repetition."""
    heads = list(layout.axes[1])
    while heads and layout.repeats(heads[-1]):
        heads.pop()
    axes = (layout.axes[0], tuple(heads), *layout.axes[2:])
    return None if any(layout.repeats(f) for axis in axes for f in axis) else replace(layout, axes=axes)


def _groups(value: ir.Value, dims: Four, turned: bool) -> dict[int, list[tuple[ir.Value, Layout, Cost]]]:
    """Return groups -> (source, layout as [batch, groups, sequence, size], the cost of the nodes before it)."""
    found: dict[int, list[tuple[ir.Value, Layout, Cost]]] = {}
    sources = list(layouts(value))
    for source, layout, nodes in sources:
        four = _four(layout, dims, turned)
        stored = None if four is None else _stored(four)
        size = None if stored is None else stored.size(stored.axes[1])
        if stored is not None and isinstance(size, int):
            found.setdefault(size, []).append((source, stored, cost_of(sources[-1][2][len(nodes) :])))
    return found


def cost_of(nodes: Sequence[ir.Node]) -> Cost:
    """Return the cost of some nodes."""
    return sum(n.op_type not in _FREE for n in nodes), len(nodes)


def total(*costs: Cost) -> Cost:
    """Return the sum of costs."""
    return sum(c[0] for c in costs), sum(c[1] for c in costs)


def operand(
    value: ir.Value, dims: Four, rank: int, groups: int, *, turned: bool = False, scaled: bool = True
) -> Operand | None:
    """Return the cheapest way to make an operand of rank 3 or 4, and what it and the nodes before it cost."""
    best: Operand | None = None
    for source, layout, before in _groups(value, dims, turned).get(groups, ()):
        made = rearrangement(source, layout, packed(layout.axes) if rank == 3 else layout.axes)
        if made is None or (made.scale != 1.0 and not scaled):
            continue
        found = Operand(made, total(made.cost, before))
        if best is None or found.cost < best.cost:
            best = found
    return best


def packed(axes: tuple[Factors, ...]) -> tuple[Factors, ...]:
    """[batch, heads, sequence, size] as [batch, sequence, heads * size]."""
    return axes[0], axes[2], (*axes[1], *axes[3])


def past_of(value: ir.Value, dims: Four, groups: int, turned: bool = False) -> Past | None:
    """Return what a value of keys or values joins along the sequence, when it is laid out as Attention takes it."""
    for source, layout, _ in _groups(value, dims, turned).get(groups, ()):
        concat = producer(source, "Concat")
        made = rearrangement(source, layout, layout.axes)
        if concat is None or made is None or made.cost != (0, 0) or made.scale != 1.0:
            continue
        before, added = concat.inputs[0], concat.inputs[-1]
        sizes = full_dims(before)
        if before is None or added is None or sizes is None or len(sizes) != 4 or len(concat.inputs) != 2:
            continue
        if concat.attributes.get_int("axis", 0) in (2, -2):
            return Past(concat, before, added, sizes[2])
    return None


# -- the result ------------------------------------------------------------------------------------------------------
def results(value: ir.Value, dims: Four, rank: int) -> list[tuple[ir.Value, Rearrangement, Cost]]:
    """Return (value behind the last product, how to make it from a result of rank 3 or 4, cost), going further down.

    The cost counts the nodes behind the value too. The sizes of the product are those of its operands, also where a
    mask was not known to leave them so.
    """
    rank_of_product = len(ir.known_dims(value))
    layout: Layout | None = layout_of(dims if rank_of_product == 4 else (dims[0] * dims[1], *dims[2:]))
    found: list[tuple[ir.Value, Rearrangement, Cost]] = []
    while layout is not None:
        four = reshaped(replace(layout, source=layout.axes, axes=layout.source), dims)
        if four is not None:
            source = packed(four.axes) if rank == 3 else four.axes
            made = rearrangement(value, replace(four, source=source), four.source)
            if made is not None:
                found.append((value, made, made.cost))
        user = ir.sole_user(value)
        if user is None or user.op_type not in MOVERS or user.domain != "" or user.inputs[0] is not value:
            break
        found = [(v, m, total(c, cost_of([user]))) for v, m, c in found]
        layout, value = step(layout, user, user.outputs[0]), user.outputs[0]
    return found


def form(found: Attention, sizes: Sizes, rank: int, past: tuple[Past, Past] | None) -> Form | None:
    """Return operands and result of rank 3 or 4; with a past, keys and values are what is joined to it."""
    s = sizes
    q = operand(found.q, (s.batch, s.heads, s.queries, s.size), rank, s.heads)
    if past is None:
        k = operand(found.k, (s.batch, s.met, s.keys, s.size), rank, s.groups, turned=True)
        v = operand(found.v, (s.batch, s.met, s.keys, s.width), rank, s.groups, scaled=False)
    else:
        added = s.keys - past[0].length
        k = operand(past[0].added, (s.batch, s.groups, added, s.size), rank, s.groups, scaled=False)
        v = operand(past[1].added, (s.batch, s.groups, added, s.width), rank, s.groups, scaled=False)
    ends = results(found.output, (s.batch, s.heads, s.queries, s.width), rank)
    if q is None or k is None or v is None or not ends:
        return None
    target, result, cost = min(reversed(ends), key=lambda e: e[2])
    moves, nodes = total(q.cost, k.cost, v.cost, cost)
    return Form(rank, q.made, k.made, v.made, target, result, (moves, k.cost[0] + v.cost[0], nodes))


def pasts(found: Attention, sizes: Sizes) -> tuple[Past, Past] | None:
    """Return the past of keys and values, of one length."""
    s = sizes
    k = past_of(found.k, (s.batch, s.met, s.keys, s.size), s.groups, turned=True)
    v = past_of(found.v, (s.batch, s.met, s.keys, s.width), s.groups)
    return (k, v) if k is not None and v is not None and k.length == v.length and k.concat is not v.concat else None
