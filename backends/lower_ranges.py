"""lower-ranges: Range over operands of shape [1] reads scalars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass


class LowerRanges(SitePass):
    """Make scalars of the operands of a Range that are vectors of one element.

    Range(start [1], limit, delta) -> Range(Squeeze(start), limit, delta)

    onnxruntime computes such a Range while it cannot tell the rank, and refuses the model as soon as it can: a rewrite
    that makes shapes known (an If that is inlined) must not be what breaks it. Shapes: operands of rank 1, of one
    element or of a size that is not known. Numerics: bit for bit.
    Source: ONNX Range-11; onnxruntime generator/range.cc.
    """

    name: ClassVar[str] = "lower-ranges"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.op_type == "Range" and node.domain == "":
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        ranks = [ir.dims_of(v) for v in site.anchor.inputs]
        if not any(ranks):
            return "no operand is known to be a vector"
        several = any(dims and (len(dims) > 1 or (isinstance(dims[0], int) and dims[0] != 1)) for dims in ranks)
        return "an operand has not one element" if several else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        for i, value in enumerate(site.anchor.inputs):
            if ir.dims_of(value):
                rw.set_input(site.anchor, i, rw.op("Squeeze", value))
