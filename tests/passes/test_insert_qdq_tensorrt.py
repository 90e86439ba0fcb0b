"""insert-qdq for tensorrt: symmetric, operands only; residual sums, concats and layers that tensor cores gain nothing by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir
from fcc.backends import get_backend
from fcc.target import get_target

Q, DQ = "QuantizeLinear", "DequantizeLinear"
CONV = "g (float[N,16,8,8] x) => (float[N,16,8,8] y) <float[16,16,3,3] w, float[16] b>"
BLOCK = "<float[16,16,3,3] w, float[16,16,3,3] v, float[16,16,1,1] k>"
SAME = "pads=[1,1,1,1]"


@pytest.fixture
def trt(quantize: Any) -> Any:
    def made(*args: Any, **options: Any) -> Any:
        q = quantize(*args, target="tensorrt", **options)
        assert [r for r in get_backend(get_target("tensorrt")).lint(q.module) if "Quantize" in r.reason] == []
        for name, value in q.module.graph.initializers.items():
            if name.endswith("zero_point"):
                assert value.dtype == ir.DataType.INT8
                assert not q.array(name).any()
        return q

    return made


def producer(value: ir.Value | None) -> ir.Node:
    assert value is not None
    found = value.producer()
    assert found is not None
    return found


def name_of(value: ir.Value | None) -> str | None:
    return None if value is None else value.name


def only(q: Any, op_type: str) -> ir.Node:
    (found,) = (n for n in q.module.graph if n.op_type == op_type)
    return found  # type: ignore[no-any-return]


def test_operands_are_symmetric_and_bias_and_result_stay_float(trt: Any) -> None:
    q = trt(CONV + f" {{ t = Conv<{SAME}>(x, w, b) y = Relu(t) }}")
    assert q.names == ["x"]
    assert q.chain() == [Q, DQ, DQ, "Conv", "Relu"]
    largest = max(np.abs(f["x"]).max() for f in q.samples)
    assert q.array("x/scale") == pytest.approx(largest / 127, rel=1e-6)
    conv = only(q, "Conv")
    assert conv.attributes.get_ints("pads") == (1, 1, 1, 1)
    assert name_of(conv.inputs[2]) == "b"
    weight = producer(conv.inputs[1])
    assert weight.attributes.get_int("axis") == 0
    assert q.array("w/scale").shape == (16,)
    assert q.array("w/int").dtype == np.int8
    assert np.abs(q.array("w/int")).max() == 127
    assert q.error() < 0.02


def test_chains_quantize_each_tensor_once(trt: Any) -> None:
    q = trt(
        CONV.replace("float[16] b", "float[16,16,3,3] v, float[16,16,3,3] u")
        + f""" {{
        t = Conv<{SAME}>(x, w) r = Relu(t) a = Conv<{SAME}>(r, v) c = Conv<{SAME}>(r, u) y = Mul(a, c) }}"""
    )
    assert q.ops[Q] == 2
    assert q.ops[DQ] == 5
    assert q.error() < 0.04


def test_gemm_keeps_its_attributes(trt: Any) -> None:
    q = trt(
        "g (float[N,32] x) => (float[N,24] y) <float[24,32] w, float[24] b>"
        " { y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) }"
    )
    gemm = only(q, "Gemm")
    assert gemm.attributes.get_float("alpha") == 0.5
    assert producer(gemm.inputs[1]).attributes.get_int("axis") == 0
    assert q.array("w/scale").shape == (24,)
    assert q.error() < 0.02


def test_matmul_stays_in_front_of_its_float_bias(trt: Any) -> None:
    q = trt("g (float[N,4,32] x) => (float[N,4,24] y) <float[32,24] w, float[24] b> { t = MatMul(x, w) y = Add(t, b) }")
    assert q.chain() == [Q, DQ, DQ, "MatMul", "Add"]
    assert producer(only(q, "MatMul").inputs[1]).attributes.get_int("axis") == 1
    assert q.error() < 0.02


def test_a_bias_that_is_computed_is_kept(trt: Any) -> None:
    q = trt("g (float[N,32] x, float[24] b) => (float[N,24] y) <float[32,24] w> { y = Gemm(x, w, b) }")
    assert name_of(only(q, "Gemm").inputs[2]) == "b"


def test_deconvolutions_have_one_scale_per_weight(trt: Any) -> None:
    text = (
        "g (float[N,16,4,4] x) => (float[N,24,9,9] y) <float[16,24,3,3] w> { y = ConvTranspose<strides=[2,2]>(x, w) }"
    )
    q = trt(text, gptq=True, correct=True)
    assert q.chain() == [Q, DQ, DQ, "ConvTranspose"]
    assert q.array("w/scale").shape == ()
    assert np.abs(q.array("w/int")).max() == 127
    assert q.error() < 0.03


# -- residual sums ---------------------------------------------------------------------------------
def skip_of(q: Any) -> list[bool]:
    """Which operands of the one Add are dequantized."""
    return [producer(v).op_type == DQ for v in only(q, "Add").inputs]


@pytest.mark.parametrize("swapped", [False, True])
def test_only_the_skip_operand_of_a_sum_is_quantized(trt: Any, swapped: bool) -> None:
    q = trt(
        CONV.replace("<float[16,16,3,3] w, float[16] b>", BLOCK)
        + f""" {{
        r = Relu(x) t = Conv<{SAME}>(r, w) s = Relu(t) u = Conv<{SAME}>(s, v)
        a = Add({"u, r" if not swapped else "r, u"}) y = Conv(a, k) }}"""
    )
    assert skip_of(q) == [swapped, not swapped]
    assert q.ops[Q] == 3  # r serves the convolution and the sum
    assert "r" in q.names
    assert q.error() < 0.05


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_convolutions_the_shorter_way_is_the_skip(trt: Any, swapped: bool) -> None:
    q = trt(
        CONV.replace("<float[16,16,3,3] w, float[16] b>", BLOCK)
        + f""" {{
        r = Relu(x) t = Conv<{SAME}>(r, w) s = Relu(t) u = Conv<{SAME}>(s, v) p = Conv(r, k)
        y = Add({"u, p" if not swapped else "p, u"}) }}"""
    )
    assert skip_of(q) == [swapped, not swapped]
    assert q.error() < 0.05


def test_convolutions_of_two_inputs_have_their_second_quantized(trt: Any) -> None:
    q = trt(
        "g (float[N,16,8,8] x, float[N,16,8,8] z) => (float[N,16,8,8] y) <float[16,16,1,1] w, float[16,16,1,1] v>"
        " { t = Conv(x, w) u = Conv(z, v) y = Add(t, u) }"
    )
    assert skip_of(q) == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Add(t, t) }",
        CONV.replace("float[16] b", "float[16,8,8] b") + " { t = Conv<pads=[1,1,1,1]>(x, w) y = Add(t, b) }",
        CONV.replace("float[16] b", "float[16,16,8,8] b").replace("3,3]", "1,1]").replace("N,", "2,")
        + " { t = Conv(x, w) g = GlobalAveragePool(x) y = Add(t, g) }",
        CONV.replace("y)", "y, float[N,16,8,8] t)") + " { t = Conv<pads=[1,1,1,1]>(x, w, b) y = Add(t, x) }",
        CONV + " { t = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(t) y = Add(r, x) }",
        "g (float[N,4,16] x) => (float[N,4,16] y) <float[16,16] w> { t = MatMul(x, w) y = Add(t, x) }",
    ],
    ids=["itself", "constant", "broadcast", "result used elsewhere", "no layer in front", "product"],
)
def test_other_sums_stay_float(trt: Any, text: str) -> None:
    q = trt(text)
    assert q.applied == 1
    assert not any(
        v is not None and v.producer() is not None and producer(v).op_type == DQ for v in only(q, "Add").inputs
    )


def test_a_skip_that_calibration_did_not_see_stays_float(quantize: Any) -> None:
    from fcc.analysis import shapes
    from fcc.compress.calibrate import CalibrationStats
    from fcc.frontend import read
    from fcc.passes.insert_qdq import InsertQdq
    from fcc.rewrite import Log, PassContext, run_pass

    text = CONV + f" {{ r = Relu(x) t = Conv<{SAME}>(x, w, b) y = Add(t, r) }}"
    module = read(quantize.source(text))
    shapes.infer(module)
    stats = CalibrationStats()
    stats.update({"x": np.ones(3, np.float32), "r": np.array([np.nan], np.float32)})
    ctx = PassContext(get_target("tensorrt"), Log(strict=True), stats=stats)
    assert run_pass(InsertQdq(), module, ctx) == 1
    assert "NaN" in ctx.log.refused[0].reason


def test_a_skip_whose_layer_was_left_out_stays_float(quantize: Any) -> None:
    from fcc.analysis import shapes
    from fcc.compress.calibrate import CalibrationStats
    from fcc.frontend import read
    from fcc.passes.insert_qdq import InsertQdq
    from fcc.rewrite import Log, PassContext, run_pass

    module = read(quantize.source(CONV + f" {{ r = Relu(x) t = Conv<{SAME}>(x, w, b) y = Add(t, r) }}"))
    shapes.infer(module)
    stats = CalibrationStats()
    stats.update({"x": np.ones(3, np.float32), "r": np.ones(3, np.float32)})
    log = Log(strict=True, skip=frozenset({("insert-qdq", "t")}))
    assert run_pass(InsertQdq(), module, PassContext(get_target("tensorrt"), log, stats=stats)) == 0
    assert any(r.reason == "the layer that would add it stayed float" for r in log.refused)


def test_a_second_run_leaves_sums_alone(trt: Any) -> None:
    q = trt(CONV + f" {{ r = Relu(x) t = Conv<{SAME}>(x, w, b) y = Add(t, r) }}")
    assert q.applied == 2  # the fixture runs the pass again, which must change nothing


# -- concat -----------------------------------------------------------------------------------------
def test_what_a_concat_joins_has_one_scale(trt: Any) -> None:
    q = trt(
        "g (float[N,16,8,8] x) => (float[N,16,8,8] y, float[N,16,8,8] z)"
        " <float[16,16,1,1] w, float[16,32,1,1] v, float[16,16,1,1] k> {"
        " a = Relu(x) t = Conv(a, w) b = Mul(t, t) c = Concat<axis=1>(a, b) y = Conv(c, v) z = Conv(a, k) }"
    )
    assert q.names == ["a", "c"]
    assert q.array("a/scale") == q.array("c/scale")
    wide = [n.inputs[1] for n in q.module.graph if n.op_type == Q]
    assert len(wide) == 2


def test_concats_of_concats_are_one_group(trt: Any) -> None:
    q = trt(
        "g (float[N,16,8,8] x) => (float[N,16,8,8] y, float[N,16,8,8] z, float[N,16,8,8] u)"
        " <float[16,16,1,1] w, float[16,32,1,1] v, float[16,48,1,1] k> {"
        " a = Relu(x) u = Conv(a, w) c = Concat<axis=1>(a, u) y = Conv(c, v) e = Mul(y, y) d = Concat<axis=1>(c, e)"
        " z = Conv(d, k) }"
    )
    assert q.names == ["a", "c", "d"]
    assert q.array("a/scale") == q.array("c/scale") == q.array("d/scale")
    assert q.array("d/scale") > 0.2  # the square of y is the largest


def test_a_concat_that_stays_float_ties_nothing(trt: Any) -> None:
    q = trt(
        "g (float[N,16,8,8] x) => (float[N,32,8,8] y, float[N,16,8,8] z, float[N,16,8,8] u)"
        " <float[16,16,1,1] w, float[16,16,1,1] v> {"
        " a = Relu(x) z = Conv(a, w) e = Mul(z, z) u = Conv(e, v) y = Concat<axis=1>(a, e) }"
    )
    assert q.array("a/scale") != q.array("e/scale")


# -- tensor cores -------------------------------------------------------------------------------------
PRODUCT = "g (float[N,32] x) => (float[N,24] y) <float[32,24] w> { y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("text", "symbols", "because"),
    [
        (PRODUCT.replace("N,", "1,"), {}, "one row"),
        (PRODUCT, {"N": 1}, "one row at the sizes of --opt-shape"),
        (PRODUCT, {"N": 3}, None),
        (PRODUCT, {}, None),
        (PRODUCT.replace("24", "1"), {}, "one output channel"),
        ("g (float[1,1,32] x) => (float[1,1,24] y) <float[32,24] w> { y = MatMul(x, w) }", {}, "one row"),
        ("g (float[1,2,32] x) => (float[1,2,24] y) <float[32,24] w> { y = MatMul(x, w) }", {}, None),
        ("g (float[1,32] x) => (float[1,24] y) <float[32,24] w> { y = Gemm(x, w) }", {}, "one row"),
    ],
)
def test_products_with_a_vector_stay_float(trt: Any, text: str, symbols: dict[str, int], because: str | None) -> None:
    q = trt(text, symbols=symbols)
    assert q.applied == (because is None)
    assert because is None or any(because in r for r in q.reasons), q.reasons


def conv(inputs: int, outputs: int, kernel: str, group: int = 1, first: bool = True) -> str:
    dims = f"{outputs},{inputs // group},{kernel}"
    layer = f"y = Conv<group={group}>({'x' if first else 't'}, w)"
    return f"g (float[1,{inputs},8,8] x) => (float[1,{outputs},a,b] y) <float[{dims}] w> {{ t = Relu(x) {layer} }}"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (conv(16, 16, "1,1", first=False), None),
        (conv(3, 16, "3,3"), None),
        (conv(3, 8, "3,3"), None),
        (conv(3, 8, "3,3", first=False), "3 channels in and 8 out"),
        (conv(3, 16, "3,3", first=False), None),
        (conv(16, 3, "3,3", first=False), None),
        (conv(16, 15, "3,3", first=False), None),
        (conv(15, 17, "3,3", first=False), "15 channels in and 17 out"),
        (conv(3, 9, "3,3"), "3 channels in and 9 out"),
        (conv(3, 16, "3,1"), "3 channels in and 16 out"),
        (conv(8, 8, "3,3", group=8), None),
        (conv(12, 12, "3,3", group=12), "in eights"),
        (conv(8, 8, "3,1", group=8), "in eights"),
        (conv(32, 32, "1,1", group=2), None),
    ],
)
def test_few_channels_stay_float_but_for_shapes_with_kernels(trt: Any, text: str, because: str | None) -> None:
    q = trt(text)
    assert q.applied == (because is None), q.reasons
    assert because is None or any(because in r for r in q.reasons), q.reasons


def test_narrow_deconvolutions_stay_float(trt: Any) -> None:
    q = trt("g (float[1,16,4,4] x) => (float[1,8,5,5] y) <float[16,8,2,2] w> { y = ConvTranspose(x, w) }")
    assert any("16 channels in and 8 out" in r for r in q.reasons)


# -- options -------------------------------------------------------------------------------------------
def skewed() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    found: np.ndarray[Any, Any] = rng.standard_normal((32, 24)) * rng.choice([0.01, 1.0], (1, 24))
    return found.astype(np.float32)


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w, float[24] b> { s = Abs(x) y = Gemm(s, w, b) }", True),
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w> { s = Abs(x) y = Gemm(s, w) }", True),
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w, float[1] b> { s = Abs(x) y = Gemm(s, w, b) }", True),
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w> { s = Abs(x) y = Gemm<alpha=2.0>(s, w) }", False),
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w, float[24] b> { s = Abs(x) y = Gemm<beta=2.0>(s, w, b) }",
         False),
        ("g (float[N,32] x, float[24] b) => (float[N,24] y) <float[32,24] w> { s = Abs(x) y = Gemm(s, w, b) }", False),
        ("g (float[24,32] x) => (float[24,24] y) <float[32,24] w, float[24,1] b> { s = Abs(x) y = Gemm(s, w, b) }", False),
        ("g (float[N,32] x) => (float[N,24] y) <float[32,24] w> { s = Abs(x) y = MatMul(s, w) }", False),
    ],
)  # fmt: skip
def test_biases_take_the_mean_error_where_they_are_rows(trt: Any, text: str, corrected: bool) -> None:
    plain, q = (trt(text, {"w": skewed()}, correct=c) for c in (False, True))
    (layer,) = (n for n in q.module.graph if n.op_type in ("Gemm", "MatMul"))
    made = [v for v in layer.inputs[2:] if v is not None and "corrected" in (v.name or "")]
    assert bool(made) == corrected
    assert q.error() < plain.error() if corrected else q.error() == plain.error()


def test_gptq_rounds_for_the_outputs(trt: Any) -> None:
    text = "g (float[64,32] x) => (float[64,24] y) <float[32,32] m, float[32,24] w> { t = MatMul(x, m) s = Abs(t) y = MatMul(s, w) }"
    plain, q = (trt(text, gptq=g, only="y") for g in (False, True))
    assert q.error() < plain.error()


def test_one_scale_per_weight(trt: Any) -> None:
    q = trt(PRODUCT, per_tensor="MatMul")
    assert q.array("w/scale").shape == ()


def test_a_gemm_that_transposes_its_input_stays_float(trt: Any) -> None:
    q = trt("g (float[32,8] x) => (float[8,24] y) <float[32,24] w> { y = Gemm<transA=1>(x, w) }")
    assert q.applied == 0
    assert q.reasons == ["transA is set"]
