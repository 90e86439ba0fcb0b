"""insert-qdq: structure, parameters, reasons, and (with onnxruntime) the kernels that run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats
from fcc.compress.quantize import ActivationParams, activation_params, is_pair_safe
from fcc.frontend import read
from fcc.passes._qdq_emit import absorbing
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

CONV = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) <float[4,3,3,3] w, float[4] b>"
PAIR = "<float[4,3,3,3] w, float[4] b, float[5,4,3,3] v, float[5] c>"


def source(text: str, constants: dict[str, Any] | None = None, opset: int = 21) -> onnx.ModelProto:
    return testing._model(text, opset, constants or {}, 0)


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng, made = np.random.default_rng(seed), {}
    for value in model.graph.input:
        shape = [3 if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim]
        made[value.name] = rng.standard_normal(shape).astype(np.float32)
    return made


def observed(module: ir.Module, names: list[str], samples: list[dict[str, Any]]) -> CalibrationStats:
    """Statistics by the reference evaluator, so that structure is tested without onnxruntime."""
    model = ir_proto(module)
    model.graph.output.extend(
        onnx.ValueInfoProto(name=n) for n in names if n not in {o.name for o in model.graph.output}
    )
    del model.graph.value_info[:]
    evaluator, stats = ReferenceEvaluator(model), CalibrationStats()
    for fed in samples:
        with np.errstate(all="ignore"):
            found = dict(zip(evaluator.output_names, evaluator.run(None, fed), strict=True))
        stats.update({n: np.asarray(found[n]) if n in found else fed[n] for n in names})
    return stats


def ir_proto(module: ir.Module) -> onnx.ModelProto:
    from onnx_ir import serde

    return serde.serialize_model(module.clone().model)


class Quantized:
    """A model before and after, with what the log says."""

    def __init__(
        self, text: str, constants: dict[str, Any] | None = None, *, isa: str = "avx2", opset: int = 21, **options: Any
    ) -> None:
        self.before = source(text, constants, opset)
        self.module = read(self.before)
        shapes.infer(self.module)
        p, target = InsertQdq(**options), get_target("cpu", isa=isa)
        self.names = p.tensors(self.module)
        self.samples = [feeds(self.before, s) for s in range(4)]
        stats = observed(self.module, self.names, self.samples)
        self.ctx = PassContext(target, Log(strict=True, explain=frozenset({p.name})), stats=stats)
        self.applied = run_pass(p, self.module, self.ctx)
        ir.verify(self.module)
        self.after = ir_proto(self.module)
        onnx.checker.check_model(self.after)
        again = replace(self.ctx, log=Log(strict=True))
        assert run_pass(p, self.module, again) == 0

    @property
    def ops(self) -> Counter[str]:
        return Counter(n.op_type for n in self.module.nodes())

    @property
    def reasons(self) -> list[str]:
        return [r.reason for r in self.ctx.log.refused]

    def array(self, name: str) -> np.ndarray[Any, Any]:
        found = ir.Module.constant(self.module.graph.initializers[name])
        assert found is not None
        return found

    def chain(self) -> list[str]:
        return [n.op_type for n in self.module.graph]

    def error(self) -> float:
        """Relative error against the source, by the reference evaluator."""
        old, new = ReferenceEvaluator(self.before), ReferenceEvaluator(self.after)
        pairs = [(old.run(None, f)[0], new.run(None, f)[0]) for f in self.samples]
        a, b = (np.concatenate([np.ravel(p[k]) for p in pairs]) for k in (0, 1))
        return float(np.linalg.norm(a - b) / np.linalg.norm(a))

    def kernels(self) -> Counter[str]:
        pytest.importorskip("onnxruntime")
        from fcc.runtime import kernels

        return kernels(self.after.SerializeToString())

    def runtime_error(self, optimize: bool = True) -> float:
        pytest.importorskip("onnxruntime")
        from fcc.runtime import open_session

        old = open_session(self.before.SerializeToString(), optimize=False)
        new = open_session(self.after.SerializeToString(), optimize=optimize)
        name = self.before.graph.output[0].name
        pairs = [(old.run(f)[name], new.run(f)[name]) for f in self.samples]
        a, b = (np.concatenate([np.ravel(p[k]) for p in pairs]) for k in (0, 1))
        return float(np.linalg.norm(a - b) / np.linalg.norm(a))


Q, DQ = "QuantizeLinear", "DequantizeLinear"


def test_conv_with_relu() -> None:
    q = Quantized(CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(t) }")
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


def test_conv_without_relu_has_a_zero_point_within() -> None:
    q = Quantized(CONV + " { y = Conv<pads=[1,1,1,1]>(x, w) }")
    assert 0 < q.array("y/zero_point") < 255
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}


def test_chain_through_max_pool_shares_scale_and_zero_point() -> None:
    q = Quantized(
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


def test_max_pool_in_front_of_float_stays_float() -> None:
    q = Quantized(
        CONV.replace("8,8] y", "7,7] y") + " { t = Conv<pads=[1,1,1,1]>(x, w) y = MaxPool<kernel_shape=[2,2]>(t) }"
    )
    assert q.chain()[-1] == "MaxPool"


def test_max_pool_with_indices_stays_float() -> None:
    q = Quantized(
        "g (float[1,3,8,8] x) => (float[1,5,2,2] y, int64[1,4,5,5] i) "
        + PAIR
        + " { t = Conv(x, w, b) p, i = MaxPool<kernel_shape=[2,2], strides=[1,1]>(t) y = Conv<strides=[2,2]>(p, v, c) }"
    )
    assert Counter(q.ops)[Q] == 4
    assert q.kernels()["QLinearConv"] == 2


def test_depthwise_and_one_dimensional_conv() -> None:
    q = Quantized(
        "g (float[N,4,9] x) => (float[N,4,7] y) <float[4,1,3] w, float[4,4,1] v>"
        " { t = Conv<group=4>(x, w) y = Conv(t, v) }"
    )
    assert q.kernels() == {Q: 1, "QLinearConv": 2, DQ: 1}
    assert q.error() < 0.03


def test_gemm_chain_ends_in_float() -> None:
    q = Quantized(
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


def test_gemm_with_a_scalar_bias() -> None:
    q = Quantized("g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float b> { y = Gemm(x, w, b) }")
    assert q.array("b/int").shape == (4,)
    assert q.kernels() == {Q: 1, "QGemm": 1}


def test_matmul_with_bias_becomes_a_gemm() -> None:
    """With a float bias onnxruntime would make a float Gemm of MatMul + Add and dequantize its weight at every run."""
    q = Quantized("g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float[4] b> { t = MatMul(x, w) y = Add(b, t) }")
    assert q.chain() == [Q, DQ, DQ, DQ, "Gemm"]
    assert q.kernels() == {Q: 1, "QGemm": 1}


def test_matmul_of_rank_three_with_bias_is_the_contrib_op() -> None:
    q = Quantized(
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16,4] w, float[4] b> { t = MatMul(x, w) y = Add(t, b) }"
    )
    assert q.chain() == [Q, "MatMulIntegerToFloat"]
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1}
    assert q.runtime_error() < 0.02


def test_matmul_in_front_of_another_add_is_the_contrib_op() -> None:
    q = Quantized(
        "g (float[N,16] x, float[N,4] r) => (float[N,4] y) <float[16,4] w> { t = MatMul(x, w) y = Add(t, r) }"
    )
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1, "Add": 1}
    assert q.runtime_error() < 0.02


def test_matmul_alone_and_in_a_chain() -> None:
    q = Quantized(
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16,8] w, float[8,4] v>"
        " { t = MatMul(x, w) u = Relu(t) y = MatMul(u, v) }"
    )
    assert q.chain()[-1] == "MatMul"
    assert q.kernels() == {Q: 1, "QLinearMatMul": 1, "MatMulIntegerToFloat": 1}
    assert q.error() < 0.03


def test_a_float_reader_of_an_int8_result_reads_the_dequantized_one() -> None:
    q = Quantized(
        f"g (float[N,3,8,8] x) => (float[N,5,4,4] y, float[N,4,6,6] z) {PAIR}"
        " { t = Conv(x, w, b) z = Sigmoid(t) y = Conv(t, v, c) }"
    )
    found = q.kernels()
    assert found["QLinearConv"] == 2
    assert "Conv" not in found


def test_a_result_that_is_an_output_too() -> None:
    q = Quantized(
        f"g (float[N,3,8,8] x) => (float[N,5,4,4] y, float[N,4,6,6] t) {PAIR} {{ t = Conv(x, w, b) y = Conv(t, v, c) }}"
    )
    assert [o.name for o in q.module.graph.outputs] == ["y", "t"]
    assert q.kernels()["QLinearConv"] == 2
    q = Quantized(
        "g (float[N,16] x) => (float[N,4] y, float[N,8] t) <float[16,8] w, float[8,4] v, float[8] b>"
        " { t = Gemm(x, w, b) y = MatMul(t, v) }"
    )
    assert q.kernels() == {Q: 1, "QGemm": 1, DQ: 1, "MatMulIntegerToFloat": 1}


def test_an_activation_that_is_not_the_only_reader_stays_behind() -> None:
    q = Quantized(
        "g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) <float[4,3,3,3] w>"
        " { t = Conv(x, w) y = Relu(t) z = Neg(t) }"
    )
    assert q.names == ["x", "t"]
    found = q.kernels()
    assert found["QLinearConv"] == found["Relu"] == found["Neg"] == 1


def test_a_relu_in_front_of_an_int8_layer_beside_other_readers() -> None:
    """onnxruntime drops that Relu; the QuantizeLinear behind it would then follow a Gemm that has another reader."""
    q = Quantized(
        "g (float[N,4] x) => (float[N,4] y, float[N,4] t) <float[4,4] w, float[4,4] v>"
        " { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) }"
    )
    assert q.names == ["x", "t", "u"]
    found = q.kernels()
    assert found["QGemm"] == 2
    assert "Gemm" not in found


def test_two_layers_share_the_pair_on_their_input() -> None:
    q = Quantized(
        "g (float[N,3,8,8] x) => (float[N,4,6,6] y, float[N,4,6,6] z) <float[4,3,3,3] w, float[4,3,3,3] v>"
        " { a = Conv(x, w) b = Conv(x, v) z = Relu(b) y = Relu(a) }"
    )
    assert q.ops[Q] == 3
    assert q.kernels()["QLinearConv"] == 2


def test_clip_vanishes() -> None:
    text = CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(t, lo, hi) }"
    q = Quantized(text.replace("b>", "b, float lo, float hi>"), {"lo": 0.0, "hi": 6.0})
    assert q.names == ["x", "y"]
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1}


def test_clip_away_from_zero_stays() -> None:
    text = CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(t, lo, hi) }"
    q = Quantized(text.replace("b>", "b, float lo, float hi>"), {"lo": 1.0, "hi": 6.0})
    assert q.names == ["x", "t"]
    assert q.kernels() == {Q: 1, "QLinearConv": 1, DQ: 1, "Clip": 1}


@settings(max_examples=200, deadline=None)
@given(st.floats(-8, 0), st.floats(0.01, 8), st.floats(0.5, 1), st.floats(0.5, 1), st.sampled_from(["uint8", "int8"]))
def test_a_clip_is_always_absorbed(low: float, high: float, a: float, b: float, dtype: str) -> None:
    low, high = float(np.float32(low)), float(np.float32(high))
    module = read(
        source("g (float[2] x) => (float[2] y) <float lo, float hi> { y = Clip(x, lo, hi) }", {"lo": low, "hi": high})
    )
    found = absorbing(activation_params(low * a, high * b, dtype), next(iter(module.graph)))
    bounds = np.iinfo(dtype)
    zero = int(found.zero_point)
    assert np.rint(low / float(found.scale)) + zero <= bounds.min
    assert np.rint(high / float(found.scale)) + zero >= bounds.max
    assert isinstance(found, ActivationParams)


def test_pair_safe_by_certificate_and_full_range_where_it_can_be() -> None:
    text = CONV + " { y = Conv(x, w) }"
    text = text.replace("4,8,8] y", "4,6,6] y")
    safe, full = Quantized(text, {"w": 1.0}), Quantized(text, {"w": 1.0}, isa="vnni")
    assert is_pair_safe(safe.array("w/int"), 0).all()
    assert safe.array("w/int").max() == 64
    assert full.array("w/int").min() == 127
    arm = Quantized(text, isa="arm")
    assert arm.array("x/zero_point").dtype == arm.array("y/zero_point").dtype == np.int8
    assert arm.error() < 0.02


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
    ],
)
def test_stays_float(text: str, because: str) -> None:
    q = Quantized(text)
    assert q.applied == 0
    assert any(because in r for r in q.reasons), q.reasons


def test_stays_float_in_other_precisions() -> None:
    text = "g (float16[N,16] x) => (float16[N,4] y) <float16[16,4] w> { y = MatMul(x, w) }"
    module = read(source(text))
    shapes.infer(module)
    log = Log(strict=True)
    assert run_pass(InsertQdq(), module, PassContext(get_target("cpu"), log, stats=CalibrationStats())) == 0
    assert "FLOAT16" in log.refused[0].reason


def test_weights_that_are_not_finite() -> None:
    q = Quantized("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }", {"w": np.inf})
    assert q.reasons == ["the weight holds NaN or infinity"]


def test_nested_graphs_stay_float() -> None:
    q = Quantized(
        "g (float[2,16] x) => (float[2,4] y) <float[16,4] w, bool c> { y = If(c) <"
        "then_branch = t () => (float[2,4] p) { p = MatMul(x, w) },"
        "else_branch = e () => (float[2,4] q) { r = MatMul(x, w) q = Neg(r) }> }"
    )
    assert q.applied == 0
    assert all("nested graph" in r for r in q.reasons)


@pytest.mark.parametrize("exclude", ["y", "Gemm", "other+y"])
def test_excluded(exclude: str) -> None:
    q = Quantized(
        "g (float[N,16] x) => (float[N,4] y) <float[16,8] w, float[8,4] v> { t = MatMul(x, w) y = Gemm(t, v) }",
        exclude=exclude,
    )
    assert q.reasons == ["excluded by option"]
    assert q.kernels() == {Q: 1, "MatMulIntegerToFloat": 1, "Gemm": 1}


def test_without_statistics_a_layer_stays_and_the_others_adapt() -> None:
    model = source(
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


def test_targets_without_int8_say_why() -> None:
    module = read(source("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }"))
    ctx = PassContext(get_target("cuda"), Log(strict=True), stats=CalibrationStats())
    assert run_pass(InsertQdq(), module, ctx) == 0
    assert "never fuses static int8" in ctx.log.refused[0].reason
    assert InsertQdq().tensors(module, ctx) == []


def test_no_data_no_quantization() -> None:
    module = read(source("g (float[N,16] x) => (float[N,4] y) <float[16,4] w> { y = MatMul(x, w) }"))
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(InsertQdq(), module, ctx) == 0
    assert "calibration data" in ctx.log.refused[0].reason


def test_a_large_bias_over_small_weights_fits_int32() -> None:
    q = Quantized(
        "g (float[N,16] x) => (float[N,4] y) <float[16,4] w, float[4] b> { y = Gemm(x, w, b) }",
        {"w": 1e-12, "b": 1e3},
    )
    assert np.abs(q.array("b/int").astype(np.int64)).max() <= 2**30
    assert q.runtime_error() < 1e-6


def test_skipped_neighbours_leave_a_right_model() -> None:
    """Bisection may leave out any single application."""
    text = (
        f"g (float[N,3,8,8] x) => (float[N,5,2,2] y) {PAIR}"
        " { t = Conv(x, w, b) u = Relu(t) p = MaxPool<kernel_shape=[2,2], strides=[1,1]>(u)"
        " y = Conv<strides=[2,2]>(p, v, c) }"
    )
    model = source(text)
    samples = [feeds(model, s) for s in range(3)]
    for skip in ("t", "p", "y"):
        module = read(model)
        shapes.infer(module)
        stats = observed(module, InsertQdq().tensors(module), samples)
        log = Log(strict=True, skip=frozenset({("insert-qdq", skip)}))
        assert run_pass(InsertQdq(), module, PassContext(get_target("cpu"), log, stats=stats)) == (
            1 if skip == "t" else 2
        )
        ir.verify(module)
        old, new = ReferenceEvaluator(model), ReferenceEvaluator(ir_proto(module))
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
def test_a_float_layer_between_int8_layers_keeps_its_float_weight(between: str, constants: str, reason: str) -> None:
    """onnxruntime would quantize its weight per tensor, without asking."""
    q = Quantized(
        "g (float[N,3,8,8] x) => (float[N,5,4,4] y) " + PAIR.replace(">", f", {constants}>")
        + f" {{ t = Conv(x, w, b) {between} y = Conv(u, v, c) }}",
        exclude="a+u",
    )  # fmt: skip
    assert q.reasons == ([reason] if reason else [])
    found = q.kernels()
    assert found["QLinearConv"] == 2
    assert found["FusedConv"] + found["Conv"] + found["ConvTranspose"] == 1
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.01)
