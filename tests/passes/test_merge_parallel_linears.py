import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.frontend import read
from fcc.passes.merge_parallel_linears import MergeParallelLinears
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

P = MergeParallelLinears()


# -- a Split ---------------------------------------------------------------------------------------------------------
def test_queries_keys_and_values() -> None:
    check(
        P,
        before="g (float[N,T,4] x) => (float[N,T,2] q, float[N,T,3] k, float[N,T,5] v) "
        "<float[4,2] wq, float[4,3] wk, float[4,5] wv, float[2] bq, float[3] bk, float[5] bv> "
        "{ a = MatMul(x, wq) q = Add(a, bq) b = MatMul(x, wk) k = Add(bk, b) c = MatMul(x, wv) v = Add(c, bv) }",
        after="g (float[N,T,4] x) => (float[N,T,2] q, float[N,T,3] k, float[N,T,5] v) "
        "{ t = MatMul(x, w) u = Add(t, b) q, k, v = Split<axis=2>(u, s) }",
    )


def test_gate_and_up_with_their_activations() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,3] y, float[N,5] z) "
        "<float[3,4] u, float[4,5] v, float[3] a, float[1,5] b> "
        "{ s = Gemm<transB=1, alpha=0.5>(x, u, a) y = Relu(s) t = Gemm<beta=2.0>(x, v, b) z = Relu(t) }",
        after="g (float[N,4] x) => (float[N,3] y, float[N,5] z) "
        "{ s = Gemm(x, w, b) r = Relu(s) y, z = Split<axis=1>(r, l) }",
    )


def test_layers_of_several_inputs_are_merged_input_by_input() -> None:
    io = "g (float[N,4] x, float[N,4] z) => (float[N,3] p, float[N,5] q, float[N,2] r, float[N,6] s)"
    declared = "float[4,3] t, float[4,5] u, float[4,2] v, float[4,6] w, float[3] a, float[5] b, float[2] c, float[6] d"
    check(
        P,
        before=f"{io} <{declared}> {{ p = Gemm(x, t, a) r = Gemm(z, v, c) q = Gemm(x, u, b) s = Gemm(z, w, d) }}",
        after=f"{io} {{ m = Gemm(x, g, e) p, q = Split<axis=1>(m, l) n = Gemm(z, h, f) r, s = Split<axis=1>(n, k) }}",
    )


def test_different_activations_stay_behind_the_split() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,3] y, float[N,5] z) "
        "<float[4,3] u, float[4,5] v, float[3] a, float[5] b> "
        "{ s = Gemm(x, u, a) y = Relu(s) t = Gemm(x, v, b) z = Sigmoid(t) }",
        after="g (float[N,4] x) => (float[N,3] y, float[N,5] z) "
        "{ r = Gemm(x, w, b) s, t = Split<axis=1>(r, l) y = Relu(s) z = Sigmoid(t) }",
    )


@pytest.mark.parametrize("after", ["Softmax({0})", "Add({0}, r)", "Clip({0}, low)"])
def test_what_is_no_elementwise_activation_stays_behind_the_split(after: str) -> None:
    io = "g (float[N,4] x, float[N,3] r, float low) => (float[N,3] y, float[N,3] z)"
    ends = f"y = {after.format('s')} z = {after.format('t')}"
    check(
        P,
        before=f"{io} <float[4,3] u, float[4,3] v, float[3] a, float[3] b> "
        f"{{ s = Gemm(x, u, a) t = Gemm(x, v, b) {ends} }}",
        after=f"{io} {{ m = Gemm(x, w, b) s, t = Split<axis=1>(m, l) {ends} }}",
    )


def test_activation_in_a_branch_stays_there() -> None:
    branch = "() => (float[N,3] {0}) {{ {0} = Relu({1}) }}"
    io = "g (float[N,4] x, bool c) => (float[N,3] y)"
    choose = f"y = If(c) <then_branch = f {branch.format('p', 's')}, else_branch = h {branch.format('q', 't')}>"
    check(
        P,
        before=f"{io} <float[4,3] u, float[4,3] v, float[3] a, float[3] b> "
        f"{{ s = Gemm(x, u, a) t = Gemm(x, v, b) {choose} }}",
        after=f"{io} {{ m = Gemm(x, w, b) s, t = Split<axis=1>(m, l) {choose} }}",
    )


def test_users_between_the_layers_stay_in_order() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,3] y, float[N,3] z) "
        "<float[4,3] u, float[4,3] v, float[3] a, float[3] b> "
        "{ y = Gemm(x, u, a) r = Neg(y) t = Gemm(x, v, b) z = Mul(r, t) }",
        after="g (float[N,4] x) => (float[N,3] y, float[N,3] z) "
        "{ m = Gemm(x, w, b) y, t = Split<axis=1>(m, l) r = Neg(y) z = Mul(r, t) }",
    )


# -- a Concat --------------------------------------------------------------------------------------------------------
def test_branches_of_an_inception_block() -> None:
    conv = "Conv<pads=[1,1,1,1], strides=[2,2]>"
    check(
        P,
        before="g (float[N,4,6,6] x) => (float[N,8,3,3] y) <float[3,4,3,3] u, float[5,4,3,3] v, float[3] a, float[5] b>"
        f"{{ s = {conv}(x, u, a) c = Relu(s) t = {conv}(x, v, b) d = Relu(t) y = Concat<axis=1>(d, c) }}",
        after=f"g (float[N,4,6,6] x) => (float[N,8,3,3] y) {{ s = {conv}(x, w, b) y = Relu(s) }}",
    )


def test_one_bias_alone() -> None:
    check(
        P,
        before="g (float[N,4,6] x) => (float[N,8,6] y) <float[3,4,1] u, float[5,4,1] v, float[5] b>"
        "{ s = Conv(x, u) t = Conv(x, v, b) y = Concat<axis=1>(s, t) }",
        after="g (float[N,4,6] x) => (float[N,8,6] y) { y = Conv(x, w, b) }",
    )


def test_neighbours_in_a_concat_with_others() -> None:
    check(
        P,
        before="g (float[N,4] x, float[N,2] z) => (float[N,19] y) "
        "<float[4,3] u, float[4,5] v, float[4,2] p, float[4,4] q, float[4,1] r> "
        "{ s = MatMul(x, u) t = MatMul(x, v) i = MatMul(x, p) j = MatMul(x, q) k = MatMul(x, r) n = Neg(z) o = Neg(z) "
        "y = Concat<axis=-1>(n, t, s, o, i, j, k) }",
        after="g (float[N,4] x, float[N,2] z) => (float[N,19] y) "
        "{ n = Neg(z) o = Neg(z) a = MatMul(x, u) b = MatMul(x, v) y = Concat<axis=-1>(n, a, o, b) }",
    )


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_concat_pays_on_every_target(target: str) -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,8] y) <float[4,3] u, float[4,5] v> "
        "{ s = MatMul(x, u) t = MatMul(x, v) y = Concat<axis=1>(s, t) }",
        after="g (float[N,4] x) => (float[N,8] y) { y = MatMul(x, w) }",
        target=target,
    )


# -- refusals --------------------------------------------------------------------------------------------------------
PAIR = "g (float[N,4] x{inputs}) => (float[N,3] y, float[N,3] z{outputs}) <{constants}> {{ {body} }}"
WEIGHTS = "float[4,3] u, float[4,3] v, float[3] a, float[3] b"
GEMMS = "y = Gemm(x, u, a) z = Gemm(x, v, b)"


@pytest.mark.parametrize(
    ("inputs", "outputs", "constants", "body", "because"),
    [
        ("", "", "float[4,3] u, float[4,3] v", "y = Gemm(x, u) z = Gemm(x, v)", "layers without a bias"),
        ("", "", "float[4,3] u, float[4,3] v, float[3] b", "y = Gemm(x, u) z = Gemm(x, v, b)", "without a bias"),
        ("", "", "float[4,3] u, float[3] a, float[3] b", "y = Gemm(x, u, a) z = Gemm(x, u, b)", "other users"),
        ("", "", "float[4,3] u, float[4,3] v, float[3] a", "y = Gemm(x, u, a) z = Gemm(x, v, a)", "other users"),
        ("", ", float[4,3] w", WEIGHTS, GEMMS + " w = Neg(u)", "other users"),
        (", float[3] c", "", WEIGHTS, "y = Gemm(x, u, a) z = Gemm(x, v, c)", ""),
        (", float[4,3] c", "", WEIGHTS, "y = Gemm(x, u, a) z = Gemm(x, c, b)", ""),
        (", float[N,4] c", "", WEIGHTS, "y = Gemm(x, u, a) z = Gemm(c, v, b)", ""),
        ("", "", WEIGHTS, "s = MatMul(x, u) y = Add(s, a) z = Gemm(x, v, b)", ""),
    ],
)
def test_pairs_that_stay(inputs: str, outputs: str, constants: str, body: str, because: str) -> None:
    text = PAIR.format(inputs=inputs, outputs=outputs, constants=constants, body=body)
    check(P, before=text, after=None, because=because)


def test_scaled_weights_that_overflow_stay() -> None:
    text = PAIR.format(
        inputs="", outputs="", constants=WEIGHTS, body=GEMMS.replace("Gemm(x, u", "Gemm<alpha=10.0>(x, u")
    )
    check(P, before=text, after=None, because="leave the range", constants={"u": 1e38})


def test_large_split_stays() -> None:
    text = PAIR.format(inputs="", outputs="", constants=WEIGHTS, body=GEMMS)
    for n, after in (("682", "once"), ("683", None)):
        sized = text.replace("N", n)
        merged = sized.split("<")[0] + "{ m = Gemm(x, w, b) y, z = Split<axis=1>(m, l) }"
        check(P, before=sized, after=merged if after else None, because="above the 16384 up to which it pays")


def test_split_of_three_may_be_larger_than_of_two() -> None:
    io = "g (float[1000,4] x) => (float[1000,3] y, float[1000,3] z, float[1000,3] r)"
    check(
        P,
        before=f"{io} <float[4,3] u, float[4,3] v, float[4,3] w, float[3] a, float[3] b, float[3] c> "
        "{ y = Gemm(x, u, a) z = Gemm(x, v, b) r = Gemm(x, w, c) }",
        after=f"{io} {{ m = Gemm(x, w, b) y, z, r = Split<axis=1>(m, l) }}",
    )


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_unmeasured_split_stays(target: str) -> None:
    text = PAIR.format(inputs="", outputs="", constants=WEIGHTS, body=GEMMS)
    check(P, before=text, after=None, because="no measurement says", target=target)


def test_split_of_doubles_stays() -> None:
    text = PAIR.format(inputs="", outputs="", constants=WEIGHTS, body=GEMMS).replace("float", "double")
    check(P, before=text, after=None, because="another type than float")


CONVS = "g (float[N,4,6,6] x) => ({out}) <float[3,4,3,3] u, float[5,4,{k},{k}] v, float[3] a, float[5] b> {{ {body} }}"


@pytest.mark.parametrize(
    ("out", "k", "body", "because"),
    [
        ("float[N,3,4,4] y, float[N,5,4,4] z", 3, "y = Conv(x, u, a) z = Conv(x, v, b)", "does not pay for a convolution"),
        ("float[N,8,6,6] y", 1, "s = Conv<pads=[1,1,1,1]>(x, u, a) t = Conv(x, v, b) y = Concat<axis=1>(s, t)", ""),
        ("float[N,8,6,6] y", 3, "s = Conv<pads=[1,1,1,1]>(x, u, a) t = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, v, b) "
         "y = Concat<axis=1>(s, t)", ""),
        ("float[N,8,4,4] y", 3, "s = Conv(x, u, a) r = Relu(s) t = Conv(x, v, b) y = Concat<axis=1>(r, t)",
         "does not pay for a convolution"),
        ("float[N,8,4,4] y, float[N,3,4,4] s", 3, "s = Conv(x, u, a) t = Conv(x, v, b) y = Concat<axis=1>(s, t)",
         "does not pay for a convolution"),
        ("float[N,11,4,4] y", 3, "s = Conv(x, u, a) t = Conv(x, v, b) y = Concat<axis=1>(s, t, s)",
         "does not pay for a convolution"),
    ],
)  # fmt: skip
def test_convolutions_that_stay(out: str, k: int, body: str, because: str) -> None:
    check(P, before=CONVS.format(out=out, k=k, body=body), after=None, because=because)


def test_concat_along_another_axis_stays() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[M,3] y) <float[4,3] u, float[4,3] v> "
        "{ s = MatMul(x, u) t = MatMul(x, v) y = Concat<axis=0>(s, t) }",
        after=None,
        because="without a bias",
    )


def test_grouped_convolutions_stay() -> None:
    check(
        P,
        before="g (float[N,4,6] x) => (float[N,8,6] y) <float[4,2,1] u, float[4,2,1] v>"
        "{ s = Conv<group=2>(x, u) t = Conv<group=2>(x, v) y = Concat<axis=1>(s, t) }",
        after=None,
    )


def test_layers_of_different_graphs_stay() -> None:
    branch = "() => (float[N,3] {0}) {{ {0} = Gemm(x, {1}, {2}) }}"
    check(
        P,
        before="g (float[N,4] x, bool c) => (float[N,3] y) <float[4,3] u, float[4,3] v, float[3] a, float[3] b> "
        f"{{ y = If(c) <then_branch = f {branch.format('p', 'u', 'a')}, else_branch = h {branch.format('q', 'v', 'b')}> }}",
        after=None,
    )


def test_concat_in_a_branch_stays_there() -> None:
    check(
        P,
        before="g (float[N,4] x, float[N,6] r, bool c) => (float[N,6] y) <float[4,3] u, float[4,3] v> "
        "{ s = MatMul(x, u) t = MatMul(x, v) y = If(c) <then_branch = f () => (float[N,6] p) "
        "{ p = Concat<axis=1>(s, t) }, else_branch = h () => (float[N,6] q) { q = Neg(r) }> }",
        after=None,
        because="without a bias",
    )


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_dense_layers(data: st.DataObject) -> None:
    d = data.draw
    gemm, count = d(st.booleans()), d(st.integers(2, 4))
    lead = d(st.sampled_from(["N", "1", "0"] if gemm else ["N", "N,T", "2,0", "1,1"]))
    k, act, joined = d(st.integers(1, 4)), d(st.sampled_from(["", "Relu", "Tanh"])), d(st.booleans())
    axis = lead.count(",") + 1
    lines, constants, sizes, ends = [], [], [], []
    any_bias = False
    for i in range(count):
        n = d(st.integers(1, 4))
        sizes.append(n)
        bias = not joined or d(st.booleans())
        any_bias |= bias
        trans = gemm and d(st.booleans())
        constants.append(f"float[{n},{k}] w{i}" if trans else f"float[{k},{n}] w{i}")
        if bias:
            constants.append(f"float[{d(st.sampled_from([str(n), f'1,{n}'] if gemm else [str(n)]))}] b{i}")
        if gemm:
            alpha = d(st.sampled_from([1.0, 2.5]))
            lines.append(f"t{i} = Gemm<transB={int(trans)}, alpha={alpha}>(x, w{i}{f', b{i}' if bias else ''})")
        elif bias:
            lines.append(f"p{i} = MatMul(x, w{i}) t{i} = Add(p{i}, b{i})")
        else:
            lines.append(f"t{i} = MatMul(x, w{i})")
        ends.append(f"a{i}" if act else f"t{i}")
        if act:
            lines.append(f"a{i} = {act}(t{i})")
    order = d(st.permutations(range(count))) if joined else list(range(count))
    total = sum(sizes)
    if joined:
        outputs = f"float[{lead},{total}] y"
        lines.append(f"y = Concat<axis={axis}>({', '.join(ends[i] for i in order)})")
    else:
        outputs = ", ".join(f"float[{lead},{n}] {e}" for n, e in zip(sizes, ends, strict=True))
    io = f"g (float[{lead},{k}] x) => ({outputs})"
    last = "m" if act or not joined else "y"
    if gemm:
        body = f"{last} = Gemm(x, w{', b' if any_bias else ''})"
    else:
        body = f"p = MatMul(x, w) {last} = Add(p, b)" if any_bias else f"{last} = MatMul(x, w)"
    if act:
        body += f" {'y' if joined else 'r'} = {act}({last})"
    if not joined:
        body += f" {', '.join(ends)} = Split<axis={axis}>({'r' if act else last}, l)"
    text = f"{io} <{', '.join(constants)}> {{ {' '.join(lines)} }}"
    check(P, before=text, after=f"{io} {{ {body} }}", seed=d(st.integers(0, 99)))


def test_merged_weight_is_exact() -> None:
    module = check(
        P,
        before="g (float[N,2] x) => (float[N,3] y) <float[2,1] u, float[2,2] v> "
        "{ s = MatMul(x, u) t = MatMul(x, v) y = Concat<axis=1>(s, t) }",
        after="g (float[N,2] x) => (float[N,3] y) { y = MatMul(x, w) }",
        constants={"u": np.array([[0.1], [0.2]]), "v": np.array([[0.3, 0.4], [0.5, 0.6]])},
    )
    (weight,) = module.graph.initializers.values()
    assert weight.const_value is not None
    assert np.array_equal(weight.const_value.numpy(), np.array([[0.1, 0.3, 0.4], [0.2, 0.5, 0.6]], np.float32))


def test_a_layer_between_two_others_that_escapes_keeps_them_apart() -> None:
    """Of equal widths: with the one in the middle jumped over, nothing but the numbers would tell."""
    io = "g (float[N,4] x) => (float[N,9] y, float[N,3] b)"
    parts = "a = MatMul(x, u) b = MatMul(x, v) c = MatMul(x, w)"
    text = f"{io} <float[4,3] u, float[4,3] v, float[4,3] w> {{ {parts} y = Concat<axis=1>(a, b, c) }}"
    check(P, before=text, after=None, because="", target="tensorrt")


def test_neighbours_beside_one_that_escapes_are_merged() -> None:
    io = "g (float[N,4] x) => (float[N,12] y, float[N,3] a)"
    parts = "a = MatMul(x, u) b = MatMul(x, v) c = MatMul(x, w) d = MatMul(x, r)"
    constants = "<float[4,3] u, float[4,3] v, float[4,3] w, float[4,3] r>"
    check(
        P,
        before=f"{io} {constants} {{ {parts} y = Concat<axis=1>(b, c, a, d) }}",
        after=f"{io} {constants} {{ a = MatMul(x, u) d = MatMul(x, r) m = MatMul(x, k) y = Concat<axis=1>(m, a, d) }}",
        target="tensorrt",
    )


def test_operators_of_other_domains_are_no_layers() -> None:
    parts = "a = com.microsoft.MatMul(x, u) b = com.microsoft.MatMul(x, v)"
    text = f"g (float[N,4] x) => (float[N,3] a, float[N,3] b) <float[4,3] u, float[4,3] v> {{ {parts} }}"
    module = read(model_from(text))
    assert run_pass(P, module, PassContext(get_target("cpu"), Log(strict=True))) == 0
