from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_idle_clamps import EliminateIdleClamps
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = EliminateIdleClamps()
IO = "g (float[N,3] x, float[N,3] z, int64[N] i, bool[N,3] c) => (float[N,3] y)"
CONSTANTS: dict[str, Any] = {
    **{
        "low": -2.0,
        "zero": 0.0,
        "half": 0.5,
        "one": 1.0,
        "high": 6.0,
        "edges": [0.25, 0.5, 0.75],
        "m": 5,
        "k": [0, 1, 2],
    },
    **{"neg": -1.0, "edge": 0.75, "i0": 0, "i9": 9, "imin": -(2**63), "imax": 2**63 - 1, "near": 2**63 - 99},
}
DECLARED = (
    "<float low, float zero, float half, float one, float high, float neg, float edge, float[3] edges, int64 m, int64 i0, int64 i9, "
    "int64 imin, int64 imax, int64 near, int64[3] k>"
)


def rewritten(body: str, after: str | None, because: str = "", io: str = IO, **more: Any) -> None:
    """``after`` None: stays; both end in a node, so that the value of the output is computed in either."""
    check(
        P,
        before=f"{io} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants={**CONSTANTS, **more.pop("constants", {})},
        **more,
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("s = Sigmoid(x) r = Relu(s) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Exp(x) r = LeakyRelu(s) y = Neg(r)", "s = Exp(x) y = Neg(s)"),
        ("s = Relu(x) r = PRelu(s, edges) y = Neg(r)", "s = Relu(x) y = Neg(s)"),
        ("s = Relu(x) r = Elu(s) y = Neg(r)", "s = Relu(x) y = Neg(s)"),
        ("s = Relu(x) r = Celu(s) y = Neg(r)", "s = Relu(x) y = Neg(s)"),
        (
            "s = Relu(x) a = Add(s, high) r = ThresholdedRelu<alpha=5.0>(a) y = Neg(r)",
            "s = Relu(x) a = Add(s, h) y = Neg(a)",
        ),
        ("s = Relu(x) r = Abs(s) y = Neg(r)", "s = Relu(x) y = Neg(s)"),
        ("s = Relu(x) n = Neg(s) r = Abs(n) y = Sin(r)", "s = Relu(x) n = Neg(s) r = Neg(n) y = Sin(r)"),
        ("s = Sigmoid(x) r = Clip(s, zero, one) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Sigmoid(x) r = Clip(s, half, one) y = Neg(r)", "s = Sigmoid(x) r = Clip(s, h) y = Neg(r)"),
        ("s = Sigmoid(x) r = Clip(s, zero, half) y = Neg(r)", "s = Sigmoid(x) r = Clip(s, , h) y = Neg(r)"),
        ("s = Sigmoid(x) r = Clip(s, zero) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Sigmoid(x) r = Clip(s, , one) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Tanh(x) t = Add(s, edges) r = Clip(t, low, high) y = Neg(r)", "s = Tanh(x) t = Add(s, e) y = Neg(t)"),
        ("s = Sigmoid(x) r = Max(s, zero) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Sigmoid(x) r = Min(one, s) y = Neg(r)", "s = Sigmoid(x) y = Neg(s)"),
        ("s = Sigmoid(x) r = Max(s, zero, z) y = Neg(r)", "s = Sigmoid(x) r = Max(s, z) y = Neg(r)"),
        ("s = Sigmoid(x) r = Min(s, one, z) y = Neg(r)", "s = Sigmoid(x) r = Min(s, z) y = Neg(r)"),
        (
            "s = Sigmoid(x) b = Greater(s, low) r = Where(b, s, z) y = Neg(r)",
            "s = Sigmoid(x) b = Greater(s, l) y = Neg(s)",
        ),
        ("s = Sigmoid(x) b = Less(s, low) r = Where(b, s, z) y = Neg(r)", "s = Sigmoid(x) b = Less(s, l) y = Neg(z)"),
    ],
)
def test_idle(body: str, after: str) -> None:
    rewritten(body, after)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("s = Tanh(x) y = Relu(s)", "the input may be -1"),
        ("s = Tanh(x) y = LeakyRelu(s)", "the input may be -1"),
        ("s = Tanh(x) y = Abs(s)", "the input may be -1"),
        ("s = Relu(x) a = Add(s, high) y = ThresholdedRelu<alpha=6.0>(a)", "the input may be 6"),
        ("s = Sigmoid(x) y = Clip(s, half, edge)", "the input lies between 0 and 1"),
        ("s = Tanh(x) y = Clip(s, zero, half)", "lies between -1 and 1"),
        ("s = Sigmoid(x) y = Max(s, half)", "no operand exceeds another"),
        ("s = Tanh(x) y = Min(s, zero)", "no operand exceeds another"),
        ("s = Sigmoid(x) b = Greater(s, half) y = Where(b, s, z)", "the condition may be either"),
        ("y = Where(c, x, z)", "the condition may be either"),
        ("n = Neg(x) y = Relu(n)", "the input may be -inf"),
        ("y = Relu(x)", "the input may be -inf"),
    ],
)
def test_not_idle(body: str, because: str) -> None:
    rewritten(body, None, because)


@pytest.mark.parametrize(
    ("f", "number"),
    [
        ("Clip(s, high, one)", 1.0),
        ("Clip(s, one, half)", 0.5),
        ("Clip(s, high)", 6.0),
        ("Min(s, neg)", -1.0),
        ("Max(s, high)", 6.0),
        ("Relu(n)", 0.0),
        ("LeakyRelu<alpha=0.0>(n)", 0.0),
        ("ThresholdedRelu(n)", 0.0),
        ("Sign(t)", 1.0),
    ],
)
def test_a_constant_is_left(f: str, number: float) -> None:
    io, start = "g (float[2,3] x) => (float[2,3] y)", "s = Sigmoid(x) n = Neg(s) t = Add(s, one)"
    text = f"{io} {DECLARED} {{ {start} a = Add(t, n) r = {f} y = Add(r, a) }}"
    after = f"{io} {{ {start.replace('one', 'k')} a = Add(t, n) y = Add(r, a) }}"
    module = check(P, before=text, after=after, constants=CONSTANTS)
    arrays = [v.const_value.numpy() for v in module.graph.initializers.values() if v.const_value is not None]
    assert [a.tolist() for a in arrays if a.shape == (2, 3)] == [[[number] * 3] * 2]


@pytest.mark.parametrize(
    ("test", "result"),
    [
        ("b = Greater(s, high)", False),
        ("b = GreaterOrEqual(s, zero)", True),
        ("b = Less(s, high)", True),
        ("b = LessOrEqual(s, low)", False),
        ("b = Equal(s, high)", False),
        ("d = Less(s, low) b = Not(d)", True),
        ("d = Less(s, low) b = And(d, c)", False),
        ("d = Less(s, high) b = Or(d, c)", True),
    ],
)
def test_a_test_is_decided(test: str, result: bool) -> None:
    io = "g (float[2,3] x, bool[2,3] c) => (bool[2,3] y)"
    module = check(
        P,
        before=f"{io} {DECLARED} {{ s = Sigmoid(x) {test} y = Xor(b, c) }}",
        after=f"{io} {{ s = Sigmoid(x) y = Xor(r, c) }}",
        constants=CONSTANTS,
    )
    arrays = [v.const_value.numpy() for v in module.graph.initializers.values() if v.const_value is not None]
    assert [a.tolist() for a in arrays if a.shape == (2, 3)] == [[[result] * 3] * 2]


@pytest.mark.parametrize(
    "test", ["Greater(s, half)", "GreaterOrEqual(s, one)", "Less(s, one)", "LessOrEqual(s, zero)", "Equal(s, one)"]
)
def test_a_test_is_open(test: str) -> None:
    io = "g (float[2,3] x) => (bool[2,3] y)"
    rewritten(f"s = Sigmoid(x) y = {test}", None, "lies between 0 and 1", io=io)


def test_large_constants_are_not_written() -> None:
    rewritten("s = Exp(x) y = Max(s, neg) ", "y = Exp(x)", io="g (float[40,40] x) => (float[40,40] y)")
    io = "g (float[40,40] x) => (bool[40,40] y)"
    rewritten("s = Exp(x) y = Less(s, neg)", None, "at most 1024 elements", io=io)


# -- shapes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("body", ["r = Max(s, wide)", "b = Less(wide, s) r = Where(b, s, wide)", "r = Min(s, two)"])
def test_what_broadcasts_stays(body: str) -> None:
    io = "g (float[N,3] x) => (float[2,N,3] y)"
    text = f"{io} <float[2,1,1] wide, float[2,1,1] two> {{ s = Sigmoid(x) {body} y = Neg(r) }}"
    check(P, before=text, after=None, because="it broadcasts", constants={"wide": -2.0, "two": 2.0})


def test_operands_that_give_the_shape_stay() -> None:
    text = "g (float[3] x, float[3] z) => (float[2,3] y) <float[2,3] wide> { s = Sigmoid(x) r = Max(s, wide, z) y = Neg(r) }"
    check(P, before=text, after=None, because="it broadcasts", constants={"wide": -2.0})


def test_unknown_sizes_may_broadcast() -> None:
    text = "g (float[N,3] x, float[M,3] z) => (float[K,3] y) { s = Sigmoid(x) t = Sigmoid(z) u = Neg(t) r = Max(s, u) y = Neg(r) }"
    check(P, before=text, after=None, because="it broadcasts, or may", sizes={"N": 2, "M": 2, "K": 2})


# -- channels ----------------------------------------------------------------------------------------------------------
def test_every_channel_counts() -> None:
    io = "g (float[N,2,4,4] x) => (float[N,3,4,4] y)"
    text = f"{io} <float[3,2,1,1] w, float[3] b> {{ s = Sigmoid(x) t = Conv(s, w, b) r = Relu(t) y = Neg(r) }}"
    w, b = np.ones((3, 2, 1, 1), np.float32), np.zeros(3, np.float32)
    w[1], b[1] = -1, 2.5
    after = f"{io} {{ s = Sigmoid(x) t = Conv(s, w, b) y = Neg(t) }}"
    check(P, before=text, after=after, constants={"w": w, "b": b})
    b[1] = 1.5
    check(P, before=text, after=None, because="the input may be", constants={"w": w, "b": b})


def test_normalized_values_within_relu6() -> None:
    io = "g (float[N,4] x) => (float[N,4] y)"
    text = f"{io} <float[4] s, float[4] t, float l, float h> {{ n = LayerNormalization(x, s, t) r = Clip(n, l, h) y = Neg(r) }}"
    after = f"{io} {{ n = LayerNormalization(x, s, t) y = Neg(n) }}"
    scale = np.array([1.0, 0.5, -1.0, 0.1], np.float32)
    check(P, before=text, after=after, constants={"s": scale, "t": 3.0, "l": 0.0, "h": 6.0})
    check(P, before=text, after=None, because="lies between", constants={"s": scale * 2, "t": 3.0, "l": 0.0, "h": 6.0})


# -- integers ----------------------------------------------------------------------------------------------------------
IDS = "g (int64[N] i, float[10,3] t) => (float[N,3] y)"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("j = Mod(i, m) k2 = Clip(j, i0, i9) y = Gather(t, k2)", "j = Mod(i, m) y = Gather(t, j)"),
        ("j = Clip(i, imin, imax) y = Gather(t, j)", "y = Gather(t, i)"),
        ("a = Mod(i, m) j = Mod(a, i9) y = Gather(t, j)", "a = Mod(i, m) y = Gather(t, a)"),
    ],
)
def test_indices(body: str, after: str) -> None:
    rewritten(body, after, io=IDS)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("j = Clip(i, i0, i9) y = Gather(t, j)", "lies between"),
        ("j = Clip(i, near) y = Gather(t, j)", "lies between"),
        ("a = Clip(i, i0, i9) j = Mod(a, m) y = Gather(t, j)", "may be negative, or reach the divisor"),
        ("j = Mod(i, m) y = Gather(t, j)", "may be negative"),
    ],
)
def test_indices_that_are_open(body: str, because: str) -> None:
    rewritten(body, None, because, io=IDS)


def test_a_divisor_that_broadcasts_stays() -> None:
    text = "g (int64 i) => (int64[2] y) <int64[2] d, int64 m> { a = Mod(i, m) b = Mod(a, d) y = Neg(b) }"
    check(P, before=text, after=None, because="it broadcasts", constants={"d": 9, "m": 5})


# -- the rest ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bounds", ["min=0.0, max=1.0", "min=0.0", "max=1.0", "min=0.5", "max=0.5"])
def test_bounds_that_are_attributes(bounds: str) -> None:
    """Opset 10 stays where a node has no form in opset 13."""
    text = (
        "g (float[1,1,3,3] x, float[4] s) => (float[A,B,C,D] y) "
        f"{{ a = Sigmoid(x) b = Clip<{bounds}>(a) y = Resize(b, s) }}"
    )
    check(P, before=text, after=None, because="attributes", opset=10)


def test_an_output_keeps_its_name() -> None:
    check(
        P,
        before="g (float[3] x) => (float[3] y) { s = Sigmoid(x) y = Relu(s) }",
        after="g (float[3] x) => (float[3] y) { y = Sigmoid(x) }",
    )
    text = "g (float[3] x) => (float[3] s, float[3] y) { s = Sigmoid(x) y = Relu(s) }"
    check(P, before=text, after=None, because="a graph output itself")


def test_overridable_bounds_are_open() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, float h = {1.0}) => (float[3] y) '
        "<float l = {0.0}> { s = Sigmoid(x) r = Clip(s, l, h) y = Neg(r) }"
    )
    after = '<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, float h = {1.0}) => (float[3] y) { s = Sigmoid(x) r = Clip(s, , h) y = Neg(r) }'
    check(P, before=text, after=after)


def test_inside_a_branch() -> None:
    text = (
        "g (float[3] x, bool c) => (float[3] y) { s = Sigmoid(x) t = Tanh(x) y = If (c) <then_branch = a "
        "() => (float[3] p) { r = Relu(s) p = Neg(r) }, else_branch = b () => (float[3] q) { q = Relu(t) }> }"
    )
    check(P, before=text, after=text.replace("r = Relu(s) p = Neg(r)", "p = Neg(s)"))


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-3, 3, width=32),
    high=st.floats(-3, 3, width=32),
    a=st.floats(-3, 3, width=32),
    b=st.floats(-3, 3, width=32),
    f=st.sampled_from(["Clip(t, a, b)", "Max(t, a)", "Min(t, a)", "Relu(t)", "Abs(t)", "LeakyRelu<alpha=0.5>(t)"]),
)
def test_clamps_of_clamps(low: float, high: float, a: float, b: float, f: str) -> None:
    """What the structure is depends on the numbers; the answers do not."""

    text = f"g (float[5,7] x) => (float[5,7] y) <float low, float high, float a, float b> {{ t = Clip(x, low, high) s = {f} y = Neg(s) }}"
    module = read(model_from(text, 21, {"low": low, "high": high, "a": a, "b": b}, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    same_outputs(before, serde.serialize_model(module.model), tolerance=0.0)


@pytest.mark.parametrize(
    ("layer", "declared"),
    [
        ("Conv(s, w)", "float[3,4,3,3] w"),
        ("Conv(s, w, b)", "float[3,4,3,3] w, float[3] b"),
        ("Conv<group=2, pads=[1,1,1,1]>(s, w)", "float[4,2,3,3] w"),
    ],
)
@pytest.mark.parametrize("clamp", ["Relu(t)", "LeakyRelu(t)", "Clip(t, lo, hi)"])
def test_a_few_weights_show_that_a_clamp_acts(layer: str, declared: str, clamp: str) -> None:
    text = (
        f"g (float[N,4,6,6] x) => (float[N,C,H,W] y) <{declared}, float lo, float hi> "
        f"{{ s = Sigmoid(x) t = {layer} r = {clamp} y = Neg(r) }}"
    )
    check(P, before=text, after=None, because="-inf", constants={"lo": -0.5, "hi": 0.5})


@pytest.mark.parametrize(
    "layer", ["Gemm(s, w, b)", "Gemm<transB=1>(s, v, b)", "Gemm<alpha=0.5>(s, w, b)", "MatMul(s, w)"]
)
def test_matrices_too(layer: str) -> None:
    declared = "float[40,50] w, float[50,40] v, float[50] b"
    text = f"g (float[N,40] x) => (float[N,50] y) <{declared}> {{ s = Sigmoid(x) t = {layer} r = Relu(t) y = Neg(r) }}"
    check(P, before=text, after=None, because="-inf")
    weight = np.abs(np.random.default_rng(0).standard_normal((40, 50))) + 0.1
    after = f"g (float[N,40] x) => (float[N,50] y) {{ s = Sigmoid(x) t = {layer} y = Neg(t) }}"
    check(P, before=text, after=after, constants={"w": weight, "v": weight.T, "b": 0.0})


def test_bounds_out_of_order_leave_the_upper_one() -> None:
    """min(max(x, 6), 1) is 1, not 6: the upper bound acts although no x is above it."""
    text = (
        "g (float[N] x) => (float[N] y) <float low = {6}, float high = {1}> "
        "{ s = Sigmoid(x) r = Clip(s, low, high) y = Neg(r) }"
    )
    check(EliminateIdleClamps(), text, None, because="the lower bound may exceed the upper one")
