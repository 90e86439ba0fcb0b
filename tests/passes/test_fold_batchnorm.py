import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.passes.fold_batchnorm import FoldBatchNorm
from fcc.testing import check

STATS = "float[{0}] s, float[{0}] t, float[{0}] m, float[{0}] var"
S6, S5 = STATS.format(6), STATS.format(5)
BN = "y = BatchNormalization<epsilon=0.1>(a, s, t, m, var)"


def conv(
    attributes: str = "group=2, pads=[1,1,1,1], strides=[2,1]", bias: bool = True, bn: str = BN, outs: str = ""
) -> str:
    b = ", b" if bias else ""
    return (
        f"g (float[N,4,8,8] x) => (float[N,6,H,W] y{outs}) <float[6,2,3,3] w, float[6] b, {S6}> "
        f"{{ a = Conv<{attributes}>(x, w{b}) {bn} }}"
    )


# -- linear ops ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
def test_conv_with_groups(bias: bool) -> None:
    check(
        FoldBatchNorm(),
        before=conv(bias=bias),
        after="g (float[N,4,8,8] x) => (float[N,6,4,8] y) "
        "{ y = Conv<group=2, pads=[1,1,1,1], strides=[2,1]>(x, w1, b1) }",
        constants={"s": np.array([1, -2, 0, 3, 0.5, 1])},
    )


def test_conv_without_shift_gets_no_bias() -> None:
    check(
        FoldBatchNorm(),
        before=conv(bias=False),
        after="g (float[N,4,8,8] x) => (float[N,6,4,8] y) { y = Conv<group=2, pads=[1,1,1,1], strides=[2,1]>(x, w1) }",
        constants={"t": 0, "m": 0},
    )


def test_conv_only_shifted_keeps_its_weight() -> None:
    module = check(
        FoldBatchNorm(),
        before=conv().replace("epsilon=0.1", "epsilon=0.0"),
        after="g (float[N,4,8,8] x) => (float[N,6,4,8] y) "
        "{ y = Conv<group=2, pads=[1,1,1,1], strides=[2,1]>(x, w1, b1) }",
        constants={"s": 1, "var": 1},
    )
    assert "w" in module.graph.initializers


@pytest.mark.parametrize("shape", ["", "1", "5", "1,5", "1,1"])
@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_with_every_form_of_row_bias(shape: str, trans: int) -> None:
    w = "5,3" if trans else "3,5"
    check(
        FoldBatchNorm(),
        before=f"g (float[3,N] x) => (float[N,5] y) <float[{w}] w, float[{shape}] b, {S5}> "
        f"{{ a = Gemm<alpha=0.5, beta=-2.0, transA=1, transB={trans}>(x, w, b) {BN} }}",
        after="g (float[3,N] x) => (float[N,5] y) "
        f"{{ y = Gemm<alpha=0.5, transA=1{', transB=1' if trans else ', transB=0'}>(x, w1, b1) }}",
    )


def test_gemm_without_bias() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, {S5}> {{ a = Gemm(x, w) {BN} }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_gemm_with_a_column_bias_stays() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[4,3] x) => (float[4,5] y) <float[3,5] w, float[4,1] b, {S5}> {{ a = Gemm(x, w, b) {BN} }}",
        after=None,
        because="varies along other axes",
    )


def test_gemm_with_a_computed_bias_stays() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[4,3] x, float[5] b) => (float[4,5] y) <float[3,5] w, {S5}> {{ a = Gemm(x, w, b) {BN} }}",
        after=None,
        because="'b' is not constant",
    )


def test_matmul_becomes_gemm() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, {S5}> {{ a = MatMul(x, w) {BN} }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_matmul_without_shift_stays_matmul() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, {S5}> {{ a = MatMul(x, w) {BN} }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = MatMul(x, w1) }",
        constants={"t": 0, "m": 0},
    )


@pytest.mark.parametrize("add", ["Add(p, b)", "Add(b, p)"])
def test_matmul_and_add(add: str) -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[5] b, {S5}> "
        f"{{ p = MatMul(x, w) a = {add} {BN} }}",
        after="g (float[N,3] x) => (float[N,5] y) { y = Gemm(x, w1, b1) }",
    )


def test_matmul_of_rank_3_stays() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,5,3] x) => (float[N,5,5] y) <float[3,5] w, {S5}> {{ a = MatMul(x, w) {BN} }}",
        after=None,
        because="works along axis 1",
    )


def test_float16_matmul_needs_a_target_with_such_a_gemm() -> None:
    text = (
        "g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float16[5] s, float16[5] t, float16[5] m, "
        f"float16[5] var> {{ a = MatMul(x, w) {BN} }}"
    )
    check(FoldBatchNorm(), before=text, after=None, because="cannot become a Gemm")
    check(
        FoldBatchNorm(),
        before=text,
        after="g (float16[N,3] x) => (float16[N,5] y) { y = Gemm(x, w1, b1) }",
        target="cuda",
    )


# -- conditions of BatchNormalization --------------------------------------------------------------------------------
def test_training_mode_stays() -> None:
    check(
        FoldBatchNorm(),
        before=conv(bn="y, rm, rv = BatchNormalization<training_mode=1>(a, s, t, m, var)"),
        after=None,
        because="training-mode",
    )


def test_training_mode_of_one_output_stays() -> None:
    check(
        FoldBatchNorm(),
        before=conv(bn=BN.replace("epsilon=0.1", "training_mode=1")),
        after=None,
        because="training-mode",
    )


def test_training_outputs_of_old_opsets_stay() -> None:
    text = conv(bn="y, rm, rv, sm, sv = BatchNormalization(a, s, t, m, var)")
    check(FoldBatchNorm(), before=text, after=None, because="training-mode", opset=13)


def test_training_outputs_in_use_stay() -> None:
    bn = "y, rm, rv = BatchNormalization<training_mode=1>(a, s, t, m, var)"
    check(
        FoldBatchNorm(), before=conv(bn=bn, outs=", float[6] rm"), after=None, because="output 1 of BatchNormalization"
    )


@pytest.mark.parametrize(
    ("constants", "reason"),
    [
        ({"var": -0.1}, "not positive"),
        ({"var": np.array([1, 1, np.nan, 1, 1, 1])}, "not positive"),
        ({"var": np.inf}, "not finite"),
        ({"s": np.inf}, "not finite"),
        ({"m": np.nan}, "not finite"),
        ({"s": 1e30, "var": -0.1 + 1e-8, "w": 1e30}, "leave the range of FLOAT"),
        ({"b": 3e38, "s": 100}, "folded bias leaves the range"),
        ({"w": np.nan}, "NaN or infinity"),
        ({"w": -3e38, "s": 10}, "leave the range of FLOAT"),
    ],
)
def test_numbers_that_cannot_be_folded(constants: dict[str, object], reason: str) -> None:
    check(FoldBatchNorm(), before=conv(), after=None, because=reason, constants=constants)


def test_statistics_of_another_size_stay() -> None:
    text = "g (float[N,3] x) => (float[N,5] y) <float[3,5] w, float[1] s, float[1] t, float[1] m, float[1] var>"
    check(FoldBatchNorm(), before=f"{text} {{ a = Gemm(x, w) {BN} }}", after=None, because="no vectors of 5 channels")


@pytest.mark.parametrize("name", ["w", "s", "var", "b"])
def test_overridable_initializers_stay(name: str) -> None:
    kinds = {
        "w": "float[1,1,1,1]",
        "s": "float[1]",
        "t": "float[1]",
        "m": "float[1]",
        "var": "float[1]",
        "b": "float[1]",
    }
    kind = kinds.pop(name)
    rest = ", ".join(f"{k} {n} = {{2}}" for n, k in kinds.items())
    check(
        FoldBatchNorm(),
        before=f"g (float[N,1,4,4] x, {kind} {name} = {{2}}) => (float[N,1,4,4] y) <{rest}> "
        f"{{ a = Conv(x, w, b) {BN} }}",
        after=None,
        because="is not constant",
    )


def test_result_used_elsewhere_stays() -> None:
    check(FoldBatchNorm(), before=conv(bn=f"{BN} z = Relu(a)", outs=", float[N,6,H,W] z"), after=None, because="'a'")


def test_result_that_is_a_graph_output_stays() -> None:
    check(FoldBatchNorm(), before=conv(outs=", float[N,6,H,W] a"), after=None, because="graph output")


def test_computed_weight_stays() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (float[N,3] x, float[3,5] w) => (float[N,5] y) <{S5}> {{ a = Gemm(x, w) {BN} }}",
        after=None,
        because="'w' is not constant",
    )


# -- weights ---------------------------------------------------------------------------------------------------------
SHARED = (
    f"g (float[N,3] x) => (float[N,5] y, float[N,5] z) <float[3,5] w, {S5}> "
    "{ a = Gemm(x, w) y = BatchNormalization(a, s, t, m, var) z = Gemm(x, w) }"
)


def test_shared_weight_is_copied() -> None:
    module = check(
        FoldBatchNorm(),
        before=SHARED,
        after="g (float[N,3] x) => (float[N,5] y, float[N,5] z) { y = Gemm(x, w1, b1) z = Gemm(x, w) }",
    )
    assert "w" in module.graph.initializers


def test_large_shared_weight_stays() -> None:
    check(FoldBatchNorm(max_copy=59), before=SHARED, after=None, because="shared")


def test_two_layers_that_share_a_weight_both_fold() -> None:
    check(
        FoldBatchNorm(),
        before=SHARED.replace("z = Gemm(x, w)", "c = Gemm(x, w) z = BatchNormalization(c, s, m, t, var)"),
        after="g (float[N,3] x) => (float[N,5] y, float[N,5] z) { y = Gemm(x, w1, b1) z = Gemm(x, w2, b2) }",
    )


def test_weights_captured_by_a_subgraph() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (bool c, float[2,3] x) => (float[2,5] y) <float[3,5] w, {S5}> {{ y = If(c) <"
        "then_branch = p () => (float[2,5] q) { a = Gemm(x, w) q = BatchNormalization(a, s, t, m, var) }, "
        "else_branch = r () => (float[2,5] u) { u = Gemm(x, w) }> }",
        after="g (bool c, float[2,3] x) => (float[2,5] y) { y = If(c) <"
        "then_branch = p () => (float[2,5] q) { q = Gemm(x, w1, b1) }, "
        "else_branch = r () => (float[2,5] u) { u = Gemm(x, w) }> }",
    )


def test_result_captured_by_a_subgraph_stays() -> None:
    check(
        FoldBatchNorm(),
        before=f"g (bool c, float[2,3] x) => (float[2,5] y) <float[3,5] w, {S5}> {{ a = Gemm(x, w) y = If(c) <"
        "then_branch = p () => (float[2,5] q) { q = BatchNormalization(a, s, t, m, var) }, "
        "else_branch = r () => (float[2,5] u) { u = Neg(a) }> }",
        after=None,
        because="across a subgraph border",
    )


def test_large_weights_are_computed_when_saved() -> None:
    module = check(
        FoldBatchNorm(),
        before="g (float[N,512] x) => (float[N,600] y) <float[512,600] w, float[600] s, float[600] t, float[600] m, "
        "float[600] var> { a = Gemm(x, w) y = BatchNormalization(a, s, t, m, var) }",
        after="g (float[N,512] x) => (float[N,600] y) { y = Gemm(x, w1, b1) }",
    )
    weight = next(iter(module.nodes())).inputs[1]
    assert weight is not None
    assert isinstance(weight.const_value, ir.LazyTensor)


def test_weight_that_does_not_fit_its_groups_stays() -> None:
    check(
        FoldBatchNorm(),
        before=conv().replace("group=2", "group=4").replace("float[N,6,H,W] y", "float y"),
        after=None,
        because="does not fit the groups",
    )


# -- element types ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "stats"), [("float16", "float"), ("float16", "float16"), ("double", "double"), ("bfloat16", "float")]
)
def test_element_types(kind: str, stats: str) -> None:
    check(
        FoldBatchNorm(),
        before=f"g ({kind}[N,3] x) => ({kind}[N,5] y) <{kind}[3,5] w, {kind}[5] b, "
        f"{S5.replace('float', stats)}> {{ a = Gemm(x, w, b) {BN} }}",
        after=f"g ({kind}[N,3] x) => ({kind}[N,5] y) {{ y = Gemm(x, w1, b1) }}",
    )


@pytest.mark.parametrize(("scale", "reason"), [(1e4, "leave the range of FLOAT16"), (1e-6, "vanish in FLOAT16")])
def test_float16_range(scale: float, reason: str) -> None:
    check(
        FoldBatchNorm(),
        before="g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float[5] s, float[5] t, float[5] m, "
        f"float[5] var> {{ a = Gemm(x, w) {BN} }}",
        after=None,
        because=reason,
        constants={"w": 10, "s": scale},
    )


HALF = (
    "g (float16[N,3] x) => (float16[N,5] y) <float16[3,5] w, float[5] s, float[5] t, float[5] m, float[5] var> "
    f"{{ a = Gemm(x, w) {BN} }}"
)
HALF_FOLDED = "g (float16[N,3] x) => (float16[N,5] y) { y = Gemm(x, w1, b1) }"


def test_zero_scale_of_a_channel_does_not_stop_float16() -> None:
    check(FoldBatchNorm(), before=HALF, after=HALF_FOLDED, constants={"s": np.array([1, 0, 1, 1, 1])})


def test_subnormal_channel_does_not_stop_float16_when_it_grows() -> None:
    constants = {"w": np.array([1, 1e-6, 1, 1, 1]), "s": 1.5, "var": 1}
    check(FoldBatchNorm(), before=HALF, after=HALF_FOLDED, constants=constants)


def test_subnormal_scale_of_float_is_folded() -> None:
    check(
        FoldBatchNorm(),
        before=HALF.replace("float16", "float"),
        after=HALF_FOLDED.replace("float16", "float"),
        constants={"s": 1e-39},
    )


def test_float16_matmul_and_add_stay_apart_without_such_a_gemm() -> None:
    check(
        FoldBatchNorm(),
        before=HALF.replace("s, float[5] t", "s, float16[5] b, float[5] t")
        .replace("Gemm(x, w)", "Add(p, b)")
        .replace("{ a", "{ p = MatMul(x, w) a"),
        after="g (float16[N,3] x) => (float16[N,5] y) { p = MatMul(x, w1) y = Add(p, b1) }",
    )


# -- algebra ---------------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(
    transposed=st.booleans(),
    group=st.integers(1, 3),
    ins=st.integers(1, 3),
    outs=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_convolution(
    transposed: bool, group: int, ins: int, outs: int, kernel: list[int], stride: int, pad: int, bias: bool, seed: int
) -> None:
    group = (
        1 if transposed else group
    )  # onnx.reference is wrong for a grouped ConvTranspose: test_fold_conv_transpose.py
    op, rank, channels = ("ConvTranspose" if transposed else "Conv"), len(kernel), group * outs
    w = [group * ins, outs, *kernel] if transposed else [channels, ins, *kernel]
    names = ",".join("HW"[:rank])
    pads = ",".join(str(min(pad, k - 1)) for k in [*kernel, *kernel])
    attributes = f"group={group}, strides=[{','.join([str(stride)] * rank)}], pads=[{pads}]"
    sizes = ",".join(["7"] * rank)
    check(
        FoldBatchNorm(),
        before=f"g (float[2,{group * ins},{sizes}] x) => (float[2,{channels},{names}] y) "
        f"<float[{','.join(map(str, w))}] w, float[{channels}] b, {STATS.format(channels)}> "
        f"{{ a = {op}<{attributes}>(x, w{', b' if bias else ''}) {BN} }}",
        after=f"g (float[2,{group * ins},{sizes}] x) => (float[2,{channels},{names}] y) "
        f"{{ y = {op}<{attributes}>(x, w1, b1) }}",
        seed=seed,
    )


@settings(max_examples=30, deadline=None)
@given(
    alpha=st.sampled_from([1.0, -0.5, 0.0]),
    beta=st.sampled_from([1.0, 0.0, 2.5]),
    trans=st.tuples(st.booleans(), st.booleans()),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.sampled_from(["", "1", "N", "1,N"]),
    seed=st.integers(0, 1000),
)
def test_every_gemm(
    alpha: float, beta: float, trans: tuple[bool, bool], size: tuple[int, int], bias: str, seed: int
) -> None:
    k, n = size
    x, w = f"{k},3" if trans[0] else f"3,{k}", f"{n},{k}" if trans[1] else f"{k},{n}"
    attributes = f"alpha={alpha}, transA={int(trans[0])}, transB={int(trans[1])}"
    check(
        FoldBatchNorm(),
        before=f"g (float[{x}] x) => (float[3,{n}] y) <float[{w}] w, float[{bias.replace('N', str(n))}] b, "
        f"{STATS.format(n)}> {{ a = Gemm<{attributes}, beta={beta}>(x, w, b) {BN} }}",
        after=f"g (float[{x}] x) => (float[3,{n}] y) {{ y = Gemm<{attributes}>(x, w1, b1) }}",
        seed=seed,
    )
