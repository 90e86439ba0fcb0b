"""Float64 settles what rounding of the source itself moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnx_ir
import pytest

from fcc.errors import FccError, LoadError
from fcc.ir import Module
from fcc.parity import Judge, Verdict, arbiter
from fcc.runtime.wide import Wide

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> f '
GRAPH = HEAD + "(float[n, 4] x) => (float[n, 4] y) <float big = {4096}, float h = {1.01}, float q = {1.0001}> { %s }"
CANCELS = "a = Add(x, big) y = Sub(a, big)"  # rounds x to 2**-11


def model(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def verdict(source: str, candidate: str, **how: Any) -> Verdict:
    text = GRAPH % source
    judge = Judge(model(text), Module(onnx_ir.from_proto(onnx.parser.parse_model(text))), **how)
    return judge.judge(model(GRAPH % candidate))


@pytest.mark.parametrize(
    ("candidate", "good"),
    [
        ("y = Identity(x)", True),  # exact where the source is not
        ("y = Mul(x, q)", True),  # no further from float64 than the source
        ("y = Mul(x, h)", False),
        ("y = Neg(x)", False),
    ],
)
def test_the_source_may_be_the_one_that_is_off(candidate: str, good: bool) -> None:
    found = verdict(CANCELS, candidate)
    assert found.ok is good
    assert bool(found.notes) is good
    if good:
        assert "float64" in found.notes[0]


def test_one_wrong_sample_among_those_that_are_settled_is_enough() -> None:
    body = "a = Sum(x, big) m = Greater(x, h) z = Mul(x, h) y = Where(m, z, x)"
    x = np.full([3, 1, 4], 0.1234567, np.float32)
    assert verdict(CANCELS, body, data={"x": x}).ok
    x[1, 0, 2] = 2.0
    assert not verdict(CANCELS, body, data={"x": x}).ok


def test_a_source_without_a_float64_form_settles_nothing() -> None:
    source = "b = com.microsoft.Gelu(x) c = Add(b, big) y = Sub(c, big)"
    assert not verdict(source, "y = com.microsoft.Gelu(x)").ok


@pytest.mark.parametrize("answer", [np.zeros((3, 3)), np.full((1, 4), np.nan)])
def test_a_float64_form_that_computes_something_else_settles_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """Both are infinitely far from it, which is no reason to let the candidate pass."""
    monkeypatch.setattr(arbiter.Arbiter, "_answer", lambda self, feed, feeds: {"y": answer})
    assert not verdict("y = Identity(x)", "y = Neg(x)").ok


def test_a_model_too_large_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbiter, "MOST_FLOPS", 1)
    assert not verdict(CANCELS, "y = Identity(x)").ok


def test_answers_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = list[int]()

    class Counted(Wide):
        def run(self, feeds: Any) -> Any:
            runs.append(1)
            return super().run(feeds)

    monkeypatch.setattr("fcc.runtime.wide.Wide", Counted)
    text = GRAPH % CANCELS
    judge = Judge(model(text), Module(onnx_ir.from_proto(onnx.parser.parse_model(text))))
    assert all(judge.judge(model(GRAPH % "y = Identity(x)")).ok for _ in range(3))
    assert len(runs) == 2  # of three probes, those on which it cancels


def test_the_float64_form_keeps_external_data_and_integers(tmp_path: Any) -> None:
    proto = onnx.parser.parse_model(GRAPH % "m = MatMul(x, w) y = Add(m, big)")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full([4, 4], 0.1, np.float32), "w"))
    onnx.save_model(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    x = np.ones([1, 4], np.float32)
    for source, folder in ((tmp_path / "m.onnx", None), ((tmp_path / "m.onnx").read_bytes(), str(tmp_path))):
        y = Wide(source, folder).run({"x": x})["y"]
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, 4 * np.float64(np.float32(0.1)) + 4096, rtol=1e-15)


def test_global_max_pool_keeps_its_rank() -> None:
    text = HEAD + "(float[1, 2, 3] x) => (float[1, 2, 1] y) { y = GlobalMaxPool(x) }"
    y = Wide(model(text)).run({"x": np.arange(6, dtype=np.float32).reshape(1, 2, 3)})["y"]
    np.testing.assert_array_equal(y, [[[2.0], [5.0]]])


@pytest.mark.parametrize("body", ["y = com.microsoft.Gelu(x)", "y = MatMul(x, x)"])
def test_what_the_evaluator_cannot_do_is_one_error(body: str) -> None:
    with pytest.raises(FccError):
        Wide(model(GRAPH % body)).run({"x": np.ones([3, 4], np.float32)})


def test_what_is_no_model_is_a_load_error() -> None:
    with pytest.raises(LoadError):
        Wide(b"\xff\xff")
