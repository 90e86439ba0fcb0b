from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._gates import _product
from fcc.passes.fuse_gelu import FuseGelu
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

C = math.sqrt(2 / math.pi)
NUMBERS: dict[str, Any] = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root": math.sqrt(2), "inv": math.sqrt(0.5), "c": C,
    "a": 0.044715, "ca": C * 0.044715, "minus": -0.5, "gate": 2 * C, "unit": -1.0,
}  # fmt: skip
DECLARED = ", ".join(f"float[] {name}" for name in NUMBERS)
ERF_INNER = ["Div(x, root)", "Mul(x, inv)", "Mul(inv, x)"]
ERF_OUTER = [
    "u = Add({f}, one) v = Mul(x, u) y = Mul(v, half)",
    "u = Add(one, {f}) v = Mul(u, x) y = Mul(half, v)",
    "u = Add({f}, one) v = Mul(u, half) y = Mul(x, v)",
    "h = Mul(x, half) u = Add(one, {f}) y = Mul(h, u)",
    "h = Mul(half, x) u = Add(one, {f}) y = Mul(u, h)",
    "h = Div(x, two) u = Add({f}, one) y = Mul(h, u)",
    "u = Add({f}, one) v = Mul(x, u) y = Div(v, two)",
    "u = Mul({f}, half) v = Add(u, half) y = Mul(x, v)",
    "u = Mul({f}, half) v = Sub(u, minus) y = Mul(x, v)",
    "u = Div({f}, two) v = Add(half, u) y = Mul(v, x)",
    "n = Neg({f}) u = Sub(one, n) v = Mul(x, u) y = Mul(v, half)",
    "v = Mul(x, {f}) w = Add(v, x) y = Mul(w, half)",
    "h = Mul(x, half) v = Mul(h, {f}) y = Add(h, v)",
    "n = Neg(x) u = Sub(unit, {f}) v = Mul(n, u) y = Mul(v, half)",
    "h = Mul(x, minus) v = Mul(h, {f}) w = Neg(v) n = Neg(x) m = Mul(n, half) y = Sub(w, m)",
]
CUBES = [
    "k = Pow(x, three) q = Mul(k, a) p = Add(x, q) z = Mul(p, c)",
    "k1 = Mul(x, x) k = Mul(k1, x) q = Mul(a, k) p = Add(q, x) z = Mul(c, p)",
    "k1 = Mul(a, x) k = Mul(x, k1) q = Mul(x, k) p = Add(x, q) z = Mul(c, p)",
    "k1 = Pow(x, two) k = Mul(k1, a) q = Add(k, one) p = Mul(x, q) z = Mul(p, c)",
    "k1 = Mul(x, x) k = Mul(k1, ca) q = Add(c, k) z = Mul(x, q)",
    "s = Mul(x, c) k1 = Mul(x, x) k = Mul(a, k1) q = Add(one, k) z = Mul(s, q)",
    "k1 = Mul(x, x) k = Mul(k1, a) q = Add(one, k) p = Mul(x, q) z = Div(p, e)",
]


def graph(body: str, dims: str = "N,3", declared: str = DECLARED, kind: str = "float") -> str:
    whole = f"{kind}[{dims}]" if dims else kind  # "float[]" would be of unknown rank
    return f"g ({whole} x) => ({whole} y) <{declared.replace('float', kind)}> {{ {body} }}"


def gelu(form: str = "none", dims: str = "N,3", kind: str = "float") -> str:
    attribute = '<approximate = "tanh">' if form == "tanh" else ""
    whole = f"{kind}[{dims}]" if dims else kind
    return f"g ({whole} x) => ({whole} y) {{ y = Gelu{attribute}(x) }}"


@pytest.mark.parametrize("inner", ERF_INNER)
@pytest.mark.parametrize("outer", ERF_OUTER)
def test_erf_form_in_every_order_and_grouping(inner: str, outer: str) -> None:
    body = f"d = {inner} f = Erf(d) " + outer.format(f="f")
    check(FuseGelu(), before=graph(body), after=gelu(), constants=NUMBERS)


@pytest.mark.parametrize("cube", CUBES)
@pytest.mark.parametrize("outer", ERF_OUTER)
def test_tanh_form_in_every_order_and_grouping(cube: str, outer: str) -> None:
    body = f"{cube} f = Tanh(z) " + outer.format(f="f")
    check(
        FuseGelu(),
        before=graph(body, declared=DECLARED + ", float[] e"),
        after=gelu("tanh"),
        constants={**NUMBERS, "e": 1 / C},
    )


@pytest.mark.parametrize("outer", ["y = Mul(x, f)", "y = Mul(f, x)"])
def test_sigmoid_spelling_of_the_tanh_form(outer: str) -> None:
    body = f"k = Pow(x, three) q = Mul(k, a) p = Add(x, q) z = Mul(p, gate) f = Sigmoid(z) {outer}"
    check(FuseGelu(), before=graph(body), after=gelu("tanh"), constants=NUMBERS)


def test_x_may_itself_be_a_product() -> None:
    body = "h = Mul(w, two) d = Div(h, root) f = Erf(d) u = Add(f, one) v = Mul(h, u) y = Mul(v, half)"
    check(
        FuseGelu(),
        before=graph(body).replace("[N,3] x)", "[N,3] w)"),
        after="g (float[N,3] w) => (float[N,3] y) <float[] two> { h = Mul(w, two) y = Gelu(h) }",
        constants=NUMBERS,
    )


def test_a_scaled_input_read_from_below() -> None:
    """erf takes w through one constant, the product through another: the GELU is one of w * 2."""
    body = "h = Mul(w, two) d = Mul(w, root) f = Erf(d) u = Add(f, one) v = Mul(h, u) y = Mul(v, half)"
    check(
        FuseGelu(),
        before=graph(body).replace("[N,3] x)", "[N,3] w)"),
        after=None,
        because="polynomial",
        constants=NUMBERS,
    )


@pytest.mark.parametrize("shape", ["1", "3", "1,1", "1,3"])
def test_constants_of_any_shape_that_repeats(shape: str) -> None:
    declared = DECLARED.replace("float[]", f"float[{shape}]")
    body = "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)"
    check(FuseGelu(), before=graph(body, declared=declared), after=gelu(), constants=NUMBERS)


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_other_floats(kind: str) -> None:
    body = "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)"
    refused = kind == "float16"
    check(
        FuseGelu(),
        before=graph(body, kind=kind),
        after=gelu(kind=kind) if refused else None,
        constants=NUMBERS,
        target="cuda" if refused else "cpu",
        because="" if refused else "double",
    )


@pytest.mark.parametrize("value", [0.7978845608, 0.79788456, 0.7978845834732056, 0.7978846])
def test_constants_as_exporters_round_them(value: float) -> None:
    body = f"{CUBES[0]} f = Tanh(z) {ERF_OUTER[0].format(f='f')}"
    check(
        FuseGelu(),
        before=graph(body),
        after=gelu("tanh"),
        constants={**NUMBERS, "c": value, "a": 0.044714998453855515},
    )


@pytest.mark.parametrize(
    ("constants", "reason"),
    [
        ({"root": 1.5}, "polynomial"),
        ({"root": 1.4141}, "polynomial"),
        ({"root": 0.0}, "polynomial"),
        ({"one": 1.001}, "gated by"),
        ({"half": 0.4}, "gated by"),
        ({"half": 1.0}, "gated by"),
        ({"one": -1.0}, "gated by"),
    ],
)
def test_other_numbers_stay(constants: dict[str, Any], reason: str) -> None:
    body = "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)"
    check(FuseGelu(), before=graph(body), after=None, because=reason, constants={**NUMBERS, **constants})


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(root, x) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Div(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Div(one, f) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, f) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, x) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(u, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Max(x, u) y = Mul(v, half)",
        "d = Sub(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)",
        "d = Pow(x, half) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)",
        "k = Mul(x, x) d = Mul(k, k) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)",
        "d = Exp(x) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) y = Add(f, one)",
        "d = Div(x, root) y = Erf(d)",
        "d = Div(x, root) f = Erf(d) u = Add(f, one) n = Neg(x) v = Mul(n, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Sub(one, f) v = Mul(x, u) y = Mul(v, half)",
        "d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) w = Sub(v, v) y = Mul(w, half)",
    ],
)
def test_other_computations_stay(body: str) -> None:
    check(FuseGelu(), before=graph(body), after=None, constants=NUMBERS)


def test_another_x_stays() -> None:
    text = graph("d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(z, u) y = Mul(v, half)")
    check(
        FuseGelu(),
        before=text.replace("[N,3] x)", "[N,3] x, float[N,3] z)"),
        after=None,
        because="polynomial",
        constants=NUMBERS,
    )


def test_a_constant_that_broadcasts_x_stays() -> None:
    text = graph("d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)", dims="1,3")
    text = text.replace("float[] half", "float[4,1] half").replace("(float[1,3] y)", "(float[4,3] y)")
    check(FuseGelu(), before=text, after=None, because="gated by", constants=NUMBERS)


@pytest.mark.parametrize("extra", ["f", "u", "v"])
def test_values_that_escape_stay(extra: str) -> None:
    text = graph("d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half)")
    check(
        FuseGelu(),
        before=text.replace("[N,3] y)", f"[N,3] y, float[N,3] {extra})"),
        after=None,
        constants=NUMBERS,
    )


def test_what_goes_in_may_be_used_elsewhere() -> None:
    text = graph("d = Div(x, root) f = Erf(d) u = Add(f, one) h = Mul(x, half) y = Mul(h, u)")
    check(
        FuseGelu(),
        before=text.replace("[N,3] y)", "[N,3] y, float[N,3] d, float[N,3] h)"),
        after="g (float[N,3] x) => (float[N,3] y, float[N,3] d, float[N,3] h) <float[] root, float[] half> "
        "{ d = Div(x, root) h = Mul(x, half) y = Gelu(x) }",
        constants=NUMBERS,
    )


def test_an_overridable_constant_stays() -> None:
    check(
        FuseGelu(),
        before='<ir_version: 10, opset_import: ["" : 20]> g (float[N] x, float half = {0.5}) => (float[N] y) '
        "<float root = {1.41421356}, float one = {1.0}> "
        "{ d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) y = Mul(v, half) }",
        after=None,
        because="gated by",
    )


def test_a_subgraph_border_is_not_crossed() -> None:
    body = (
        "d = Div(x, root) f = Erf(d) u = Add(f, one) "
        "y = If (b) <then_branch = p () => (float[N,3] m) { v = Mul(x, u) m = Mul(v, half) }, "
        "else_branch = q () => (float[N,3] n) { w = Mul(x, u) n = Neg(w) }>"
    )
    check(
        FuseGelu(),
        before=graph(body).replace("[N,3] x)", "[N,3] x, bool b)"),
        after=None,
        constants=NUMBERS,
    )


def test_inside_a_subgraph_with_x_from_outside() -> None:
    body = (
        "y = If (b) <then_branch = p () => (float[N,3] m) "
        "{ d = Div(x, root) f = Erf(d) u = Add(f, one) v = Mul(x, u) m = Mul(v, half) }, "
        "else_branch = q () => (float[N,3] n) { n = Neg(x) }>"
    )
    check(
        FuseGelu(),
        before=graph(body).replace("[N,3] x)", "[N,3] x, bool b)"),
        after="g (float[N,3] x, bool b) => (float[N,3] y) "
        "{ y = If (b) <then_branch = p () => (float[N,3] m) { m = Gelu(x) }, "
        "else_branch = q () => (float[N,3] n) { n = Neg(x) }> }",
        constants=NUMBERS,
    )


def applied(text: str, opset: int, target: str) -> tuple[ir.Module, list[str]]:
    module = read(testing.model_from(text, opset, NUMBERS, 0))
    shapes.infer(module)
    ctx = PassContext(target=get_target(target), log=Log(strict=True, explain=frozenset({"fuse-gelu"})))
    run_pass(FuseGelu(), module, ctx)
    ir.verify(module)
    return module, [r.reason for r in ctx.log.refused]


TANH = f"{CUBES[2]} f = Tanh(z) {ERF_OUTER[0].format(f='f')}"
ERF = f"d = Div(x, root) f = Erf(d) {ERF_OUTER[0].format(f='f')}"


@pytest.mark.parametrize(
    ("body", "target", "opset", "expected"),
    [
        (TANH, "cpu", 19, "com.microsoft::FastGelu"),
        (TANH, "cpu", 20, "::Gelu"),
        (TANH, "cuda", 17, "com.microsoft::FastGelu"),
        (TANH, "tensorrt", 19, None),
        (TANH, "tensorrt", 20, "::Gelu"),
        (ERF, "cpu", 19, None),
        (ERF, "cuda", 19, None),
        (ERF, "tensorrt", 20, "::Gelu"),
    ],
)
def test_the_operator_that_the_target_runs(body: str, target: str, opset: int, expected: str | None) -> None:
    module, reasons = applied(graph(body), opset, target)
    if expected is None:
        assert any("needs opset 20" in r for r in reasons)
        assert not any("Gelu" in n.op_type for n in module.nodes())
    else:
        assert [f"{n.domain}::{n.op_type}" for n in module.nodes()] == [expected]


def test_the_fast_operator_takes_no_scalar() -> None:
    check(FuseGelu(), before=graph(TANH, dims=""), after=None, because="needs opset 20", constants=NUMBERS, opset=17)


@pytest.mark.parametrize("dims", ["N,3", "4096", "0,2"])
def test_the_fast_operator_in_the_runtime(dims: str) -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import open_session

    text = graph(TANH, dims=dims)
    module, _ = applied(text, 17, "cpu")
    assert [n.op_type for n in module.nodes()] == ["FastGelu"]
    shape = [5 if d == "N" else int(d) for d in dims.split(",") if d]
    fed = {"x": np.asarray(np.random.default_rng(0).standard_normal(shape) * 4, np.float32)}
    old = open_session(testing.model_from(text, 17, NUMBERS, 0).SerializeToString(), optimize=False).run(fed)["y"]
    new = open_session(serde.serialize_model(module.model).SerializeToString()).run(fed)["y"]
    assert new.shape == old.shape
    assert np.abs(new - old).max(initial=0.0) <= 2e-6


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(itertools.product(["erf", "tanh"], range(len(ERF_OUTER))))),
    st.integers(0, 6),
    st.sampled_from(["", "0", "1", "N", "2,M,3", "N,0"]),
    st.sampled_from(["[]", "[1]"]),
    st.floats(0.9, 1.1),
)
def test_random_instances(form: tuple[str, int], inner: int, dims: str, shape: str, off: float) -> None:
    """A generated spelling fuses when its constant is the right one, and stays when it is not."""
    shape = "[]" if dims == "" else shape
    kind, outer = form
    before = f"d = {ERF_INNER[inner % 3]} f = Erf(d)" if kind == "erf" else f"{CUBES[inner]} f = Tanh(z)"
    off = 1.0 if abs(off - 1.0) < 1e-4 else off
    check(
        FuseGelu(),
        before=graph(
            f"{before} {ERF_OUTER[outer].format(f='f')}",
            dims=dims,
            declared=(DECLARED + ", float[] e").replace("[]", shape),
        ),
        after=gelu("none" if kind == "erf" else "tanh", dims=dims) if off == 1.0 else None,
        constants={**NUMBERS, "e": 1 / C / off, "root": NUMBERS["root"] * off, "inv": NUMBERS["inv"] * off,
                   "c": C * off, "ca": NUMBERS["ca"] * off},
    )  # fmt: skip


def test_products_of_polynomials_add_up_by_power() -> None:
    assert _product({0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0}) == {0: 3.0, 1: 10.0, 2: 8.0}
    assert _product({2: 1.0}, {1: 1.0}) == {3: 1.0}
    assert _product({2: 1.0}, {2: 1.0}) is None
