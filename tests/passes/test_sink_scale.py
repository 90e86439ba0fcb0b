import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.frontend import read
from fcc.passes.sink_scale import SinkScale
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

P = SinkScale()
HEADS = "r = Reshape(q, h) t = Transpose<perm=[0,2,1,3]>(r)"
IO = "g (float[B,S,6] x, float[B,2,3,S] k) => (float[B,2,S,S] y)"
DECLARED = "float[6,6] w, float[6] b, int64[4] h, float c"
VALUES = {"h": np.array([0, 0, 2, 3])}
LAYER = "p = MatMul(x, w) q = Add(p, b)"


@pytest.mark.parametrize(
    "body",
    [
        f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c)",
        f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(c, s)",
        f"{LAYER} {HEADS} s = MatMul(t, k) y = Div(s, c)",
        f"{LAYER} {HEADS} u = Mul(t, c) y = MatMul(u, k)",
        f"{LAYER} r0 = Reshape(q, h) r = Div(r0, c) t = Transpose<perm=[0,2,1,3]>(r) y = MatMul(t, k)",
    ],
)
@pytest.mark.parametrize("c", [0.5, -3.0])
def test_scale_of_scores_goes_into_the_queries(body: str, c: float) -> None:
    check(
        P,
        before=f"{IO} <{DECLARED}> {{ {body} }}",
        after=f"{IO} {{ {LAYER} {HEADS} y = MatMul(t, k) }}",
        constants={**VALUES, "c": c},
    )


def test_scale_goes_into_the_keys_when_the_queries_are_shared() -> None:
    io = "g (float[B,2,S,3] q, float[B,S,6] x) => (float[B,2,S,S] y)"
    keys = "n = Gemm(z, w) r = Reshape(n, h) t = Transpose<perm=[0,2,3,1]>(r)"
    io = io.replace("float[B,S,6] x", "float[R,6] z")
    check(
        P,
        before=f"{io} <float[6,6] w, int64[4] h, float[1] c> {{ {keys} s = MatMul(q, t) y = Mul(s, c) }}",
        after=f"{io} {{ {keys} y = MatMul(q, t) }}",
        constants={"h": np.array([2, -1, 2, 3]), "c": 0.25},
        sizes={"R": 6, "B": 2, "S": 3},
    )


def test_convolution() -> None:
    io = "g (float[N,4,5] x) => (float[N,20] y)"
    check(
        P,
        before=f"{io} <float[4,4,1] w, float[4] b, float c> {{ a = Conv(x, w, b) f = Flatten(a) y = Mul(f, c) }}",
        after=f"{io} {{ a = Conv(x, w, b) y = Flatten(a) }}",
    )


@pytest.mark.parametrize(
    ("body", "outputs", "because"),
    [
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, z)", "", ""),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, n)", "", ""),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Div(c, s)", "", ""),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c)", ", float[B,S,6] q", "no layer is reached"),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c) o = Neg(t)", ", float[B,2,S,3] o", "no layer is reached"),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c) o = Neg(w)", ", float[6,6] o", "no layer is reached"),
        (f"{LAYER} {HEADS} u = Relu(t) s = MatMul(u, k) y = Mul(s, c)", "", "no layer is reached"),
        (f"{LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, big)", "", "leave the range"),
        ("p = MatMul(x, w) q = Add(p, x) r = Reshape(q, h) t = Transpose<perm=[0,2,1,3]>(r) s = MatMul(t, k) y = Mul(s, c)",
         "", "no layer is reached"),
    ],
)  # fmt: skip
def test_refusals(body: str, outputs: str, because: str) -> None:
    text = IO.replace("[B,2,S,S] y", f"[B,2,S,S] y{outputs}")
    declared = DECLARED + ", float z, float[2,1,1] n, float big"
    check(P, before=f"{text} <{declared}> {{ {body} }}", after=None, because=because,
          constants={**VALUES, "z": 0, "big": 3e38, "w": 10.0})  # fmt: skip


def test_factor_behind_a_layer_is_left_to_fold_affine() -> None:
    check(P, before="g (float[N,3] x) => (float[N,2] y) <float[3,2] w, float c> { a = MatMul(x, w) y = Mul(a, c) }",
          after=None, because="fold-affine")  # fmt: skip


def test_factor_that_raises_the_rank_stays() -> None:
    check(
        P,
        before="g (float[N,3] x) => (float[1,2,N] y) <float[3,2] w, float[1,1,1] c> "
        "{ a = MatMul(x, w) t = Transpose<perm=[1,0]>(a) y = Mul(t, c) }",
        after=None,
        because="keep the shape",
    )


def test_product_with_itself_stays() -> None:
    check(
        P,
        before="g (float[3,3] x) => (float[3,3] y) <float[3,3] w, float c> "
        "{ a = MatMul(x, w) s = MatMul(a, a) y = Mul(s, c) }",
        after=None,
        because="no layer is reached",
    )


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    kind = d(st.sampled_from(["float", "double", "float16"]))
    n = d(st.sampled_from(["N", "1", "2"]))
    steps = {"Transpose<perm=[1,0]>({0})": True, "Flatten<axis=1>({0})": False, "Unsqueeze({0}, a)": None}
    step = d(st.sampled_from(sorted(steps)))
    bias, trans = d(st.booleans()), d(st.booleans())
    shape = {True: f"4,{n}", False: f"{n},4", None: f"1,{n},4"}[steps[step]]
    layer = f"q = Gemm<transB={int(trans)}, alpha=0.5, beta=2.0>(x, w{', b' if bias else ''})"
    io = f"g ({kind}[{n},3] x) => ({kind}[{shape}] y)"
    by = d(st.sampled_from(["Mul(t, c)", "Mul(c, t)", "Div(t, c)"]))
    declared = f"{kind}[{'4,3' if trans else '3,4'}] w, {kind} c" + (f", {kind}[4] b" if bias else "")
    declared += ", int64[1] a" if "a)" in step else ""
    check(
        P,
        before=f"{io} <{declared}> {{ {layer} t = {step.format('q')} y = {by} }}",
        after=f"{io} {{ {layer} y = {step.format('q')} }}",
        constants={"c": d(st.sampled_from([0.5, 3.0, -0.125])), "a": 0},
        seed=d(st.integers(0, 99)),
    )


@pytest.mark.parametrize("layer", ["q = Gemm(w, w)", "q = Gemm(b, w, b)", "q = MatMul(w, w)"])
def test_a_constant_in_two_roles_stays(layer: str) -> None:
    text = f"g (float[1] x) => (float[1,6,6] y) <float[6,6] w, float[6,6] b, float c, int64[1] a> {{ {layer} u = Unsqueeze(q, a) y = Mul(u, c) }}"
    check(P, before=text, after=None, because="no layer is reached", constants={"c": 3, "a": 0})


HALF = f"{IO} <{DECLARED}> {{ {LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c) }}".replace("float[", "float16[").replace(
    "float c", "float16 c"
)


def test_a_bias_that_leaves_the_range_stays() -> None:
    before = f"{IO} <{DECLARED}> {{ {LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c) }}"
    constants = {**VALUES, "c": 1e10, "w": 1.0}
    check(P, before=before, after=None, because="leave the range", constants={**constants, "b": 1e30})
    check(P, before=before.replace("Mul(s, c)", "Div(s, c)"), after=f"{IO} {{ {LAYER} {HEADS} y = MatMul(t, k) }}",
          constants={**constants, "b": 1e20})  # fmt: skip


@pytest.mark.parametrize(("change", "because"), [({"w": 1e-3}, "vanish"), ({"b": 1e-3, "w": 1.0}, "vanish")])
def test_half_precision_keeps_what_would_vanish(change: dict[str, float], because: str) -> None:
    check(P, before=HALF, after=None, because=because, constants={**VALUES, "c": 1e-4, "w": 1.0, "b": 1.0, **change})


def test_half_precision_within_the_range() -> None:
    after = f"{IO} {{ {LAYER} {HEADS} y = MatMul(t, k) }}".replace("float[", "float16[")
    check(P, before=HALF, after=after, constants={**VALUES, "c": 0.5, "w": np.eye(6), "b": 0.0})


def test_operators_of_other_domains_end_the_way() -> None:
    body = f"{LAYER} r = Reshape(q, h) u = com.microsoft.Transpose<perm=[0,2,1,3]>(r) s = MatMul(u, k) y = Mul(s, c)"
    module = read(model_from(f"{IO} <{DECLARED}> {{ {body} }}", constants=VALUES))
    assert run_pass(P, module, PassContext(get_target("cpu"), Log(strict=True))) == 0


def test_single_precision_may_become_denormal() -> None:
    """As the product at run time would."""
    before = f"{IO} <{DECLARED}> {{ {LAYER} {HEADS} s = MatMul(t, k) y = Mul(s, c) }}"
    check(P, before=before, after=f"{IO} {{ {LAYER} {HEADS} y = MatMul(t, k) }}",
          constants={**VALUES, "c": 1e-10, "w": 1e-31, "b": 1e-31})  # fmt: skip
