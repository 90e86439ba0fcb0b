"""sink-transpose: Transposes moved through operators to where fewer, or smaller ones, do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._permutations import Perm, inverse, is_identity, moved_constant, permutation
from ._regions import Border, Region, border, cut, gives, grow, saves, takes, turned_permutation


@dataclass(frozen=True)
class _Plan:
    region: Region
    chosen: list[ir.Node]
    edge: Border


@dataclass(frozen=True)
class SinkTranspose(SitePass):
    """Compute a connected region of operators on permuted axes where that needs fewer Transposes around it.

    Transpose(f(Transpose(x, p)), p^-1) -> f'(x), f' working on the permuted axes;
    f(Transpose(x, p), Transpose(y, p)) -> Transpose(f'(x, y), p), for any connected f with any number of borders

    f: elementwise operators (broadcast constants permuted), Concat, Split, Slice, Pad, Tile, Gather of scalars and
    rows, reductions, ArgMax, Softmax, Squeeze, Unsqueeze, MatMul (batch axes; rows beside a matrix), normalization
    along the last axis when that stays. The border is a minimum cut; a region is rewritten when there are no more
    Transposes than before and they cost less (elements moved, and a constant each), so it comes to an end.
    Numerics: exact, but for the order of additions in reductions.
    Source: ONNX operator specifications; onnxruntime's transpose optimizer moves one Transpose at a time.
    """

    name: ClassVar[str] = "sink-transpose"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        seen: set[tuple[ir.Node, bool]] = set()
        for node in list(module.nodes()):
            if node.op_type != "Transpose" or node.domain != "" or module.opset() < 13:
                continue
            for forward in (True, False):
                p = permutation(node) if node.graph is not None and (node, forward) not in seen else None
                if p is None or node.graph is None or is_identity(p):
                    continue
                value, perm = (node.outputs[0], p) if forward else (node.inputs[0], inverse(p))
                assert value is not None
                region = grow(node.graph, value, perm)
                seen.add((node, forward))
                seen.update((t, True) for t in region.transposes if gives(t, region.values.get(t.outputs[0], ())))
                seen.update((t, False) for t in region.transposes if _taken_by(region, t))
                if region.nodes:
                    yield Site(node, module, ctx, region)

    def check(self, site: Site) -> str | None:
        plan = _plan(site)
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan = _plan(site)
        assert not isinstance(plan, str)
        _Build(plan, rw).run()


def _taken_by(region: Region, node: ir.Node) -> bool:
    value = node.inputs[0]
    return value is not None and value in region.values and takes(node, region.values[value], region.graph)


def _plan(site: Site) -> _Plan | str:
    region: Region = site.data
    chosen = cut(region, site.ctx.shapes)
    if not chosen:
        return "no region around it needs fewer Transposes"
    edge = border(region, _ordered(chosen))
    if isinstance(edge, str):
        return edge
    count, cost = saves(edge, site.ctx.shapes)
    if count < 0 or cost <= 0:
        return "the Transposes around the region would cost as much"
    return _Plan(region, _ordered(chosen), edge)


def _ordered(nodes: list[ir.Node]) -> list[ir.Node]:
    """Return nodes in an order in which every value comes before its uses."""
    inside, done = set(nodes), dict[ir.Node, None]()
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            sources = (v.producer() for v in node.inputs if v is not None)
            waiting = [s for s in sources if s in inside and s not in done]
            if waiting:
                stack.extend(s for s in waiting if s is not None)
            else:
                done.setdefault(stack.pop())
    return list(done)


class _Build:
    """The new nodes of one rewrite: each stands where the node stood whose place it takes."""

    def __init__(self, plan: _Plan, rw: Rewriter) -> None:
        self.plan, self.rw = plan, rw
        self.region, self.edge = plan.region, plan.edge
        self.stored: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for value in self.edge.stored:
            self.stored[value] = self._permuted(value)
        for node in self.plan.chosen:
            self._compute(node)
        for node in (*self.edge.dropped, *self.edge.turned):
            self._replace(node)
        self.rw.erase(*self.edge.dropped, *self.edge.turned, *reversed(self.plan.chosen), *self.edge.taken)

    def _permuted(self, value: ir.Value) -> ir.Value:
        constant = moved_constant(value, self.region.values[value])
        if constant is not None:
            return self.rw.const(constant)
        producer = value.producer()
        if producer is not None and producer.graph is self.region.graph:
            self.rw.after(producer)
        else:
            self.rw.before(self.region.graph[0])
        made: ir.Value = self.rw.op("Transpose", value, perm=inverse(self.region.values[value]))
        return made

    def _compute(self, node: ir.Node) -> None:
        form = self.region.nodes[node]
        self.rw.before(node)
        inputs: list[ir.Value | np.ndarray[Any, Any] | None] = [
            self._input(v, p) for v, p in zip(node.inputs, form.operands, strict=False)
        ]
        for index, array in form.inputs.items():
            inputs += [None] * (index + 1 - len(inputs))
            inputs[index] = array
        made = self.rw.like(node, *inputs, **form.attributes)
        for old, new, perm in zip(
            node.outputs, made if isinstance(made, tuple) else (made,), form.results, strict=True
        ):
            self._give(old, new, perm)

    def _input(self, value: ir.Value | None, perm: Perm | None) -> ir.Value | None:
        if value is None or perm is None or is_identity(perm):
            return value
        if value in self.stored:
            return self.stored[value]
        producer = value.producer()
        assert producer is not None
        return producer.inputs[0]

    def _give(self, old: ir.Value, new: ir.Value, perm: Perm) -> None:
        if is_identity(perm):
            self.rw.replace(old, new)
            return
        self.stored[old] = new
        if old in self.edge.restored:
            self.rw.replace(old, self.rw.op("Transpose", new, perm=perm))

    def _replace(self, node: ir.Node) -> None:
        value = node.inputs[0]
        assert value is not None
        perm = turned_permutation(node, self.region.values[value])
        if is_identity(perm):
            self.rw.replace(node.outputs[0], self.stored[value])
            return
        self.rw.before(node)
        self.rw.replace(node.outputs[0], self.rw.op("Transpose", self.stored[value], perm=perm))
