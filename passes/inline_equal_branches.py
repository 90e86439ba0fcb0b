"""inline-equal-branches: an If whose branches compute the same -> the nodes of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis.loops import control_flow
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._twins import Twins
from .inline_if import inline_branch

_BRANCHES = ("then_branch", "else_branch")


class InlineEqualBranches(SitePass):
    """Move one branch of an If into the graph around it where both compute the same.

    y = If(c) {then: f(x), else: f(x)} -> y = f(x)

    The same means: the same operators, attributes and order of operands, on the same outer values and equal constants;
    branches that hold graphs are not compared. The condition, which then nobody may need, goes with dead code.
    Shapes: any. Numerics: exact. Source: ONNX If-25.
    """

    name: ClassVar[str] = "inline-equal-branches"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in reversed(list(control_flow(module, "If"))):  # the inner ones first
            if node.graph is not None and any(ir.is_used(v) for v in node.outputs):
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        then, other = (list(site.anchor.attributes[b].as_graph().outputs) for b in _BRANCHES)
        if not len(then) == len(other) == len(site.anchor.outputs):
            return "the branches give other numbers of values"
        twins = Twins(site.module)
        same = all(twins.pair(a, b) for a, b in zip(then, other, strict=True))
        return None if same else "the branches compute something else"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        inline_branch(site.anchor, site.anchor.attributes[_BRANCHES[0]].as_graph(), rw)
