"""The rewrite of a region: the sites, the plan, and the new nodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._regions import Array, Border, Layout, Movers, Region, border, cut, grow, saves


@dataclass(frozen=True)
class Plan:
    """What to compute on stored values, in an order in which every value comes before its uses."""

    region: Region
    chosen: list[ir.Node]
    edge: Border


def region_sites(module: ir.Module, ctx: PassContext, movers: Movers) -> Iterator[Site]:
    """Yield a site for every region around a mover, each once."""
    seen: set[tuple[ir.Node, bool]] = set()
    for node in [n for n in module.nodes() if movers.moves(n)]:
        for forward in (True, False):
            if node.graph is None or (node, forward) in seen:
                continue
            value = node.outputs[0] if forward else node.inputs[0]
            layout = movers.given(node) if forward else movers.taken(node)
            if value is None or layout is None or not movers.fits(value, layout):
                continue
            region = grow(node.graph, movers, value, layout)
            seen.add((node, forward))
            for other in region.seen:
                if region.gives(other, region.values.get(other.outputs[0], ())):
                    seen.add((other, True))
                if other.inputs[0] in region.values and region.takes(other, region.values[other.inputs[0]]):
                    seen.add((other, False))
            if region.nodes:
                yield Site(node, module, ctx, region)


def plan_of(site: Site) -> Plan | str:
    """Return what to compute otherwise around a site, or why that saves nothing."""
    region: Region = site.data
    chosen = ordered(cut(region, site.ctx.shapes))
    if not chosen:
        return "no region around it needs fewer movers"
    edge = border(region, chosen)
    if isinstance(edge, str):
        return edge
    count, cost = saves(region, edge, site.ctx.shapes)
    if count < 0 or cost <= 0:
        return "the movers around the region would cost as much"
    return Plan(region, chosen, edge)


def ordered(nodes: list[ir.Node]) -> list[ir.Node]:
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


class Build:
    """The new nodes of one rewrite: each stands where the node stood whose place it takes."""

    def __init__(self, plan: Plan, rw: Rewriter) -> None:
        self.plan, self.rw = plan, rw
        self.region, self.edge = plan.region, plan.edge
        self.stored: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for value in self.edge.stored:
            self.stored[value] = self._store(value)
        makers = [self._remade(value) for value in self.edge.remade]
        for node in self.plan.chosen:
            self._compute(node)
        for node in (*self.edge.dropped, *self.edge.turned):
            self._replace(node)
        self.rw.erase(*self.edge.dropped, *self.edge.turned, *reversed(self.plan.chosen))
        self.rw.erase(*self.edge.taken, *makers)

    def _store(self, value: ir.Value) -> ir.Value:
        layout, producer = self.region.values[value], value.producer()
        constant = self.region.movers.constant(value, layout)
        if constant is not None:
            return self.rw.const(constant)
        if producer is not None and producer.graph is self.region.graph:
            self.rw.after(producer)
        else:
            self.rw.before(self.region.graph[0])
        return self.region.movers.store(self.rw, value, layout)

    def _remade(self, value: ir.Value) -> ir.Node:
        """Store a value from what its mover reads, and return the mover."""
        mover = value.producer()
        assert mover is not None
        assert mover.inputs[0] is not None
        self.rw.before(mover)
        self.stored[value] = self.region.movers.store(self.rw, mover.inputs[0], self.region.values[value])
        return mover

    def _compute(self, node: ir.Node) -> None:
        form = self.region.nodes[node]
        self.rw.before(node)
        inputs: list[ir.Value | Array | None] = [
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

    def _input(self, value: ir.Value | None, perm: Layout | None) -> ir.Value | None:
        if value is None or perm is None or self.region.movers.same(value, perm):
            return value
        if value in self.stored:
            return self.stored[value]
        producer = value.producer()
        assert producer is not None
        return producer.inputs[0]

    def _give(self, old: ir.Value, new: ir.Value, perm: Layout) -> None:
        if self.region.movers.same(old, perm):
            self.rw.replace(old, new)
            return
        self.stored[old] = new
        if old in self.edge.restored:
            self.rw.replace(old, self.region.movers.restore(self.rw, new, old, perm))

    def _replace(self, node: ir.Node) -> None:
        value = node.inputs[0]
        assert value is not None
        layout, stored = self.region.values[value], self.stored[value]
        if self.region.takes(node, layout):
            self.rw.replace(node.outputs[0], stored)
            return
        self.rw.before(node)
        self.rw.replace(node.outputs[0], self.region.movers.turn(self.rw, stored, node, layout))


class RegionPass(SitePass):
    """Compute regions in the layout on the other side of their movers; ``movers`` says which operators move."""

    @abstractmethod
    def movers(self) -> Movers:
        """Return the operators that are moved."""

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        if module.opset() >= 13:
            yield from region_sites(module, ctx, self.movers())

    def check(self, site: Site) -> str | None:
        plan = plan_of(site)
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan = plan_of(site)
        assert not isinstance(plan, str)
        Build(plan, rw).run()
