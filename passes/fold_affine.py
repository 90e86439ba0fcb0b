"""fold-affine: Mul(Conv(x), c) -> Conv(x), for a scalar or per-channel constant and Mul, Add, Sub, Div, Neg."""

from __future__ import annotations

from typing import ClassVar

from fcc.rewrite import Match, const, op, ops

from ._absorb import absorber_of
from ._affine import affine_of
from ._fold import Folded, behind
from ._sites import LINEAR, FoldBehind


class FoldAffine(FoldBehind):
    """Fold a scalar or per-channel Mul, Add, Sub, Div or Neg into the linear op that feeds it.

    Conv(x, w, b) * c -> Conv(x, w * c, b * c);  Conv(x, w, b) + c -> Conv(x, w, b + c);  and so for c - y, y / c, -y

    Linear ops: Conv, ConvTranspose, Gemm, MatMul, MatMul + Add. The constant is a scalar or varies along the channels
    only ([C, 1, 1] or [1, C, 1, 1] after Conv, [N] or [1, N] after Gemm and MatMul) and does not raise the rank.
    An Add to a bare MatMul is its bias and stays; zero and non-finite factors stay.
    Numerics: folded in float64, rounded once to the dtype of ``w``; exact to rounding.
    A weight that other nodes use too is copied, when it has at most ``max_copy`` bytes.
    """

    name: ClassVar[str] = "fold-affine"
    pattern = (ops("Mul", "Add", "Sub", "Div")(LINEAR, const("c")), op.Sub(const("c"), LINEAR), op.Neg(LINEAR))

    def folded(self, m: Match) -> Folded | str:
        linear = absorber_of(m.nodes["linear"], m.get("b"))
        if isinstance(linear, str):
            return linear
        if m.root.op_type == "Add" and linear.node.op_type == "MatMul" and linear.bias is None:
            return "the constant is the bias of the MatMul"
        operand = next(i for i, v in enumerate(m.root.inputs) if v is not m.get("c"))
        affine = affine_of(m.root, operand, linear.outputs)
        return affine if isinstance(affine, str) else behind(linear, affine)
