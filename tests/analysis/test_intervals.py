"""Bounds of values: as tight as the table says, and around everything the reference evaluator computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.analysis.bounds import Bounds
from fcc.analysis.intervals import Intervals
from fcc.frontend import read

INF = np.inf
INF = np.inf
CONSTANTS: dict[str, tuple[str, Any]] = {
    **{
        n: ("float", v) for n, v in {"low": -2, "high": 3, "zero": 0, "half": 0.5, "one": 1, "two": 2, "odd": 3}.items()
    },
    **{n: ("int64", v) for n, v in {"i1": 1, "i2": [0, 2], "a0": [0], "a1": [1], "n4": [4], "parts": [1, 2]}.items()},
    **{n: ("int64", v) for n, v in {"rep": [1, 2], "heads": [2, 3, 1], "pads": [0, 0, 1, 1], "int5": 5}.items()},
    "minus": ("float", -4),
    "c": ("float", [-1, 0, 2]),
    "cc": ("float", [[[-1]], [[0]], [[2]]]),
    "ones": ("float", [1, 1, 1]),
    "var": ("float", [3, 3, 0]),
    "w": ("float", [[1, -1], [0, 0], [2, -3]]),
    "wt": ("float", [[1, 0, 2], [-1, 0, -3]]),
    "b": ("float", [0.5, -0.5]),
    "k": ("float", [[[[1]], [[-1]], [[0]]], [[[2]], [[0]], [[0]]]]),
    "tk": ("float", [[[[1]], [[-1]]], [[[0]], [[1]]], [[[0]], [[0]]]]),
    "dw": ("float", [[[[1]]], [[[-2]]], [[[0]]]]),
    "box": ("float", np.ones((1, 3, 3, 3)).tolist()),
}
# What y lies between, as a whole or column by column: x [2, 3] and m [2, 3, 2, 2] lie in [-2, 3], p in [0, 1].
CASES: list[tuple[str, Any, Any]] = [
    ("y = Identity(u)", -INF, INF),
    ("y = Identity(x)", -2, 3),
    ("y = Clip(u, low)", -2, INF),
    ("y = Clip(u, , high)", -INF, 3),
    ("y = Clip(x, zero, one)", 0, 1),
    ("y = Clip(u, high, low)", -2, -2),
    ("least = ReduceMax<keepdims=0>(v) y = Clip(u, least, one)", -INF, 1),
    ("y = Clip(u, v, one)", -INF, INF),
    ("y = Relu(x)", 0, 3),
    ("y = Relu(u)", 0, INF),
    ("y = LeakyRelu<alpha=0.5>(x)", -1, 3),
    ("y = LeakyRelu<alpha=-0.5>(x)", -INF, INF),
    ("y = PRelu(x, half)", -1, 3),
    ("y = PRelu(x, minus)", 0, 8),
    ("r = Relu(x) y = PRelu(r, minus)", 0, 3),
    ("y = Elu(x)", np.expm1(-2), 3),
    ("y = Elu<alpha=2.0>(u)", -2, INF),
    ("y = Celu<alpha=2.0>(x)", 2 * np.expm1(-1), 3),
    ("y = ThresholdedRelu<alpha=2.5>(x)", 0, 3),
    ("y = Sigmoid(u)", 0, 1),
    ("y = Sigmoid(x)", 1 / (1 + np.exp(2)), 1 / (1 + np.exp(-3))),
    ("y = HardSigmoid(x)", 0.1, 1),
    ("y = Tanh(u)", -1, 1),
    ("y = Softsign(u)", -1, 1),
    ("y = Erf(u)", -1, 1),
    ("y = Softplus(x)", np.log1p(np.exp(-2)), np.log1p(np.exp(3))),
    ("y = Gelu(x)", -0.1702, 3),
    ("r = Relu(x) y = Gelu(r)", 0, 3),
    ("y = HardSwish(u)", -0.375, INF),
    ("y = Mish(x)", -0.30885, 3),
    ("y = com.microsoft.QuickGelu<alpha=2.0>(x)", -0.1392323, 3),
    ("y = com.microsoft.QuickGelu<alpha=-2.0>(x)", -INF, INF),
    ("y = com.microsoft.FastGelu(x)", -0.1702, 3),
    ("y = Exp(x)", np.exp(-2), np.exp(3)),
    ("y = Exp(u)", 0, INF),
    ("y = Log(x)", -INF, INF),
    ("y = Sqrt(x)", -INF, INF),
    ("e = Exp(x) y = Log(e)", -2, 3),
    ("r = Relu(x) y = Log(r)", -INF, np.log(3)),
    ("r = Abs(x) y = Sqrt(r)", 0, np.sqrt(3)),
    ("y = Abs(x)", 0, 3),
    ("z = Clip(u, low, minus) y = Abs(z)", 4, 4),
    ("z = Neg(x) y = Sub(z, odd)", -6, -1),
    ("y = Sign(u)", -1, 1),
    ("y = Floor(p)", 0, 1),
    ("y = Sin(u)", -1, 1),
    ("e = Add(x, odd) y = Reciprocal(e)", 1 / 6, 1),
    ("y = Reciprocal(x)", -INF, INF),
    ("y = Softmax(u)", 0, 1),
    ("y = LogSoftmax(u)", -INF, 0),
    ("y = Add(x, p)", -2, 4),
    ("y = Sum(x, p, p)", -2, 5),
    ("y = Sub(x, p)", -3, 3),
    ("y = Mul(x, p)", -2, 3),
    ("y = Mul(x, x)", 0, 9),
    ("y = Mul(x, minus)", -12, 8),
    ("r = Relu(u) y = Mul(r, zero)", 0, 0),
    ("y = Div(x, two)", -1, 1.5),
    ("y = Div(x, x)", -INF, INF),
    ("y = Pow(x, two)", 0, 9),
    ("r = Relu(x) y = Pow(r, odd)", 0, 27),
    ("y = Pow(x, odd)", -INF, INF),
    ("y = Pow(u, two)", 0, INF),
    ("y = Max(x, p)", 0, 3),
    ("y = Min(x, p)", -2, 1),
    ("y = Mean(x, p)", -2, 3),
    ("y = Add(x, c)", [-3, -2, 0], [2, 3, 5]),
    ("a = Add(x, c) y = Relu(a)", [0, 0, 0], [2, 3, 5]),
    ("a = Add(x, c) b = Mul(a, c) y = Neg(b)", [-3, 0, -10], [2, 0, 0]),
    ("g = Greater(x, high) y = Where(g, u, x)", -2, 3),
    ("g = Greater(x, minus) y = Where(g, x, u)", -2, 3),
    ("g = Less(x, minus) y = Where(g, u, x)", -2, 3),
    ("g = LessOrEqual(x, high) y = Where(g, x, u)", -2, 3),
    ("g = GreaterOrEqual(x, low) h = Not(g) y = Where(h, u, x)", -2, 3),
    ("g = Greater(x, one) y = Where(g, u, x)", -INF, INF),
    ("g = Greater(x, one) y = Where(g, p, x)", -2, 3),
    ("g = Greater(x, one) y = Cast<to=1>(g)", 0, 1),
    ("i = Cast<to=7>(x) y = Cast<to=1>(i)", -2, 3),
    ("i = Cast<to=7>(u) y = Cast<to=1>(i)", -(2.0**63), 2.0**63),
    ("i = Cast<to=10>(x) y = Cast<to=1>(i)", -2, 3),
    ("a = Add(x, c) b = Concat<axis=1>(a, p) y = Abs(b)", [0, 0, 0, 0, 0, 0], [3, 3, 5, 1, 1, 1]),
    ("a = Add(x, c) y = Concat<axis=0>(a, p)", [-3, -2, 0], [2, 3, 5]),
    ("a = Add(x, c) q, y = Split<axis=1>(a, parts)", [-2, 0], [3, 5]),
    ("a = Add(x, c) q, y = Split<axis=0, num_outputs=2>(a)", [-3, -2, 0], [2, 3, 5]),
    ("a = Add(x, c) y = Slice(a, a1, n4, a1)", [-2, 0], [3, 5]),
    ("a = Add(x, c) y = Gather<axis=1>(a, i2)", [-3, 0], [2, 5]),
    ("a = Add(x, c) y = Gather<axis=1>(a, i1)", -2, 3),
    ("a = Add(x, c) y = Gather(a, a1)", [-3, -2, 0], [2, 3, 5]),
    (
        "a = Add(m, cc) y = Flatten(a)",
        [-3, -3, -3, -3, -2, -2, -2, -2, 0, 0, 0, 0],
        [2, 2, 2, 2, 3, 3, 3, 3, 5, 5, 5, 5],
    ),
    ("a = Add(x, c) y = Pad(a, pads)", -3, 5),
    ("a = Add(x, c) y = Tile(a, rep)", -3, 5),
    ("a = Add(x, c) y = ReduceMean(a, a1)", -3, 5),
    ("a = Add(x, c) y = ReduceMax<keepdims=0>(a, a0)", [-3, -2, 0], [2, 3, 5]),
    ("y = ReduceSum(x, a1)", -6, 9),
    ("y = ReduceSum(x)", -12, 18),
    ("y = ReduceL2(x, a1)", 0, INF),
    ("y, q = TopK(x, a1)", -2, 3),
    ("y = ConstantOfShape<value=float[1]{7.0}>(n4)", 7, 7),
    ("y = MatMul(x, w)", [-6, -12], [9, 8]),
    ("y = Gemm(x, w, b)", [-5.5, -12.5], [9.5, 7.5]),
    ("y = Gemm<transB=1, alpha=-2.0, beta=4.0>(x, wt, b)", [-16, -18], [14, 22]),
    ("r = Relu(u) y = Gemm(r, w, b)", [0.5, -INF], [INF, -0.5]),
    ("y = MatMul(u, w)", -INF, INF),
    ("e = Add(m, odd) y = Conv<pads=[1,1,1,1]>(e, box)", 0, 162),
    ("y = GlobalAveragePool(m)", -2, 3),
    ("e = Add(m, odd) y = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(e)", 0, 6),
    ("e = Add(m, odd) y = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(e)", 1, 6),
    ("e = Add(m, odd) y = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(e)", 1, 6),
    ("y = LayerNormalization(u, c)", [-(3**0.5), 0, -2 * 3**0.5], [3**0.5, 0, 2 * 3**0.5]),
    ("y = LayerNormalization(u, ones, c)", [-1 - 3**0.5, -(3**0.5), 2 - 3**0.5], [-1 + 3**0.5, 3**0.5, 2 + 3**0.5]),
    ("q = Transpose(v) r = MatMul(v, q) s = Softmax(r) a = Add(x, c) y = MatMul(s, a)", [-3, -2, 0], [2, 3, 5]),
]
CHANNELS: list[tuple[str, int, Any, Any]] = [
    ("a = Add(x, c) y = Transpose<perm=[1,0]>(a)", -2, [-3, -2, 0], [2, 3, 5]),
    ("a = Add(x, c) y = Reshape(a, heads)", -2, [-3, -2, 0], [2, 3, 5]),
    ("y = ConvTranspose(m, tk, b)", -3, [-1.5, -5.5], [3.5, 4.5]),
    ("y = Conv(m, k)", -3, [-5, -4], [5, 6]),
    ("y = Conv<group=3>(m, dw)", -3, [-2, -6, 0], [3, 4, 0]),
    ("y = Conv<pads=[1,1,1,1]>(m, k, b)", -3, [-4.5, -4.5], [5.5, 5.5]),
    ("y = InstanceNormalization(n, c, c)", -3, [-3, 0, -2], [1, 0, 6]),
    ("y = BatchNormalization<epsilon=1.0>(m, c, c, c, var)", -3, [-3, 0, -6], [-0.5, 0, 4]),
]
IO = "g (float[2,3] u, float[2,3] v, float[2,3,2,2] mu, float[2,3,2,2] n) => (float[] y)"
START = "x = Clip(u, low, high) p = Clip(v, zero, one) m = Clip(mu, low, high)"


def source(body: str) -> onnx.ModelProto:
    declared = ", ".join(
        f"{kind}[{','.join(map(str, np.shape(v)))}] {n}" for n, (kind, v) in CONSTANTS.items()
    ).replace("[] ", " ")
    constants = {n: np.asarray(v) for n, (_, v) in CONSTANTS.items()}
    return testing.model_from(f"{IO} <{declared}> {{ {START} {body} }}", 21, constants, 0)


def found(module: ir.Module, name: str = "y") -> Bounds:
    intervals = Intervals(thorough=True)
    value = next(v for n in module.nodes() for v in n.outputs if v.name == name)
    return intervals.of(value)


def module_of(proto: onnx.ModelProto) -> ir.Module:
    module = read(proto)
    shapes.infer(module)
    return module


def computed(module: ir.Module, seed: int) -> dict[str, Any]:
    """Every value on random inputs far beyond the clips, by the reference evaluator."""
    proto = serde.serialize_model(module.clone().model)
    names = [o for n in proto.graph.node for o in n.output if o]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n != "y")
    rng = np.random.default_rng(seed)
    feeds = {
        v.name: (rng.standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]) * 4).astype(np.float32)
        for v in proto.graph.input
    }
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(proto)
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def inside(bounds: Bounds, array: Any) -> bool:
    """Whether all finite elements lie within the bounds, up to the rounding of functions."""
    array = np.asarray(array, np.float64)
    shape = (1,) if bounds.axis is None else (-1, *[1] * (-bounds.axis - 1))
    low, high = (end.reshape(shape) for end in (bounds.low, bounds.high))
    slack = 1e-6 * (1 + np.abs(array))
    return bool(np.all(~np.isfinite(array) | ((array >= low - slack) & (array <= high + slack))))


@pytest.mark.parametrize(("body", "low", "high"), CASES, ids=[c[0] for c in CASES])
def test_bounds(body: str, low: Any, high: Any) -> None:
    module = module_of(source(body))
    _assert(module, low, high, -1 if isinstance(low, list) else None)


@pytest.mark.parametrize(("body", "axis", "low", "high"), CHANNELS, ids=[c[0] for c in CHANNELS])
def test_bounds_of_channels(body: str, axis: int, low: Any, high: Any) -> None:
    _assert(module_of(source(body)), low, high, axis)


def _assert(module: ir.Module, low: Any, high: Any, axis: int | None) -> None:
    bounds = found(module)
    assert bounds.axis == axis
    np.testing.assert_allclose(bounds.low, low, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bounds.high, high, rtol=1e-4, atol=1e-5)
    intervals = Intervals()
    for seed in range(0 if any(n.domain for n in module.nodes()) else 3):  # the evaluator has no contrib operators
        results = computed(module, seed)
        for node in module.nodes():
            for value in node.outputs:
                if value.name in results:
                    assert inside(intervals.of(value), results[value.name]), value.name


# -- integers ----------------------------------------------------------------------------------------------------------
DECLARED = (
    "int64[] low, int64[] high, int64[] zero, int64[] five, int64[2,2] table, int64[2] k, int64[1] shape, int64[] n, "
    "int64[] one, float[2] onoff, float[] keep, bool[] yes"
)
GIVEN: dict[str, Any] = {
    **{"low": -2, "high": 3, "zero": 0, "five": 5, "table": [[4, -1], [2, 7]], "k": [1, 0], "shape": [-1], "n": -4},
    **{"one": 1, "onoff": [-0.5, 2.0], "keep": 0.5, "yes": True},
}
ALL = (-(2.0**63), 2.0**63)
INTEGERS: list[tuple[str, tuple[float, float]]] = [
    ("y = Identity(i)", ALL),
    ("y = Clip(i, low, high)", (-2, 3)),
    ("y = Clip(i, high, low)", (-2, -2)),
    ("y = Clip(i, low)", ALL),
    ("c = Clip(i, low, high) y = Clip(c, zero)", (0, 3)),
    ("c = Clip(i, low, high) d = Reshape(c, shape) y = Unsqueeze(d, shape)", (-2, 3)),
    ("y = Mod(i, five)", (0, 4)),
    ("c = Clip(i, zero, high) y = Mod(c, five)", (0, 3)),
    ("y = Mod<fmod = 1>(i, five)", ALL),
    ("y = Mod(i, n)", ALL),
    ("y = Gather(table, k)", (-1, 7)),
    ("y = Where(b, high, zero)", (0, 3)),
    ("y = ArgMax<axis = 1>(x)", (0, 4)),
    ("y = ArgMin<axis = -1, keepdims = 0>(x)", (0, 4)),
    ("y = ArgMax(x)", ALL),
    ("y = Cast<to = 7>(b)", (0, 1)),
    ("c = Cast<to = 2>(i) y = Cast<to = 7>(c)", (0, 255)),
    ("c = Cast<to = 3>(i) y = Cast<to = 7>(c)", (-128, 127)),
    ("c = Clip(i, low, high) d = Cast<to = 3>(c) y = Cast<to = 7>(d)", (-2, 3)),
    ("c = Clip(i, low, high) d = Cast<to = 2>(c) y = Cast<to = 7>(d)", (0, 255)),
    ("c = Cast<to = 1>(i) y = Cast<to = 7>(c)", ALL),
    ("y = Add(i, five)", ALL),
    ("c = Clip(i, low, high) d = Mul(c, five) y = Div(d, high)", (-4, 5)),
    (
        "c = Clip(i, low, high) d = Cast<to = 3>(c) e = Mul(d, d) f = Mul(e, e) g = Mul(f, e) y = Cast<to = 7>(g)",
        (-128, 127),
    ),
    ("c = Clip(i, zero, high) s = Squeeze(c) y = Range(low, high, one)", (-2, 3)),
    ("y = Range(high, low, n)", ALL),
    ("h = OneHot(k, five, onoff) y = Cast<to = 7>(h)", (0, 2)),
    ("r = Cast<to = 1>(b) d = Dropout(r) y = Cast<to = 7>(d)", (0, 1)),
    ("r = Cast<to = 1>(b) d = Dropout(r, keep, yes) y = Cast<to = 7>(d)", ALL),
    ("c = Clip(i, low, high) y = ScatterElements(c, k, k)", (-2, 3)),
    ('c = Clip(i, low, high) y = ScatterElements<reduction = "add">(c, k, k)', ALL),
    ("c = Clip(i, zero, high) r = Reshape(c, shape) e = Unsqueeze(r, shape) y = Trilu(e)", (0, 3)),
    ("y = NonZero(x)", (0, 2.0**48)),
]


@pytest.mark.parametrize(("body", "expected"), INTEGERS)
def test_integers(body: str, expected: tuple[float, float]) -> None:
    text = f"g (int64[6] i, bool[6] b, float[N,5] x) => (int64 y) <{DECLARED}> {{ {body} }}"
    proto = testing.model_from(text.replace("[] ", " "), 21, GIVEN, 0)
    module = module_of(proto)
    bounds = Intervals().of(module.graph.outputs[0])
    assert (bounds.least, bounds.greatest) == expected
    if "keep" in body:
        return  # draws
    fed = {
        "i": np.array([-300, -3, 0, 2, 9, 500]),
        "b": np.array([True, False] * 3),
        "x": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32),
    }
    result = np.asarray(ReferenceEvaluator(proto).run(None, fed)[0])
    assert np.all((expected[0] <= result) & (result <= expected[1]))


def test_an_overridable_constant_bounds_nothing() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[2] i, int64 high = {3}) => (int64[2] y) '
        "<int64 low = {0}> { y = Clip(i, low, high) }"
    )
    module = module_of(testing.model_from(text, 17, {}, 0))
    assert Intervals().of(module.graph.outputs[0]).greatest == 2.0**63


def test_nothing_is_known_of_what_is_absent_or_of_another_domain() -> None:
    module = module_of(testing.model_from("g (float[6] i) => (float[6] y) { y = com.microsoft.Relu(i) }", 21, {}, 0))
    assert Intervals().of(module.graph.outputs[0]).is_open
    assert Intervals().of(None).is_open


def test_bounds_before_opset_11_are_attributes() -> None:
    module = module_of(
        testing.model_from("g (float[6] i) => (float[6] y) { y = Clip<min=-1.0, max=2.0>(i) }", 7, {}, 0)
    )
    assert found(module).least == -1
    assert found(module).greatest == 2


def test_a_deep_chain_ends_at_what_its_type_tells() -> None:
    chain = " ".join(f"a{i + 1} = Floor(a{i})" for i in range(200))
    module = module_of(
        testing.model_from(f"g (float[6] i) => (float[6] y) {{ a0 = Sigmoid(i) {chain} y = Floor(a200) }}", 21, {}, 0)
    )
    assert found(module).is_open
    intervals = Intervals()
    for node in module.nodes():  # from front to back everything is known
        assert intervals.of(node.outputs[0]).greatest == 1


# -- rounding ----------------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(
    inner=st.integers(1, 400),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 5),
)
def test_sums_stay_within_their_bounds_however_they_round(inner: int, scale: float, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = (
        (rng.standard_normal((inner, 3)) * min(scale, 10)).astype(dtype),
        rng.standard_normal(3).astype(dtype),
    )
    kind = {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype]
    text = (
        f"g ({kind}[N,{inner}] u) => ({kind}[N,3] y) <{kind}[{inner},3] w, {kind}[3] b, {kind} l, {kind} h> "
        "{ x = Clip(u, l, h) y = Gemm(x, w, b) }"
    )
    module = module_of(testing.model_from(text, 21, {"w": weight, "b": bias, "l": -0.5, "h": 0.75}, 0))
    bounds = found(module)
    worst = np.where(weight > 0, 0.75, -0.5).astype(dtype)
    for x in (worst, np.where(weight > 0, -0.5, 0.75).astype(dtype)):
        total = bias.copy()
        for i in rng.permutation(inner):  # one by one, in the type itself: the worst order there is
            total = total + x[i] * weight[i]
        assert np.all((bounds.low <= total) & (total <= bounds.high) | ~np.isfinite(total))
