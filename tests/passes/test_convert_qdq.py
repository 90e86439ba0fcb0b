"""convert-qdq: stored weights, types of a target, saturation; what stays and why; quantized models are never doubled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.convert_qdq import ConvertQdq
from fcc.passes.convert_relu_qdq import ConvertReluQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

EXACT, RETARGET = ConvertQdq(), ConvertQdq(retarget=True)
STORED = (
    "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] s, {0}[3] z>"
    " {{ q = QuantizeLinear<axis=1>(w, s, z) d = DequantizeLinear<axis=1>(q, s, z) y = MatMul(x, d) }}"
)
KEPT = "g (float[N,4] x) => (float[N,3] y) <{0}[4,3] q, float[3] s, {0}[3] z> {{ d = DequantizeLinear<axis=1>(q, s, z) y = MatMul(x, d) }}"
ACTIVATION = (
    "g (float[N,4] x) => (float[N,4] y) <float s, {0} z>"
    " {{ {1} q = QuantizeLinear({2}, s, z) y = DequantizeLinear(q, s, z) }}"
)
WEIGHT = (
    "g (float[N,4] x) => (float[N,3] y) <{0}[4,3] w, float[3] s, {0}[3] z>"
    " {{ d = DequantizeLinear<axis=1>(w, s, z) y = MatMul(x, d) }}"
)


def constants(module: ir.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {k: np.asarray(ir.Module.constant(v)) for k, v in module.graph.initializers.items()}


def one(module: ir.Module, dtype: str, size: int) -> np.ndarray[Any, Any]:
    (found,) = (a for a in constants(module).values() if str(a.dtype) == dtype and a.size == size)
    return found


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_quantized_constant_is_its_integers(dtype: str) -> None:
    w = np.array([[0.25, -0.4, 9.0], [0.75, 1.26, -9.0], [-0.25, 0.0, 0.1], [0.5, 100.0, -100.0]], np.float32)
    s, z = np.array([0.5, 0.1, 0.2], np.float32), np.array([3, 0, 7] if dtype == "uint8" else [0, -2, 0])
    module = testing.check(
        EXACT, STORED.format(dtype), KEPT.format(dtype), constants={"w": w, "s": s, "z": z}, target="cuda"
    )
    expected = np.clip(np.rint(w / s) + z, np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert np.array_equal(one(module, dtype, 12), expected)


def test_a_scalar_scale() -> None:
    text = STORED.format("int8").replace("float[3] s", "float s").replace("int8[3] z", "int8 z").replace("<axis=1>", "")
    after = KEPT.format("int8").replace("float[3] s", "float s").replace("int8[3] z", "int8 z").replace("<axis=1>", "")
    testing.check(EXACT, text, after, constants={"s": 0.01, "z": 0})


@pytest.mark.parametrize(
    ("text", "given", "because"),
    [
        (STORED.format("int8"), {"w": np.full((4, 3), np.nan), "s": [1, 1, 1], "z": [0, 0, 0]}, "not finite float32"),
        (STORED.format("int8"), {"s": [1, 0, 1], "z": [0, 0, 0]}, "not positive"),
        (STORED.format("int8").replace("axis=1", "axis=0"), {"s": [1, 1, 1], "z": [0, 0, 0]}, "do not fit the axis"),
        (STORED.format("int16"), {"s": [1, 1, 1], "z": [0, 0, 0]}, "not 8 bits"),
        (STORED.format("int8").replace("float", "float16"), {"s": [1, 1, 1], "z": [0, 0, 0]}, "not finite float32"),
        (
            STORED.format("int8")
            .replace("x) =>", "x, float[3] t) =>")
            .replace("(w, s", "(w, t")
            .replace("(q, s", "(q, t"),
            {"z": [0, 0, 0]},
            "not constant",
        ),
    ],
)
def test_constants_that_stay(text: str, given: Any, because: str) -> None:
    testing.check(EXACT, text, None, constants=given, because=because)


def test_int8_activations_become_uint8() -> None:
    text = ACTIVATION.format("int8", "", "x")
    given = {"s": 0.02, "z": -5}
    module = testing.check(RETARGET, text, ACTIVATION.format("uint8", "", "x"), constants=given)
    assert one(module, "uint8", 1) == 123
    testing.check(EXACT, text, None, constants=given)
    arm = PassContext(get_target("cpu", isa="arm"), Log(strict=True))
    source = read(testing.model_from(text, 21, given, 0))
    shapes.infer(source)
    assert run_pass(RETARGET, source, arm) == 0


def test_behind_a_relu_the_zero_point_is_that_of_the_relu() -> None:
    text, after = (ACTIVATION.format(t, "r = Relu(x)", "r") for t in ("int8", "uint8"))
    given = {"s": 0.05, "z": 0}
    module = testing.check(ConvertReluQdq(), text, after, constants=given)
    assert one(module, "uint8", 1) == 0
    testing.check(RETARGET, after, None, constants=given)
    testing.check(ConvertReluQdq(), text, None, constants={**given, "s": -0.05}, because="not positive")
    testing.check(ConvertReluQdq(), text, None, constants={**given, "z": 1})
    testing.check(ConvertReluQdq(), text.replace("Relu", "Abs"), None, constants=given)
    testing.check(ConvertReluQdq(), text, None, constants=given, target="tensorrt")
    wide = "g (float[N,4] x) => (float[N,4] y) <float[4] s, int8[4] z> { r = Relu(x) q = QuantizeLinear(r, s, z) y = DequantizeLinear(q, s, z) }"
    testing.check(ConvertReluQdq(), wide, None, constants={"s": np.ones(4), "z": np.zeros(4)})
    kept = text.replace("y) <", "y, int8[N,4] q) <")
    testing.check(ConvertReluQdq(), kept, None, constants=given, because="something else")
    shifted = testing.check(RETARGET, text, after, constants={**given, "z": -128})
    assert one(shifted, "uint8", 1) == 0


def test_integers_that_several_graphs_read_stay() -> None:
    text = (
        "g (float[N,2,5] x, bool f) => (float[N,1,4] y) <int8[1,2,2] w, float s, int8 z> { y = If (f) <"
        " else_branch: graph = e () => (float[N,1,4] a) { b = DequantizeLinear(w, s, z) a = Conv(x, b) },"
        " then_branch: graph = t () => (float[N,1,4] c) { d = DequantizeLinear(w, s, z) c = Conv(x, d) }> }"
    )
    given = {"w": np.array([[[100, 0], [100, 0]]], np.int8), "s": 0.1, "z": 0}
    testing.check(RETARGET, text, None, constants=given, because="several graphs")


def test_the_output_type_goes_with_the_zero_point() -> None:
    text = ACTIVATION.format("int8", "", "x").replace("QuantizeLinear(x", "QuantizeLinear<output_dtype=3>(x", 1)
    testing.check(RETARGET, text, ACTIVATION.format("uint8", "", "x"), constants={"s": 0.02, "z": 0})


def test_several_readers_change_together() -> None:
    text = (
        "g (float[N,4] x) => (float[N,4] y, float[N,4] u) <float s, {0} z>"
        " {{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) u = DequantizeLinear(q, s, z) }}"
    )
    testing.check(RETARGET, text.format("int8"), text.format("uint8"), constants={"s": 0.02, "z": 1})


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (
            "g (float[N,4] x) => (float[N,4] y, int8[N,4] m) <float s, int8 z>"
            " { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) m = Relu(q) }",
            "something else",
        ),
        (
            "g (float[N,4] x) => (float[N,4] y, int8[N,4] q) <float s, int8 z>"
            " { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
            "something else",
        ),
        (
            "g (float[N,4] x) => (float[N,4] y) <float s, float t, int8 z>"
            " { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, z) }",
            "not constant and alike",
        ),
        (
            "g (float[N,4] x) => (float[N,4] y) <float s, int8 z> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s) }",
            "not constant and alike",
        ),
        (
            "g (float[4,4] x) => (float[4,4] y) <float[4] s, int8[4] z>"
            " { q = QuantizeLinear<axis=0>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z) }",
            "different axes",
        ),
    ],
)
def test_pairs_that_stay(text: str, because: str) -> None:
    given = {"s": np.full(4, 0.5) if "[4] s" in text else 0.5, "z": np.zeros(4) if "[4] z" in text else 0, "t": 0.25}
    testing.check(RETARGET, text, None, constants={k: v for k, v in given.items() if f" {k}" in text}, because=because)


def test_weights_that_could_overflow_become_uint8() -> None:
    w = np.array([[100, 1, -1], [29, 1, -1], [0, 5, 5], [0, 5, 5]], np.int8)
    given = {"w": w, "s": [0.1, 0.2, 0.3], "z": [0, 0, 0]}
    text, after = (WEIGHT.format(t) for t in ("int8", "uint8"))
    module = testing.check(RETARGET, text, after, constants=given)
    assert np.array_equal(one(module, "uint8", 12), w.astype(int) + 128)
    assert (one(module, "uint8", 3) == 128).all()
    testing.check(EXACT, text, None, constants=given)
    testing.check(RETARGET, text, None, constants={**given, "w": np.where(w == 29, 28, w)})
    source = read(testing.model_from(text, 21, given, 0))
    shapes.infer(source)
    assert run_pass(RETARGET, source, PassContext(get_target("cpu", isa="vnni"), Log(strict=True))) == 0


@pytest.mark.parametrize("trans", [0, 1])
def test_pairs_run_along_the_inputs(trans: int) -> None:
    w = np.zeros((4, 4), np.int8)
    w[0, :2] = 100  # neighbours along the last axis
    text = (
        f"g (float[N,4] x) => (float[N,4] y) <{{0}}[4,4] w, float s, {{0}} z>"
        f" {{{{ d = DequantizeLinear(w, s, z) y = Gemm<transB={trans}>(x, d) }}}}"
    )
    after = text.format("uint8") if trans else None
    testing.check(RETARGET, text.format("int8"), after, constants={"w": w, "s": 0.1, "z": 0})


def test_convolutions_overflow_in_either_order_and_other_readers_do_not() -> None:
    text = (
        "g (float[N,2,5] x) => (float[N,1,4] y) <{0}[1,2,2] w, float s, {0} z>"
        " {{ d = DequantizeLinear(w, s, z) y = Conv(x, d) }}"
    )
    given = {"w": np.array([[[100, 0], [100, 0]]], np.int8), "s": 0.1, "z": 0}
    testing.check(RETARGET, text.format("int8"), text.format("uint8"), constants=given)
    other = (
        text.format("int8")
        .replace("Conv(x, d)", "Conv(d, x)")
        .replace("[N,2,5] x", "[3,2,2] x")
        .replace("[N,1,4] y", "[1,3,1] y")
    )
    testing.check(RETARGET, other, None, constants=given)


def test_tensorrt_takes_symmetric_int8_and_float_biases() -> None:
    text, after = (ACTIVATION.format(t, "", "x") for t in ("uint8", "int8"))
    module = testing.check(EXACT, text, after, constants={"s": 0.05, "z": 128}, target="tensorrt")
    assert one(module, "int8", 1) == 0
    testing.check(EXACT, text, None, constants={"s": 0.05, "z": 0}, target="tensorrt", because="zero point 0 only")
    testing.check(EXACT, text, None, constants={"s": 0.05, "z": 128}, target="cpu")
    weights, signed = (WEIGHT.format(t) for t in ("uint8", "int8"))
    given = {"w": np.arange(12).reshape(4, 3) * 20, "s": [0.1, 0.2, 0.3], "z": [128, 128, 128]}
    module = testing.check(EXACT, weights, signed, constants=given, target="tensorrt")
    assert np.array_equal(one(module, "int8", 12), np.arange(12).reshape(4, 3) * 20 - 128)


BIAS = (
    "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, int32[3] b, float[3] s, int32[3] z>"
    " { c = DequantizeLinear<axis=0>(b, s, z) y = Gemm(x, w, c) }"
)


def test_a_bias_is_dequantized_for_tensorrt() -> None:
    given = {"b": [100, -7, 3], "s": [0.5, 0.25, 0.125], "z": [0, 0, 0]}
    after = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] c> { y = Gemm(x, w, c) }"
    module = testing.check(EXACT, BIAS, after, constants=given, target="tensorrt")
    assert one(module, "float32", 3).tolist() == [50, -1.75, 0.375]
    testing.check(EXACT, BIAS, None, constants=given, target="cpu")
    testing.check(EXACT, BIAS, None, constants={**given, "z": [0, 1, 0]}, target="tensorrt", because="no constant bias")


def test_a_quantized_model_is_never_quantized_twice() -> None:
    pytest.importorskip("onnxruntime")
    import fcc
    from fcc.models import path

    data = {"x": np.load(path("digits_calibration.npz"))["x"][:60]}
    once = fcc.compile(path("digits_cnn").read_bytes(), precision="int8", calibration=data)
    twice = fcc.compile(once.to_bytes(), precision="int8", calibration=data, allow_growth=True)
    count = [[n.op_type for n in m.module.graph].count("QuantizeLinear") for m in (once, twice)]
    assert count[0] == count[1] > 0
    assert not [x for x in twice.report.layers if "int8" in x["what"]]
    (row,) = (r for r in twice.report.parity if r.phase == "lossy")
    assert row.error < 1e-4
