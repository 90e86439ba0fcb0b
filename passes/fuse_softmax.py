"""fuse-softmax: exp(x - max(x)) / sum(exp(x - max(x))) -> Softmax(x)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis.interior import escape
from fcc.analysis.softmax import Soft, softmax_at
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._norms import inner_axis_refusal

_ENDS = ("Div", "Mul", "Sub", "Log", "Exp")


class FuseSoftmax(SitePass):
    """Recover Softmax and LogSoftmax from primitives, whatever the spelling.

    exp(x - m) / sum(exp(x - m)), or times the Reciprocal of the sum -> Softmax(x), m the maximum along the axis
    x - m - log(sum(exp(x - m))), x - (log(sum(exp(x - m))) + m), x - ReduceLogSumExp(x) -> LogSoftmax(x)
    exp(LogSoftmax(x)) -> Softmax(x);  log(Softmax(x)) -> LogSoftmax(x) where no probability can underflow

    Without a maximum the primitives overflow where the operator does not, so x must be bounded by the node that makes
    it (Tanh, Sigmoid, Clip, times constants). Reshape, Squeeze, Unsqueeze and Expand on the way of the maximum and the
    sum are looked through, as is Max(-inf, m).

    Shapes: any, one axis. An axis that is not the last one only where the target's kernel pays (inner axes cost it
    two transpositions).
    Numerics: exact in real numbers, and no overflow or underflow appears or disappears.
    Source: ONNX Softmax-13, LogSoftmax-13.
    """

    name: ClassVar[str] = "fuse-softmax"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in reversed(list(module.nodes())):
            if node.op_type in _ENDS and node.graph is not None:
                found = softmax_at(node)
                if found is not None:
                    yield Site(node, module, ctx, found)

    def check(self, site: Site) -> str | None:
        found: Soft = site.data
        end = site.anchor.outputs[0]
        if found.reason is not None:
            return found.reason
        if end.dtype is None:
            return "the element type is not known"
        kind = {"T": end.dtype.name.lower()}
        return escape(found.interior) or site.ctx.target.refusal(_op(found), "", site.module.opset(), kind)

    def pays(self, site: Site) -> str | None:
        found: Soft = site.data
        if found.axis == len(ir.known_dims(found.x)) - 1 or len(found.interior) <= 2:
            return None
        return inner_axis_refusal(site.ctx, found.x, (found.axis,))

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: Soft = site.data
        rw.replace(site.anchor.outputs[0], rw.op(_op(found), found.x, axis=found.axis))
        rw.erase(*found.interior)


def _op(found: Soft) -> str:
    return "LogSoftmax" if found.log else "Softmax"
