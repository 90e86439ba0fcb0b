"""fuse-matmul-add: Add(MatMul(a, b), c) -> Gemm(a, b, c)."""

from __future__ import annotations

from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._affine import FLOATS
from ._fold import gemm_refusal


class FuseMatMulAdd(PatternPass):
    """Fuse a product of two matrices and the addition to it.

    MatMul(a, b) + c -> Gemm(a, b, c)

    Shapes: a [M, K], b [K, N], c broadcasts to [M, N] (scalar, [N], [1, N], [M, 1], [M, N]) and may be computed.
    Numerics: exact (a runtime may order the sum differently). Element types: those for which the target has a Gemm.
    Source: ONNX Gemm-13.
    """

    name: ClassVar[str] = "fuse-matmul-add"
    pattern = op.Add(op.MatMul(var("a"), var("b"), name="matmul"), var("c"))

    def check(self, m: Match) -> str | None:
        product = m.nodes["matmul"].outputs[0]
        if m["c"] is product:
            return "the product is added to itself"
        a, b, c = (ir.dims_of(m[name]) for name in "abc")
        if a is None or b is None or c is None:
            return "a rank is not known"
        if len(a) != 2 or len(b) != 2:
            return "the product is not one of two matrices"
        if not _broadcasts(c, (a[0], b[1])):
            return "the addend does not broadcast to the product, or is not known to"
        if product.dtype not in FLOATS:
            return f"Gemm is for floats, not {product.dtype}"
        return gemm_refusal(m.ctx.target, product.dtype)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        fused: ir.Value = rw.op("Gemm", m["a"], m["b"], m["c"])
        return fused


def _broadcasts(dims: tuple[ir.Dim | int | None, ...], to: tuple[ir.Dim | int | None, ...]) -> bool:
    """Whether a shape broadcasts to ``to`` and leaves it as it is."""
    if len(dims) > len(to):
        return False
    return all(d == 1 or (d is not None and d == t) for d, t in zip(reversed(dims), reversed(to), strict=False))
