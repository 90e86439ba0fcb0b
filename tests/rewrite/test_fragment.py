"""Fragments: what a rewrite removes and writes, as two texts that can be timed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import model_of, parse
from fcc.rewrite import Log, Match, PassContext, PatternPass, Rewriter, Site, SitePass, op, run_pass, var
from fcc.rewrite.fragment import Question
from fcc.runtime import open_session
from fcc.target import get_target


@dataclass(frozen=True)
class Swap(PatternPass):
    """Neg(Relu(x)) -> Min(Neg(x), 0), a measured choice."""

    name: ClassVar[str] = "convert-swap"
    measured: ClassVar[bool] = True
    pattern: ClassVar = op.Neg(op.Relu(var("x"), shared=True))

    def pays(self, m: Match) -> str | None:
        return "it never pays"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        low: ir.Value = rw.op("Min", rw.op("Neg", m["x"]), rw.const(np.float32(0.0)))
        return low


@dataclass(frozen=True)
class Widen(SitePass):
    """Add(a, b) -> Sum(a, b), timed with the Relu behind it."""

    name: ClassVar[str] = "convert-widen"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext):  # type: ignore[no-untyped-def]
        for node in list(module.nodes()):
            if node.op_type == "Add":
                yield Site(node, module, ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        a, b = site.anchor.inputs
        floats = site.anchor.outputs[0].dtype != ir.DataType.INT64
        rw.replace(site.anchor.outputs[0], rw.op("Sum", a, b) if floats else rw.op("Add", b, a))
        rw.erase(site.anchor)

    def context(self, site: Site) -> Sequence[ir.Node]:
        return [u.node for u in site.anchor.outputs[0].uses() if u.node.op_type == "Relu"]


class Answers:
    """Costs that answer everything alike and remember what was asked."""

    def __init__(self, answer: str | None, asks: bool = True) -> None:
        self.answer, self.willing = answer, asks
        self.asked: list[Question | None] = []

    def asks(self, pass_name: str, site: str) -> bool:
        return self.willing

    def refusal(self, pass_name: str, site: str, question: Question | None) -> str | None:
        self.asked.append(question)
        return self.answer


def run(p: PatternPass | SitePass, text: str, costs: Answers | None, sizes: dict[str, int] | None = None) -> list[str]:
    module = parse(text)
    shapes.infer(module)
    log = Log(strict=True, explain=frozenset({p.name}))
    run_pass(p, module, PassContext(get_target("cpu"), log, sizes or {}, costs=costs))
    ir.verify(module)
    return [*(n.op_type for n in module.graph), *(r.reason for r in log.refused)]


NEG = "g (float[N,4] x) => (float[N,4] y) { r = Relu(x) y = Neg(r) }"


@pytest.mark.parametrize("costs", [None, Answers("", asks=False), Answers(None)])
def test_the_pass_guesses_where_nothing_is_recorded(costs: Answers | None) -> None:
    assert run(Swap(), NEG, costs) == ["Relu", "Neg", "it never pays"]


def test_a_record_goes_before_the_guess() -> None:
    assert run(Swap(), NEG, Answers(""))[:2] == ["Neg", "Min"]
    assert run(Swap(), NEG, Answers("measured: 1.30 of the time")) == ["Relu", "Neg", "measured: 1.30 of the time"]


def test_both_fragments_have_the_same_inputs_and_outputs() -> None:
    costs = Answers("")
    run(Swap(), NEG, costs, {"N": 3})
    assert costs.asked == [
        Question(
            "f (float[3,4] x0) => (float[3,4] y0) { v1 = Relu(x0)  y0 = Neg(v1) }",
            "f (float[3,4] x0) => (float[3,4] y0) <float c0 = {0.0}> { v1 = Neg(x0)  y0 = Min(v1, c0) }",
            (2, 2),
            21,
        )
    ]


def test_a_node_that_others_still_use_is_no_gain() -> None:
    costs = Answers("")
    text = "g (float[2] x) => (float[2] y, float[2] z) { r = Relu(x) y = Neg(r) z = Abs(r) }"
    assert run(Swap(), text, costs)[:4] == ["Relu", "Neg", "Min", "Abs"]
    (asked,) = costs.asked
    assert asked is not None
    assert asked.before == "f (float[2] x0) => (float[2] y0) { y0 = Neg(x0) }"
    assert asked.nodes == (1, 2)


def test_the_context_is_in_both_and_ends_them() -> None:
    costs = Answers("")
    text = "g (float[2] a, float[2] b) => (float[2] y) { s = Add(a, b) r = Relu(s) y = Neg(r) }"
    assert run(Widen(), text, costs) == ["Sum", "Relu", "Neg"]
    (asked,) = costs.asked
    assert asked is not None
    assert asked.before == "f (float[2] x0, float[2] x1) => (float[2] y0) { v2 = Add(x0, x1)  y0 = Relu(v2) }"
    assert asked.after == "f (float[2] x0, float[2] x1) => (float[2] y0) { v2 = Sum(x0, x1)  y0 = Relu(v2) }"


def test_a_value_that_the_context_does_not_take_alone_stays_an_output() -> None:
    costs = Answers("")
    text = "g (float[2] a, float[2] b) => (float[2] y, float[2] s) { s = Add(a, b) y = Relu(s) }"
    run(Widen(), text, costs)
    (asked,) = costs.asked
    assert asked is not None
    assert (
        asked.after == "f (float[2] x0, float[2] x1) => (float[2] y0, float[2] y1) { y0 = Sum(x0, x1)  y1 = Relu(y0) }"
    )


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] a) => (float[2] y) <float[2] b = {1.5, 2.5}> { y = Add(a, b) }",  # weights: only their type
        f"g (int64[70] a) => (int64[70] y) <int64[70] b = {{{', '.join(['7'] * 70)}}}> {{ y = Add(a, b) }}",
    ],
)
def test_contents_that_cost_nothing_are_left_out(text: str) -> None:
    costs = Answers("")
    run(Widen(), text, costs)
    (asked,) = costs.asked
    assert asked is not None
    assert re.search(r"<\w+\[\d+\] c0>", asked.before)


def test_small_integers_are_kept() -> None:
    costs = Answers("")
    run(Widen(), "g (int64[2] a) => (int64[2] y) <int64[2] b = {3, -1}> { y = Add(a, b) }", costs)
    (asked,) = costs.asked
    assert asked is not None
    assert asked.before == "f (int64[2] x0) => (int64[2] y0) <int64[2] c0 = {3, -1}> { y0 = Add(x0, c0) }"


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] a, float[2] b) => (float[2] y) { s = Add(a, b) y = Relu(s) }",
        "g (float16[2,3] a, float16[3] b) => (float16[2,3] y) { y = Add(a, b) }",
        "g (float a, float[1] b) => (float[1] y) <float[1] c = {0.5}> { t = Add(a, b) y = Add(t, c) }",
    ],
)
def test_fragments_run(text: str) -> None:
    costs = Answers("")
    run(Widen(), text, costs)
    for asked in costs.asked:
        assert asked is not None
        for side in asked.key:
            assert open_session(model_of(side, asked.opset)).outputs


def test_what_has_no_form_is_asked_without_a_question() -> None:
    costs = Answers(None)
    run(
        Widen(),
        "g (seq(float[2]) q, int64 i, float[2] b) => (float[2] y) { a = SequenceAt(q, i) y = Add(a, b) }",
        costs,
    )
    assert costs.asked == [None]


def test_model_of_scales_constants_and_reports_what_does_not_parse() -> None:
    with pytest.raises(ValueError, match="ParseError"):
        model_of("f (float[2] x) => {", 21)
    session = open_session(
        model_of("f (float[1,4096] x0) => (float[1,8] y0) <float[4096,8] c0> { y0 = MatMul(x0, c0) }", 21)
    )
    found = session.run({"x0": np.ones((1, 4096), np.float32)})["y0"]
    assert np.isfinite(found).all()
