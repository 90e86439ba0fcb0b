"""fold-batchnorm: BatchNormalization(Conv(x)) -> Conv(x)."""

from __future__ import annotations

from typing import ClassVar

from fcc.rewrite import Match, const, op

from ._absorb import absorber_of
from ._affine import affine_of
from ._fold import Folded, behind
from ._sites import LINEAR, FoldBehind


class FoldBatchNorm(FoldBehind):
    """Fold an inference BatchNormalization into the linear op that feeds it.

    BN(Conv(x, w, b)) -> Conv(x, w * s, (b - mean) * s + shift),  s = scale / sqrt(var + epsilon)

    The same for ConvTranspose, Gemm, MatMul and MatMul + Add (of rank 2: BatchNormalization has its channels on axis 1;
    a MatMul becomes a Gemm, which has a bias). Shapes: x [N, C, *spatial], Conv w [M, C/group, *kernel], ConvTranspose
    w [C, M/group, *kernel], Gemm [N, K]; the bias a row, every other operand a vector of the output channels.
    Numerics: folded in float64, rounded once to the dtype of ``w``; exact to rounding.
    A weight that other nodes use too is copied, when it has at most ``max_copy`` bytes.
    Source: ONNX BatchNormalization-15; Ioffe & Szegedy 2015, sec. 3.1.
    """

    name: ClassVar[str] = "fold-batchnorm"
    pattern = op.BatchNormalization(LINEAR, const("scale"), const("shift"), const("mean"), const("var"))

    def folded(self, m: Match) -> Folded | str:
        linear = absorber_of(m.nodes["linear"], m.get("b"))
        if isinstance(linear, str):
            return linear
        affine = affine_of(m.root, 0, linear.outputs)
        return affine if isinstance(affine, str) else behind(linear, affine)
