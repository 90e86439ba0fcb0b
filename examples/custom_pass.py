"""A pass of your own, in one file: fcc model.onnx --plugin examples/custom_pass.py

Sqrt(x) * Sqrt(x) is x where x is not negative; exporters of some losses leave it behind. It is exact here only when x
comes out of a Relu or Abs, which the pattern states.
"""

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, ops, var


@dataclass(frozen=True)
class FoldSquareOfSqrt(PatternPass):
    """Mul(Sqrt(t), Sqrt(t)) -> t, for t = Relu(x) or Abs(x)."""

    name: ClassVar[str] = "fold-square-of-sqrt"
    root: ClassVar = op.Sqrt(ops("Relu", "Abs")(var("x"), name="t", shared=True), name="sqrt")
    pattern: ClassVar = op.Mul(root, root)

    def check(self, m: Match) -> str | None:
        return None if m.root.outputs[0].dtype == ir.DataType.FLOAT else "only float32 was thought through"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m.nodes["t"].outputs[0]
