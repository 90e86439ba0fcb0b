"""eliminate-dead-neurons where channels are added, joined, cut, picked, clamped, or heads of attention."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_dead_neurons import EliminateDeadNeurons
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = EliminateDeadNeurons()
Array = np.ndarray[Any, Any]


def weight(*shape: int, zero: Any = None, axis: int = 1, seed: int = 0) -> Array:
    w = np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)
    if zero is not None:
        np.moveaxis(w, axis, 0)[zero] = 0
    return w


def rewritten(before: str, after: str, opset: int = 21, **constants: Any) -> dict[str, list[Any]]:
    """Shapes (of small integer operands: contents) of what every node but elementwise ones reads, by its output."""
    module = check(P, before, after, constants=constants, opset=opset)
    found: dict[str, list[Any]] = {}
    for node in module.nodes():
        arrays = [a for v in node.inputs[1:] if (a := ir.Module.constant(v)) is not None]
        if arrays:
            found[node.outputs[0].name or ""] = [a.tolist() if a.dtype == np.int64 else a.shape for a in arrays]
    return found


def refused(before: str, because: str, **constants: Any) -> None:
    check(P, before, None, because=because, constants=constants)


# -- residual groups ---------------------------------------------------------------------------------------------------
RESIDUAL = """g (float[N,4] x) => (float[N,3] y) <float[4,6] u, float[6] a, float[6,6] v, float[6] b, float[6,3] w, float[3] c>
{ s = Gemm(x, u, a) r = Relu(s) t = Gemm(r, v, b) q = Relu(t) m = Add(r, q) y = Gemm(m, w, c) }"""
RESIDUAL_AFTER = RESIDUAL.split("<", 1)[0] + RESIDUAL[RESIDUAL.index("{") :]


def test_layers_that_are_added_lose_channels_together() -> None:
    u, v, a, b = weight(4, 6, zero=[1, 4]), weight(6, 6, zero=[1, 2]), weight(6, seed=1), weight(6, seed=2)
    a[[1, 4]], b[[1, 2]] = [0.5, 0.25], [0.75, -1]
    found = rewritten(RESIDUAL, RESIDUAL_AFTER, u=u, v=v, a=a, b=b)
    assert found == {"s": [(4, 5), (5,)], "t": [(5, 5), (5,)], "y": [(5, 3), (3,)]}


@pytest.mark.parametrize("bias", ["", ", one"])
def test_a_reader_in_its_own_group_gets_a_bias(bias: str) -> None:
    u, v, a = weight(4, 6, zero=[1, 4]), weight(6, 6, zero=[1, 2]), weight(6, seed=1)
    a[[1, 4]] = [0.5, 0.25]
    before = RESIDUAL.replace("float[6] b", "float[1] one").replace("(r, v, b)", f"(r, v{bias})")
    found = rewritten(before, RESIDUAL_AFTER, u=u, v=v, a=a, one=[2])
    assert found == {"s": [(4, 5), (5,)], "t": [(5, 5), (5,)], "y": [(5, 3), (3,)]}


def test_ignored_by_all_readers_of_the_group() -> None:
    v, w = weight(6, 6, zero=[0, 3], axis=0), weight(6, 3, zero=[3, 5], axis=0)
    assert rewritten(RESIDUAL, RESIDUAL_AFTER, v=v, w=w)["s"] == [(4, 5), (5,)]


def test_duplicates_in_every_layer_of_the_group() -> None:
    u, v, a, b = weight(4, 6), weight(6, 6), weight(6, seed=1), weight(6, seed=2)
    u[:, 5], a[5], v[:, 5], b[5] = u[:, 2], a[2], v[:, 2], b[2]
    assert rewritten(RESIDUAL, RESIDUAL_AFTER, u=u, v=v, a=a, b=b)["t"] == [(5, 5), (5,)]
    b[5] += 1
    refused(RESIDUAL, "no channel is constant", u=u, v=v, a=a, b=b)


def test_residual_blocks_of_convolutions() -> None:
    before = """g (float[N,2,5,5] x) => (float[N,3,5,5] y) <float[5,2,3,3] u, float[5] a, float[4,5,3,3] v, float[5,4,3,3] w,
    float[5] b, float[3,5,1,1] o> { s = Conv<pads=[1,1,1,1]>(x, u, a) r = Relu(s) t = Conv<pads=[1,1,1,1]>(r, v) q = Relu(t)
    z = Conv<pads=[1,1,1,1]>(q, w, b) m = Add(z, r) n = Relu(m) y = Conv(n, o) }"""
    u, w, a, b = weight(5, 2, 3, 3, zero=2, axis=0), weight(5, 4, 3, 3, zero=2, axis=0), weight(5), weight(5, seed=1)
    v = weight(4, 5, 3, 3, zero=3, axis=0)
    a[2], b[2] = -1, 0
    found = rewritten(before, before.split("<", 1)[0] + before[before.index("{") :], u=u, w=w, a=a, b=b, v=v)
    assert found == {"s": [(4, 2, 3, 3), (4,)], "t": [(3, 4, 3, 3)], "z": [(4, 3, 3, 3), (4,)], "y": [(3, 4, 1, 1)]}


def test_a_group_with_an_input_stays() -> None:
    text = "g (float[N,6] x) => (float[N,3] y) <float[6,6] v, float[6,3] w> { t = Gemm(x, v) m = Add(x, t) y = Gemm(m, w) }"
    refused(text, "an operand is not constant (Add 'Add_m')", v=0.0)


def test_what_all_channels_share_may_be_computed() -> None:
    text = """g (float[N,4] x, float[N,1] z) => (float[N,3] y) <float[4,6] u, float[6,3] w, float[3] c>
    { s = Gemm(x, u) t = Mul(s, z) y = Gemm(t, w, c) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    assert rewritten(text, after, u=weight(4, 6, zero=1))["y"] == [(5, 3), (3,)]


# -- joined and cut ----------------------------------------------------------------------------------------------------
def test_concat_side_by_side() -> None:
    text = """g (float[N,4] x) => (float[N,3] y) <float[4,3] u, float[4,4] v, float[7,3] w, float[3] c>
    { s = Gemm(x, u) t = Gemm(x, v) p = Relu(s) q = Sigmoid(t) j = Concat<axis=1>(p, q) y = Gemm(j, w, c) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    found = rewritten(text, after, u=weight(4, 3, zero=0), v=weight(4, 4, zero=[1, 2]))
    assert found == {"s": [(4, 2)], "t": [(4, 2)], "y": [(4, 3), (3,)]}


def test_concat_with_what_is_no_channel_of_a_layer() -> None:
    text = """g (float[N,4] x, float[N,2] z) => (float[N,3] y) <float[4,3] u, float[5,3] w>
    { s = Gemm(x, u) j = Concat<axis=1>(z, s) y = Gemm(j, w) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    w = weight(5, 3, zero=[0, 4], axis=0)
    assert rewritten(text, after, u=weight(4, 3, zero=0), w=w) == {"s": [(4, 1)], "y": [(3, 3)]}


def test_concat_one_after_the_other() -> None:
    text = """g (float[N,2,4] x, float[N,3,5] z) => (float[N,6,3] y) <float[4,3] u, float[5,3] v, float[1,1,3] k, float[3,3] w>
    { s = MatMul(x, u) t = MatMul(z, v) j = Concat<axis=1>(s, t, k) y = MatMul(j, w) }""".replace("[N", "[1")
    after = text.split("<", 1)[0] + text[text.index("{") :]
    found = rewritten(text, after, u=weight(4, 3, zero=1), v=weight(5, 3, zero=[1, 2]), k=[[[1, 0, 2]]])
    assert found == {"s": [(4, 2)], "t": [(5, 2)], "j": [(1, 1, 2)], "y": [(2, 3)]}


def test_split_and_slice_of_channels() -> None:
    text = """g (float[N,4] x) => (float[N,3] y) <float[4,7] u, int64[3] n, int64[1] b, int64[1] e, int64[1] a, float[2,3] v,
    float[3,3] w> { s = Gemm(x, u) p, q, r = Split<axis=1>(s, n) y1 = Gemm(p, v) z = Slice(s, b, e, a) y2 = Gemm(z, w)
    y3 = ReduceSum<keepdims=1>(y1) y = Add(y3, y2) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :].replace("p, q, r =", "p, q =")
    found = rewritten(text, after, u=weight(4, 7, zero=[0, 3]), n=[2, 2, 3], b=1, e=-3, a=-1)
    assert found["s"] == [(4, 2)]
    assert found["p"] == [[1, 1]]
    assert found["z"][:2] == [[0], [2]]
    assert found["y2"] == [(2, 3)]


def test_parts_of_a_split_that_nobody_uses_are_not_computed() -> None:
    text = """g (float[N,4] x) => (float[N,2] y) <float[4,7] u, float[7] a, int64[3] n>
    { s = Gemm(x, u, a) p, q, r = Split<axis=1>(s, n) f = Gemm(p, v) g2 = Gemm(r, w) y = Add(f, g2) }"""
    text = text.replace("int64[3] n>", "int64[3] n, float[2,2] v, float[2,2] w>")
    after = text.split("<", 1)[0] + text[text.index("{") :].replace("p, q, r", "p, r")
    found = rewritten(text, after, n=[2, 3, 2])
    assert found["s"] == [(4, 4), (4,)]
    assert found["p"] == [[2, 2]]


def test_part_of_a_layer_that_is_an_output_stays() -> None:
    text = """g (float[N,4] x) => (float[N,2] y, float[N,3] z) <float[4,6] u, int64[2] n, float[3,2] v>
    { s = Gemm(x, u) p, q = Split<axis=1>(s, n) y = Gemm(p, v) z = Identity(q) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    found = rewritten(text, after, u=weight(4, 6, zero=[1, 4]), n=[3, 3])
    assert found == {"s": [(4, 5)], "p": [[2, 3]], "y": [(2, 2)]}


@pytest.mark.parametrize(("indices", "kept"), [([0, 2, 5], [0, 1, 3]), ([5, -6, 2, 4], [3, 0, 1])])
def test_picked_channels(indices: list[int], kept: list[int]) -> None:
    count = len(indices)
    text = f"""g (float[N,4] x) => (float[N,2] y) <float[4,6] u, int64[{count}] i, float[{count},2] v, float[6,2] w>
    {{ s = Gemm(x, u) p = Gather<axis=1>(s, i) f = Gemm(p, v) h = Gemm(s, w) y = Add(f, h) }}"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    assert rewritten(text, after, u=weight(4, 6, zero=[1, 4]), i=indices)["p"] == [kept]


def test_other_axes_of_cuts_and_picks() -> None:
    text = """g (float[N,5,4] x) => (float[N,2,2] y, float[N,2] z) <float[4,6] u, int64[2] i, int64[1] b, int64[1] e, int64[1] a,
    int64 one, int64[2] n, float[6,2] v> { s = MatMul(x, u) p = Gather<axis=1>(s, i) q = Slice(p, b, e, a) c, d = Split<axis=1>(s, n)
    t = Add(c, q) y = MatMul(t, v) k = Gather<axis=1>(d, one) z = MatMul(k, v2) }""".replace(
        "float[6,2] v>", "float[6,2] v, float[6,2] v2>"
    )
    after = text.split("<", 1)[0] + text[text.index("{") :]
    given_: dict[str, Any] = {"i": [3, 1], "b": 0, "e": 2, "a": 1, "one": 1, "n": [2, 3]}
    assert rewritten(text, after, u=weight(4, 6, zero=[1, 4]), **given_)["s"] == [(4, 4)]


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("p = Slice(s, b, e, a, k) y = Gemm(p, v)", "it takes every so many channels"),
        ("p = Gather<axis=1>(s, i2) y = ReduceSum<keepdims=0>(p)", "no constant vector"),
        ("p = Gather<axis=1>(s, z) y = ReduceSum<keepdims=0>(p)", "no constant vector"),
        ("p = Gather<axis=1>(s, i3) y = ReduceSum<keepdims=0>(p)", "channels that do not exist"),
        ("p = Slice(s, z, e, a) y = ReduceSum<keepdims=0>(p)", "its bounds are not constant"),
        ("p = Tile(s, r) y = ReduceSum<keepdims=0>(p)", "counts the channels".replace("counts", "count")),
    ],
)
def test_cuts_that_block(body: str, because: str) -> None:
    text = f"""g (float[N,4] x, int64[1] z) => (float y) <float[4,6] u, int64[1] b, int64[1] e, int64[1] a, int64[1] k, int64[2,1] i2, int64[2] i3,
    int64[2] r, float[3,2] v> {{ s = Gemm(x, u) {body} }}""".replace(
        "float y", "float[A,B] y" if "Gemm(p" in body else "float y"
    )
    refused(text, because, u=0.0, b=0, e=6, a=1, k=2, i2=[[0], [1]], i3=[0, 6], r=[1, 2])


def test_expand_names_the_channels() -> None:
    text = """g (float[1,4] x) => (float[3,2] y) <float[4,6] u, int64[2] s, float[6,2] v>
    { h = Gemm(x, u) e = Expand(h, s) y = Gemm(e, v) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    assert rewritten(text, after, u=weight(4, 6, zero=2), s=[3, 6])["e"] == [[3, 5]]
    assert rewritten(text, after, u=weight(4, 6, zero=2), s=[3, 1])["e"] == [[3, 1]]


def test_tile_and_resize_of_other_axes() -> None:
    text = """g (float[N,2,4,4] x) => (float[N,3,H,W] y) <float[5,2,1,1] u, float[4] sc, int64[4] t, float[3,5,1,1] v>
    { h = Conv(x, u) r = Resize(h, , sc) e = Tile(r, t) y = Conv(e, v) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    found = rewritten(text, after, u=weight(5, 2, 1, 1, zero=2, axis=0), sc=[1, 1, 2, 2], t=[1, 1, 1, 2])
    assert found["y"] == [(3, 4, 1, 1)]


# -- clamps ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("clamp", "shift", "low"),
    [("Relu(s)", -9.0, 0.0), ("Clip(s, lo, hi)", 9.0, 6.0), ("Clip(s, lo, hi)", -9.0, 0.0), ("Max(s, lo)", -9.0, 0.0)],
)
def test_neurons_that_bounds_prove_constant(clamp: str, shift: float, low: float) -> None:
    text = f"""g (float[N,4] x) => (float[N,3] y) <float[4,6] u, float[6] a, float lo, float hi, float[6,3] w, float[3] c>
    {{ z = Sigmoid(x) s = Gemm(z, u, a) r = {clamp} y = Gemm(r, w, c) }}"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    a = np.zeros(6, np.float32)
    a[2] = shift
    u = np.clip(weight(4, 6), -1, 1)
    w, c = weight(6, 3), weight(3)
    module = check(P, text, after, constants={"u": u, "a": a, "lo": 0.0, "hi": 6.0, "w": w, "c": c})
    biases = [
        v.const_value.numpy()
        for v in module.graph.initializers.values()
        if v.const_value is not None and v.const_value.shape == (3,)
    ]
    np.testing.assert_allclose(biases[0], c + low * w[2], rtol=1e-5)


# -- heads -------------------------------------------------------------------------------------------------------------
PACKED = """g (float[N,T,8] x) => (float[N,T,5] y) <float[8,12] q, float[8,12] k, float[8,12] v, float[12] bv, float[12,5] o, float[5] c>
{ a = MatMul(x, q) b = MatMul(x, k) d0 = MatMul(x, v) d = Add(d0, bv) h = Attention<q_num_heads=3, kv_num_heads=3>(a, b, d)
p = MatMul(h, o) y = Add(p, c) }"""


@pytest.mark.parametrize("how", ["value", "output"])
def test_heads_of_packed_attention(how: str) -> None:
    constants: dict[str, Any] = (
        {"v": weight(8, 12, zero=range(4, 8))} if how == "value" else {"o": weight(12, 5, zero=range(4, 8), axis=0)}
    )
    after = PACKED.split("<", 1)[0] + PACKED[PACKED.index("{") :].replace("num_heads=3", "num_heads=2")
    found = rewritten(PACKED, after, opset=23, bv=np.arange(12) / 8, **constants)
    assert found["a"] == found["b"] == [(8, 8)]
    assert found["p"] == [(8, 5)]


def test_a_head_goes_as_a_whole() -> None:
    check(
        P,
        PACKED,
        None,
        because="no channel is constant",
        constants={"o": weight(12, 5, zero=range(4, 7), axis=0)},
        opset=23,
    )


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        ("kv_num_heads=3>(a, b, d)", "kv_num_heads=3>(a, b, x12)", "not all of queries, keys and values"),
        ("kv_num_heads=3>(a, b, d)", "kv_num_heads=3>(a, b, d, mask)", "its mask differs by head"),
    ],
)
def test_heads_that_stay(old: str, new: str, because: str) -> None:
    text = PACKED.replace(old, new).replace("x) =>", "x, float[N,T,12] x12, float[N,3,T,T] mask) =>")
    check(P, text, None, because=because, constants={"o": 0.0}, opset=23)


WRITTEN = """g (float[2,3,8] x) => (float[2,3,5] y) <float[8,12] q, float[8,12] k, float[8,12] v, int64[4] heads, int64[3] joined,
float scale, float[12,5] o> { a = MatMul(x, q) b = MatMul(x, k) d = MatMul(x, v) a4 = Reshape(a, heads) b4 = Reshape(b, heads)
d4 = Reshape(d, heads) at = Transpose<perm=[0,2,1,3]>(a4) bt = Transpose<perm=[0,2,3,1]>(b4) dt = Transpose<perm=[0,2,1,3]>(d4)
s = MatMul(at, bt) t = Mul(s, scale) p = Softmax(t) h = MatMul(p, dt) ht = Transpose<perm=[0,2,1,3]>(h)
j = Reshape(ht, joined) y = MatMul(j, o) }"""


@pytest.mark.parametrize("how", ["value", "output"])
def test_heads_of_attention_in_primitives(how: str) -> None:
    constants: dict[str, Any] = (
        {"v": weight(8, 12, zero=range(4, 8))} if how == "value" else {"o": weight(12, 5, zero=range(4, 8), axis=0)}
    )
    after = WRITTEN.split("<", 1)[0] + WRITTEN[WRITTEN.index("{") :]
    after = after.replace("(b, heads)", "(b, heads2)").replace("(d, heads)", "(d, heads3)")
    found = rewritten(WRITTEN, after, heads=[0, 0, 3, 4], joined=[0, 0, 12], scale=0.5, **constants)
    assert found["a"] == found["b"] == found["d"] == [(8, 8)]
    assert found["a4"] == [[0, 0, 2, 4]]
    assert found["j"] == [[0, 0, 8]]
    assert found["y"] == [(8, 5)]


def test_values_of_single_head_attention() -> None:
    text = """g (float[N,T,8] x, float[N,T,T] s) => (float[N,T,5] y) <float[8,6] v, float[6,5] o>
    { d = MatMul(x, v) p = Softmax(s) h = MatMul(p, d) y = MatMul(h, o) }"""
    after = text.split("<", 1)[0] + text[text.index("{") :]
    assert rewritten(text, after, v=weight(8, 6, zero=[1, 5]))["y"] == [(4, 5)]


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("s = MatMul(d, x) y = MatMul(s, o)", "it multiplies channels by each other"),
        ("t = Transpose<perm=[0,2,1]>(d) s = MatMul(x, t) y = MatMul(s, o)", "it multiplies channels by each other"),
    ],
)
def test_products_that_mix_channels(body: str, because: str) -> None:
    text = f"g (float[N,6,6] x) => (float[N,6,5] y) <float[6,6] v, float[6,5] o> {{ d = MatMul(x, v) {body} }}"
    refused(text, because, v=0.0)


# -- any graph ---------------------------------------------------------------------------------------------------------
KINDS = ("layer", "add", "concat", "relu", "scale", "split", "gather", "mul")


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=9),
    dead=st.lists(st.sampled_from(["none", "zero", "constant", "duplicate", "ignored"]), min_size=30, max_size=30),
    seed=st.integers(0, 5),
)
def test_random_graphs_keep_their_answers(kinds: list[tuple[str, int, int]], dead: list[str], seed: int) -> None:
    text, constants = _graph(kinds, dead, np.random.default_rng(seed))
    module = read(model_from(text, 21, constants, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(target=get_target("cpu"), log=Log(strict=True))
    run_pass(P, module, ctx)
    ir.verify(module)
    same_outputs(before, serde.serialize_model(module.model), tolerance=2e-4)
    assert run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True))) == 0


def _graph(
    kinds: list[tuple[str, int, int]], dead: list[str], rng: np.random.Generator
) -> tuple[str, dict[str, Array]]:
    """Values of width 4 and 8, made of layers with planted channels, and what may stand between them."""
    width, body, last = {"x": 4}, list[str](), "x"
    constants: dict[str, Array] = {}
    for i, (kind, a, b) in enumerate(kinds):
        names = list(width)
        first, out = names[-1 - a % min(3, len(names))], f"v{i}"
        partner = next((n for n in names[::-1][b % 2 :] if width[n] == width[first]), first)
        width[out] = width[first]
        if kind == "layer" or first == "x":
            w, c = rng.standard_normal((width[first], 4)), rng.standard_normal(4)
            for j in range(4):
                choice = dead[(3 * i + j) % len(dead)]
                if choice in ("zero", "constant"):
                    w[:, j], c[j] = 0, 0.0 if choice == "zero" else c[j]
                elif choice == "duplicate" and j:
                    w[:, j], c[j] = w[:, j - 1], c[j - 1]
                elif choice == "ignored":
                    w[j] = 0
            constants[f"w{i}"], constants[f"c{i}"] = w / 2, c
            body.append(f"{out} = Gemm({first}, w{i}, c{i})")
            width[out] = 4
        elif kind == "concat" and width[first] == width[partner] == 4:
            body.append(f"{out} = Concat<axis=1>({first}, {partner})")
            width[out] = 8
        elif kind == "split" and width[first] == 8:
            constants[f"n{i}"] = np.array([4, 4])
            body.append(f"{out}, {out}b = Split<axis=1>({first}, n{i})")
            width[out] = 4
        elif kind == "gather":
            constants[f"i{i}"] = rng.integers(0, width[first], 4)
            body.append(f"{out} = Gather<axis=1>({first}, i{i})")
            width[out] = 4
        elif kind == "scale":
            constants[f"s{i}"] = rng.integers(0, 2, width[first]) * 1.0
            body.append(f"{out} = Mul({first}, s{i})")
        else:
            two = f"({first}, {partner})"
            body.append(f"{out} = " + {"add": f"Add{two}", "mul": f"Mul{two}"}.get(kind, f"Relu({first})"))
        last = out
    constants["o"] = rng.standard_normal((width[last], 2))
    kinds_of = {k: "int64" if k[0] in "ni" else "float" for k in constants}
    declared = ", ".join(f"{kinds_of[k]}[{','.join(map(str, v.shape))}] {k}" for k, v in constants.items())
    return f"g (float[3,4] x) => (float[3,2] y) <{declared}> {{ {' '.join(body)} y = MatMul({last}, o) }}", constants


# -- axes that come and go -----------------------------------------------------------------------------------------------
def test_axes_of_length_one_beside_open_sizes() -> None:
    before = """g (float[N,3,L] x) => (float[N,4,M] y) <float[5,3,1] u, int64[1] i, float[4,5,1,1] w, int64[1] j>
    { s = Conv(x, u) r = Unsqueeze(s, i) t = Conv(r, w) y = Squeeze(t, j) }"""
    after = before.split("<", 1)[0] + before[before.index("{") :]
    u = weight(5, 3, 1, zero=[1, 3], axis=0)
    found = rewritten(before, after, u=u, i=[2], j=[-2])
    assert found["s"] == [(4, 3, 1)]
    assert found["t"] == [(4, 4, 1, 1)]


def test_channels_through_a_squeeze_in_front_of_them() -> None:
    before = """g (float[N,1,3,L] x) => (float[N,4,L] y) <float[5,1,1,1] u, int64[1] i, float[4,5,1] w>
    { t = Conv(x, u) a = Transpose<perm=[0,2,1,3]>(t) b = ReduceMean<keepdims=1>(a, i) s = Squeeze(b, i) y = Conv(s, w) }"""
    after = before.split("<", 1)[0] + before[before.index("{") :]
    found = rewritten(before, after, u=weight(5, 1, 1, 1, zero=[1, 2], axis=0), i=[1])
    assert found["t"] == [(4, 1, 1, 1)]
    assert found["y"] == [(4, 4, 1)]


def test_a_squeeze_of_the_channels_keeps_them() -> None:
    before = (
        """g (float[N,3,L] x) => (float[N,L] y) <float[1,3,1] u, int64[1] i> { s = Conv(x, u) y = Squeeze(s, i) }"""
    )
    check(P, before, None, constants={"i": [1]}, because="it has one channel")


def test_flattened_channels_of_one_sample() -> None:
    """With a batch of one the axis in front could hold the channels too, but only together."""
    before = """g (float[1,3,2,2] x) => (float[1,4] y) <float[5,3,1,1] u, float[20,4] w>
    { s = Conv(x, u) f = Flatten(s) y = Gemm(f, w) }"""
    after = before.split("<", 1)[0] + before[before.index("{") :]
    found = rewritten(before, after, u=weight(5, 3, 1, 1, zero=[1, 3], axis=0))
    assert found == {"s": [(4, 3, 1, 1)], "y": [(16, 4)]}
