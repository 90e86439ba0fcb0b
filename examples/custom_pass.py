"""A pass of your own, in one file: fcc model.onnx --plugin examples/custom_pass.py

Clip with a lower bound at or above zero leaves nothing for a Relu behind it to do.
"""

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var


@dataclass(frozen=True)
class EliminateIdleRelu(PatternPass):
    """Relu(Clip(x, low, high)) -> Clip(x, low, high), for 0 <= low."""

    name: ClassVar[str] = "eliminate-idle-relu"
    pattern: ClassVar = op.Relu(op.Clip(var("x"), const("low"), var("high").optional(), name="clip", shared=True))

    def check(self, m: Match) -> str | None:
        return None if float(m.const("low")) >= 0 else "the Clip lets negative values through"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m.nodes["clip"].outputs[0]
