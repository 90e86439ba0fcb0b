"""Measured compiles: questions are timed and answered, plans replay them, nothing slower than the source comes out."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest

import fcc
from fcc import ir
from fcc.errors import TargetUnavailable
from fcc.plan import Plan
from fcc.rewrite import Match, PatternPass, Rewriter, op, var
from fcc.rewrite.fragment import Question
from fcc.tune import Row
from fcc.tune.stopwatch import measure, measure_all

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


@dataclass(frozen=True)
class Detour(PatternPass):
    """Relu(x) -> Max(x I I, 0): right, and slow."""

    name: ClassVar[str] = "convert-detour"
    measured: ClassVar[bool] = True
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        x = m["x"]
        for _ in range(2):
            x = rw.op("MatMul", x, np.eye(600, dtype=np.float32))
        low: ir.Value = rw.op("Max", x, rw.const(np.float32(0.0)))
        return low


@dataclass(frozen=True)
class Unasked(Detour):
    """The same as no choice: nothing is asked before it is made."""

    name: ClassVar[str] = "convert-unasked"
    measured: ClassVar[bool] = False


NET = "g (float[600,600] x) => (float[600,600] y) { r = Relu(x) y = Neg(r) }"


def test_what_is_measured_slower_is_left_out_and_the_plan_replays_it() -> None:
    pipeline: dict[str, Any] = {"plugins": (Detour(),), "passes": "convert-detour", "allow_growth": True}
    guessed = fcc.compile(model(NET), **pipeline)
    assert [n.op_type for n in guessed.proto().graph.node].count("MatMul") == 2
    tuned = fcc.compile(model(NET), tune_seconds=5.0, **pipeline)
    assert [n.op_type for n in tuned.proto().graph.node] == ["Relu", "Neg"]
    (choice,) = tuned.report.choices
    assert (choice["pass_name"], choice["how"], choice["taken"]) == ("convert-detour", "measured", False)
    (row,) = tuned.measured
    assert row.ratio == choice["ratio"] > 1
    assert tuned.plan is not None
    replayed = fcc.compile(model(NET), plan=tuned.plan, **pipeline)
    assert replayed.to_bytes() == tuned.to_bytes()
    assert tuned.report.whole["ratio"] == pytest.approx(1.0, abs=0.9)


def test_a_model_that_is_slower_as_a_whole_loses_the_rewrite_to_blame() -> None:
    compiled = fcc.compile(
        model(NET), tune_seconds=0.1, plugins=(Unasked(),), passes="convert-unasked", allow_growth=True
    )
    assert [n.op_type for n in compiled.proto().graph.node] == ["Relu", "Neg"]
    (guilty,) = compiled.report.guilty
    assert guilty["pass_name"] == "convert-unasked"
    assert "slower" in guilty["reason"]
    assert compiled.plan is not None
    assert compiled.plan.skipped == {("convert-unasked", "r")}
    again = fcc.compile(
        model(NET), plan=compiled.plan, plugins=(Unasked(),), passes="convert-unasked", allow_growth=True
    )
    assert [n.op_type for n in again.proto().graph.node] == ["Relu", "Neg"]


def test_without_tuning_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcc.tune.stopwatch.measure", lambda *a, **k: pytest.fail("timed"))
    compiled = fcc.compile(model(NET))
    assert compiled.report.whole == {}
    assert compiled.measured == ()


def test_a_plan_of_data_or_a_file_takes_choices_too(tmp_path: Path) -> None:
    plan = Plan("cpu", choices=({"pass_name": "convert-detour", "site": "r", "taken": False},))
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    for given in (plan, path, str(path)):
        compiled = fcc.compile(model(NET), plan=given, plugins=(Detour(),), passes="convert-detour", allow_growth=True)
        assert [n.op_type for n in compiled.proto().graph.node] == ["Relu", "Neg"]


def test_tuning_needs_the_target_here() -> None:
    with pytest.raises(TargetUnavailable, match="CUDAExecutionProvider"):
        fcc.compile(model(NET), target="cuda", tune_seconds=1.0)


def test_the_stopwatch_times_both_sides() -> None:
    slow = "f (float[256,256] x0) => (float[256,256] y0) { v1 = MatMul(x0, x0)  y0 = MatMul(v1, x0) }"
    fast = "f (float[256,256] x0) => (float[256,256] y0) { y0 = Neg(x0) }"
    row = measure(Question(slow, fast, (2, 1), 21), "p", target="cpu")
    assert row is not None
    assert row.ratio < 0.5
    assert row.before_us > 0
    assert (row.pass_name, row.target, row.opset) == ("p", "cpu", 21)


def test_a_fragment_that_does_not_run_is_no_measurement() -> None:
    bad = "f (float[2] x0) => (float[2] y0) { y0 = NoSuchOperator(x0) }"
    assert measure(Question(bad, bad, (1, 1), 21), "p", target="cpu") is None


def test_measuring_stops_when_the_time_is_up() -> None:
    seen: list[str] = []

    def one(question: Question, name: str) -> Row | None:
        seen.append(question.before)
        time.sleep(0.05)
        return None

    texts = [f"f (float[{n}] x0) => (float[{n}] y0) {{ }}" for n in (1, 100, 10)]
    questions: dict[Question, Any] = {Question(t, t, (1, 1), 21): "p" for t in texts}
    assert list(measure_all(questions, 0.02, one)) == []
    assert seen == [texts[1]]  # the largest first
    assert list(measure_all(questions, 0.0, one)) == []
    assert len(seen) == 1
