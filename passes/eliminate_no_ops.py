"""eliminate-no-ops: f(x) -> x where f changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, ops

from ._no_op_elementwise import ELEMENTWISE, changes_zero_sign
from ._no_op_layout import LAYOUT, Found
from ._outputs import output_refusal

NO_OPS = {**LAYOUT, **ELEMENTWISE}


@dataclass(frozen=True)
class EliminateNoOps(PatternPass):
    """Remove nodes that return one of their operands, by the table of operators and conditions.

    Dropout(x) -> x (inference, mask unused);  Cast(x), CastLike(x, y) -> x of the same type;
    Pad(x, 0), Slice(x, all), Tile(x, 1), Expand(x, its shape), Resize(x, nearest, scales 1) -> x;
    Transpose, Reshape, Flatten, Squeeze, Unsqueeze that keep the shape and the order -> x;
    Concat without its empty operands; Concat, Sum, Max, Min, Mean of one operand, Split into one -> x;
    x + 0, x - 0, x * 1, x / 1, x ^ 1, x and true, x or false, x xor false, Where(true, x, y) -> x;
    x and false -> false, x or true -> true.

    Shapes: the result must provably have the shape of ``x`` for every value of the symbols; broadcasting refuses.
    Numerics: bit for bit, but x + 0.0 and x - (-0.0), which would turn -0.0 into 0.0; ``signed_zeros`` keeps those.
    Source: the operators' ONNX specifications; onnxruntime removes the same arithmetic in NoopElimination.
    """

    name: ClassVar[str] = "eliminate-no-ops"
    pattern = ops(*sorted(NO_OPS))(variadic=True)
    signed_zeros: bool = False

    def check(self, m: Match) -> str | None:
        found = NO_OPS[m.root.op_type](m.root)
        if isinstance(found, str):
            return found
        if self.signed_zeros and changes_zero_sign(m.root):
            return "the sign of zero may change"
        return output_refusal(m.root.outputs[0], found) if isinstance(found, ir.Value) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found: Found = NO_OPS[m.root.op_type](m.root)
        assert not isinstance(found, str)
        return found if isinstance(found, ir.Value) else found(rw)
