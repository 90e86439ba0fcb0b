import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_batchnorm_forward import FoldBatchNormForward
from fcc.testing import check

BN = "a = BatchNormalization<epsilon=0.1>(x, s, t, m, var)"
CENTRED = {"t": 0, "m": 0}


def stats(n: int) -> str:
    return ", ".join(f"float[{n}] {name}" for name in ("s", "t", "m", "var"))


def conv(attributes: str = "group=2", bias: str = ", b", rest: str = "", outs: str = "") -> str:
    return (
        f"g (float[N,4,8,8] x) => (float[N,6,H,W] y{outs}) <float[6,2,3,3] w, float[6] b, {stats(4)}> "
        f"{{ {BN} y = Conv<{attributes}>(a, w{bias}) {rest} }}"
    )


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("attributes", ["group=2", "group=2, pads=[0,0,0,0]", 'group=2, auto_pad="VALID"'])
def test_conv_without_padding(bias: str, attributes: str) -> None:
    check(
        FoldBatchNormForward(),
        before=conv(attributes, bias),
        after=f"g (float[N,4,8,8] x) => (float[N,6,6,6] y) {{ y = Conv<{attributes}>(x, w1, b1) }}",
        constants={"s": np.array([1, -2, 0, 3])},
    )


@pytest.mark.parametrize("attributes", ["group=2, pads=[0,0,0,1]", 'group=2, auto_pad="SAME_UPPER"'])
def test_conv_with_padding_takes_a_scale_only(attributes: str) -> None:
    check(FoldBatchNormForward(), before=conv(attributes), after=None, because="pads with zeros")
    size = "8,8" if "SAME" in attributes else "6,7"
    check(
        FoldBatchNormForward(),
        before=conv(attributes),
        after=f"g (float[N,4,8,8] x) => (float[N,6,{size}] y) {{ y = Conv<{attributes}>(x, w1, b) }}",
        constants=CENTRED,
    )


def test_conv_transpose_takes_a_scale_only() -> None:
    text = (
        f"g (float[N,4,5,5] x) => (float[N,3,H,W] y) <float[4,3,3,3] w, {stats(4)}> "
        f"{{ {BN} y = ConvTranspose<strides=[2,2]>(a, w) }}"
    )
    check(FoldBatchNormForward(), before=text, after=None, because="varying number of times")
    check(
        FoldBatchNormForward(),
        before=text,
        after="g (float[N,4,5,5] x) => (float[N,3,11,11] y) { y = ConvTranspose<strides=[2,2]>(x, w1) }",
        constants=CENTRED,
    )


def test_scale_alone_keeps_the_bias_of_a_gemm() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[1,5] b, {stats(3)}> "
        f"{{ {BN} y = Gemm<beta=0.5>(a, w, b) }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm<beta=0.5>(x, w1, b) }",
        constants=CENTRED,
    )


def test_gemm_of_a_transposed_input_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3] x) => (float[3,5] y) <float[3,5] w, {stats(3)}> {{ {BN} y = Gemm<transA=1>(a, w) }}",
        after=None,
        because="works along axis 1",
    )


def test_gemm_with_a_full_bias_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[2,3] x) => (float[2,5] y) <float[3,5] w, float[2,5] b, {stats(3)}> "
        f"{{ {BN} y = Gemm(a, w, b) }}",
        after=None,
        because="varies along other axes",
    )


def test_matmul_becomes_gemm() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, {stats(3)}> {{ {BN} y = MatMul(a, w) }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_matmul_and_add() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[5] b, {stats(3)}> "
        f"{{ {BN} p = MatMul(a, w) y = Add(b, p) }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_matmul_and_an_add_that_is_no_bias() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[2,3] x) => (float[2,5] y) <float[3,5] w, float[2,5] b, {stats(3)}> "
        f"{{ {BN} p = MatMul(a, w) y = Add(p, b) }}",
        after="g (float[2,3] x) => (float[2,5] y) { p = Gemm(x, w1, b1) y = Add(p, b) }",
    )


def test_matmul_of_rank_3_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3,3] x) => (float[N,3,5] y) <float[3,5] w, {stats(3)}> {{ {BN} y = MatMul(a, w) }}",
        after=None,
        because="works along axis 1",
    )


# -- through a reshape to a matrix -----------------------------------------------------------------------------------
FLAT = f"g (float[N,3,2,2] x) => (float[N,5] y) <int64[2] shape, float[12,5] w, float[5] b, {stats(3)}> {{ {BN} "


@pytest.mark.parametrize(
    "view", ["Flatten(a)", "Flatten<axis=-3>(a)", "Reshape(a, shape)"], ids=["flatten", "negative", "reshape"]
)
def test_gemm_behind_a_flattened_image(view: str) -> None:
    check(
        FoldBatchNormForward(),
        before=f"{FLAT} f = {view} y = Gemm(f, w, b) }}",
        after=f"g (float[N,3,2,2] x) => (float[N,5] y) {{ f = {view.replace('(a', '(x')} y = Gemm(f, w1, b1) }}",
        constants={"shape": np.array([-1, 12])},
    )


def test_flatten_along_another_axis_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[2,3,4] x) => (float[6,5] y) <float[4,5] w, {stats(3)}> "
        f"{{ {BN} f = Flatten<axis=2>(a) y = Gemm(f, w) }}",
        after=None,
        because="does not keep the batch axis",
    )


def test_flatten_of_unknown_sizes_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3,H] x) => (float[N,5] y) <float[6,5] w, {stats(3)}> "
        f"{{ {BN} f = Flatten(a) y = Gemm(f, w) }}",
        after=None,
        because="does not keep the batch axis",
    )


def test_reshape_that_mixes_samples_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3,H] x) => (float[M,5] y) <int64[2] shape, float[3,5] w, {stats(3)}> "
        f"{{ {BN} f = Reshape(a, shape) y = Gemm(f, w) }}",
        after=None,
        because="does not keep the batch axis",
        constants={"shape": np.array([-1, 3])},
    )


def test_reshape_to_more_axes_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3,4] x) => (float[N,3,2,5] y) <int64[4] shape, float[2,5] w, {stats(3)}> "
        f"{{ {BN} f = Reshape(a, shape) y = MatMul(f, w) }}",
        after=None,
        because="takes no matrix",
        constants={"shape": np.array([0, 3, 2, 2])},
    )


def test_flattened_image_used_elsewhere_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"{FLAT.replace('y)', 'y, float[N,12] f)')} f = Flatten(a) y = Gemm(f, w, b) }}",
        after=None,
        because="'f' is a graph output",
    )


def test_relu_in_between_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"{FLAT} r = Relu(a) f = Flatten(r) y = Gemm(f, w, b) }}",
        after=None,
        because="found Relu",
    )


# -- several users ---------------------------------------------------------------------------------------------------
def test_all_users_absorb() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[N,3] x) => (float[N,5] y, float[N,5] z, float[N,5] u) <float[3,5] w, float[5] b, {stats(3)}> "
        f"{{ {BN} y = Gemm(a, w) f = Flatten(a) z = Gemm(f, w, b) p = MatMul(a, w) u = Add(p, b) }}",
        after="g (float[N,3] x) => (float[N,5] y, float[N,5] z, float[N,5] u) "
        "{ y = Gemm(x, w1, b1) f = Flatten(x) z = Gemm(f, w2, b2) u = Gemm(x, w3, b3) }",
    )


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("z = Relu(a)", "cannot absorb it: Relu is no linear op"),
        ("z = Gemm(a, a)", "is not constant"),
        ("z = Gemm<transB=1>(a, v, a)", "cannot take part"),
        ("f = Flatten(a) z = Neg(f)", "Neg is no linear op"),
        ("z = Identity(x) u = Gemm<transA=1>(a, v)", "works along axis 1"),
    ],
)
def test_one_user_that_cannot_absorb(user: str, reason: str) -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (float[3,3] x) => (float[3,3] y, float[3,3] z) <float[3,3] w, float[3,3] v, {stats(3)}> "
        f"{{ {BN} {user} y = Gemm(a, w) }}",
        after=None,
        because=reason,
    )


def test_result_that_is_a_graph_output_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=conv(outs=", float[N,4,8,8] a"),
        after=None,
        because="'a' is a graph output",
    )


def test_user_in_a_subgraph_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=f"g (bool c, float[2,3] x) => (float[2,5] y, float[2,5] z) <float[3,5] w, {stats(3)}> "
        f"{{ {BN} y = Gemm(a, w) z = If(c) <then_branch = p () => (float[2,5] q) {{ q = Gemm(a, w) }}, "
        "else_branch = r () => (float[2,5] u) { u = Gemm(x, w) }> }",
        after=None,
        because="subgraph",
    )


# -- conditions ------------------------------------------------------------------------------------------------------
def test_training_mode_stays() -> None:
    check(
        FoldBatchNormForward(),
        before=conv().replace("a = Batch", "a, r1, r2 = Batch").replace("epsilon=0.1", "training_mode=1"),
        after=None,
        because="training-mode",
    )


def test_large_shared_weight_stays() -> None:
    text = (
        f"g (float[N,3] x) => (float[N,5] y, float[N,5] z) <float[3,5] w, {stats(3)}> "
        f"{{ {BN} y = Gemm(a, w) z = Gemm(x, w) }}"
    )
    check(FoldBatchNormForward(max_copy=59), before=text, after=None, because="shared")
    module = check(
        FoldBatchNormForward(),
        before=text,
        after="g (float[N,3] x) => (float[N,5] y, float[N,5] z) { y = Gemm(x, w1, b1) z = Gemm(x, w) }",
    )
    assert "w" in module.graph.initializers


def test_overridable_statistics_stay() -> None:
    check(
        FoldBatchNormForward(),
        before="g (float[N,1] x, float[1] s = {2}) => (float[N,1] y) "
        "<float[1] t = {1}, float[1] m = {1}, float[1] var = {1}, float[1,1] w = {3}> "
        "{ a = BatchNormalization(x, s, t, m, var) y = Gemm(a, w) }",
        after=None,
        because="'scale' is not constant",
    )


def test_float16_overflow_stays() -> None:
    text = (
        "g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float[3] s, float[3] t, float[3] m, float[3] var> "
        f"{{ {BN} y = Gemm(a, w) }}"
    )
    check(FoldBatchNormForward(), before=text, after=None, because="leave the range", constants={**CENTRED, "s": 1e6})
    check(FoldBatchNormForward(), before=text, after=None, because="bias leaves the range", constants={"t": 1e6})


# -- algebra ---------------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(
    group=st.integers(1, 3),
    ins=st.integers(1, 3),
    outs=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_convolution(
    group: int, ins: int, outs: int, kernel: list[int], stride: int, dilation: int, bias: bool, seed: int
) -> None:
    rank, m = len(kernel), group * outs
    names, sizes = ",".join("HW"[:rank]), ",".join(["7"] * rank)
    attributes = (
        f"group={group}, strides=[{','.join([str(stride)] * rank)}], dilations=[{','.join([str(dilation)] * rank)}]"
    )
    head = f"g (float[2,{group * ins},{sizes}] x) => (float[2,{m},{names}] y)"
    w = ",".join(map(str, [m, ins, *kernel]))
    check(
        FoldBatchNormForward(),
        before=f"{head} <float[{w}] w, float[{m}] b, {stats(group * ins)}> "
        f"{{ {BN} y = Conv<{attributes}>(a, w{', b' if bias else ''}) }}",
        after=f"{head} {{ y = Conv<{attributes}>(x, w1, b1) }}",
        seed=seed,
    )


@settings(max_examples=30, deadline=None)
@given(
    alpha=st.sampled_from([1.0, -0.5, 0.0]),
    beta=st.sampled_from([1.0, 0.0, 2.5]),
    trans=st.booleans(),
    channels=st.integers(1, 3),
    spatial=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 4),
    bias=st.sampled_from(["", "1", "N", "1,N"]),
    seed=st.integers(0, 1000),
)
def test_every_flatten_and_gemm(
    alpha: float, beta: float, trans: bool, channels: int, spatial: list[int], n: int, bias: str, seed: int
) -> None:
    k = channels * int(np.prod(spatial))
    w = f"{n},{k}" if trans else f"{k},{n}"
    head = f"g (float[{','.join(map(str, [2, channels, *spatial]))}] x) => (float[2,{n}] y)"
    attributes = f"alpha={alpha}, transB={int(trans)}"
    check(
        FoldBatchNormForward(),
        before=f"{head} <float[{w}] w, float[{bias.replace('N', str(n))}] b, {stats(channels)}> "
        f"{{ {BN} f = Flatten(a) y = Gemm<{attributes}, beta={beta}>(f, w, b) }}",
        after=f"{head} {{ f = Flatten(x) y = Gemm<{attributes}>(f, w1, b1) }}",
        seed=seed,
    )
