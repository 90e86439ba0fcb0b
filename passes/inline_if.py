"""inline-constant-ifs: If(constant) -> the nodes of the branch it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import cone, has_elements


class InlineConstantIfs(SitePass):
    """Move the branch that a known condition takes into the graph around the If.

    y = If(true) {then: f(x), else: g(x)} -> y = f(x)

    Shapes: any; the condition is a constant, or known from shapes. Constants and nested graphs of the branch move with
    it; a name that a branch gave to the result of the If becomes the name of the If's output.
    Source: ONNX If-25.
    """

    name: ClassVar[str] = "inline-constant-ifs"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        version: int | None = None
        while version != module.version:
            version = module.version
            for node in list(module.nodes()):
                if node.op_type == "If" and node.domain == "" and any(ir.is_used(v) for v in node.outputs):
                    yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        taken = _taken(site.anchor)
        if taken is None:
            return "the condition depends on the inputs"
        return None if len(taken.outputs) == len(site.anchor.outputs) else "the branch gives another number of outputs"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node, body = site.anchor, _taken(site.anchor)
        assert body is not None
        inline_branch(node, body, rw)


def inline_branch(node: ir.Node, body: ir.Graph, rw: Rewriter) -> None:
    """Let the nodes of one branch stand for the If, and erase what only its condition needed."""
    given: set[ir.Value] = set()
    for old, new in zip(node.outputs, rw.inline(body), strict=True):
        if len(ir.known_dims(old)) != len(ir.known_dims(new)):
            old.shape = None  # declared for the other branch
        rw.replace(old, rw.op("Identity", new) if new in given else new)
        given.add(new)
    rw.erase(node, *reversed(cone(node.inputs, rw.graph, has_elements)))


def _taken(node: ir.Node) -> ir.Graph | None:
    """Return the branch that the condition takes, None when it is not known."""
    condition = shapes.elements(node.inputs[0])
    if condition is None or condition.size != 1 or isinstance(condition.reshape(-1)[0], ir.Dim):
        return None
    return node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"].as_graph()
