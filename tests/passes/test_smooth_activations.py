"""smooth-activations: exact, by the formula, through what is homogeneous, and refused elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats
from fcc.compress.channels import Channels
from fcc.frontend import read
from fcc.passes.smooth_activations import SmoothActivations
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

# Channel 0 of the hidden tensor is 64 times as large as the others; the weights that read it are of one size.
LARGEST = {4: [64.0, 1.0, 1.0, 1.0], 12: [64.0] * 3 + [1.0] * 9, 6: [64.0] + [1.0] * 5}


def stats(name: str, channels: int, axis: int) -> CalibrationStats:
    seen = Channels(axis)
    seen.update(np.moveaxis(np.array(LARGEST[channels])[None], -1, axis))
    return CalibrationStats(watched={f"channels {axis} of {name}": seen})


def check(
    before: str, after: str | None, *, name: str = "u", channels: int = 4, axis: int = 1, **more: Any
) -> ir.Module:
    p = SmoothActivations(**more.pop("options", {}))
    found = testing.check(p, before, after, stats=stats(name, channels, axis), **more)
    return found


CONVS = (
    "g (float[N,3,8,8] x) => (float[N,5,4,4] y) <float[4,3,3,3] w, float[4] b, float[5,4,3,3] v>"
    " {{ t = Conv(x, w{}) u = {} y = Conv(u, v) }}"
)


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("between", ["Relu(t)", "LeakyRelu<alpha=0.1>(t)"])
def test_between_convolutions(bias: str, between: str) -> None:
    text = CONVS.format(bias, between)
    changed = (
        text.replace("w, ", "p, ").replace("(x, w", "(x, p").replace(", b)", ", q)").replace("float[4] b", "float[4] q")
    )
    module = check(text, changed, axis=1)
    weights = {k: ir.Module.constant(v) for k, v in module.graph.initializers.items()}
    source = read(testing.model_from(text, 21, {}, 0)).graph.initializers
    w, v = (np.asarray(ir.Module.constant(source[k])) for k in ("w", "v"))
    found = [a for a in weights.values() if a is not None]
    scale = expected(np.array(LARGEST[4]), np.abs(v).max(axis=(0, 2, 3)), 0.5)
    assert scale[0] > 1 > scale[1]
    assert any(np.array_equal(a, w / scale[:, None, None, None].astype(np.float32)) for a in found)
    assert any(np.array_equal(a, v * scale[None, :, None, None].astype(np.float32)) for a in found)


@pytest.mark.parametrize(
    "between",
    [
        *("PRelu(t, slope)", "Identity(t)", "AveragePool<kernel_shape=[3,3]>(t)", "MaxPool<kernel_shape=[3,3]>(t)"),
        *("GlobalMaxPool(t)", "GlobalAveragePool(t)"),
    ],
)
def test_what_scales_with_its_input_may_stand_between(between: str) -> None:
    text = (
        "g (float[N,3,8,8] x) => (float[N,5,A,B] y) <float[4,3,3,3] w, float[5,4,1,1] v, float[4,1,1] slope>"
        f" {{ t = Conv(x, w) u = {between} y = Conv(u, v) }}"
    )
    module = check(text, text.replace("float[4,3,3,3] w", "float[4,3,3,3] p").replace("(x, w)", "(x, p)"), axis=1)
    source = ir.Module.constant(read(testing.model_from(text, 21, {}, 0)).graph.initializers["w"])
    scaled = ir.Module.constant(module.graph[0].inputs[1])
    assert source is not None
    assert scaled is not None
    assert not np.array_equal(source, scaled)


def expected(x: Any, w: Any, alpha: float) -> Any:
    raw = alpha * np.log2(x) - (1 - alpha) * np.log2(w)
    return np.exp2(np.rint(raw - raw.mean()))


@pytest.mark.parametrize("trans", [0, 1])
def test_between_matrix_products_with_alpha(trans: int) -> None:
    shape = "6,4" if not trans else "4,6"
    second = "4,2" if not trans else "2,4"
    text = (
        f"g (float[N,6] x) => (float[N,2] y) <float[{shape}] w, float[4] b, float[{second}] v>"
        f" {{ t = Gemm<transB={trans}>(x, w, b) u = Relu(t) y = Gemm<transB={trans}>(u, v) }}"
    )
    module = check(text, text, axis=-1, options={"alpha": 0.75})
    source = read(testing.model_from(text, 21, {}, 0)).graph.initializers
    w, v, b = (np.asarray(ir.Module.constant(source[k])) for k in ("w", "v", "b"))
    scale = expected(np.array(LARGEST[4]), np.abs(v).max(axis=0 if trans else 1), 0.75).astype(np.float32)
    found = [ir.Module.constant(x) for x in module.graph.initializers.values()]
    for wanted in (w / (scale[:, None] if trans else scale), v * (scale if trans else scale[:, None]), b / scale):
        assert any(a is not None and np.array_equal(a, wanted) for a in found)


def test_matmul_with_bias_and_several_readers() -> None:
    text = (
        "g (float[N,S,6] x) => (float[N,S,2] y, float[N,S,3] z) <float[6,4] w, float[4] b, float[4,2] v, float[4,3] r>"
        " { t = MatMul(x, w) a = Add(b, t) u = Relu(a) y = MatMul(u, v) z = MatMul(u, r) }"
    )
    check(text, text, axis=-1)


def test_a_bias_of_one_element_becomes_a_row() -> None:
    text = (
        "g (float[N,6] x) => (float[N,2] y) <float[6,4] w, float[{}] b, float[4,2] v>"
        " {{ t = Gemm(x, w, b) u = Relu(t) y = Gemm(u, v) }}"
    )
    check(text.format("1"), text.format("4"), axis=-1)
    check(text.format("1,4"), text.format("1,4"), axis=-1)
    check(text.format("3,1").replace("N", "3"), text.format("3,4").replace("N", "3"), axis=-1)
    check(text.replace("float[{}] b", "float b").format(), text.format("4"), axis=-1)


def test_behind_pooling_and_flatten_one_channel_is_many_inputs() -> None:
    text = (
        "g (float[N,3,4,5] x) => (float[N,2] y) <float[4,3,2,3] w, float[12,2] v>"
        " { t = Conv(x, w) p = MaxPool<kernel_shape=[3,1]>(t) r = Relu(p) u = Flatten(r) y = Gemm(u, v) }"
    )
    module = check(text, text, channels=12, axis=-1)
    source = read(testing.model_from(text, 21, {}, 0)).graph.initializers
    v = ir.Module.constant(source["v"])
    found = next(ir.Module.constant(x) for x in module.graph.initializers.values() if ir.dims_of(x) == (12, 2))
    assert v is not None
    assert found is not None
    ratio = (found / v)[:, 0].reshape(4, 3)
    assert (ratio == ratio[:, :1]).all()
    assert ratio[0, 0] > ratio[1, 0]


def test_grouped_readers() -> None:
    text = (
        "g (float[N,3,8] x) => (float[N,6,6] y) <float[4,3,1] w, float[6,2,3] v>"
        " { t = Conv(x, w) u = Relu(t) y = Conv<group=2>(u, v) }"
    )
    check(text, text, axis=1)


def test_behind_a_layer_normalization() -> None:
    text = (
        "g (float[N,S,4] x) => (float[N,S,2] y) <float[4] w, float[4] b, float[4,2] v>"
        " { u = LayerNormalization(x, w, b) y = MatMul(u, v) }"
    )
    check(text, text, axis=-1)


REFUSED = [
    ("(float[N,4] x) => (float[N,2] y) <float[4,2] v> { u = Relu(x) y = Gemm(u, v) }", "no weight op makes", -1),
    ("(float[N,4] u) => (float[N,2] y) <float[4,2] v> { y = Gemm(u, v) }", "no weight op makes", -1),
    (
        "(float[N,6] x) => (float[N,2] y, float[N,4] u) <float[6,4] w, float[4,2] v>"
        " { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) }",
        "has other users",
        -1,
    ),
    (
        "(float[N,6] x) => (float[N,2] y, float[N,4] t) <float[6,4] w, float[4,2] v>"
        " { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) }",
        "has other users",
        -1,
    ),
    (
        "(float[N,6] x) => (float[N,2] y, float[N,4] z) <float[6,4] w, float[4,2] v>"
        " { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) z = Exp(u) }",
        "Exp reads it too",
        -1,
    ),
    (
        "(float[N,6] x) => (float[N,2] y) <float[6,4] w, float[4,2] v> { t = Gemm(x, w) u = Tanh(t) y = Gemm(u, v) }",
        "Tanh is no weight op",
        -1,
    ),
    (
        "(float[N,6] x, float[6,4] w) => (float[N,2] y) <float[4,2] v> { u = Gemm(x, w) y = Gemm(u, v) }",
        "is no weight op",
        -1,
    ),
    (
        "(float[N,6] x, float[4] b) => (float[N,2] y) <float[6,4] w, float[4,2] v> { u = Gemm(x, w, b) y = Gemm(u, v) }",
        "is not constant",
        -1,
    ),
    (
        "(float[N,6] x, float[4,2] v) => (float[N,2] y) <float[6,4] w> { u = Gemm(x, w) y = Gemm(u, v) }",
        "the weight is not constant",
        -1,
    ),
    (
        "(float[N,6] x, float[2,4] z) => (float[2,2] y) <float[6,4] w> { u = Gemm(x, w) y = Gemm(z, u) }",
        "",
        -1,
    ),
    (
        "(float[N,3,4,4] x) => (float[4,2] y) <float[4,3,4,4] w, float[4,2] v>"
        " { t = Conv(x, w) s = Relu(t) u = Flatten<axis=2>(s) y = Gemm(u, v) }",
        "Flatten does not keep",
        -1,
    ),
    (
        "(float[N,3,H,4] x) => (float[N,2] y) <float[4,3,1,4] w, float[12,2] v>"
        " { t = Conv(x, w) u = Flatten(t) y = Gemm(u, v) }",
        "Flatten does not keep",
        -1,
    ),
    (
        "(float[N,3,4] x) => (float[N,4,2] y) <float[4,3,1] w, float[4,2] v> { u = Conv(x, w) y = MatMul(u, v) }",
        "channels on axis 1",
        -1,
    ),
    (
        "(float[N,3,6] x) => (float[N,2,4] y) <float[6,4] w, float[2,3,1] v> { u = MatMul(x, w) y = Conv(u, v) }",
        "MatMul has no channels on axis 1",
        1,
    ),
]


@pytest.mark.parametrize(("text", "because", "axis"), REFUSED)
def test_refused(text: str, because: str, axis: int) -> None:
    check("g " + text, None, because=because, axis=axis)


def test_needs_channels_of_different_size_and_statistics() -> None:
    text = CONVS.format("", "Relu(t)")
    v = np.ones((5, 4, 3, 3))
    even = Channels(1)
    even.update(np.ones((1, 4, 1)))
    for watched, because in (
        ({"channels 1 of u": even}, "of one size already"),
        ({}, "no statistics"),
        ({"channels 1 of u": Channels(1)}, "no statistics"),
    ):
        seen = CalibrationStats(watched=watched)
        testing.check(SmoothActivations(), text, None, because=because, stats=seen, constants={"v": v})
    wrong = stats("u", 6, 1)
    testing.check(SmoothActivations(), text, None, because="do not agree", stats=wrong)
    testing.check(SmoothActivations(), text, None, because="needs calibration data", stats=None)


def test_options_name_readers() -> None:
    text = CONVS.format("", "Relu(t)")
    for options in ({"only": "t"}, {"exclude": "y"}, {"exclude": "Conv"}):
        check(text, None, because="excluded by option", options=options)
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    assert SmoothActivations().layers(module) == ["y"]
    assert list(SmoothActivations().watch(module)) == ["channels 1 of u"]
    assert SmoothActivations(only="t").layers(module) == []
    ctx = PassContext(get_target("cpu"), Log(strict=True), stats=stats("u", 4, 1))
    assert run_pass(SmoothActivations(only="y"), module, ctx) == 1
    assert run_pass(SmoothActivations(), module, ctx) == 0  # its channels are scaled already


def test_a_mul_where_nothing_before_can_be_scaled() -> None:
    """The input of the model, a Sigmoid: x W = (x / s) (s W), s a power of two; of a Conv along axis 1."""
    text = "g (float[N,4] i) => (float[N,5] y) <float[4,5] v> { u = Sigmoid(i) y = MatMul(u, v) }"
    after = "g (float[N,4] i) => (float[N,5] y) <float[4] s> { u = Sigmoid(i) t = Mul(u, s) y = MatMul(t, v) }"
    check(text, None, because="no weight op", axis=-1)
    module = check(text, after, axis=-1, options={"insert": True})
    (mul, matmul) = list(module.graph)[1:]
    v = np.asarray(ir.Module.constant(read(testing.model_from(text, 21, {}, 0)).graph.initializers["v"]))
    scale = expected(np.array(LARGEST[4]), np.abs(v).max(axis=1), 0.5)
    np.testing.assert_array_equal(ir.Module.constant(mul.inputs[1]), (1 / scale).astype(np.float32))
    np.testing.assert_array_equal(ir.Module.constant(matmul.inputs[1]), v * scale[:, None].astype(np.float32))


def test_a_mul_before_all_convolutions_that_read_a_tensor() -> None:
    text = (
        "g (float[N,4,8,8] u) => (float[N,5,6,6] y, float[N,4,8,8] z) <float[5,4,3,3] v, float[4,2,1,1] w>"
        " { y = Conv(u, v) z = Conv<group=2>(u, w) }"
    )
    after = "g (float[N,4,8,8] u) => (float[N,5,6,6] y, float[N,4,8,8] z) <float[4,1,1] s> { t = Mul(u, s) y = Conv(t, p) z = Conv<group=2>(t, q) }"
    module = check(text, after, options={"insert": True})
    (mul, _, _) = list(module.graph)
    assert ir.dims_of(mul.inputs[1]) == (4, 1, 1)
    check(text, None, because="no weight op")


def test_no_mul_where_something_before_can_be_scaled() -> None:
    text = CONVS.format("", "Relu(t)")
    module = check(text, text, options={"insert": True})
    assert [n.op_type for n in module.graph] == ["Conv", "Relu", "Conv"]
