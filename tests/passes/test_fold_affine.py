import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_affine import FoldAffine
from fcc.testing import check

FORMS = ["Mul(a, c)", "Mul(c, a)", "Add(a, c)", "Add(c, a)", "Sub(a, c)", "Sub(c, a)", "Div(a, c)"]
CHANNELS = np.array([0.5, -1, 2, 3, -0.25, 1])


def conv(form: str, shape: str = "6,1,1", attributes: str = "group=2, pads=[1,0,1,0]", outs: str = "") -> str:
    return (
        f"g (float[N,4,8,8] x) => (float[N,6,8,6] y{outs}) <float[6,2,3,3] w, float[6] b, float[{shape}] c> "
        f"{{ a = Conv<{attributes}>(x, w, b) y = {form} }}"
    )


CONV = "g (float[N,4,8,8] x) => (float[N,6,8,6] y) { y = Conv<group=2, pads=[1,0,1,0]>(x, w1, b1) }"


# -- forms -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["", "1", "6,1,1", "1,6,1,1", "1,1,1"])
def test_conv(form: str, shape: str) -> None:
    size = [int(d) for d in shape.split(",") if d]
    value = CHANNELS.reshape(size) if "6" in shape else np.full(size, -0.5)
    check(FoldAffine(), before=conv(form, shape), after=CONV, constants={"c": value})


def test_neg() -> None:
    check(FoldAffine(), before=conv("Neg(a)"), after=CONV)


def test_scale_of_a_conv_without_bias_adds_none() -> None:
    check(
        FoldAffine(),
        before="g (float[N,2,4] x) => (float[N,3,2] y) <float[3,2,3] w, float[3,1] c> { a = Conv(x, w) y = Mul(a, c) }",
        after="g (float[N,2,4] x) => (float[N,3,2] y) { y = Conv(x, w1) }",
    )


def test_shift_alone_keeps_the_weight() -> None:
    module = check(FoldAffine(), before=conv("Add(a, c)"), after=CONV)
    assert "w" in module.graph.initializers


def test_add_gives_a_conv_its_bias() -> None:
    check(
        FoldAffine(),
        before="g (float[N,2,4] x) => (float[N,3,2] y) <float[3,2,3] w, float[3,1] c> { a = Conv(x, w) y = Add(a, c) }",
        after="g (float[N,2,4] x) => (float[N,3,2] y) { y = Conv(x, w, b1) }",
    )


def test_several_in_a_row() -> None:
    check(
        FoldAffine(),
        before="g (float[N,2,4] x) => (float[N,3,2] y) <float[3,2,3] w, float[3,1] c, float[] d> "
        "{ a = Conv(x, w) p = Mul(a, c) q = Neg(p) r = Sub(d, q) y = Add(r, c) }",
        after="g (float[N,2,4] x) => (float[N,3,2] y) { y = Conv(x, w1, b1) }",
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["", "5", "1,5"])
def test_gemm(form: str, shape: str) -> None:
    check(
        FoldAffine(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[1] b, float[{shape}] c> "
        f"{{ a = Gemm<alpha=0.5, beta=3.0>(x, w, b) y = {form} }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm<alpha=0.5>(x, w1, b1) }",
    )


@pytest.mark.parametrize("form", FORMS)
def test_matmul_and_add_of_rank_3(form: str) -> None:
    check(
        FoldAffine(),
        before="g (float[N,T,3] x) => (float[N,T,5] y) <float[3,5] w, float[5] b, float[1,1,5] c> "
        f"{{ p = MatMul(x, w) a = Add(b, p) y = {form} }}",
        after="g (float[N,T,3] x) => (float[N,T,5] y) { p = MatMul(x, w1) y = Add(p, b1) }",
    )


def test_matmul_of_a_vector() -> None:
    check(
        FoldAffine(),
        before="g (float[3] x) => (float[5] y) <float[3,5] w, float[5] c> { a = MatMul(x, w) y = Mul(a, c) }",
        after="g (float[3] x) => (float[5] y) { y = MatMul(x, w1) }",
    )


@pytest.mark.parametrize("form", ["Mul(a, c)", "Div(a, c)", "Neg(a)"])
def test_matmul_takes_a_scale(form: str) -> None:
    check(
        FoldAffine(),
        before=f"g (float[N,T,3] x) => (float[N,T,5] y) <float[3,5] w, float[5] c> {{ a = MatMul(x, w) y = {form} }}",
        after="g (float[N,T,3] x) => (float[N,T,5] y) { y = MatMul(x, w1) }",
    )


def test_matrix_product_takes_a_subtraction_as_gemm() -> None:
    check(
        FoldAffine(),
        before="g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[5] c> { a = MatMul(x, w) y = Sub(c, a) }",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_subtraction_from_a_matmul_of_rank_3_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[N,T,3] x) => (float[N,T,5] y) <float[3,5] w, float[5] c> { a = MatMul(x, w) y = Sub(c, a) }",
        after=None,
        because="cannot become a Gemm: its rank is not 2",
    )


def test_the_bias_of_a_matmul_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[5] c> { a = MatMul(x, w) y = Add(a, c) }",
        after=None,
        because="bias of the MatMul",
    )


# -- conditions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("form", "shape", "reason"),
    [
        ("Mul(a, c)", "6", "along other axes"),
        ("Mul(a, c)", "8,6", "along other axes"),
        ("Mul(a, c)", "6,8,1", "along other axes"),
        ("Add(a, c)", "1,1,1,1,1", "raise the rank"),
        ("Add(a, c)", "1,1,6,1,1", "raise the rank"),
        ("Div(c, a)", "6,1,1", "found a constant"),
        ("Mul(a, x1)", "6,1,1", "'c' is not constant"),
        ("Mul(a, a)", "6,1,1", "not constant"),
    ],
)
def test_constants_of_other_shapes_stay(form: str, shape: str, reason: str) -> None:
    text = conv(form, shape).replace("float[N,4,8,8] x)", "float[N,4,8,8] x, float[6,1,1] x1)")
    check(FoldAffine(), before=text.replace("float[N,6,8,6] y", "float y"), after=None, because=reason)


def test_constant_that_repeats_the_batch_axis_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[1,3] x) => (float[4,5] y) <float[3,5] w, float[4,1] c> { a = Gemm(x, w) y = Mul(a, c) }",
        after=None,
        because="along other axes",
    )


def test_constant_that_repeats_the_only_channel_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[2,3] x) => (float[2,5] y) <float[3,1] w, float[5] c> { a = Gemm(x, w) y = Mul(a, c) }",
        after=None,
        because="does not have 1 channels",
    )


@pytest.mark.parametrize(
    ("form", "value", "reason"),
    [
        ("Mul(a, c)", 0, "factor is 0"),
        ("Mul(a, c)", np.array([1, 0, 1, 1, 1, 1]).reshape(6, 1, 1), "factor is 0"),
        ("Mul(a, c)", np.inf, "constant is not finite"),
        ("Add(a, c)", np.nan, "constant is not finite"),
        ("Div(a, c)", 0, "factor is 0 or not finite"),
        ("Div(a, c)", np.inf, "constant is not finite"),
    ],
)
def test_zero_and_non_finite_constants_stay(form: str, value: object, reason: str) -> None:
    check(FoldAffine(), before=conv(form), after=None, because=reason, constants={"c": value})


def test_integers_stay() -> None:
    check(
        FoldAffine(),
        before="g (int32[N,3] x) => (int32[N,5] y) <int32[3,5] w, int32[5] c> { a = MatMul(x, w) y = Mul(a, c) }",
        after=None,
        because="INT32 are not folded",
    )


def test_matmul_with_a_constant_left_operand_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[3,N] x) => (float[5,N] y) <float[5,3] w, float[] c> { a = MatMul(w, x) y = Mul(a, c) }",
        after=None,
        because="'w' is not constant",
    )


def test_batched_weight_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[2,N,3] x) => (float[2,N,5] y) <float[2,3,5] w, float[] c> { a = MatMul(x, w) y = Mul(a, c) }",
        after=None,
        because="not a matrix",
    )


def test_input_of_unknown_rank_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[M,3] x, int64[R] s) => (float y) <float[3,5] w, float[] c> "
        "{ r = Reshape(x, s) a = MatMul(r, w) y = Mul(a, c) }",
        after=None,
        because="rank of the input is not known",
    )


def test_empty_weight_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[N,0] x) => (float[N,5] y) <float[0,5] w, float[] c> { a = MatMul(x, w) y = Mul(a, c) }",
        after=None,
        because="empty",
    )


def test_result_used_elsewhere_stays() -> None:
    check(
        FoldAffine(),
        before=conv("Mul(a, c) z = Relu(a)", outs=", float[N,6,8,6] z"),
        after=None,
        because="'a' has other users",
    )


def test_overridable_constant_stays() -> None:
    check(
        FoldAffine(),
        before="g (float[N,1] x, float[1] c = {2}) => (float[N,1] y) <float[1,1] w = {3}> "
        "{ a = Gemm(x, w) y = Mul(a, c) }",
        after=None,
        because="'c' is not constant",
    )


def test_shared_weight() -> None:
    text = (
        "g (float[N,3] x) => (float[N,5] y, float[N,5] z) <float[3,5] w, float[5] b, float[] c> "
        "{ a = Gemm(x, w, b) y = Mul(a, c) z = Gemm(x, w, b) }"
    )
    check(FoldAffine(max_copy=59), before=text, after=None, because="shared")
    module = check(
        FoldAffine(),
        before=text,
        after="g (float[N,3] x) => (float[N,5] y, float[N,5] z) { y = Gemm(x, w1, b1) z = Gemm(x, w, b) }",
    )
    assert {"w", "b"} <= set(module.graph.initializers)


def test_float16_range() -> None:
    text = (
        "g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float16[5] b, float16[] c> "
        "{ a = Gemm(x, w, b) y = Mul(a, c) }"
    )
    check(FoldAffine(), before=text, after=None, because="leave the range", constants={"w": 100, "c": 1000})
    check(FoldAffine(), before=text, after=None, because="vanish", constants={"w": 0.01, "c": 1e-4})
    check(FoldAffine(), before=text, after=None, because="bias leaves", constants={"b": 6e4, "c": 2})
    check(
        FoldAffine(),
        before=text,
        after="g (float16[N,3] x) => (float16[N,5] y) { y = Gemm(x, w1, b1) }",
        constants={"c": 0.1},
    )


def test_dead_channels_of_float16_do_not_stop_it() -> None:
    w = np.ones((3, 5))
    w[:, 2] = 0
    check(
        FoldAffine(),
        before="g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float16[] c> "
        "{ a = MatMul(x, w) y = Mul(a, c) }",
        after="g (float16[N,3] x) => (float16[N,5] y) { y = MatMul(x, w1) }",
        constants={"w": w, "c": 0.1},
    )


# -- algebra ---------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    group=st.integers(1, 3),
    ins=st.integers(1, 3),
    outs=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 2), min_size=1, max_size=2),
    full=st.booleans(),
    form=st.sampled_from([*FORMS, "Neg(a)"]),
    scalar=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_convolution(
    group: int, ins: int, outs: int, kernel: list[int], full: bool, form: str, scalar: bool, seed: int
) -> None:
    rank, m = len(kernel), group * outs
    names, sizes = ",".join("HW"[:rank]), ",".join(["4"] * rank)
    c = "1" if scalar else ",".join(map(str, ([1] if full else []) + [m] + [1] * rank))
    w = ",".join(map(str, [m, ins, *kernel]))
    head = f"g (float[2,{group * ins},{sizes}] x) => (float[2,{m},{names}] y)"
    check(
        FoldAffine(),
        before=f"{head} <float[{w}] w, float[{m}] b, float[{c}] cvar> "
        f"{{ a = Conv<group={group}>(x, w, b) y = {form.replace('c', 'cvar')} }}",
        after=f"{head} {{ y = Conv<group={group}>(x, w1, b1) }}",
        seed=seed,
    )
