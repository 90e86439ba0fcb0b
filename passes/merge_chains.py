"""merge-chains: f(g(x)) -> h(x), g(x) or x, for pairs of cheap operators."""

from __future__ import annotations

from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, ops

from ._chains import CHAINS
from ._no_op_layout import Found
from ._outputs import output_refusal


class MergeChains(PatternPass):
    """Replace two operators in a row by one or none, by the table of pairs and conditions.

    Transpose(Transpose(x)) -> Transpose(x) or x
    Reshape(Reshape(x)) -> Reshape(x) or x, likewise any two of Reshape, Flatten, Squeeze, Unsqueeze
    Cast(Cast(x)) -> Cast(x) or x, where the first cast keeps every value
    Clip(Clip(x, a, b), c, d) -> Clip(x, clamp(a, c, d), clamp(b, c, d)), Relu being Clip(x, 0, inf); a <= b, c <= d
    Slice(Slice(x)) -> x, where both take all of one axis backwards
    f(f(x)) -> f(x) for Abs, Ceil, Floor, Relu, Round, Sign;  Neg(Neg(x)) -> x, Not(Not(x)) -> x

    Shapes: that of the result must be known, at most up to dimensions that a Reshape can copy or infer.
    Numerics: exact, except for which of -0.0 and 0.0 a Clip or Relu gives at its bound 0.
    Where the first operator has other users it stays, and only results that need no new node are taken.
    Source: the operators' ONNX specifications.
    """

    name: ClassVar[str] = "merge-chains"
    pattern = tuple(
        ops(outer)(ops(inner)(name="inner", shared=True, variadic=True), variadic=True) for inner, outer in CHAINS
    )

    def check(self, m: Match) -> str | None:
        found = self._found(m)
        if isinstance(found, str):
            return found
        if isinstance(found, ir.Value):
            return output_refusal(m.root.outputs[0], found)
        return None if ir.sole_user(m.nodes["inner"].outputs[0]) is m.root else "the first operator has other users"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = self._found(m)
        assert not isinstance(found, str)
        return found if isinstance(found, ir.Value) else found(rw)

    @staticmethod
    def _found(m: Match) -> Found:
        inner = m.nodes["inner"]
        return CHAINS[inner.op_type, m.root.op_type](inner, m.root)
