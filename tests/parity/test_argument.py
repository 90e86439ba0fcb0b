"""What a comparison can be argued with: float64, the source's own noise, edges, and whether it repeats itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fcc.__main__ import main
from fcc.ir import Module
from fcc.parity import Judge, compare_models
from fcc.parity.arbiter import Arbiter
from fcc.runtime import Session

HEAD = '<ir_version: 8, opset_import: ["": 17]> f '
SUM = HEAD + "(float[n, 400] x) => (float[n, 1] y) { %s }"
LONG = SUM % "s = Exp(x) y = ReduceSum<keepdims=1>(s, a)"


def model(text: str) -> bytes:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "a"))
    return bytes(proto.SerializeToString())


def test_errors_beside_float64_and_noise() -> None:
    other = model(SUM % "s = Exp(x) k = Constant<value_float=1.001>() t = Mul(s, k) y = ReduceSum<keepdims=1>(t, a)")
    found = compare_models(model(LONG), other)
    assert set(found.wide) == set(found.noise) == {"y"}
    own, theirs = found.wide["y"]
    assert 0 < own < 1e-5
    assert theirs == pytest.approx(1e-3, rel=0.01)
    assert found.no_wide == ""


def test_a_model_that_float64_does_not_know() -> None:
    text = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> f (float[n, 4] x) => (float[n, 4] y) { y = com.microsoft.Gelu(x) }'
    found = compare_models(model(text), model(text))
    assert found.wide == {}
    assert "no float64" in found.no_wide
    assert found.ok


def test_a_model_that_is_too_large_for_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arbiter, "_flops", 10**12)
    found = compare_models(model(LONG), model(LONG))
    assert found.no_wide == "the model is too large for float64"


def test_only_as_many_feeds_as_float64_affords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arbiter, "_flops", 3 * 10**10)
    found = compare_models(model(LONG), model(LONG))
    assert set(found.wide) == {"y"}


def test_carried_state_has_no_float64() -> None:
    text = HEAD + "(float[1, 1] x, float[1, 2] s) => (float[1, 1] y, float[1, 2] t) { t = Add(x, s) y = Neg(x) }"
    found = compare_models(model(text), model(text), data={"x": np.ones([3, 1, 1], np.float32)}, state={"t": "s"})
    assert "state" in found.no_wide


CLIPS = SUM % "s = Exp(x) y = ReduceMax<keepdims=1>(s, a)"


def test_what_only_an_edge_shows() -> None:
    """x + 1e-6 * x^3 is x but for large values."""
    plain = HEAD + "(float[n, 4] x) => (float[n, 4] y) { y = Neg(x) }"
    cubic = (
        HEAD
        + """(float[n, 4] x) => (float[n, 4] y) { k = Constant<value_float=1e-8>() p = Mul(x, x) q = Mul(p, x)
      r = Mul(q, k) s = Add(x, r) y = Neg(s) }"""
    )
    found = compare_models(model(plain), model(cubic), edges=True)
    assert found.verdict.ok
    assert not found.ok
    assert [n for n, v in found.edges.items() if not v.ok] == ["extremes"]
    assert found.edges["zeros"].ok
    assert compare_models(model(plain), model(cubic)).ok
    data = {"x": np.ones((2, 1, 4), np.float32)}
    assert compare_models(model(plain), model(cubic), edges=True, data=data).edges == {}


def test_an_edge_where_the_source_overflows_judges_nothing() -> None:
    found = compare_models(model(LONG), model(LONG), edges=True)
    assert "extremes" not in found.edges
    assert "zeros" in found.edges
    assert found.ok


def test_a_source_that_differs_from_run_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + "(float[n, 4] x) => (float[n, 4] y) { y = Neg(x) }"
    count, run = itertools.count(), Session.run

    def drifting(self: Session, feeds: Any) -> dict[str, Any]:
        return {n: y * np.float32(1 + 1e-6 * next(count)) for n, y in run(self, feeds).items()}

    monkeypatch.setattr(Session, "run", drifting)
    verdict = Judge(model(text), Module(__import__("onnx_ir").from_proto(onnx.parser.parse_model(text)))).judge(
        model(text)
    )
    assert any("the source is not deterministic: output y differs by" in note for note in verdict.notes)


def test_a_source_that_repeats_itself_has_no_note() -> None:
    assert not any("deterministic" in note for note in compare_models(model(LONG), model(LONG)).verdict.notes)


def test_the_command_line_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = HEAD + "(float[n, 4] x) => (float[n, 4] y) { y = Neg(x) }"
    cubic = plain.replace(
        "y = Neg(x)",
        "k = Constant<value_float=1e-8>() p = Mul(x, x) q = Mul(p, x) r = Mul(q, k) s = Add(x, r) y = Neg(s)",
    )
    Path("a.onnx").write_bytes(model(plain))
    Path("b.onnx").write_bytes(model(cubic))
    assert main(["compare", "a.onnx", "a.onnx"]) == 0
    out = capsys.readouterr().out
    assert "f64 A" in out
    assert "denormals" in out
    assert main(["compare", "a.onnx", "b.onnx"]) == 6
    captured = capsys.readouterr()
    assert "does not give the answers of a.onnx on extremes" in captured.err
    assert main(["compare", "a.onnx", "b.onnx", "--no-edges"]) == 0
    assert "denormals" not in capsys.readouterr().out
