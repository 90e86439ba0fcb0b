from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import parse
from fcc.passes.eliminate_dead_neurons import EliminateDeadNeurons
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = EliminateDeadNeurons()
Array = np.ndarray[Any, Any]


def weight(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sizes(module: ir.Module) -> dict[str, list[tuple[int, ...]]]:
    """Return the shapes of the constant operands of every layer, by its operator and output."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for node in module.nodes():
        if node.op_type in ("Gemm", "MatMul", "Conv", "ConvTranspose"):
            arrays = [ir.Module.constant(v) for v in node.inputs[1:]]
            found[node.outputs[0].name or ""] = [a.shape for a in arrays if a is not None]
    return found


def refused(text: str, because: str, **constants: Any) -> None:
    check(P, before=text, after=None, because=because, constants=constants)


def removed(
    before: str, after: str | None = None, opset: int = 21, **constants: Any
) -> dict[str, list[tuple[int, ...]]]:
    return sizes(
        check(
            P,
            before=before,
            after=after or before.split("<", 1)[0] + before[before.index("{") :],
            constants=constants,
            opset=opset,
        )
    )


# -- two fully connected layers ----------------------------------------------------------------------------------------
HEAD = "g (float[N,4] x) => (float[N,3] y)"
MLP = HEAD + "<float[4,5] w, float[5] b, float[5,3] v, float[3] c> { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"


def test_zero_neuron() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 2] = b[2] = 0
    assert removed(MLP, w=w, b=b) == {"h": [(4, 4), (4,)], "y": [(4, 3), (3,)]}


@pytest.mark.parametrize("bias", [0.75, -0.75])
@pytest.mark.parametrize("f", ["Relu", "Sigmoid", "Tanh", "Gelu", "Exp", "LeakyRelu<alpha=0.3>", "Softplus", "Erf"])
def test_constant_neuron_through_the_activation(f: str, bias: float) -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 1], b[1] = 0, bias
    assert removed(MLP.replace("Relu", f), w=w, b=b)["y"] == [(4, 3), (3,)]


def test_nothing_dead() -> None:
    refused(MLP, "no channel is constant")


def test_duplicate_neurons() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 3], b[3] = w[:, 0], b[0]
    w[:, 4], b[4] = w[:, 0], b[0]
    assert removed(MLP, w=w, b=b)["h"] == [(4, 3), (3,)]


def test_equal_weights_with_other_bias_are_no_duplicates() -> None:
    w = weight((4, 5))
    w[:, 3] = w[:, 0]
    refused(MLP, "no channel is constant", w=w)


def test_ignored_neuron() -> None:
    v = weight((5, 3))
    v[4] = 0
    assert removed(MLP, v=v)["h"] == [(4, 4), (4,)]


def test_ignored_neuron_that_is_infinite_stays() -> None:
    v, b = weight((5, 3)), weight((5,), 1)
    v[4], b[4] = 0, np.inf
    refused(MLP, "no channel is constant", v=v, b=b)


def test_one_neuron_remains() -> None:
    assert removed(MLP, w=0.0) == {"h": [(4, 1), (1,)], "y": [(1, 3), (3,)]}


def test_single_neuron_stays() -> None:
    text = HEAD + "<float[4,1] w, float[1,3] v> { h = Gemm(x, w) y = Gemm(h, v) }"
    refused(text, "one channel", w=0.0)


def test_scales_of_gemm() -> None:
    w, b = weight((5, 4)), weight((5,), 1)
    w[2], b[2] = 0, 1.5
    w[3], b[3] = w[1], b[1]
    text = (
        HEAD
        + """<float[5,4] w, float[5] b, float[3,5] v, float[3] c> {
        h = Gemm<transB=1, alpha=0.5, beta=3.0>(x, w, b) r = Relu(h)
        y = Gemm<transB=1, alpha=2.0, beta=0.25>(r, v, c) }"""
    )
    assert removed(text, w=w, b=b)["y"] == [(3, 3), (3,)]


def test_beta_of_zero() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 2], b[2] = 0, 1.5
    before = MLP.replace("Gemm(r", "Gemm<beta=0.0>(r")
    after = HEAD + "{ h = Gemm(x, w, b) r = Relu(h) y = Gemm<beta=1.0>(r, v, c) }"
    assert removed(before, after, w=w, b=b)["y"] == [(4, 3), (3,)]


def test_beta_of_zero_where_channels_go() -> None:
    w, b, v = weight((4, 5)), weight((5,), 1), weight((5, 3), 2)
    w[:, 2] = v[4] = 0
    before = MLP.replace("Gemm(x", "Gemm<beta=0.0>(x")
    after = HEAD + "{ h = Gemm<beta=0.0>(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"
    assert removed(before, after, w=w, b=b, v=v)["h"] == [(4, 3), (3,)]


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("h = Conv(x, w, short) y = Conv(h, v)", "the bias misses channels"),
        ("h = Conv(x, w) y = Conv(h, narrow)", "the weight 'narrow' misses channels"),
        ("h = Conv(x, w) n = Conv<group=5>(h, s, short) y = Conv(n, v)", "misses channels"),
    ],
)
def test_operands_of_invalid_models(body: str, because: str) -> None:
    text = (
        "g (float[N,2,3] x) => (float[A,B,C] y) <float[5,2,1] w, float[4,5,1] v, float[4,2,1] narrow, float[1] short, "
        f"float[5,1,1] s> {{ {body} }}"
    )
    module = read(model_from(text, 21, {}, 0))
    shapes.infer(module)
    log = Log(strict=True, explain=frozenset({P.name}))
    assert run_pass(P, module, PassContext(get_target("cpu"), log)) == 0
    assert because in str(log.refused)


def test_reader_without_bias_gets_one() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 2], b[2] = 0, 1.5
    before = HEAD + "<float[4,5] w, float[5] b, float[5,3] v> { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v) }"
    after = HEAD + "{ h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }"
    assert removed(before, after, w=w, b=b)["y"] == [(4, 3), (3,)]


def test_bias_of_the_reader_that_is_no_row() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 2], b[2] = 0, 1.5
    text = MLP.replace("[N,", "[2,").replace("float[3] c", "float[2,1] c")
    refused(text, "no channel is constant", w=w, b=b)


def test_never_active_by_signs() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 2], b[2] = -np.abs(w[:, 2]), -0.1
    assert removed(MLP.replace("Gemm(x", "Gemm(z").replace("{", "{ z = Abs(x)"), w=w, b=b)["h"] == [(4, 4), (4,)]
    refused(MLP, "no channel is constant", w=w, b=b)


def test_integers_are_refused() -> None:
    text = "g (int32[N,4] x) => (int32[N,3] y) <int32[4,5] w, int32[5,3] v> { h = Gemm(x, w) y = Gemm(h, v) }"
    refused(text, "floating-point", w=0)


# -- MatMul ------------------------------------------------------------------------------------------------------------
def test_matmul_of_rank_three_with_biases() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 0], b[0] = 0, 2
    text = """g (float[N,S,4] x) => (float[N,S,3] y) <float[4,5] w, float[5] b, float[5,3] v, float[3] c>
        { h = MatMul(x, w) a = Add(b, h) r = Tanh(a) z = MatMul(r, v) y = Add(z, c) }"""
    assert removed(text, w=w, b=b) == {"h": [(4, 4)], "z": [(4, 3)]}


def test_matmul_without_bias_gets_an_add() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 0], b[0] = 0, 2
    head = "g (float[N,S,4] x) => (float[N,S,3] y, float[N,S,2] z)"
    before = (
        head
        + """<float[4,5] w, float[5] b, float[5,3] v, float[5,2] u>
        { h = MatMul(x, w) a = Add(h, b) r = Sigmoid(a) y = MatMul(r, v) z = MatMul(r, u) }"""
    )
    after = (
        head
        + """{ h = MatMul(x, w) a = Add(h, b) r = Sigmoid(a)
        p = MatMul(r, v) y = Add(p, c) q = MatMul(r, u) z = Add(q, d) }"""
    )
    assert removed(before, after, w=w, b=b)["h"] == [(4, 4)]


def test_gelu_written_out() -> None:
    w, b = weight((4, 5)), weight((5,), 1)
    w[:, 0], b[0] = 0, 0.5
    w[:, 4], b[4] = w[:, 1], b[1]
    text = """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5] b, float[5,3] v, float[3] c,
        float s, float one, float half> { h = Gemm(x, w, b) d = Div(h, s) e = Erf(d) f = Add(e, one)
        m = Mul(h, f) n = Mul(m, half) y = Gemm(n, v, c) }"""
    assert removed(text, w=w, b=b, s=1.41421356, one=1.0, half=0.5)["y"] == [(3, 3), (3,)]


# -- convolutions ------------------------------------------------------------------------------------------------------
CNN_HEAD = "g (float[N,2,6,6] x) => (float[N,3,P,Q] y)"
CNN = (
    CNN_HEAD
    + """<float[5,2,3,3] w, float[5] b, float[3,5,3,3] v, float[3] c>
    { h = Conv(x, w, b) r = Relu(h) y = Conv(r, v, c) }"""
)


def conv(i: int, bias: float) -> dict[str, Any]:
    w, b = weight((5, 2, 3, 3)), weight((5,), 1)
    w[i], b[i] = 0, bias
    return {"w": w, "b": b}


def test_constant_filter() -> None:
    assert removed(CNN, **conv(1, 0.5)) == {"h": [(4, 2, 3, 3), (4,)], "y": [(3, 4, 3, 3), (3,)]}


PADDED = CNN.replace("Conv(r", "Conv<pads=[1,1,1,1]>(r")


def test_constant_does_not_pass_padding() -> None:
    refused(PADDED, "no channel is constant", **conv(1, 0.5))
    refused(CNN.replace("Conv(r", 'Conv<auto_pad="SAME_UPPER">(r'), "no channel is constant", **conv(1, 0.5))


def test_zero_passes_padding() -> None:
    assert removed(PADDED, **conv(1, -0.5))["h"] == [(4, 2, 3, 3), (4,)]
    refused(PADDED.replace("Relu", "Sigmoid"), "no channel is constant", **conv(1, -0.5))


def test_transposed_convolutions() -> None:
    text = (
        CNN_HEAD
        + """<float[2,5,3,3] w, float[5] b, float[5,3,3,3] v, float[3] c>
        { h = ConvTranspose(x, w, b) r = Relu(h) y = ConvTranspose(r, v, c) }"""
    )
    w, b = weight((2, 5, 3, 3)), weight((5,), 1)
    w[:, 1], b[1] = 0, -1
    assert removed(text, w=w, b=b) == {"h": [(2, 4, 3, 3), (4,)], "y": [(4, 3, 3, 3), (3,)]}
    refused(text, "no channel is constant", w=w, b=np.abs(b))


def test_batchnorm_with_zero_scale() -> None:
    text = (
        CNN_HEAD
        + """<float[5,2,3,3] w, float[5] s, float[5] t, float[5] m, float[5] var, float[3,5,3,3] v>
        { h = Conv(x, w) n = BatchNormalization<epsilon=0.01>(h, s, t, m, var) r = Relu(n) y = Conv(r, v, c) }"""
    )
    text = text.replace("v>", "v, float[3] c>")
    s, t = weight((5,), 1), np.abs(weight((5,), 2))
    s[3] = 0
    module = check(P, before=text, after=CNN_HEAD + text[text.index("{") :], constants={"s": s, "t": t})
    assert sizes(module) == {"h": [(4, 2, 3, 3)], "y": [(3, 4, 3, 3), (3,)]}


def test_depthwise_between() -> None:
    before = (
        CNN_HEAD
        + """<float[5,2,1,1] w, float[5] b, float[10,1,3,3] d, float[10] e, float[3,10,1,1] v, float[3] c>
        { h = Conv(x, w, b) r = Relu(h) s = Conv<group=5>(r, d, e) t = Relu(s) y = Conv(t, v, c) }"""
    )
    after = CNN_HEAD + """{ h = Conv(x, w, b) r = Relu(h) s = Conv<group=4>(r, d, e) t = Relu(s) y = Conv(t, v, c) }"""
    w, b = weight((5, 2, 1, 1)), weight((5,), 1)
    w[4], b[4] = 0, 0.5
    assert removed(before, after, w=w, b=b) == {
        "h": [(4, 2, 1, 1), (4,)],
        "s": [(8, 1, 3, 3), (8,)],
        "y": [(3, 8, 1, 1), (3,)],
    }


def test_grouped_convolution_is_refused() -> None:
    text = (
        CNN_HEAD
        + """<float[4,2,1,1] w, float[4,2,1,1] d, float[3,4,1,1] v>
        { h = Conv(x, w) s = Conv<group=2>(h, d) y = Conv(s, v) }"""
    )
    refused(text, "the convolution is grouped", w=0.0)


POOLED = """g (float[N,2,6,6] x) => (float[N,3] y) <float[5,2,3,3] w, float[5] b, float[D,3] v, float[3] c>
    { h = Conv(x, w, b) r = Relu(h) p = POOL(r) f = Flatten(p) y = Gemm(f, v, c) }"""


@pytest.mark.parametrize(
    ("pool", "width"),
    [
        ("MaxPool<kernel_shape=[2,2], strides=[2,2]>", 4),
        ("MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>", 16),
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>", 16),
        ("AveragePool<kernel_shape=[2,2], count_include_pad=1>", 9),
        ("GlobalAveragePool", 1),
        ("GlobalMaxPool", 1),
        ("ReduceMean<keepdims=0>", 1),
    ],
)
def test_pooling_then_flatten(pool: str, width: int) -> None:
    text = POOLED.replace("POOL", pool).replace("[D,", f"[{5 * width},")
    found: dict[str, Any] = conv(1, 0.5)
    if "Reduce" in pool:
        text = text.replace("(r)", "(r, axes)").replace("float[3] c", "float[3] c, int64[2] axes")
        found["axes"] = [2, 3]
    assert removed(text, **found)["y"] == [(4 * width, 3), (3,)]


def test_average_that_counts_padding() -> None:
    text = POOLED.replace("POOL", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>")
    text = text.replace("[D,", "[80,")
    refused(text, "no channel is constant", **conv(1, 0.5))
    assert removed(text, **conv(1, -0.5))["y"] == [(64, 3), (3,)]


@pytest.mark.parametrize(("shape", "after"), [([0, -1], [0, -1]), ([-1, 80], [-1, 64]), ([0, 80], [0, 64])])
def test_reshape_like_flatten(shape: list[int], after: list[int]) -> None:
    text = POOLED.replace("p = POOL(r) f = Flatten(p)", "f = Reshape(r, s)").replace("[D,", "[80,")
    text = text.replace("float[3] c", "float[3] c, int64[2] s")
    before = text[: text.index("<")] + text[text.index("{") :]
    module = check(P, before=text, after=before, constants={**conv(1, 0.5), "s": shape})
    reshape = next(n for n in module.nodes() if n.op_type == "Reshape")
    found = ir.Module.constant(reshape.inputs[1])
    assert found is not None
    assert found.tolist() == after


def test_reshape_that_mixes_channels() -> None:
    text = """g (float[2,4] x) => (float[4,2] y) <float[4,6] w, float[3,2] v, int64[2] s>
        { h = MatMul(x, w) r = Reshape(h, s) y = MatMul(r, v) }"""
    refused(text, "mixes the channels", w=0.0, s=[4, 3])


def test_transpose_and_constants_per_channel() -> None:
    text = """g (float[N,2,6] x) => (float[N,6,3] y) <float[5,2,1] w, float[5] b, float[5,1] s, float[5] t,
        float[5,3] v, float[3] c> { h = Conv(x, w, b) m = Mul(h, s) r = Transpose<perm=[0,2,1]>(m)
        a = Add(r, t) z = MatMul(a, v) y = Add(z, c) }"""
    s = weight((5, 1), 1)
    s[2] = 0
    assert removed(text, s=s) == {"h": [(4, 2, 1), (4,)], "z": [(4, 3)]}


# -- what blocks -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("h = Gemm(x, w) s = Softmax(h) y = Gemm(s, v)", "it mixes channels (Softmax 'Softmax_s')"),
        ("h = Gemm(x, w) s = LayerNormalization(h, k) y = Gemm(s, v)", "it mixes channels (LayerNormalization"),
        ("h = Gemm(x, w) s = CumSum(h, k0) y = Gemm(s, v)", "its channels reach CumSum 'CumSum_s'"),
        ("h = Gemm(x, w) s = Add(h, u) y = Gemm(s, v)", "an operand is not constant (Add 'Add_s')"),
        ("h = Gemm(x, w) s = Concat<axis=0>(h, u) y = Gemm(s, v)", "an operand is not constant (Concat"),
        ("h = Gemm(x, w) s = ReduceSum<keepdims=1>(h, k1) y = Mul(s, c)", "it reduces over the channels"),
        ("h = Gemm(x, w) r = Relu(h) y = Gemm(r, v) z = Neg(r)", "its channels are the output 'z'"),
        ("h = Gemm(x, w, u) y = Gemm(h, v)", "the bias is not constant"),
    ],
)
def test_blocked(body: str, because: str) -> None:
    extra = ", float[N,5] z" if "z =" in body else ""
    text = f"""g (float[N,4] x, float[N,5] u) => (float[N,3] y{extra}) <float[4,5] w, float[4,5] w2, float[5,3] v,
        float[5] k, int64[1] k1, int64 k0, float[1,3] c> {{ {body} }}"""
    refused(text, because, w=0.0, w2=0.0, k1=[1], k0=0)


def test_shared_weight() -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,4] z) <float[4,4] w, float[4,3] v>
        { h = MatMul(x, w) y = MatMul(h, v) z = MatMul(x, w) }"""
    refused(text, "'w' is shared", w=0.0)
    tied = """g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { h = MatMul(x, w) y = MatMul(h, w) }"""
    refused(tied, "'w' is shared", w=0.0)


def test_shared_bias_is_cut_for_each() -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,5] z) <float[4,5] w, float[4,5] u, float[5] b, float[5,3] v>
        { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v) z = Gemm(x, u, b) }"""
    w = weight((4, 5))
    w[:, 2] = 0
    after = text.split("<", 1)[0] + text[text.index("{") :].replace("u, b)", "u, b2)")
    assert removed(text, after, w=w, b=[1, 2, -3, 4, 5]) == {"h": [(4, 4), (4,)], "y": [(4, 3)], "z": [(4, 5), (5,)]}


def test_overridable_weight_is_refused() -> None:
    refused(
        "g (float[N,4] x, float[4,5] w) => (float[N,3] y) <float[5,3] v> { h = MatMul(x, w) y = MatMul(h, v) }",
        "not constant",
    )


def test_read_inside_a_subgraph() -> None:
    module = parse(
        """g (bool c, float[2,4] x) => (float[2,3] y) <float[4,2] w = {0,0,0,0,0,0,0,0}, float[2,3] v = {1,2,3,4,5,6}> {
        h = MatMul(x, w)
        y = If (c) <then_branch = t () => (float[2,3] p) { p = MatMul(h, v) },
                    else_branch = e () => (float[2,3] q) { q = Neg(p2) p2 = MatMul(h, v) }> }""".replace(
            "q = Neg(p2) p2 = MatMul(h, v)", "p2 = MatMul(h, v) q = Neg(p2)"
        )
    )
    shapes.infer(module)
    log = Log(strict=True)
    assert run_pass(P, module, PassContext(target=get_target("cpu"), log=log)) == 0
    assert any("inside a subgraph" in r.reason for r in log.refused)


def test_overflow_of_summed_columns() -> None:
    w, v = weight((4, 5)).astype(np.float16), weight((5, 3)).astype(np.float16)
    w[:, 1] = w[:, 0]
    v[:2] = 60000
    text = HEAD.replace("float", "float16") + "<float16[4,5] w, float16[5,3] v> { h = MatMul(x, w) y = MatMul(h, v) }"
    refused(text, "overflow", w=w, v=v)


# -- several -----------------------------------------------------------------------------------------------------------
def test_every_reader_must_agree() -> None:
    text = """g (float[N,4] x) => (float[N,3] y, float[N,2] z) <float[4,5] w, float[5,3] v, float[5,2] u>
        { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) z = MatMul(r, u) }"""
    v, u = weight((5, 3)), weight((5, 2))
    v[[0, 1]] = 0
    u[[1, 2]] = 0
    assert removed(text, v=v, u=u) == {"h": [(4, 4)], "y": [(4, 3)], "z": [(4, 2)]}


@pytest.mark.parametrize("bias", ["", "one"])
def test_a_reader_that_loses_channels_itself_gets_a_bias(bias: str) -> None:
    u, a, v, w = weight((4, 5)), weight((5,), 1), weight((5, 6), 3), weight((6, 3), 2)
    u[:, 1] = w[2] = 0
    a[1] = 0.5
    body = "h = Gemm(x, u, a) p = Relu(h) t = Gemm(p, v, {}) q = Relu(t) y = Gemm(q, w)"
    declared = " <float[4,5] u, float[5] a, float[5,6] v, float[1] one, float[6,3] w> "
    before = HEAD + declared + "{ " + body.format(bias).replace(", )", ")") + " }"
    found = removed(before, HEAD + "{ " + body.format("b") + " }", u=u, a=a, v=v, w=w)
    assert found == {"h": [(4, 4), (4,)], "t": [(4, 5), (5,)], "y": [(5, 3)]}


def test_removal_travels_back_and_forth() -> None:
    text = (
        HEAD
        + """<float[4,5] w, float[5,6] v, float[6] c, float[6,3] u, float[3] d>
        { h = Gemm(x, w) r = Relu(h) s = Gemm(r, v, c) t = Relu(s) y = Gemm(t, u, d) }"""
    )
    w, v, u = weight((4, 5)), weight((5, 6), 1), weight((6, 3), 2)
    u[0] = 0  # output 0 of the second layer is ignored ...
    v[3, 1:] = 0  # ... so neuron 3 of the first one is ignored
    w[:, 1] = 0  # neuron 1 of the first layer is zero ...
    v[[0, 2, 3, 4], 5] = 0  # ... so neuron 5 of the second one is constant
    assert removed(text, w=w, v=v, u=u) == {"h": [(4, 3)], "s": [(3, 4), (4,)], "y": [(4, 3), (3,)]}


CHOICES = ("none", "zero", "constant", "duplicate", "ignored")
FUNCTIONS = ("Relu", "Sigmoid", "LeakyRelu<alpha=0.2>", "Tanh")


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    plans=st.lists(st.lists(st.sampled_from(CHOICES), min_size=6, max_size=6), min_size=3, max_size=3),
    functions=st.lists(st.sampled_from(FUNCTIONS), min_size=3, max_size=3),
    kind=st.sampled_from(["Gemm", "MatMul", "Conv", "Padded"]),
    seed=st.integers(0, 9),
)
def test_planted_chains(widths: list[int], plans: list[list[str]], functions: list[str], kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dims = [3, *widths, 2]
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in zip(dims[1:], dims, strict=False)]
    biases = [rng.standard_normal(d).astype(np.float32) for d in dims[1:]]
    for i, width in enumerate(widths):
        _plant(weights, biases, i, plans[i][:width])
    text, constants = _chain(kind, weights, biases, functions)
    module = parse_and_fill(text, constants)
    before = sizes(module.clone())
    ctx = PassContext(target=get_target("cpu"), log=Log(strict=True))
    reference = module.clone()
    run_pass(P, module, ctx)
    ir.verify(module)
    assert run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True))) == 0
    same(reference, module)
    if kind != "Padded" and any(c != "none" for i, w in enumerate(widths) for c in plans[i][1:w]):
        assert sizes(module) != before


def _plant(weights: list[Array], biases: list[Array], i: int, plan: list[str]) -> None:
    for j, choice in enumerate(plan):
        if choice in ("zero", "constant"):
            weights[i][j] = 0
            biases[i][j] = 0 if choice == "zero" else biases[i][j]
        elif choice == "duplicate" and j > 0:
            weights[i][j], biases[i][j] = weights[i][j - 1], biases[i][j - 1]
        elif choice == "ignored":
            weights[i + 1][:, j] = 0


def _chain(kind: str, weights: list[Array], biases: list[Array], functions: list[str]) -> tuple[str, dict[str, Array]]:
    constants: dict[str, Array] = {}
    body, at = [], "x"
    convolution = kind in ("Conv", "Padded")
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        last = i == len(weights) - 1
        out = "y" if last else f"h{i}"
        constants[f"b{i}"] = b
        if convolution:
            constants[f"w{i}"] = np.repeat(np.repeat(w[:, :, None, None] / 9, 3, 2), 3, 3)
            pads = "<pads=[1,1,1,1]>" if kind == "Padded" else ""
            body.append(f"{out} = Conv{pads}({at}, w{i}, b{i})")
        elif kind == "Gemm":
            constants[f"w{i}"] = w
            body.append(f"{out} = Gemm<transB=1>({at}, w{i}, b{i})")
        else:
            constants[f"w{i}"] = np.ascontiguousarray(w.T)
            body.append(f"m{i} = MatMul({at}, w{i}) {out} = Add(m{i}, b{i})")
        if not last:
            body.append(f"a{i} = {functions[i]}(h{i})")
            at = f"a{i}"
    declared = ", ".join(f"float[{','.join(map(str, a.shape))}] {n}" for n, a in constants.items())
    x, y = ("float[2,3,9,9] x", "float[2,2,P,Q] y") if convolution else ("float[5,3] x", "float[5,2] y")
    return f"g ({x}) => ({y}) <{declared}> {{ {' '.join(body)} }}", constants


def parse_and_fill(text: str, constants: dict[str, Array]) -> ir.Module:
    module = parse(text.split("<", 1)[0] + text[text.index("{") :])
    for value in [v for node in module.nodes() for v in node.inputs]:
        if value is not None and value.name in constants and not value.is_initializer():
            value.const_value = ir.tensor(constants[value.name], name=value.name)
            module.graph.initializers.add(value)
    shapes.infer(module)
    return module


def same(a: ir.Module, b: ir.Module) -> None:
    same_outputs(serde.serialize_model(a.model), serde.serialize_model(b.model), tolerance=1e-5)


def blocked(channels: int, dead: int, target: str = "cpu") -> tuple[str, dict[str, np.ndarray]]:
    """A Conv with ``dead`` channels of zeros, a Relu, and a Conv that reads them."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((channels, 3, 1, 1)).astype(np.float32)
    w[:dead] = 0
    text = (
        f"g (float[N,3,4,4] x) => (float[N,2,4,4] y) <float[{channels},3,1,1] w, float[2,{channels},1,1] v>"
        " { a = Conv(x, w) r = Relu(a) y = Conv(r, v) }"
    )
    return text, {"w": w}


@pytest.mark.parametrize(("channels", "dead", "left"), [(32, 20, 16), (24, 9, 16), (17, 1, 16), (48, 16, 32)])
def test_convolutions_keep_whole_blocks_of_channels(channels: int, dead: int, left: int) -> None:
    text, constants = blocked(channels, dead)
    after = text.replace(f"[{channels},3", f"[{left},3").replace(f"[2,{channels}", f"[2,{left}")
    module = check(EliminateDeadNeurons(), text, after, constants=constants)
    weight = next(iter(module.graph)).inputs[1]
    assert (ir.dims_of(weight) or ())[0] == left


@pytest.mark.parametrize(("channels", "dead", "block"), [(16, 1, 16), (64, 15, 16), (24, 7, 8)])
def test_too_few_dead_channels_for_a_block_stay(channels: int, dead: int, block: int) -> None:
    text, constants = blocked(channels, dead)
    because = f"of {channels} channels {dead} could go, fewer than the {block}"
    check(EliminateDeadNeurons(), text, None, because=because, constants=constants)
