"""insert-qdq: structure, parameters and (with onnxruntime) the kernels that run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.compress.quantize import ActivationParams, activation_params, is_pair_safe
from fcc.passes._qdq_emit import absorbing

CONV = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w, float[4] b>"
PAIR = "<float[4,3,3,3] w, float[4] b, float[5,4,3,3] v, float[5] c>"
Q, DQ = "QuantizeLinear", "DequantizeLinear"


def test_conv_with_relu(quantize: Any) -> None:
    q = quantize(CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(t) }")
    assert q.names == ["x", "y"]
    assert q.chain() == [Q, DQ, DQ, DQ, "Conv", "Relu", Q, DQ]
    assert q.array("y/zero_point") == 0
    assert q.array("y/scale").shape == q.array("y/zero_point").shape == ()
    assert q.array("y/zero_point").dtype == np.uint8
    assert q.array("w/int").dtype == np.int8
    assert q.array("b/int").dtype == np.int32
    assert not q.array("w/zero_point").any()
    assert not q.array("b/zero_point").any()
    assert np.allclose(q.array("b/scale"), q.array("x/scale") * q.array("w/scale"), rtol=1e-6)
    assert q.module.graph.outputs[0].name == "y"
    assert q.error() < 0.02
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.05)


def test_conv_without_relu_has_a_zero_point_within(quantize: Any) -> None:
    q = quantize(CONV + " { y = Conv<pads=[1,1,1,1]>(x, w) }")
    assert 0 < q.array("y/zero_point") < 255
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}


def test_chain_through_max_pool_shares_scale_and_zero_point(quantize: Any) -> None:
    q = quantize(
        f"g (float[N,3,8,8] x) => (float[N,5,2,2] y) {PAIR}"
        " { t = Conv(x, w, b) u = Relu(t) p = MaxPool<kernel_shape=[2,2], strides=[1,1]>(u)"
        " y = Conv<strides=[2,2]>(p, v, c) }"
    )
    assert q.ops["MaxPool"] == 1
    pool = next(n for n in q.module.graph if n.op_type == "MaxPool")
    before, after = pool.inputs[0], next(iter(pool.outputs[0].uses())).node
    assert before is not None
    producer = before.producer()
    assert producer is not None
    assert list(producer.inputs[1:]) == list(after.inputs[1:])
    assert q.kernels() == {Q: 1, "QLinearConv": 2, "MaxPool": 1, DQ: 1}


def test_max_pool_in_front_of_float_stays_float(quantize: Any) -> None:
    q = quantize(
        CONV.replace("8,8] y", "7,7] y") + " { t = Conv<pads=[1,1,1,1]>(x, w) y = MaxPool<kernel_shape=[2,2]>(t) }"
    )
    assert q.chain()[-1] == "MaxPool"


def test_max_pool_with_indices_stays_float(quantize: Any) -> None:
    q = quantize(
        "g (float[1,3,8,8] x) => (float[1,5,2,2] y, int64[1,4,5,5] i) "
        + PAIR
        + " { t = Conv(x, w, b) p, i = MaxPool<kernel_shape=[2,2], strides=[1,1]>(t) y = Conv<strides=[2,2]>(p, v, c) }"
    )
    assert Counter(q.ops)[Q] == 4
    assert q.kernels()["QLinearConv"] == 2


def test_depthwise_and_one_dimensional_conv(quantize: Any) -> None:
    q = quantize(
        "g (float[N,4,9] x) => (float[N,4,7] y) <float[4,1,3] w, float[4,4,1] v>"
        " { t = Conv<group=4>(x, w) y = Conv(t, v) }"
    )
    assert q.kernels() == {Q: 1, "QLinearConv": 2, DQ: 1}
    assert q.error() < 0.03


def test_gemm_chain_ends_in_float(quantize: Any) -> None:
    q = quantize(
        "g (float[N,16] x) => (float[N,4] y) <float[12,16] w, float[12] b, float[12,4] v, float[1,4] c>"
        " { t = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) u = Relu(t) y = Gemm(u, v, c) }"
    )
    assert q.names == ["x", "u"]
    assert q.chain()[-1] == "Gemm"
    assert q.array("w/scale").shape == (12,)
    assert q.array("v/scale").shape == (4,)
    assert [n.attributes.get_int("axis", -9) for n in q.module.graph if n.op_type == DQ and n.inputs[0] is not None
            and n.inputs[0].name in ("w/int", "v/int")] == [0, 1]  # fmt: skip
    assert q.kernels() == {Q: 1, "QGemm": 2}
    assert q.error() < 0.02
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.05)


def test_gemm_with_a_scalar_bias(quantize: Any) -> None:
    q = quantize("g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float b> { y = Gemm(x, w, b) }")
    assert q.array("b/int").shape == (4,)
    assert q.kernels() == {Q: 1, "QGemm": 1}


def test_matmul_with_bias_becomes_a_gemm(quantize: Any) -> None:
    """With a float bias onnxruntime would make a float Gemm of MatMul + Add and dequantize its weight at every run."""
    q = quantize("g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float[4] b> { t = MatMul(x, w) y = Add(b, t) }")
    assert q.chain() == [Q, DQ, DQ, DQ, "Gemm"]
    assert q.kernels() == {Q: 1, "QGemm": 1}


def test_matmul_of_rank_three_with_bias_is_the_contrib_op(quantize: Any) -> None:
    q = quantize(
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16,4] w, float[4] b> { t = MatMul(x, w) y = Add(t, b) }"
    )
    assert q.chain() == [Q, "MatMulIntegerToFloat"]
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1}
    assert q.runtime_error() < 0.02


def test_matmul_in_front_of_another_add_is_the_contrib_op(quantize: Any) -> None:
    q = quantize("g (float[N,16] x, float[N,4] r) => (float[N,4] y) <float[16,4] w> { t = MatMul(x, w) y = Add(t, r) }")
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1, "Add": 1}
    assert q.runtime_error() < 0.02


def test_matmul_alone_and_in_a_chain(quantize: Any) -> None:
    q = quantize(
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16,8] w, float[8,4] v>"
        " { t = MatMul(x, w) u = Relu(t) y = MatMul(u, v) }"
    )
    assert q.chain()[-1] == "MatMul"
    assert q.kernels() == {Q: 1, "QLinearMatMul": 1, "MatMulIntegerToFloat": 1}
    assert q.error() < 0.03


def test_a_float_reader_of_an_int8_result_reads_the_dequantized_one(quantize: Any) -> None:
    q = quantize(
        f"g (float[N,3,8,8] x) => (float[N,5,4,4] y, float[N,4,6,6] z) {PAIR}"
        " { t = Conv(x, w, b) z = Sigmoid(t) y = Conv(t, v, c) }"
    )
    found = q.kernels()
    assert found["QLinearConv"] == 2
    assert "Conv" not in found


def test_a_result_that_is_an_output_too(quantize: Any) -> None:
    q = quantize(
        f"g (float[N,3,8,8] x) => (float[N,5,4,4] y, float[N,4,6,6] t) {PAIR} {{ t = Conv(x, w, b) y = Conv(t, v, c) }}"
    )
    assert [o.name for o in q.module.graph.outputs] == ["y", "t"]
    assert q.kernels()["QLinearConv"] == 2
    q = quantize(
        "g (float[N,16] x) => (float[N,4] y, float[N,8] t) <float[16,8] w, float[8,4] v, float[8] b>"
        " { t = Gemm(x, w, b) y = MatMul(t, v) }"
    )
    assert q.kernels() == {Q: 1, "QGemm": 1, DQ: 1, "MatMulIntegerToFloat": 1}


def test_an_activation_that_is_not_the_only_reader_stays_behind(quantize: Any) -> None:
    q = quantize(
        "g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) <float[4,3,3,3] w>"
        " { t = Conv(x, w) y = Relu(t) z = Neg(t) }"
    )
    assert q.names == ["x", "t"]
    found = q.kernels()
    assert found["QLinearConv"] == found["Relu"] == found["Neg"] == 1


def test_a_relu_in_front_of_an_int8_layer_beside_other_readers(quantize: Any) -> None:
    """onnxruntime drops that Relu; the QuantizeLinear behind it would then follow a Gemm that has another reader."""
    q = quantize(
        "g (float[N,4] x) => (float[N,4] y, float[N,4] t) <float[4,4] w, float[4,4] v>"
        " { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) }"
    )
    assert q.names == ["x", "t", "u"]
    found = q.kernels()
    assert found["QGemm"] == 2
    assert "Gemm" not in found


def test_two_layers_share_the_pair_on_their_input(quantize: Any) -> None:
    q = quantize(
        "g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) <float[4,3,3,3] w, float[4,3,3,3] v>"
        " { a = Conv(x, w) b = Conv(x, v) z = Relu(b) y = Relu(a) }"
    )
    assert q.ops[Q] == 3
    assert q.kernels()["QLinearConv"] == 2


def test_clip_vanishes(quantize: Any) -> None:
    text = CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(t, lo, hi) }"
    q = quantize(text.replace("b>", "b, float lo, float hi>"), {"lo": 0.0, "hi": 6.0})
    assert q.names == ["x", "y"]
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}


def test_clip_away_from_zero_stays(quantize: Any) -> None:
    text = CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(t, lo, hi) }"
    q = quantize(text.replace("b>", "b, float lo, float hi>"), {"lo": 1.0, "hi": 6.0})
    assert q.names == ["x", "t"]
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1, "Clip": 1}


def constant(number: float) -> ir.Value:
    module = ir.Module(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10))
    value = ir.Value(name="c", const_value=ir.tensor(np.array(number, np.float32)))
    module.graph.initializers.add(value)
    return value


@settings(max_examples=200, deadline=None)
@given(st.floats(-8, 0), st.floats(0.01, 8), st.floats(0.5, 1), st.floats(0.5, 1), st.sampled_from(["uint8", "int8"]))
def test_a_clip_is_always_absorbed(low: float, high: float, a: float, b: float, dtype: str) -> None:
    low, high = float(np.float32(low)), float(np.float32(high))
    clip = ir.Node("", "Clip", [None, *(constant(v) for v in (low, high))])
    found = absorbing(activation_params(low * a, high * b, dtype), clip)
    bounds = np.iinfo(dtype)
    zero = int(found.zero_point)
    assert np.rint(low / float(found.scale)) + zero <= bounds.min
    assert np.rint(high / float(found.scale)) + zero >= bounds.max
    assert isinstance(found, ActivationParams)


def test_pair_safe_by_certificate_and_full_range_where_it_can_be(quantize: Any) -> None:
    text = CONV + " { y = Conv(x, w) }"
    text = text.replace("4,8,8] y", "4,6,6] y")
    safe, full = quantize(text, {"w": 1.0}), quantize(text, {"w": 1.0}, isa="vnni")
    assert is_pair_safe(safe.array("w/int"), 0).all()
    assert safe.array("w/int").max() == 64
    assert full.array("w/int").min() == 127
    arm = quantize(text, isa="arm")
    assert arm.array("x/zero_point").dtype == arm.array("y/zero_point").dtype == np.int8
    assert arm.error() < 0.02


def test_a_node_without_inputs(quantize: Any) -> None:
    q = quantize(
        "g (float[N,16] x) => (float[N,4] y) <float[16,4] w>"
        " { t = MatMul(x, w) r = RandomNormal<shape=[1,4], scale=0.0>() y = Sub(t, r) }"
    )
    assert q.applied == 1
