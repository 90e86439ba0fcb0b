"""fold-batchnorm-forward: Gemm(BatchNormalization(x)) -> Gemm(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._fold import Folded
from ._sites import ahead_of, ahead_patterns, others_refusal


@dataclass(frozen=True)
class FoldBatchNormForward(PatternPass):
    """Fold an inference BatchNormalization into every linear op that it feeds.

    Gemm(BN(x), W, b) -> Gemm(x, s * W, t W + b),  s = scale / sqrt(var + epsilon), t = shift - mean * s

    The same for Conv, ConvTranspose and MatMul, and for Gemm or MatMul behind a Flatten or Reshape from [N, C, *rest]
    to [N, C * prod(rest)]. A Conv that pads takes part only when t = 0 (zeros are padded, not t), a ConvTranspose
    likewise. All users must absorb, else the BatchNormalization would stay and nothing is done.
    Shapes: as in fold-batchnorm, the statistics vectors of the input channels.
    Numerics: folded in float64, rounded once to the dtype of the weight; exact to rounding.
    Source: ONNX BatchNormalization-15.
    """

    name: ClassVar[str] = "fold-batchnorm-forward"
    pattern = ahead_patterns(
        op.BatchNormalization(
            var("x"), const("scale"), const("shift"), const("mean"), const("var"), name="source", shared=True
        )
    )

    max_copy: int = 1 << 20

    def check(self, m: Match) -> str | None:
        site = ahead_of(m, 0)
        folded = site if isinstance(site, str) else site.fold()
        if isinstance(folded, str):
            return folded
        return folded.refusal(m.ctx.target, self.max_copy) or others_refusal(m, 0, self.max_copy)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        site = ahead_of(m, 0)
        assert not isinstance(site, str)
        folded = site.fold()
        assert isinstance(folded, Folded)
        return folded.emit(rw, site.input(rw), m.ctx.target)
