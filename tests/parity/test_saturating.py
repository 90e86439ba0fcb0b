from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import fcc
from fcc import ir
from fcc.ir.text import parse
from fcc.parity.saturating import hidden_tensors
from fcc.rewrite import Match, PatternPass, Rewriter, op, var


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("z = Neg(x) y = Softmax(z)", ["z"]),
        ("z = Neg(x) s = Sigmoid(z) y = Transpose(s)", ["z"]),
        ("z = Neg(x) s = Sigmoid(z) y = Neg(s)", []),
        ("y = Softmax(x)", []),
        ("a = Neg(x) b = Abs(x) p = Tanh(a) q = Sigmoid(b) y = Concat<axis=0>(p, q)", ["a", "b"]),
    ],
)
def test_tensors_in_front_of_saturating_outputs(body: str, names: list[str]) -> None:
    module = parse(f"g (float[4,4] x) => (float[a,b] y) {{ {body} }}")
    assert hidden_tensors(module) == names


def test_tensor_that_is_an_output_hides_nothing() -> None:
    assert hidden_tensors(parse("g (float[4] x) => (float[4] z, float[4] y) { z = Neg(x) y = Softmax(z) }")) == []


@dataclass(frozen=True)
class ShiftLogits(PatternPass):
    """Mul(x, 1000) -> Mul(x, 1001): wrong, but a saturated Sigmoid does not show it."""

    name: ClassVar[str] = "shift-logits"
    pattern: ClassVar = op.Mul(var("x"), var("c"))

    def check(self, m: Match) -> str | None:
        return None if float(m.const("c").reshape(-1)[0]) == 1000 else "not the constant"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Mul", m["x"], np.full(1, 1001, np.float32))
        return value


def test_a_broken_logit_behind_a_saturated_output_is_found() -> None:
    pytest.importorskip("onnxruntime")
    text = "g (float[N,8] x) => (float[N,8] y) <float[1] c = {1000}, float[1] d = {5}> { a = Abs(x) b = Add(a, d) z = Mul(b, c) y = Sigmoid(z) }"
    compiled = fcc.compile(parse(text).model, plugins=[ShiftLogits()])
    assert [g["pass_name"] for g in compiled.report.guilty] == ["shift-logits"]
    row = next(r for r in compiled.report.parity if r.phase == "inside")
    assert (row.output, row.ok) == ("z", True)
