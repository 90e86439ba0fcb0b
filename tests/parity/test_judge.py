"""The verdict on whole models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest

from fcc.errors import DataError, OptionError, ParityError
from fcc.ir import Module
from fcc.parity import Judge, compare_models, first_diverging, intermediates, judge, metric
from fcc.runtime import Session

HEAD = '<ir_version: 8, opset_import: ["": 17]> f '
MLP = HEAD + "(float[n, 4] x) => (float[n, 2] y) <float[4, 2] w = {1, -1, 2, 3, 0.5, 1, -2, 1}> { %s }"
GOOD = MLP % "t = MatMul(x, w) y = Relu(t)"
SAME = MLP % "h = Constant<value_float=0.0>() t = MatMul(x, w) y = Max(t, h)"


def model(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def judge_of(text: str, **how: Any) -> Judge:
    return Judge(model(text), Module(onnx_ir.from_proto(onnx.parser.parse_model(text))), **how)


def test_a_metric_that_says_nothing_is_an_error() -> None:
    found = judge_of(HEAD + "(float[n, 1] x) => (float[n, 1] y) { y = Neg(x) }")
    found.require(metric("rel"))
    found.require(metric("operator:ne"))
    with pytest.raises(OptionError, match="agreement: no output has classes or probabilities"):
        found.require(metric("agreement"))


def test_carried_state_has_no_classes() -> None:
    text = HEAD + "(float[1, 1] x, float[1, 2] s) => (float[1, 1] y, float[1, 2] t) { t = Add(x, s) y = Sigmoid(x) }"
    data = {"x": np.ones([3, 1, 1], np.float32)}
    candidate = model(text.replace("Add(x, s)", "Sub(s, x)"))
    by_name = {}
    for state in ({"t": "s"}, None):
        feeds = data if state else {**data, "s": np.ones([3, 1, 2], np.float32)}
        verdict = judge_of(text, data=feeds, state=state).judge(candidate, metric=metric("agreement"), budget=0.1)
        by_name[bool(state)] = {r.name: r.agreement for r in verdict.rows}
    assert by_name == {True: {"y": 1.0, "t": None}, False: {"y": 1.0, "t": 1.0}}


def test_an_equivalent_model_passes() -> None:
    verdict = judge_of(GOOD).judge(model(SAME))
    assert verdict.ok
    assert verdict.ran
    assert verdict.feeds == 3
    assert verdict.error <= verdict.limit == 1e-4
    verdict.require()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("t = MatMul(x, w) y = LeakyRelu<alpha=0.001>(t)", "beyond its limit"),
        ("t = MatMul(x, w) y = Abs(t)", "beyond its limit"),
        ("k = Constant<value_ints=[1, 2]>() t = MatMul(x, w) u = Relu(t) y = Reshape(u, k)", "does not run"),
        ("t = MatMul(x, w) u = Relu(t) y = Cast<to=11>(u)", "type float64"),
    ],
)
def test_wrong_models_fail(body: str, says: str) -> None:
    text = (MLP % body).replace("float[n, 2] y", "double[n, 2] y" if "to=11" in body else "float[n, 2] y")
    verdict = judge_of(GOOD).judge(model(text))
    assert not verdict.ok
    assert says in str(verdict)
    with pytest.raises(ParityError) as caught:
        verdict.require()
    assert len(caught.value.worst) == (0 if verdict.failure else 1)


def test_a_candidate_that_cannot_load_fails() -> None:
    verdict = judge_of(GOOD).judge(b"garbage")
    assert not verdict.ok
    assert "does not run" in verdict.failure


def test_one_judge_serves_many_candidates_with_one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judge_of(GOOD)
    assert found.judge(model(SAME)).ok
    opened: list[Any] = []
    original = Judge._open

    def watched(self: Judge, candidate: Any, **how: Any) -> Session:
        opened.append(candidate)
        return original(self, candidate, **how)

    monkeypatch.setattr(Judge, "_open", watched)
    assert not found.judge(model(MLP % "t = MatMul(x, w) y = Abs(t)")).ok
    assert found.judge(model(SAME)).ok
    assert opened == [model(MLP % "t = MatMul(x, w) y = Abs(t)"), model(SAME)]


def test_recommended_options_are_judged_too() -> None:
    verdict = judge_of(GOOD).judge(model(SAME), options={"session.set_denormal_as_zero": "1"})
    assert verdict.ok


def test_user_data_counts() -> None:
    x = np.full((5, 4), 1, np.float32)
    wrong = model(MLP % "k = Constant<value_float=0.5>() t = MatMul(x, w) u = Add(t, k) y = Relu(u)")
    harmless = {"x": np.array([[-9, -9, -9, 9]], np.float32)}  # both Relus are at 0 and nothing is seen
    assert not judge_of(GOOD, data={"x": x}).judge(wrong).ok
    verdict = judge_of(GOOD, data=harmless).judge(model(SAME))
    assert verdict.feeds == 1
    assert verdict.ok
    assert judge_of(GOOD, data={"x": x}, samples=2).judge(wrong).feeds == 2


def test_user_data_that_does_not_fit_is_the_users_error() -> None:
    with pytest.raises(DataError, match="expects"):
        judge_of(GOOD, data={"x": np.zeros((5, 3), np.float32)}).judge(model(SAME))


def test_silent_output_is_noted() -> None:
    text = HEAD + "(float[n] x) => (float[n] y) { z = Sub(x, x) y = Sin(z) }"
    assert any("can judge nothing" in n for n in judge_of(text).judge(model(text)).notes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[n] x) => (y) { y = RandomNormalLike(x) }", "not deterministic: RandomNormalLike"),
        ("(seq(float[2]) s) => (y) { y = SequenceLength(s) }", "is a sequence"),
        ("(float[n] x) => (y) <int64[1] i = {99999}> { y = Gather(x, i) }", "no sizes found"),
    ],
)
def test_a_source_that_cannot_be_compared_is_skipped(text: str, reason: str) -> None:
    found = judge_of(HEAD + text)
    verdict = found.judge(model(HEAD + text))
    assert verdict.ok
    assert not verdict.ran
    assert reason in verdict.skipped_reason == found.skipped_reason
    assert str(verdict).startswith("parity not run: ")
    assert found.feeds() is None


def test_a_model_that_does_not_load_is_wrong_though_its_source_runs_on_nothing() -> None:
    source = HEAD + "(float[n] x) => (y) <int64[1] i = {99999}> { y = Gather(x, i) }"
    verdict = judge_of(source).judge(model(source.replace("Gather(x, i)", "Gather(x, x)")))
    assert not verdict.ok
    assert "does not run: onnxruntime cannot load" in verdict.failure


def test_unknown_op_is_skipped_with_its_name() -> None:
    text = GOOD.replace("Relu(t)", "mine.Odd(t)").replace('["": 17]', '["": 17, "mine": 1]')
    assert "Odd" in judge_of(text).skipped_reason


def test_random_output_beside_a_deterministic_one() -> None:
    text = HEAD + "(float[n] x) => (float[n] y, float[n] z) { y = RandomNormalLike(x) z = %s(x) }"
    found = judge_of(text % "Sin")
    assert found.judge(model(text % "Sin")).ok
    verdict = found.judge(model(text % "Cos"))
    assert not verdict.ok
    assert [r.name for r in verdict.rows if not r.judged] == ["y"]


def test_integers_must_be_equal() -> None:
    text = HEAD + "(float[n, 4] x) => (int64[n, 1] y) { y = %s<axis=1>(x) }"
    assert judge_of(text % "ArgMax").judge(model(text % "ArgMax")).ok
    assert not judge_of(text % "ArgMax").judge(model(text % "ArgMin")).ok


RECURRENT = (
    HEAD + "(float[1, 2] x, float[1, 2] s) => (float[1, 2] y, float[1, 2] t) { a = Add(x, s) t = Tanh(a) y = %s }"
)


def test_state_goes_round_on_each_side(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).standard_normal((20, 1, 2)).astype(np.float32))
    found = judge_of(RECURRENT % "Sin(t)", data=tmp_path, state={"t": "s"})
    assert found.judge(model(RECURRENT % "Sin(t)")).feeds == 20
    drifting = (
        RECURRENT.replace("t = Tanh(a)", "k = Constant<value_float=1.0001>() b = Tanh(a) t = Mul(b, k)") % "Sin(t)"
    )
    once = judge_of(RECURRENT % "Sin(t)").judge(model(drifting))
    chained = found.judge(model(drifting))
    assert chained.error > once.error > 0


def test_metric_and_budget_decide() -> None:
    scaled = model(MLP % "k = Constant<value_float=1.05>() t = MatMul(x, w) u = Mul(t, k) y = Relu(u)")
    found = judge_of(GOOD)
    assert not found.judge(scaled).ok
    assert found.judge(scaled, metric=metric("rel"), budget=0.06).ok
    assert not found.judge(scaled, metric=metric("rel"), budget=0.04).ok
    assert found.judge(scaled, metric=metric("agreement"), budget=0).ok
    assert found.judge(scaled, metric=metric("sqnr"), budget=26).ok
    assert not found.judge(scaled, metric=metric("sqnr"), budget=27).ok
    assert not found.judge(scaled, metric=metric("max_abs"), budget=0.01).ok


def test_own_metric_sees_every_feed(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def drift(a, b):\n    return abs(a['y'] - b['y']).max() if a.keys() == b.keys() else 9\n")
    scaled = model(MLP % "k = Constant<value_float=1.05>() t = MatMul(x, w) u = Mul(t, k) y = Relu(u)")
    mine = metric(f"{path}:drift")
    assert judge_of(GOOD).judge(scaled, metric=mine, budget=math.inf).ok
    assert not judge_of(GOOD).judge(scaled, metric=mine, budget=1e-3).ok


def test_floor_can_be_raised_for_lower_precision() -> None:
    scaled = model(MLP % "k = Constant<value_float=1.001>() t = MatMul(x, w) u = Mul(t, k) y = Relu(u)")
    assert not judge_of(GOOD).judge(scaled).ok
    assert judge_of(GOOD).judge(scaled, floor=5e-3).ok


def test_missing_provider_is_said_and_the_cpu_judges() -> None:
    verdict = judge_of(GOOD, provider="TensorrtExecutionProvider").judge(model(SAME))
    assert verdict.ok
    assert any("no TensorrtExecutionProvider here" in n for n in verdict.notes)


def test_intermediates_name_the_first_that_differs() -> None:
    a = HEAD + "(float[2] x) => (float[2] y) { a = Sin(x) b = Cos(a) c = Exp(b) y = Softmax(c) }"
    b = a.replace("b = Cos(a)", "b = Tan(a)").replace("c = Exp(b)", "d = Exp(b)").replace("Softmax(c)", "Softmax(d)")
    feeds = judge_of(a).feeds()
    assert feeds is not None
    parity = intermediates(model(a), model(b), feeds)
    assert [r.name for r in parity.rows] == ["a", "b", "y"]
    assert first_diverging(parity) == "b"
    assert first_diverging(intermediates(model(a), model(a), feeds)) is None


def test_judge_function() -> None:
    module = Module(onnx_ir.from_proto(onnx.parser.parse_model(GOOD)))
    assert judge(model(GOOD), model(SAME), module, seed=1, count=2).feeds == 2


def test_compare_models(tmp_path: Path) -> None:
    for name, text in (("a", GOOD), ("b", SAME), ("c", GOOD.replace("float[n, 2] y", "float[m, 2] y"))):
        (tmp_path / f"{name}.onnx").write_bytes(model(text))
    assert compare_models(tmp_path / "a.onnx", tmp_path / "b.onnx").ok
    other = compare_models(tmp_path / "a.onnx", tmp_path / "c.onnx", inside=True)
    assert other.verdict.ok
    assert not other.ok
    assert other.interface == ("output y float32[m, 2] instead of y float32[n, 2]",)
    assert other.inside is not None
    assert [r.name for r in other.inside.rows] == ["t", "y"]


def test_a_size_of_an_output_that_the_runtime_finds_is_no_other_interface(tmp_path: Path) -> None:
    """One model declares a symbol, the other, simplified, lets inference see the number behind it."""
    for name, dims in (("a", "n, k"), ("b", "n, 2")):
        (tmp_path / f"{name}.onnx").write_bytes(model(GOOD.replace("float[n, 2] y", f"float[{dims}] y")))
    assert compare_models(tmp_path / "a.onnx", tmp_path / "b.onnx").ok
    assert compare_models(tmp_path / "b.onnx", tmp_path / "a.onnx").ok
    fixed = model(GOOD.replace("float[n, 4] x", "float[5, 4] x"))
    assert compare_models(model(GOOD), fixed).interface[0].startswith("input x float32[5, 4] instead of")
