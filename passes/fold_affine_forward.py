"""fold-affine-forward: Conv(Mul(x, c)) -> Conv(x), for a scalar or per-channel constant and Mul, Add, Sub, Div, Neg."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, ops, var

from ._fold import Folded
from ._fused import in_fused_function
from ._sites import ahead_of, ahead_patterns, others_refusal

_SOURCES = (
    ops("Mul", "Add", "Sub", "Div")(var("x"), const("c"), name="source", shared=True),
    op.Sub(const("c"), var("x"), name="source", shared=True),
    op.Neg(var("x"), name="source", shared=True),
)


@dataclass(frozen=True)
class FoldAffineForward(PatternPass):
    """Fold a scalar or per-channel Mul, Add, Sub, Div or Neg into every linear op that it feeds.

    Conv(x * c, w, b) -> Conv(x, c * w, b);  Gemm(x + c, W, b) -> Gemm(x, W, c W + b);  and so for c - x, x / c, -x

    Linear ops, shapes and refusals as in fold-affine and fold-batchnorm-forward: a shift only without padding, all
    users absorb or none, a bare MatMul of rank above 2 takes no shift. An operand of a normalization or GELU that
    runtimes fuse as a whole (LayerNormalization written out, 0.5 * x * (1 + erf)) stays where it is.
    Numerics: folded in float64, rounded once to the dtype of the weight; exact to rounding.
    """

    name: ClassVar[str] = "fold-affine-forward"
    pattern = tuple(pattern for source in _SOURCES for pattern in ahead_patterns(source))

    max_copy: int = 1 << 20

    def check(self, m: Match) -> str | None:
        operand = _operand(m)
        site = ahead_of(m, operand)
        folded = site if isinstance(site, str) else site.fold()
        if isinstance(folded, str):
            return folded
        if in_fused_function(m["x"]):
            return "it belongs to a normalization or an activation that runtimes fuse"
        return folded.refusal(m.ctx.target, self.max_copy) or others_refusal(m, operand, self.max_copy)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        site = ahead_of(m, _operand(m))
        assert not isinstance(site, str)
        folded = site.fold()
        assert isinstance(folded, Folded)
        return folded.emit(rw, site.input(rw), m.ctx.target)


def _operand(m: Match) -> int:
    return next(i for i, v in enumerate(m.nodes["source"].inputs) if v is m["x"])
