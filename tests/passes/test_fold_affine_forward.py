import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_affine_forward import FoldAffineForward
from fcc.testing import check

SCALES = ["Mul(x, c)", "Mul(c, x)", "Div(x, c)", "Neg(x)"]
SHIFTS = ["Add(x, c)", "Add(c, x)", "Sub(x, c)", "Sub(c, x)"]


def conv(form: str, shape: str = "4,1,1", attributes: str = "group=2", x: str = "N,4,8,8", outs: str = "") -> str:
    return (
        f"g (float[{x}] x) => (float[N,6,H,W] y{outs}) <float[6,2,3,3] w, float[6] b, float[{shape}] c> "
        f"{{ a = {form} y = Conv<{attributes}>(a, w, b) }}"
    )


@pytest.mark.parametrize("form", SCALES)
@pytest.mark.parametrize("shape", ["", "4,1,1", "1,4,1,1"])
def test_scale_before_a_padded_conv(form: str, shape: str) -> None:
    check(
        FoldAffineForward(),
        before=conv(form, shape, "group=2, pads=[1,1,1,1]"),
        after="g (float[N,4,8,8] x) => (float[N,6,8,8] y) { y = Conv<group=2, pads=[1,1,1,1]>(x, w1, b) }",
    )


@pytest.mark.parametrize("form", SHIFTS)
@pytest.mark.parametrize("shape", ["", "4,1,1", "1,4,1,1"])
def test_shift_before_a_conv(form: str, shape: str) -> None:
    weight = "w1" if form == "Sub(c, x)" else "w"
    check(
        FoldAffineForward(),
        before=conv(form, shape),
        after=f"g (float[N,4,8,8] x) => (float[N,6,6,6] y) {{ y = Conv<group=2>(x, {weight}, b1) }}",
    )


def test_shift_before_a_padded_conv_stays() -> None:
    check(
        FoldAffineForward(), before=conv("Add(x, c)", attributes="group=2, pads=[0,1,0,1]"), after=None, because="pads"
    )


@pytest.mark.parametrize("form", SCALES + SHIFTS)
@pytest.mark.parametrize("shape", ["", "3", "1,3"])
def test_gemm(form: str, shape: str) -> None:
    shifts = form in SHIFTS
    check(
        FoldAffineForward(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[5,3] w, float[1,5] b, float[{shape}] c> "
        f"{{ a = {form} y = Gemm<alpha=2.0, beta=0.5, transB=1>(a, w, b) }}",
        after="g (float[N,3] x) => (float[N,5] y) "
        + (
            "{ y = Gemm<alpha=2.0, transB=1>(x, w1, b1) }"
            if shifts
            else "{ y = Gemm<alpha=2.0, beta=0.5, transB=1>(x, w1, b) }"
        ),
    )


@pytest.mark.parametrize("form", SCALES + SHIFTS)
def test_gemm_of_a_transposed_input(form: str) -> None:
    check(
        FoldAffineForward(),
        before=f"g (float[3,N] x) => (float[N,5] y) <float[3,5] w, float[5] b, float[3,1] c> "
        f"{{ a = {form} y = Gemm<transA=1>(a, w, b) }}",
        after="g (float[3,N] x) => (float[N,5] y) { y = Gemm<transA=1>(x, w1, b1) }",
    )


@pytest.mark.parametrize("form", SCALES)
def test_scale_before_a_matmul_of_rank_3(form: str) -> None:
    check(
        FoldAffineForward(),
        before=f"g (float[N,T,3] x) => (float[N,T,5] y) <float[3,5] w, float[3] c> {{ a = {form} y = MatMul(a, w) }}",
        after="g (float[N,T,3] x) => (float[N,T,5] y) { y = MatMul(x, w1) }",
    )


@pytest.mark.parametrize("form", SHIFTS)
def test_shift_before_a_matmul_of_rank_3_needs_its_bias(form: str) -> None:
    head = "g (float[N,T,3] x) => (float[N,T,5] y)"
    check(
        FoldAffineForward(),
        before=f"{head} <float[3,5] w, float[3] c> {{ a = {form} y = MatMul(a, w) }}",
        after=None,
        because="has no bias",
    )
    check(
        FoldAffineForward(),
        before=f"{head} <float[3,5] w, float[3] c, float[5] b> {{ a = {form} p = MatMul(a, w) y = Add(p, b) }}",
        after=f"{head} {{ p = MatMul(x, w1) y = Add(p, b1) }}",
    )


def test_flattened_image() -> None:
    check(
        FoldAffineForward(),
        before="g (float[N,3,2,2] x) => (float[N,5] y) <float[12,5] w, float[3,1,1] c> "
        "{ a = Mul(x, c) f = Flatten(a) y = Gemm(f, w) }",
        after="g (float[N,3,2,2] x) => (float[N,5] y) { f = Flatten(x) y = Gemm(f, w1) }",
    )


def test_factor_behind_a_matmul_is_no_bias() -> None:
    head = "g (float[N,3] x) => (float[N,5] y)"
    check(
        FoldAffineForward(),
        before=f"{head} <float[3,5] w, float[5] b, float[3] c> {{ a = Add(x, c) p = MatMul(a, w) y = Mul(p, b) }}",
        after=f"{head} {{ p = Gemm(x, w, b1) y = Mul(p, b) }}",
    )


def test_computed_bias_may_stay_behind_a_matmul() -> None:
    check(
        FoldAffineForward(),
        before="g (float[N,T,3] x, float[5] b) => (float[N,T,5] y) <float[3,5] w, float[] c> "
        "{ a = Mul(x, c) p = MatMul(a, w) y = Add(p, b) }",
        after="g (float[N,T,3] x, float[5] b) => (float[N,T,5] y) { p = MatMul(x, w1) y = Add(p, b) }",
    )


# -- several users ---------------------------------------------------------------------------------------------------
def test_queries_keys_and_values_all_absorb() -> None:
    head = "g (float[N,T,3] x) => (float[N,T,3] y, float[N,T,3] z, float[N,T,3] u)"
    check(
        FoldAffineForward(),
        before=f"{head} <float[3,3] w, float[3,3] v, float[3] b, float[3] c> "
        "{ a = Mul(x, c) y = MatMul(a, w) z = MatMul(a, v) p = MatMul(a, w) u = Add(p, b) }",
        after=f"{head} {{ y = MatMul(x, w1) z = MatMul(x, v1) p = MatMul(x, w2) u = Add(p, b) }}",
    )


def test_shift_goes_into_the_bias_of_every_user() -> None:
    head = "g (float[N,T,3] x) => (float[N,T,3] y, float[N,T,3] z)"
    check(
        FoldAffineForward(),
        before=f"{head} <float[3,3] w, float[3,3] v, float[3] b, float[3] c> "
        "{ a = Add(x, c) p = MatMul(a, w) y = Add(p, b) q = MatMul(a, v) z = Add(b, q) }",
        after=f"{head} {{ p = MatMul(x, w) y = Add(p, b1) q = MatMul(x, v) z = Add(q, b2) }}",
    )


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("z = Relu(a)", "Relu is no linear op"),
        ("z = MatMul(a, a)", "is not constant"),
        ("z = Mul(a, a)", "Mul is no linear op"),
    ],
)
def test_one_user_that_cannot_absorb(user: str, reason: str) -> None:
    check(
        FoldAffineForward(),
        before=f"g (float[3,3] x) => (float[3,3] y, float[3,3] z) <float[3,3] w, float[3] c> "
        f"{{ a = Mul(x, c) y = MatMul(a, w) {user} }}",
        after=None,
        because=reason,
    )


def test_result_that_is_a_graph_output_stays() -> None:
    check(
        FoldAffineForward(),
        before=conv("Mul(x, c)", outs=", float[N,4,8,8] a"),
        after=None,
        because="'a' is a graph output",
    )


# -- conditions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("form", "shape", "x", "reason"),
    [
        ("Mul(x, c)", "8", "N,4,8,8", "along other axes"),
        ("Mul(x, c)", "4,8,8", "N,4,8,8", "along other axes"),
        ("Mul(x, c)", "4,1,1", "N,1,8,8", "not known to have 4 channels"),
        ("Mul(x, c)", "4,1,1", "N,C,8,8", "not known to have 4 channels"),
        ("Mul(x, c)", "1,4,1,1", "4,8,8", "not known to have 4 channels"),
        ("Mul(x, c)", "1,1,1,1", "4,8,8", "not known to have 4 channels"),
        ("Div(c, x)", "4,1,1", "N,4,8,8", "'c' is not constant"),
    ],
)
def test_constants_of_other_shapes_stay(form: str, shape: str, x: str, reason: str) -> None:
    check(FoldAffineForward(), before=conv(form, shape, x=x), after=None, because=reason)


def test_scalar_takes_an_unknown_number_of_channels() -> None:
    check(
        FoldAffineForward(),
        before=conv("Mul(x, c)", "1", x="N,C,8,8"),
        after="g (float[N,C,8,8] x) => (float[N,6,6,6] y) { y = Conv<group=2>(x, w1, b) }",
        sizes={"N": 2, "C": 4},
    )


@pytest.mark.parametrize(
    ("form", "value", "reason"),
    [("Mul(x, c)", 0, "factor is 0"), ("Add(x, c)", np.inf, "not finite"), ("Div(x, c)", 0, "factor is 0")],
)
def test_zero_and_non_finite_constants_stay(form: str, value: float, reason: str) -> None:
    check(FoldAffineForward(), before=conv(form), after=None, because=reason, constants={"c": value})


@pytest.mark.parametrize(
    ("form", "reason"), [("Add(x, c)", "the folded bias leaves"), ("Mul(x, c)", "NaN or infinity")]
)
def test_weights_that_are_not_finite_stay(form: str, reason: str) -> None:
    w = np.ones((6, 2, 3, 3), np.float32)
    w[1, 0, 0, :2] = np.inf, -np.inf
    check(FoldAffineForward(), before=conv(form), after=None, because=reason, constants={"c": 2.0, "w": w})


def test_integers_stay() -> None:
    check(
        FoldAffineForward(),
        before="g (int32[N,3] x) => (int32[N,5] y) <int32[3,5] w, int32[3] c> { a = Mul(x, c) y = MatMul(a, w) }",
        after=None,
        because="INT32 are not folded",
    )


def test_overridable_constant_stays() -> None:
    check(
        FoldAffineForward(),
        before="g (float[N,1] x, float[1] c = {2}) => (float[N,1] y) <float[1,1] w = {3}> "
        "{ a = Mul(x, c) y = Gemm(a, w) }",
        after=None,
        because="'c' is not constant",
    )


def test_large_shared_weight_stays() -> None:
    check(
        FoldAffineForward(max_copy=59),
        before="g (float[N,3] x) => (float[N,5] y, float[N,5] z) <float[3,5] w, float[3] c> "
        "{ a = Mul(x, c) y = MatMul(a, w) z = MatMul(x, w) }",
        after=None,
        because="shared",
    )


GELU = (
    "g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[] c, float[] r, float[] one> "
    "{ d = Div(x, r) e = Erf(d) f = Add(e, one) h = Mul(x, f) a = Mul(h, c) y = MatMul(a, w) }"
)
NORM = (
    "g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[5] b, float[3] c, float[] two, float[] eps> "
    "{ m = ReduceMean<keepdims=1>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<keepdims=1>(q) u = Add(v, eps) "
    "s = Sqrt(u) n = Div(d, s) a = Mul(n, c) p = MatMul(a, w) y = Add(p, b) }"
)


RMS = (
    "g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[3] c, float[] two, float[] eps> "
    "{ q = Pow(x, two) v = ReduceMean<keepdims=1>(q) u = Add(v, eps) s = Sqrt(u) r = Reciprocal(s) n = Mul(x, r) "
    "a = Mul(n, c) y = MatMul(a, w) }"
)


@pytest.mark.parametrize("text", [GELU, NORM, RMS], ids=["gelu", "layernorm", "rmsnorm"])
def test_functions_that_runtimes_fuse_stay_whole(text: str) -> None:
    check(
        FoldAffineForward(),
        before=text,
        after=None,
        because="runtimes fuse",
        constants={"two": 2, "eps": 1e-5, "one": 1, "r": 1.414, "c": 0.5},
    )


def test_long_chain_of_elementwise_ops_is_no_such_function() -> None:
    chain = "t = Tanh(x) " + " ".join(f"{b} = Add({a}, x)" for a, b in zip("tdefghi", "defghij", strict=True))
    check(
        FoldAffineForward(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[] c> "
        f"{{ {chain} a = Mul(j, c) y = MatMul(a, w) }}",
        after=f"g (float[N,3] x) => (float[N,5] y) {{ {chain} y = MatMul(j, w1) }}",
    )


# -- algebra ---------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    group=st.integers(1, 3),
    ins=st.integers(1, 3),
    outs=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 2), min_size=1, max_size=2),
    pad=st.integers(0, 1),
    form=st.sampled_from(SCALES + SHIFTS),
    scalar=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_convolution(
    group: int, ins: int, outs: int, kernel: list[int], pad: int, form: str, scalar: bool, bias: bool, seed: int
) -> None:
    rank, m, shifts = len(kernel), group * outs, form in SHIFTS
    names, sizes = ",".join("HW"[:rank]), ",".join(["4"] * rank)
    pads = ",".join([str(0 if shifts else pad)] * 2 * rank)
    c = "1" if scalar else ",".join(map(str, [group * ins] + [1] * rank))
    w = ",".join(map(str, [m, ins, *kernel]))
    head = f"g (float[2,{group * ins},{sizes}] x) => (float[2,{m},{names}] y)"
    attributes = f"group={group}, pads=[{pads}]"
    check(
        FoldAffineForward(),
        before=f"{head} <float[{w}] w, float[{m}] b, float[{c}] cvar> "
        f"{{ a = {form.replace('c', 'cvar')} y = Conv<{attributes}>(a, w{', b' if bias else ''}) }}",
        after=f"{head} {{ y = Conv<{attributes}>(x, w1{', b1' if bias or shifts else ''}) }}",
        seed=seed,
    )
