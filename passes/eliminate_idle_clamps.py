"""eliminate-idle-clamps: Relu(Sigmoid(x)) -> Sigmoid(x), and what else the bounds of a value decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis.intervals import intervals_of
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._clamps import CLAMPS
from ._outputs import output_refusal


class EliminateIdleClamps(SitePass):
    """Remove clamps that bounds of their input make idle, and write down what bounds decide.

    Relu(x), Abs(x), LeakyRelu(x), PRelu(x), Elu(x), Celu(x) -> x where x >= 0;  Abs(x) -> -x where x <= 0
    Clip(x, a, b) -> x where a <= x <= b, Clip(x, a) or Clip(x, , b) where one bound is idle
    Max(x, y) -> x where x >= y, likewise Min;  Where(c, x, y) -> x where c is true;  x mod m -> x where 0 <= x < m
    x < y, Relu(x), Clip(x, a, b), ... -> a constant, where only one number is left

    Shapes: the result must provably have the shape of what is left; a constant at most 1024 elements. The bounds, of
    every tensor or channel by channel, come from ``fcc.analysis.intervals``: element types, constants, activations,
    normalizations, layers with constant weights. Numerics: exact for finite values, up to the sign of zero.
    Source: Moore, Interval Analysis, 1966; ONNX Clip-13, Relu-14.
    """

    name: ClassVar[str] = "eliminate-idle-clamps"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        intervals = intervals_of(module)
        for node in module.nodes():
            rule = CLAMPS.get(node.op_type) if node.domain == "" else None
            if rule is not None and len(node.outputs) == 1 and ir.is_used(node.outputs[0]):
                yield Site(node, module, ctx, rule(node, intervals))

    def check(self, site: Site) -> str | None:
        found = site.data
        if isinstance(found, str):
            return found
        return output_refusal(site.anchor.outputs[0], found) if isinstance(found, ir.Value) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found = site.data
        rw.replace(site.anchor.outputs[0], found if isinstance(found, ir.Value) else found(rw))
        rw.erase(site.anchor)
