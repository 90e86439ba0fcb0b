"""insert-qdq by other schemes: activations of 16 bits, scales that are powers of two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats
from fcc.frontend import read
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

Q, DQ = "QuantizeLinear", "DequantizeLinear"
GEMM = "g (float[N,16] x) => (float[N,4] y) <float[16,8] w, float[8] b, float[8,4] v> { t = Gemm(x, w, b) y = MatMul(t, v) }"
CONV = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w, float[4] b>"


def scales(q: Any) -> list[np.ndarray[Any, Any]]:
    return [q.array(n) for n in q.module.graph.initializers if n.endswith("/scale")]


def test_activations_of_16_bits_around_float_ops(quantize: Any) -> None:
    q = quantize(GEMM, precision="int16")
    assert q.chain() == [Q, DQ, DQ, "Gemm", Q, DQ, DQ, "MatMul"]
    assert q.array("x/zero_point").dtype == np.uint16
    assert q.array("x/zero_point") > 0
    assert q.array("w/int").dtype == np.int16
    assert q.array("w/scale").shape == (8,)
    assert [n.inputs[2].name for n in q.module.graph if n.op_type == "Gemm"] == ["b"]
    assert 0 < q.error() < 1e-4
    assert "16-bit Gemm, float result" in q.ctx.log.layers[0]["what"]
    assert set(q.kernels()) <= {Q, DQ, "Gemm", "MatMul"}
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.05)


def test_what_the_runtime_would_do_to_a_bias_is_kept_from_it(quantize: Any) -> None:
    text = "g (float[N,16] x) => (float[N,8] y, float[N,8] z) <float[16,8] w, float[8] b, float[8,8] v, float[8] c> {"
    q = quantize(text + " t = Gemm(x, w, b) y = Relu(t) u = Gemm(y, v, c) z = Relu(u) }", {"b": 9.0}, precision="int16")
    spread = [n.inputs[1].const_value.numpy() for n in q.module.graph if n.op_type == DQ][::2]
    assert [s.shape for s in spread] == [(16,), (8,)]
    assert all(np.ptp(s) == 0 for s in spread)
    assert q.runtime_error() < 1e-4


def test_without_an_axis_of_known_size_a_bias_keeps_its_layer_float(quantize: Any) -> None:
    text = "g (float[N,M] x) => (float[N,8] y) <float[16,8] w, float[8] b> { s = Relu(x) y = Gemm(s, w, b) }"
    module = read(quantize.source(text))
    shapes.infer(module)
    stats = CalibrationStats()
    stats.update({"s": np.ones(3, np.float32)})
    log = Log(strict=True)
    ctx = PassContext(get_target("cpu").quantizing("int16", None), log, stats=stats)
    assert run_pass(InsertQdq(), module, ctx) == 0
    assert [r.reason for r in log.refused] == ["no axis has a known size"]


@pytest.mark.parametrize(("precision", "node"), [("int16", "Gemm(s, w)"), ("int8", "Gemm(s, w, b)")])
def test_where_no_bias_is_quantized_no_axis_of_known_size_is_needed(quantize: Any, precision: str, node: str) -> None:
    text = f"g (float[N,M] x) => (float[N,8] y) <float[16,8] w, float[8] b> {{ s = Relu(x) y = {node} }}"
    module = read(quantize.source(text))
    shapes.infer(module)
    stats = CalibrationStats()
    stats.update({"s": np.ones(3, np.float32), "y": np.ones(3, np.float32)})
    ctx = PassContext(get_target("cpu").quantizing(precision, None), Log(strict=True), stats=stats)
    assert run_pass(InsertQdq(), module, ctx) == 1


def test_a_convolution_of_16_bits(quantize: Any) -> None:
    q = quantize(CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(t) }", precision="int16", gptq=True)
    assert q.chain() == [Q, DQ, DQ, "Conv", "Relu"]
    assert 0 < q.error() < 1e-4
    assert q.runtime_error() < 1e-4
    one = quantize(CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(t) }", precision="int16", per_tensor="Conv")
    assert one.array("w/scale").shape == ()


@pytest.mark.parametrize(("opset", "precision", "because"), [(17, "int16", "16-bit"), (11, "int8", "per-channel")])
def test_opsets_without_the_types(quantize: Any, opset: int, precision: str, because: str) -> None:
    module = read(quantize.source(GEMM))
    shapes.infer(module)
    module.model.graph.opset_imports[""] = opset
    ctx = PassContext(get_target("cpu").quantizing(precision, None), Log(strict=True))
    assert InsertQdq().layers(module, ctx) == []
    reasons = [s.data for s in InsertQdq().sites(module, replace(ctx, stats=CalibrationStats()))]
    assert reasons
    assert all(because in r for r in reasons)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("precision", ["int8"])
def test_scales_are_powers_of_two(quantize: Any, target: str, precision: str) -> None:
    q = quantize(GEMM, target=target, precision=precision, scheme="pow2")
    found = scales(q)
    assert len(found) >= 3
    for scale in found:
        assert np.all(np.frexp(scale)[0] == 0.5)
    plain = quantize(GEMM, target=target, precision=precision)
    assert plain.error() < q.error() < 3 * plain.error()
    for name in ("x/scale", "w/scale"):
        assert np.all(q.array(name) >= plain.array(name) * (1 - 1e-6))
        assert np.all(q.array(name) < 2 * plain.array(name) * (1 + 1e-6))


def test_a_deconvolution_takes_a_power_of_two(quantize: Any) -> None:
    text = (
        "g (float[N,16,4,4] x) => (float[N,24,9,9] y) <float[16,24,3,3] w> { y = ConvTranspose<strides=[2,2]>(x, w) }"
    )
    q = quantize(text, target="tensorrt", scheme="pow2")
    assert np.frexp(q.array("w/scale"))[0] == 0.5


def test_a_relu_still_vanishes_and_a_clip_does_not(quantize: Any) -> None:
    relu = quantize(CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(t) }", scheme="pow2")
    assert relu.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}
    text = CONV.replace("b>", "b, float low = {0}, float high = {0.7}>")
    clip = quantize(text + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(t, low, high) }", scheme="pow2")
    assert clip.chain()[-3:] == [Q, DQ, "Clip"]
    assert all(np.all(np.frexp(s)[0] == 0.5) for s in scales(clip))
    assert clip.error() < 0.1
