"""fuse-unrolled-recurrent: steps of an RNN, GRU or LSTM written out one by one -> the operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import freed_bytes
from ._recurrent import UNROLLED, Layer, leaving, stacked, unstacked
from ._sequence_items import Item, item_of, known_number
from ._unrolled_cells import Chain, Finder, rows_of_products, shared_matrices
from ._unrolled_stacks import elements, stacks_of
from ._zero_steps import with_zero_step


@dataclass
class _Candidate:
    """Products of one matrix in a row; the chain of steps around them, once it was looked for, and its nodes."""

    row: list[ir.Node]
    chain: Chain | None = None
    layer: Layer | None = None
    nodes: tuple[ir.Node, ...] = ()


@dataclass(frozen=True)
class FuseUnrolledRecurrent(SitePass):
    """Recover recurrent layers from steps that an exporter wrote out one by one.

    h1 = cell(x[0], h0), h2 = cell(x[1], h1), ...  ->  Y, Y_h = GRU(x, W, R, B, , h0), h1 = Y[0], h2 = Y[1], ...

    Cells and their spellings as in fuse-recurrent. The steps are of one form, with the same weights; the first one may
    be folded for a state of zeros. Their inputs are elements of a sequence in order, forwards or backwards, by Gather,
    Slice or Split; where only the last state is used, it alone is read. Hidden states may be used by anything, cell
    states of an LSTM only the last one.
    Shapes: x [steps, rows, inputs] with the steps on any axis, states [rows, units], or without rows.
    Numerics: exact to rounding; weights are combined in float64 and rounded once. Float constants only. The file may
    grow by ``growth`` bytes. Only where the target runs the operator, and not where its kernel was measured slower.
    Source: ONNX RNN-22, GRU-22, LSTM-22.
    """

    name: ClassVar[str] = "fuse-unrolled-recurrent"
    measured: ClassVar[bool] = True
    growth: int = 1024

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        version = -1
        while version != module.version:
            version = module.version
            for graph in list(module.graphs()):
                for products in list(shared_matrices(graph)):
                    for row in list(rows_of_products(products)):
                        if all(p.graph is graph for p in row):
                            yield Site(row[0], module, ctx, _Candidate(row))

    def check(self, site: Site) -> str | None:
        candidate: _Candidate = site.data
        chain = Finder(site.module, candidate.row).find()
        if chain is None:
            return "what lies between the products of a shared matrix is no recurrent cell"
        chain = with_zero_step(chain)
        layer = _layer(chain)
        if isinstance(layer, str):
            return layer
        nodes = _nodes(chain)
        candidate.chain, candidate.layer, candidate.nodes = chain, layer, tuple(nodes)
        reason = layer.refusal(site.module, site.ctx, False) or _escape(chain, nodes)
        if reason is not None:
            return reason
        size, room = layer.growth(), freed_bytes(nodes) + self.growth
        return f"the layer has {size} bytes, {room} would be freed" if size > room else None

    def pays(self, site: Site) -> str | None:
        layer: Layer = site.data.layer
        return layer.pays(site.ctx, UNROLLED)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        candidate: _Candidate = site.data
        chain, layer = candidate.chain, candidate.layer
        assert chain is not None
        assert layer is not None
        first, last = chain.steps[0].h.producer(), chain.steps[-1]
        assert first is not None
        rw.before(first)
        y, *finals = layer.emit(rw)
        stacks = stacks_of(chain)
        rows = {n for s in stacks for n in s.rows}
        inside = rows.union(candidate.nodes)
        for stack in stacks:
            hidden = unstacked(y, layer.state, rw)
            rw.replace(stack.node.outputs[0], stacked(hidden, stack.axis, stack.turned != layer.reverse, rw))
            rw.erase(stack.node)
        used = [i for i, s in enumerate(chain.steps) if _is_used(s.h, inside)]
        pieces = used if len(used) >= len(chain.steps) - 1 > 1 else [i for i in used if i != len(chain.steps) - 1]
        for i, value in zip(pieces, elements(y, layer, len(chain.steps), pieces, rw), strict=True):
            rw.replace(chain.steps[i].h, value)
        for old, final in zip(last.ends, finals, strict=True):
            if _is_used(old, inside) and not (old is last.h and len(chain.steps) - 1 in pieces):
                rw.replace(old, leaving(final, layer.state, rw))
        order = {n: i for i, n in enumerate(rw.graph)}
        inputs = {p for s in chain.steps for v in s.inputs if (p := v.producer()) is not None and p in order}
        rw.erase(*sorted(inside | inputs, key=lambda n: -order[n]))


def _layer(chain: Chain) -> Layer | str:
    """Return the layer that a chain is, or why its inputs are no sequence."""
    items, directions, outputs = [], set(), len(chain.cell.gates) * chain.cell.hidden
    for i in range(len(chain.steps[0].inputs)):
        found = [item_of(s.inputs[i], known_number) for s in chain.steps]
        places = [f.at for f in found if f is not None and isinstance(f.at, int)]
        first = found[0]
        if first is None or len(places) != len(found):
            return "an input of the cell is no element of a sequence"
        if any(f is None or (f.sequence, f.axis) != (first.sequence, first.axis) for f in found):
            return "the inputs are elements of several sequences"
        low, count = min(places), len(places)
        forwards, backwards = list(range(low, low + count)), list(range(low + count - 1, low - 1, -1))
        if places not in (forwards, backwards):
            return "the inputs are not in the order of the sequence"
        items.append(Item(first.sequence, first.axis, low).unprojected(outputs))
        directions.add(places != forwards)
    if len(directions) != 1:
        return "it reads sequences in both directions, or none"
    return Layer(chain.cell, tuple(items), len(chain.steps), True in directions, chain.steps[0].h, chain.h, chain.c)


def _nodes(chain: Chain) -> dict[ir.Node, None]:
    """Return the nodes of all steps; what an outer graph computes for them stays there."""
    last = chain.steps[-1].h.producer()
    found: dict[ir.Node, None] = {}
    before = [v for v in (chain.h, chain.c) if v is not None]
    for step in chain.steps:
        stack = list(step.ends)
        while stack:
            value = stack.pop()
            node = value.producer()
            if node is None or last is None or node.graph is not last.graph or node in found:
                continue
            if value not in before and value not in step.inputs:
                found[node] = None
                stack += ir.operands(node)
        before = step.ends
    return found


def _escape(chain: Chain, nodes: dict[ir.Node, None]) -> str | None:
    """Return which value that depends on a state is used elsewhere; hidden states and the last ones may be."""
    free = {s.h for s in chain.steps} | set(chain.steps[-1].ends)
    moving = {v for v in (chain.h, chain.c) if v is not None} | {v for s in chain.steps for v in s.ends}
    for node in _ordered(nodes):
        if moving.isdisjoint(v for v in node.inputs if v is not None):
            continue
        moving.update(node.outputs)
    inside = {v for n in nodes for v in n.outputs} & moving
    found = next((v for v in inside - free if _is_used(v, nodes)), None)
    return None if found is None else f"{found.name!r} is used outside of the cell"


def _ordered(nodes: dict[ir.Node, None]) -> list[ir.Node]:
    graph = next(iter(nodes)).graph
    assert graph is not None
    return [n for n in graph if n in nodes]


def _is_used(value: ir.Value, inside: set[ir.Node] | dict[ir.Node, None]) -> bool:
    return value.is_graph_output() or any(n not in inside for n in value.consumers())
