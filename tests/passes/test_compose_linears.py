import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.frontend import read
from fcc.passes._layers import layer_of
from fcc.passes.compose_linears import ComposeLinears
from fcc.testing import check, model_from

P = ComposeLinears()


# -- spellings -------------------------------------------------------------------------------------------------------
def test_gemm_after_gemm() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[5,6] v, float[5] a, float[5,2] w, float[1,2] b> "
        "{ t = Gemm<transB=1, alpha=0.5, beta=2.0>(x, v, a) y = Gemm<beta=-1.0>(t, w, b) }",
        after="g (float[N,6] x) => (float[N,2] y) { y = Gemm(x, w1, b1) }",
    )


def test_gemm_without_biases_keeps_none() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] v, float[5,2] w> { t = Gemm(x, v) y = Gemm(t, w) }",
        after="g (float[N,6] x) => (float[N,2] y) { y = Gemm(x, w1) }",
    )


@pytest.mark.parametrize("rank", ["N,6", "N,T,6", "2,N,T,6"])
def test_matmul_after_matmul_with_biases(rank: str) -> None:
    out = rank[:-1] + "2"
    check(
        P,
        before=f"g (float[{rank}] x) => (float[{out}] y) <float[6,5] v, float[5] a, float[5,2] w, float[2] b> "
        "{ t = MatMul(x, v) u = Add(a, t) r = MatMul(u, w) y = Add(r, b) }",
        after=f"g (float[{rank}] x) => (float[{out}] y) {{ r = MatMul(x, w1) y = Add(r, b1) }}",
    )


def test_matmul_and_gemm_become_a_gemm() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] v, float[5,2] w, float[2] b> "
        "{ t = MatMul(x, v) y = Gemm(t, w, b) }",
        after="g (float[N,6] x) => (float[N,2] y) { y = Gemm(x, w1, b1) }",
    )


def test_bias_of_zeros_is_left_out() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] v, float[5] a, float[5,2] w> "
        "{ t = Gemm(x, v, a) y = Gemm(t, w) }",
        after="g (float[N,6] x) => (float[N,2] y) { y = Gemm(x, w1) }",
        constants={"a": 0.0},
    )


def test_three_in_a_row() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] u, float[5,4] v, float[4,2] w, float[5] a> "
        "{ s = Gemm(x, u, a) t = Gemm(s, v) y = Gemm(t, w) }",
        after="g (float[N,6] x) => (float[N,2] y) { y = Gemm(x, w1, b1) }",
    )


def test_one_by_one_after_strided_padded_conv() -> None:
    check(
        P,
        before="g (float[N,4,9,9] x) => (float[N,3,5,5] y) <float[8,4,3,3] v, float[8] a, float[3,8,1,1] w, float[3] b>"
        "{ t = Conv<strides=[2,2], pads=[1,1,1,1]>(x, v, a) y = Conv<kernel_shape=[1,1]>(t, w, b) }",
        after="g (float[N,4,9,9] x) => (float[N,3,5,5] y) { y = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1) }",
    )


def test_conv_after_one_by_one() -> None:
    check(
        P,
        before="g (float[N,2,9] x) => (float[N,3,4] y) <float[8,2,1] v, float[8] a, float[3,8,3] w, float[3] b>"
        "{ t = Conv(x, v, a) y = Conv<strides=[2]>(t, w, b) }",
        after="g (float[N,2,9] x) => (float[N,3,4] y) { y = Conv<strides=[2]>(x, w1, b1) }",
    )


def test_padded_conv_after_one_by_one_without_bias() -> None:
    check(
        P,
        before="g (float[N,2,9] x) => (float[N,3,9] y) <float[8,2,1] v, float[3,8,3] w, float[3] b>"
        "{ t = Conv(x, v) y = Conv<pads=[1,1]>(t, w, b) }",
        after="g (float[N,2,9] x) => (float[N,3,9] y) { y = Conv<pads=[1,1]>(x, w1, b1) }",
    )


def test_inside_a_branch() -> None:
    branch = "() => (float[N,2] {0}) {{ t{0} = Gemm(x, {1}) {0} = Gemm(t{0}, {2}) }}"
    then, other = branch.format("p", "v", "w"), branch.format("q", "v1", "w1")
    merged = "() => (float[N,2] {0}) {{ {0} = Gemm(x, {1}) }}"
    io = "g (float[N,6] x, bool c) => (float[N,2] y)"
    check(
        P,
        before=f"{io} <float[6,5] v, float[5,2] w, float[6,5] v1, float[5,2] w1> "
        f"{{ y = If(c) <then_branch = a {then}, else_branch = b {other}> }}",
        after=f"{io} {{ y = If(c) <then_branch = a {merged.format('p', 'm')}, else_branch = b {merged.format('q', 'n')}> }}",
    )


def test_value_of_the_outer_graph_stays() -> None:
    branch = "() => (float[N,2] {0}) {{ {0} = Gemm(t, {1}) }}"
    check(
        P,
        before="g (float[N,6] x, bool c) => (float[N,2] y) <float[6,5] v, float[5,2] w, float[5,2] u> { t = Gemm(x, v) "
        f"y = If(c) <then_branch = a {branch.format('p', 'w')}, else_branch = b {branch.format('q', 'u')}> }}",
        after=None,
    )


# -- refusals --------------------------------------------------------------------------------------------------------
GEMMS = "g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


@pytest.mark.parametrize(
    ("constants", "body", "outputs", "because"),
    [
        ("float[6,2] v, float[2,5] w", "t = Gemm(x, v) y = Gemm(t, w)", "float[N,5] y", "the composed weight has 30"),
        ("float[6,6] v", "t = Gemm(x, v) y = Gemm(t, v)", "float[N,6] y", "other users"),
        (
            "float[6,5] v, float[5] a, float[5,2] w",
            "t = Gemm(x, v, a) y = Gemm(t, w) z = Neg(v)",
            "float[N,2] y, float[6,5] z",
            "other users",
        ),
        (
            "float[6,5] v, float[5] a, float[5,2] w",
            "t = Gemm(x, v, a) y = Gemm(t, w) z = Neg(a)",
            "float[N,2] y, float[5] z",
            "other users",
        ),
        ("float[6,5] v, float[5,2] w", "t = Gemm(x, v, x2) y = Gemm(t, w)", "float[N,2] y", "the bias is not constant"),
    ],
)
def test_refusals_of_gemm(constants: str, body: str, outputs: str, because: str) -> None:
    inputs = "float[N,6] x, float[N,5] x2" if "x2" in body else "float[N,6] x"
    check(P, before=GEMMS.format(inputs=inputs, constants=constants, body=body, outputs=outputs), after=None,
          because=because)  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "more"), [("float[N,2] y, float[N,5] t", ""), ("float[N,2] y, float[N,5] z", "z = Neg(t)")]
)
def test_value_between_that_is_used_stays(outputs: str, more: str) -> None:
    check(
        P,
        before=f"g (float[N,6] x) => ({outputs}) <float[6,5] v, float[5,2] w> "
        f"{{ t = Gemm(x, v) y = Gemm(t, w) {more} }}",
        after=None,
    )


def test_activation_between_stays() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] v, float[5,2] w> "
        "{ t = Gemm(x, v) u = Relu(t) y = Gemm(u, w) }",
        after=None,
    )


def test_overridable_weight_stays() -> None:
    check(
        P,
        before="g (float[N,6] x, float[6,5] v = {" + ",".join("1" * 30) + "}) => (float[N,2] y) <float[5,2] w> "
        "{ t = Gemm(x, v) y = Gemm(t, w) }",
        after=None,
    )


@pytest.mark.parametrize(
    ("first", "second", "because"),
    [
        ("Conv<pads=[1,1]>", "Conv<pads=[1,1]>", "the second convolution pads"),
        ("Conv", 'Conv<auto_pad="SAME_UPPER">', "the second convolution pads"),
        ("Conv<strides=[2]>", "Conv", "neither convolution is 1x1"),
        ("Conv<pads=[1,0]>", "Conv", "neither convolution is 1x1"),
    ],
)
def test_refusals_of_conv_behind_one_by_one(first: str, second: str, because: str) -> None:
    if because.startswith("the second"):
        first = "Conv"
    check(
        P,
        before="g (float[N,2,12] x) => (float[N,3,L] y) <float[8,2,1] v, float[8] a, float[3,8,3] w>"
        f"{{ t = {first}(x, v, a) y = {second}(t, w) }}",
        after=None,
        because=because,
    )


def test_one_by_one_with_padding_adds_its_bias_alone_there() -> None:
    check(
        P,
        before="g (float[N,2,12] x) => (float[N,3,L] y) <float[8,2,3] v, float[3,8,1] w>"
        "{ t = Conv(x, v) y = Conv<pads=[1,1]>(t, w) }",
        after=None,
        because="neither convolution is 1x1",
    )


def test_grouped_conv_stays() -> None:
    check(
        P,
        before="g (float[N,4,12] x) => (float[N,2,12] y) <float[8,2,1] v, float[2,8,1] w>"
        "{ t = Conv<group=2>(x, v) y = Conv(t, w) }",
        after=None,
        because="the convolution is grouped",
    )


def test_parameters_must_fall() -> None:
    check(
        P,
        before="g (float[N,2] x) => (float[N,2] y) <float[2,1] v, float[1,2] w> { t = Gemm(x, v) y = Gemm(t, w) }",
        after=None,
        because="the composed weight has 4 elements, the two have 2 and 2",
    )


def test_multiplications_must_fall_too() -> None:
    check(
        P,
        before="g (float[1,5,1] x) => (float[1,3,59] y) <float[4,5,1] v, float[3,4,3] w>"
        "{ t = Conv(x, v) y = Conv<pads=[30,30]>(t, w) }",
        after=None,
        because="more multiplications",
    )


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv(x, c) y = MatMul(t, w)",
        "t = Add(x, x) y = MatMul(t, w)",
        "s = MatMul(x, v) t = Add(s, r) y = MatMul(t, w)",
        "s = MatMul(x, v) t = Add(r, s) y = MatMul(t, w)",
    ],
)
def test_what_is_no_layer_in_front_stays(body: str) -> None:
    check(
        P,
        before="g (float[N,6,6] x, float[N,6,6] r) => (float[N,6,2] y) <float[6,6,1] c, float[6,6] v, float[6,2] w> "
        f"{{ {body} }}",
        after=None,
    )


def test_overflow_of_the_composed_weight_stays() -> None:
    check(
        P,
        before="g (float[N,6] x) => (float[N,2] y) <float[6,5] v, float[5,2] w> { t = Gemm(x, v) y = Gemm(t, w) }",
        after=None,
        because="not finite",
        constants={"v": 1e30, "w": 1e30},
    )


def test_integers_stay() -> None:
    check(
        P,
        before="g (int32[N,6] x) => (int32[N,2] y) <int32[6,5] v, int32[5,2] w> { t = MatMul(x, v) y = MatMul(t, w) }",
        after=None,
    )


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_dense_pairs(data: st.DataObject) -> None:
    d = data.draw
    kind = d(st.sampled_from(["float", "double"]))
    k, m, n = d(st.integers(1, 5)), d(st.integers(1, 6)), d(st.integers(1, 5))
    rank = d(st.sampled_from(["N", "0", "1", "N,T", "2,1"]))
    lines, constants = [], []
    value, size = "x", k
    for i, out in enumerate((m, n)):
        form = d(st.sampled_from(["Gemm", "GemmT", "MatMul", "Add"])) if "," not in rank else d(
            st.sampled_from(["MatMul", "Add"]))  # fmt: skip
        to = "y" if i else "t"
        trans = form == "GemmT"
        constants.append(f"{kind}[{out},{size}] w{i}" if trans else f"{kind}[{size},{out}] w{i}")
        if form.startswith("Gemm"):
            bias = d(st.sampled_from(["", f", b{i}"]))
            if bias:
                constants.append(f"{kind}[{d(st.sampled_from([str(out), '1', f'1,{out}', '']))}] b{i}")
            alpha, beta = (d(st.sampled_from([1.0, 0.5, -2.0])) for _ in range(2))
            lines.append(f"{to} = Gemm<transB={int(trans)}, alpha={alpha}, beta={beta}>({value}, w{i}{bias})")
        elif form == "MatMul":
            lines.append(f"{to} = MatMul({value}, w{i})")
        else:
            constants.append(f"{kind}[{out}] b{i}")
            order = d(st.sampled_from([f"p{i}, b{i}", f"b{i}, p{i}"]))
            lines.append(f"p{i} = MatMul({value}, w{i}) {to} = Add({order})")
        value, size = "t", out
    text = f"g ({kind}[{rank},{k}] x) => ({kind}[{rank},{n}] y) <{', '.join(constants)}> {{ {' '.join(lines)} }}"
    pays = k * n < k * m + m * n
    both_gemm = any("Gemm" in line for line in lines)
    has_bias = "b0" in text.split("{")[1] or "b1" in text.split("{")[1]
    extra = ", b" if has_bias else ""
    if both_gemm:
        body = f"y = Gemm(x, w{extra})"
    else:
        body = "p = MatMul(x, w) y = Add(p, b)" if has_bias else "y = MatMul(x, w)"
    after = f"g ({kind}[{rank},{k}] x) => ({kind}[{rank},{n}] y) {{ {body} }}"
    check(P, before=text, after=after if pays else None, seed=d(st.integers(0, 99)))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_conv_pairs(data: st.DataObject) -> None:
    d = data.draw
    c, m, n, taps = d(st.integers(1, 4)), d(st.integers(1, 5)), d(st.integers(1, 4)), d(st.integers(1, 3))
    pad, stride, behind = d(st.integers(0, 1)), d(st.integers(1, 2)), d(st.booleans())
    a, b = (d(st.booleans()) for _ in range(2))
    wide, thin = f"Conv<pads=[{pad},0], strides=[{stride}]>", "Conv"
    kernels = (taps, 1) if behind else (1, taps)
    nodes = (wide, thin) if behind else (thin, wide)
    length = (7 + pad - taps) // stride + 1
    io = f"g (float[N,{c},7] x) => (float[N,{n},{length}] y)"
    text = (
        f"{io} <float[{m},{c},{kernels[0]}] v, float[{n},{m},{kernels[1]}] w, float[{m}] a, float[{n}] b> "
        f"{{ t = {nodes[0]}(x, v{', a' if a else ''}) y = {nodes[1]}(t, w{', b' if b else ''}) }}"
    )
    if not a:
        text = text.replace(f", float[{m}] a", "")
    if not b:
        text = text.replace(f", float[{n}] b", "")
    composed, first, second = c * n * taps, c * m * kernels[0], m * n * kernels[1]
    here = length if behind else 7
    pays = composed < first + second and composed * length < first * here + second * length
    legal = behind or (taps == 1 == stride and not pad) or not (a and pad)
    after = f"{io} {{ y = {wide}(x, w1{', b1' if a or b else ''}) }}"
    if taps == 1 and pad == 0 and stride == 1:
        after = after.replace(wide, "Conv" if not behind else wide)
    check(P, before=text, after=after if pays and legal else None, seed=d(st.integers(0, 99)))


def test_composition_is_rounded_once() -> None:
    module = check(
        P,
        before="g (float[N,3] x) => (float[N,1] y) <float[3,4] v, float[4,1] w> { t = MatMul(x, v) y = MatMul(t, w) }",
        after="g (float[N,3] x) => (float[N,1] y) { y = MatMul(x, w1) }",
        constants={"v": np.full((3, 4), 1 / 3), "w": np.full((4, 1), 3.0)},
    )
    (weight,) = module.graph.initializers.values()
    third = np.float64(np.float32(1 / 3))
    assert weight.const_value is not None
    assert np.array_equal(weight.const_value.numpy(), np.full((3, 1), third * 12, np.float32))


@pytest.mark.parametrize(
    ("node", "because"),
    [
        ("com.microsoft.Conv(x, w)", "no dense layer"),
        ("Relu(x)", "no dense layer"),
        ("Conv<group=2>(x, w2)", "grouped"),
        ("Conv(x, x)", "not constant"),
        ("MatMul(w, w)", "not a matrix"),
        ("Conv(x, w, x)", "one of its constants"),
    ],
)
def test_what_is_no_layer(node: str, because: str) -> None:
    text = f"g (float[2,2,3] x) => (float[A,B,C] y) <float[2,2,1] w, float[2,1,1] w2> {{ y = {node} }}"
    (found,) = (layer_of(n) for n in read(model_from(text)).graph)
    assert isinstance(found, str)
    assert because in found
