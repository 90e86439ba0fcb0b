from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fuse_activations import FuseActivations
from fcc.testing import check

NUMBERS: dict[str, Any] = {
    "zero": 0.0, "one": 1.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "half": 0.5, "a": 0.2, "big": 1.5, "minus": -1.0,
    "two": 2.0, "inf": float("inf"), "twenty": 20.0, "five": 5.0, "forty": 40.0, "nan": float("nan"),
}  # fmt: skip
DECLARED = ", ".join(f"float[] {name}" for name in NUMBERS)


def graph(body: str, dims: str = "N,3", kind: str = "float") -> str:
    return f"g ({kind}[{dims}] x) => ({kind}[{dims}] y) <{DECLARED.replace('float', kind)}> {{ {body} }}"


def becomes(body: str, after: str | None, because: str = "", dims: str = "N,3", **more: Any) -> None:
    kind = more.pop("kind", "float")
    text = None if after is None else f"g ({kind}[{dims}] x) => ({kind}[{dims}] y) {{ y = {after} }}"
    check(FuseActivations(), before=graph(body, dims, kind), after=text, because=because, constants=NUMBERS, **more)


RELU = [
    "y = Max(x, zero)",
    "y = Max(zero, x)",
    "y = Clip(x, zero)",
    "y = Clip(x, zero, inf)",
    "c = Greater(x, zero) y = Where(c, x, zero)",
    "c = GreaterOrEqual(x, zero) y = Where(c, x, zero)",
    "c = Less(zero, x) y = Where(c, x, zero)",
    "c = LessOrEqual(zero, x) y = Where(c, x, zero)",
    "c = Less(x, zero) y = Where(c, zero, x)",
    "c = LessOrEqual(x, zero) y = Where(c, zero, x)",
    "c = Greater(zero, x) y = Where(c, zero, x)",
    "c = GreaterOrEqual(zero, x) y = Where(c, zero, x)",
]


@pytest.mark.parametrize("body", RELU)
def test_relu(body: str) -> None:
    becomes(body, "Relu(x)")


@pytest.mark.parametrize("dims", ["0", "1", "N", "2,0,3", "N,M"])
@pytest.mark.parametrize(("kind", "target"), [("float", "cpu"), ("float16", "cuda")])
def test_relu_of_any_shape(dims: str, kind: str, target: str) -> None:
    becomes("y = Max(x, zero)", "Relu(x)", dims=dims, kind=kind, target=target)


@pytest.mark.parametrize("product", ["Mul(x, a)", "Mul(a, x)"])
@pytest.mark.parametrize(
    "body",
    [
        "y = Max(x, m)",
        "y = Max(m, x)",
        "c = Greater(x, zero) y = Where(c, x, m)",
        "c = Less(x, zero) y = Where(c, m, x)",
    ],
)
def test_leaky_relu(product: str, body: str) -> None:
    becomes(f"m = {product} {body}", "LeakyRelu<alpha = 0.2>(x)")


@pytest.mark.parametrize(
    "body",
    ["m = Neg(x) y = Max(x, m)", "m = Neg(x) y = Max(m, x)", "m = Mul(x, minus) c = Greater(x, zero) y = Where(c, x, m)",
     "m = Neg(x) c = Less(x, zero) y = Where(c, m, x)"],
)  # fmt: skip
def test_abs(body: str) -> None:
    becomes(body, "Abs(x)")


def test_a_slope_above_one_needs_the_comparison() -> None:
    becomes("m = Mul(x, big) y = Max(x, m)", None)
    becomes("m = Mul(x, big) c = Greater(x, zero) y = Where(c, x, m)", "LeakyRelu<alpha = 1.5>(x)")


SIGMOID = [
    ("p = Add(x, three) c = Clip(p, zero, six) y = Div(c, six)", 1 / 6, 0.5),
    ("p = Add(three, x) c = Clip(p, zero, six) y = Mul(c, sixth)", 1 / 6, 0.5),
    ("p = Add(three, x) c = Clip(p, zero, six) y = Mul(sixth, c)", 1 / 6, 0.5),
    ("m = Mul(x, a) p = Add(m, half) y = Clip(p, zero, one)", 0.2, 0.5),
    ("m = Div(x, six) p = Sub(m, minus) y = Clip(p, zero, one)", 1 / 6, 1.0),
    ("p = Sub(half, x) y = Clip(p, zero, one)", -1.0, 0.5),
    ("m = Mul(x, a) y = Clip(m, zero, one)", 0.2, 0.0),
]


@pytest.mark.parametrize(("body", "alpha", "beta"), SIGMOID)
def test_hard_sigmoid(body: str, alpha: float, beta: float) -> None:
    from onnx_ir import serde

    from fcc import ir, testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import PassContext, run_pass
    from fcc.target import get_target

    source = testing.model_from(graph(body), 21, NUMBERS, 0)
    module = read(source)
    shapes.infer(module)
    assert run_pass(FuseActivations(), module, PassContext(target=get_target("cpu"))) == 1
    ir.verify(module)
    (node,) = module.graph
    assert node.op_type == "HardSigmoid"
    assert node.attributes.get_float("alpha", 0) == pytest.approx(alpha)
    assert node.attributes.get_float("beta", 9) == pytest.approx(beta)
    testing.same_outputs(source, serde.serialize_model(module.model))


@pytest.mark.parametrize(
    "body",
    [
        "p = Add(x, three) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)",
        "p = Add(x, three) c = Clip(p, zero, six) m = Div(c, six) y = Mul(x, m)",
        "p = Add(x, three) c = Clip(p, zero, six) m = Mul(c, sixth) y = Mul(m, x)",
        "p = Add(x, three) c = Clip(p, zero, six) m = Div(x, six) y = Mul(m, c)",
        "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, h)",
        "h = HardSigmoid<alpha = 0.16666667>(x) y = Mul(h, x)",
        "d = Div(x, six) p = Add(d, half) c = Clip(p, zero, one) y = Mul(x, c)",
    ],
)
def test_hard_swish(body: str) -> None:
    becomes(body, "HardSwish(x)")


@pytest.mark.parametrize(
    "body",
    [
        "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
        "s = Softplus(x) t = Tanh(s) y = Mul(t, x)",
        "e = Exp(x) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)",
        "e = Exp(x) p = Add(one, e) s = Log(p) t = Tanh(s) y = Mul(t, x)",
    ],
)
def test_mish(body: str) -> None:
    becomes(body, "Mish(x)")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Max(x, a)", ""),
        ("y = Max(x, x)", ""),
        ("y = Max(x)", ""),
        ("y = Clip(x, a)", ""),
        ("y = Clip(x)", ""),
        ("y = Clip(x, zero, six)", ""),
        ("y = Clip(x, zero, zero)", ""),
        ("m = Add(x, one) y = Max(x, m)", ""),
        ("c = Greater(x, one) y = Where(c, x, zero)", ""),
        ("c = Equal(x, zero) y = Where(c, x, zero)", ""),
        ("m = Neg(x) c = Greater(m, zero) y = Where(c, x, zero)", ""),
        ("m = Mul(x, x) c = Greater(x, zero) y = Where(c, x, m)", ""),
        ("p = Add(x, three) c = Clip(p, zero, six) y = Mul(c, half)", ""),
        ("p = Add(x, three) c = Clip(p, half, six) y = Div(c, six)", ""),
        ("p = Mul(x, x) y = Clip(p, zero, one)", ""),
        ("y = Clip(x, zero, one)", ""),
        ("h = HardSigmoid<alpha = 0.2>(x) y = Mul(x, h)", ""),
        ("h = HardSigmoid<alpha = 0.16666667, beta = 0.4>(x) y = Mul(x, h)", ""),
        ("m = Neg(x) h = HardSigmoid<alpha = 0.16666667>(m) y = Mul(x, h)", ""),
        ("h = HardSigmoid<alpha = 0.16666667>(x) m = Mul(x, h) y = Mul(m, two)", ""),
        ("s = Softplus(x) t = Tanh(s) n = Neg(x) y = Mul(n, t)", ""),
        ("s = Softplus(x) t = Tanh(s) u = Add(t, one) y = Mul(x, u)", ""),
        ("e = Exp(x) p = Add(e, two) s = Log(p) t = Tanh(s) y = Mul(x, t)", ""),
        ("e = Exp(x) p = Mul(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)", ""),
        ("s = Softplus(x) y = Mul(x, s)", ""),
        ("p = Add(x, three) c = Clip(p, zero, three) m = Mul(x, c) y = Div(m, six)", ""),
        ("p = Mul(x, one) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)", ""),
        ("q = Mul(x, x) r = Add(q, x) p = Add(r, three) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)", ""),
        ("p = Add(x, three) c = Clip(p, zero, six) m = Mul(c, zero) y = Mul(x, m)", ""),
        ("p = Add(x, three) c = Clip(p, zero, six) y = Sub(c, six)", ""),
        ("p = Add(x, three) c = Clip(p, zero, six) y = Div(six, c)", ""),
        ("p = Add(x, three) c = Clip(p, zero, six) d = Div(c, six) y = Add(d, p)", ""),
        ("p = Sqrt(x) c = Clip(p, zero, six) y = Div(c, six)", ""),
        ("e = Sqrt(x) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)", ""),
        ("z = Neg(x) e = Exp(z) p = Add(e, one) s = Log(p) t = Tanh(s) y = Mul(x, t)", ""),
        ("e = Exp(x) s = Log(e) t = Tanh(s) y = Mul(x, t)", ""),
        ("z = Neg(x) s = Softplus(z) t = Tanh(s) y = Mul(x, t)", ""),
        ("e = Exp(x) p = Add(e, one) s = Sqrt(p) t = Tanh(s) y = Mul(x, t)", ""),
        ("c = Greater(x, zero) m = Add(x, one) y = Where(c, x, m)", ""),
        ("c = Greater(x, zero) m = Mul(x, zero) n = Add(m, one) y = Where(c, x, n)", ""),
    ],
)
def test_other_computations_stay(body: str, reason: str) -> None:
    if "HardSigmoid<alpha = 0.16666667>(x) m" in body:
        check(
            FuseActivations(),
            before=graph(body),
            after="g (float[N,3] x) => (float[N,3] y) <float[] two> { m = HardSwish(x) y = Mul(m, two) }",
            constants=NUMBERS,
        )
    else:
        becomes(body, None, reason)


NEGATED = ["m = Neg(x)", "m = Mul(x, minus)", "m = Mul(minus, x)", "m = Div(x, minus)"]
INVERSES = ["y = Reciprocal(d)", "y = Div(one, d)"]


@pytest.mark.parametrize("negated", NEGATED)
@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("order", ["e, one", "one, e"])
def test_sigmoid(negated: str, inverse: str, order: str) -> None:
    becomes(f"{negated} e = Exp(m) d = Add({order}) {inverse}", "Sigmoid(x)")


def test_sigmoid_that_is_multiplied() -> None:
    check(FuseActivations(), before=graph("m = Neg(x) e = Exp(m) d = Add(e, one) y = Div(x, d)"),
          after="g (float[N,3] x) => (float[N,3] y) { s = Sigmoid(x) y = Mul(x, s) }", constants=NUMBERS)  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "e = Exp(x) d = Add(e, one) y = Reciprocal(d)",
        "m = Neg(x) e = Exp(m) d = Add(e, two) y = Reciprocal(d)",
        "m = Neg(x) e = Exp(m) d = Sub(e, one) y = Reciprocal(d)",
        "m = Neg(x) e = Exp(m) d = Add(e, one) y = Div(d, two)",
        "m = Neg(x) e = Exp(m) d = Add(e, one) y = Log(d)",
        "m = Neg(x) e = Exp(m) d = Add(e, one) r = Reciprocal(d) y = Add(r, d)",
        "m = Neg(x) e = Exp(m) d = Add(e, one) r = Reciprocal(d) y = Add(r, e)",
        "m = Mul(x, two) e = Exp(m) d = Add(e, one) y = Reciprocal(d)",
    ],
)
def test_other_quotients_stay(body: str) -> None:
    becomes(body, None)


SWITCHES = ["c = Greater(u, twenty) y = Where(c, u, s)", "c = Less(twenty, u) y = Where(c, u, s)",
            "c = LessOrEqual(u, twenty) y = Where(c, s, u)", "c = GreaterOrEqual(twenty, u) y = Where(c, s, u)"]  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES)
def test_softplus_that_is_linear_where_it_rounds_to_x(switch: str) -> None:
    """What torch.onnx writes: half of the inputs lie above 20."""
    check(FuseActivations(), before=graph(f"v = Mul(x, twenty) u = Add(v, twenty) s = Softplus(u) {switch}"),
          after="g (float[N,3] x) => (float[N,3] y) { v = Mul(x, t) u = Add(v, t) y = Softplus(u) }", constants=NUMBERS,
          sizes={"N": 50}, tolerance=1e-7)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("c = Greater(x, five) s = Softplus(x) y = Where(c, x, s)", "float"),
        ("c = LessOrEqual(x, nan) s = Softplus(x) y = Where(c, s, x)", "float"),
        ("c = Greater(x, twenty) s = Softplus(x) y = Where(c, x, s)", "double"),
        ("c = Greater(x, minus) s = Softplus(x) y = Where(c, x, s)", "float"),
        ("c = Greater(x, twenty) s = Softplus(x) y = Where(c, s, x)", "float"),
        ("c = Less(x, twenty) s = Softplus(x) y = Where(c, x, s)", "float"),
        ("m = Neg(x) c = Greater(x, twenty) s = Softplus(m) y = Where(c, x, s)", "float"),
        ("c = Greater(x, twenty) s = Softsign(x) y = Where(c, x, s)", "float"),
    ],
)
def test_other_switches_stay(body: str, kind: str) -> None:
    becomes(body, None, kind=kind)


@pytest.mark.parametrize(
    ("kind", "number", "fused"),
    [("double", "forty", True), ("double", "twenty", False), ("float16", "six", True), ("float16", "five", False)],
)
def test_where_softplus_rounds_to_x_depends_on_the_type(kind: str, number: str, fused: bool) -> None:
    body = f"c = Greater(x, {number}) s = Softplus(x) y = Where(c, x, s)"
    becomes(body, "Softplus(x)" if fused else None, kind=kind, target="cuda")


def test_integers_stay() -> None:
    check(
        FuseActivations(),
        before="g (int64[N] x) => (int64[N] y) <int64[] z> { y = Max(x, z) }",
        after=None,
        constants={"z": 0},
    )


def test_a_zero_that_broadcasts_x_stays() -> None:
    check(
        FuseActivations(),
        before="g (float[1,3] x) => (float[4,3] y) <float[4,1] z> { y = Max(x, z) }",
        after=None,
        because="the shape changes",
        constants={"z": 0},
    )


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        ("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", 17, "needs opset 18"),
        ("p = Add(x, three) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)", 13, "needs opset 14"),
    ],
)
def test_an_opset_that_lacks_the_operator(body: str, opset: int, reason: str) -> None:
    becomes(body, None, reason, opset=opset)


@pytest.mark.parametrize("escaping", ["c", "m"])
def test_values_that_escape_stay(escaping: str) -> None:
    body = "p = Add(x, three) c = Clip(p, zero, six) m = Mul(x, c) y = Div(m, six)"
    text = graph(body).replace("[N,3] y)", f"[N,3] y, float[N,3] {escaping})")
    check(FuseActivations(), before=text, after=None, constants=NUMBERS)


def test_an_overridable_bound_stays() -> None:
    check(
        FuseActivations(),
        before='<ir_version: 10, opset_import: ["" : 20]> g (float[N] x, float z = {0.0}) => (float[N] y) '
        "{ y = Max(x, z) }",
        after=None,
    )


def test_a_subgraph_border() -> None:
    body = (
        "n = Neg(x) y = If (b) <then_branch = p () => (float[N,3] u) { u = Max(x, n) }, "
        "else_branch = q () => (float[N,3] v) { v = Sub(x, n) }>"
    )
    check(
        FuseActivations(),
        before=graph(body).replace("[N,3] x)", "[N,3] x, bool b)"),
        after="g (float[N,3] x, bool b) => (float[N,3] y) { n = Neg(x) "
        "y = If (b) <then_branch = p () => (float[N,3] u) { u = Abs(x) }, "
        "else_branch = q () => (float[N,3] v) { v = Sub(x, n) }> }",
        constants=NUMBERS,
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RELU), st.floats(0.0625, 0.9375, width=16), st.sampled_from(["N", "0", "1", "2,M"]))
def test_random_slopes(body: str, slope: float, dims: str) -> None:
    """Every spelling of Relu with a * x in place of 0 is LeakyRelu (but for the Clips, which have no such form)."""
    if "Clip" in body:
        becomes(body, "Relu(x)", dims=dims)
        return
    head, _, tail = body.rpartition("= ")
    leaky = "m = Mul(x, a) " + head + "= " + tail.replace("zero", "m")
    check(
        FuseActivations(),
        before=graph(leaky, dims),
        after=f"g (float[{dims}] x) => (float[{dims}] y) {{ y = LeakyRelu<alpha = {slope}>(x) }}",
        constants={**NUMBERS, "a": slope},
    )


SWISH = "p = Add(x, three) c = Clip(p, zero, six) m = Div(c, six) y = Mul(x, m)"


@pytest.mark.parametrize(
    ("kind", "target", "opset", "because"),
    [
        ("double", "cpu", 21, "no CPU kernel for HardSwish"),
        ("bfloat16", "tensorrt", 21, "needs opset 22"),
    ],
)
def test_hard_swish_stays_in_types_that_lack_it(kind: str, target: str, opset: int, because: str) -> None:
    becomes(SWISH, None, because, kind=kind, target=target, opset=opset)


def test_a_relu_of_double_stays() -> None:
    """onnxruntime's FuseReluClip throws when the model is loaded."""
    becomes("y = Max(x, zero)", None, "does not load a Relu of DOUBLE", kind="double")
