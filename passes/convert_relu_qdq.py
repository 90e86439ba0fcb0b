"""convert-relu-qdq: int8 at zero point 0 behind a Relu -> uint8 at zero point 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._qdq_convert import Pairs, constants_of, is_op, pairs_of, replace_zero_point


@dataclass(frozen=True)
class ConvertReluQdq(SitePass):
    """Give what a Relu makes the type in which integer kernels of cpu do the Relu themselves.

    DQ(Q(Relu(x))), int8 at zero point 0  ->  uint8 at zero point 0, the same scale

    Shapes: scale and zero point constant, per tensor.
    Numerics: the same, except that values above 127 scales are no longer cut.
    Source: onnxruntime qdq_util.cc (IsClipMadeRedundantByQ).
    """

    name: ClassVar[str] = "convert-relu-qdq"
    exact: ClassVar[bool] = False

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the QuantizeLinear behind every Relu, int8 at zero point 0, where the target multiplies uint8."""
        if ctx.target.qdq is None or ctx.target.qdq.activation_dtype != "uint8":
            return
        for node in [n for n in module.nodes() if is_op(n, "QuantizeLinear")]:
            value = node.inputs[0]
            if node.graph is None or value is None or not is_op(value.producer(), "Relu"):
                continue
            parts = constants_of(node)
            if parts is not None and parts[1].dtype == np.int8 and not parts[1].ndim and not parts[1].any():
                yield Site(node, module, ctx, pairs_of(node.outputs[0]))

    def check(self, site: Site) -> str | None:
        """Return why the type stays."""
        if isinstance(site.data, str):
            return site.data
        return None if site.data.scale > 0 else "the scale is not positive"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Write the pair with the other zero point."""
        pairs: Pairs = site.data
        replace_zero_point(rw, pairs, np.zeros((), np.uint8))
