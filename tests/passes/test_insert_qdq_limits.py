"""insert-qdq: what stays float, why, and what is around it; limits of the integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from fcc import ir
from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats
from fcc.frontend import read
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

PAIR = "<float[4,3,3,3] w, float[4] b, float[5,4,3,3] v, float[5] c>"
Q, DQ = "QuantizeLinear", "DequantizeLinear"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("g (float[N,16] x, float[16,4] w) => (float[N,4] y) { y = MatMul(x, w) }", "the weight is not constant"),
        ("g (float[16,N] x) => (float[N,4] y) <float[16,4] w> { y = Gemm<transA=1>(x, w) }", "transA"),
        (
            "g (float[3,16] x) => (float[3,4] y) <float[16,4] w, float[3,4] b> { y = Gemm(x, w, b) }",
            "no row",
        ),
        (
            "g (float[N,16] x, float[4] b) => (float[N,4] y) <float[16,4] w> { y = Gemm(x, w, b) }",
            "the bias is not constant",
        ),
        ("g (float[16] x) => (float[4] y) <float[16,4] w> { y = MatMul(x, w) }", "vector"),
        ("g (float[2,3,16] x) => (float[2,3,4] y) <float[2,16,4] w> { y = MatMul(x, w) }", "not a matrix"),
        ("g (float[N,0] x) => (float[N,4] y) <float[0,4] w> { y = MatMul(x, w) }", "empty"),
        (
            "g (float[N,4] x) => (float[N,4] y) <float[4,16] c, float[16,4] w> { t = MatMul(c, w) y = MatMul(x, t) }",
            "its input is a constant",
        ),
    ],
)
def test_stays_float(quantize: Any, text: str, because: str) -> None:
    q = quantize(text)
    assert q.applied == 0
    assert any(because in r for r in q.reasons), q.reasons


def test_stays_float_in_other_precisions(quantize: Any) -> None:
    text = "g (float16[N,16] x) => (float16[N,4] y) <float16[16,4] w> { y = MatMul(x, w) }"
    module = read(quantize.source(text))
    shapes.infer(module)
    log = Log(strict=True)
    assert run_pass(InsertQdq(), module, PassContext(get_target("cpu"), log, stats=CalibrationStats())) == 0
    assert "FLOAT16" in log.refused[0].reason


def test_a_sum_that_may_overflow_stays_float(quantize: Any) -> None:
    q = quantize("g (float[N,33001] x) => (float[N,1] y) <float[33001,1] w> { y = MatMul(x, w) }", {"w": 1.0})
    assert q.reasons == ["33001 products may overflow the int32 accumulator"]


def test_large_weights_are_quantized_when_written(quantize: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }"
    eager = quantize(text)
    monkeypatch.setattr("fcc.passes._qdq_emit.LARGE", 8)
    lazy = quantize(text)
    assert isinstance(lazy.module.graph.initializers["w/int"].const_value, ir.LazyTensor)
    assert np.array_equal(lazy.array("w/int"), eager.array("w/int"))
    assert lazy.kernels() == eager.kernels()


def test_weights_that_are_not_finite(quantize: Any) -> None:
    q = quantize("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }", {"w": np.inf})
    assert q.reasons == ["the weight holds NaN or infinity"]


def test_nested_graphs_stay_float(quantize: Any) -> None:
    q = quantize(
        "g (float[2,16] x) => (float[2,4] y) <float[16,4] w, bool c> { y = If(c) <"
        "then_branch = t () => (float[2,4] p) { p = MatMul(x, w) },"
        "else_branch = e () => (float[2,4] q) { r = MatMul(x, w) q = Neg(r) }> }"
    )
    assert q.applied == 0
    assert all("nested graph" in r for r in q.reasons)


@pytest.mark.parametrize("exclude", ["y", "Gemm", "other+y"])
def test_excluded(quantize: Any, exclude: str) -> None:
    q = quantize(
        "g (float[N,16] x) => (float[N,4] y) <float[16,8] w, float[8,4] v> { t = MatMul(x, w) y = Gemm(t, v) }",
        exclude=exclude,
    )
    assert q.reasons == ["excluded by option"]
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1, "Gemm": 1}


def test_without_statistics_a_layer_stays_and_the_others_adapt(quantize: Any) -> None:
    model = quantize.source(
        "g (float[N,16] x) => (float[N,4] y) <float[16,8] w, float[8,4] v> { t = Gemm(x, w) y = Gemm(t, v) }"
    )
    module = read(model)
    shapes.infer(module)
    stats = CalibrationStats()
    stats.update({"x": np.ones(3, np.float32), "t": np.array([np.nan], np.float32)})
    ctx = PassContext(get_target("cpu"), Log(strict=True), stats=stats)
    assert run_pass(InsertQdq(), module, ctx) == 1
    assert "NaN" in ctx.log.refused[0].reason
    assert [n.op_type for n in module.graph] == [Q, DQ, DQ, "Gemm", "Gemm"]


def test_targets_without_int8_say_why(quantize: Any) -> None:
    module = read(quantize.source("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }"))
    ctx = PassContext(get_target("cuda"), Log(strict=True), stats=CalibrationStats())
    assert run_pass(InsertQdq(), module, ctx) == 0
    assert "never fuses static int8" in ctx.log.refused[0].reason
    assert InsertQdq().tensors(module, ctx) == []


def test_no_data_no_quantization(quantize: Any) -> None:
    module = read(quantize.source("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }"))
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(InsertQdq(), module, ctx) == 0
    assert "calibration data" in ctx.log.refused[0].reason


def test_a_large_bias_over_small_weights_fits_int32(quantize: Any) -> None:
    q = quantize(
        "g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float[4] b> { y = Gemm(x, w, b) }",
        {"w": 1e-12, "b": 1e3},
    )
    assert np.abs(q.array("b/int").astype(np.int64)).max() <= 2**30
    assert q.runtime_error() < 1e-6


def test_skipped_neighbours_leave_a_right_model(quantize: Any) -> None:
    """Bisection may leave out any single application."""
    text = (
        f"g (float[N,3,8,8] x) => (float[N,5,2,2] y) {PAIR}"
        " { t = Conv(x, w, b) u = Relu(t) p = MaxPool<kernel_shape=[2,2], strides=[1,1]>(u)"
        " y = Conv<strides=[2,2]>(p, v, c) }"
    )
    model = quantize.source(text)
    samples = [quantize.feeds(model, s) for s in range(3)]
    for skip in ("t", "p", "y"):
        module = read(model)
        shapes.infer(module)
        stats = quantize.observed(module, InsertQdq().tensors(module), samples)
        log = Log(strict=True, skip=frozenset({("insert-qdq", skip)}))
        assert run_pass(InsertQdq(), module, PassContext(get_target("cpu"), log, stats=stats)) == (
            1 if skip == "t" else 2
        )
        ir.verify(module)
        old, new = ReferenceEvaluator(model), ReferenceEvaluator(quantize.proto(module))
        for fed in samples:
            a, b = old.run(None, fed)[0], new.run(None, fed)[0]
            assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


@pytest.mark.parametrize(
    ("between", "constants", "reason"),
    [
        ("u = Conv(t, m, k)", "float[4,4,1,1] m, float[4] k", "excluded by option"),
        ("a = Conv(t, m) u = Relu(a)", "float[4,4,1,1] m", "excluded by option"),
        ("u = ConvTranspose(t, m, k)", "float[4,4,1,1] m, float[4] k", None),
    ],
)
def test_a_float_layer_between_int8_layers_keeps_its_float_weight(
    quantize: Any, between: str, constants: str, reason: str
) -> None:
    """onnxruntime would quantize its weight per tensor, without asking."""
    q = quantize(
        "g (float[N,3,8,8] x) => (float[N,5,4,4] y) " + PAIR.replace(">", f", {constants}>")
        + f" {{ t = Conv(x, w, b) {between} y = Conv(u, v, c) }}",
        exclude="a+u",
    )  # fmt: skip
    assert q.reasons == ([reason] if reason else [])
    found = q.kernels()
    assert found["QLinearConv"] == 2
    assert found["FusedConv"] + found["Conv"] + found["ConvTranspose"] == 1
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.01)
