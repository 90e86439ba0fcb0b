"""fuse-layer-norm: one test per condition; the spellings are in test_norm_spellings.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fcc
from fcc import testing
from fcc.analysis import shapes
from fcc.passes.convert_opset import ConvertOpset
from fcc.passes.fuse_layer_norm import FuseLayerNorm
from fcc.passes.fuse_softmax import FuseSoftmax
from fcc.rewrite import PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

EPS = "float e = {0.01}"
CORE = "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) ve = Add(v, e) s = Sqrt(ve) n = Div(d, s)"


def graph(
    nodes: str, x: str = "2,3,4", constants: str = "", inputs: str = "", axes: str = "{-1}", out: str = ""
) -> str:
    count = axes.count(",") + 1
    head = ", ".join(filter(None, [EPS, f"int64[{count}] a = {axes}", constants]))
    return f"g (float[{x}] x{inputs}) => (float[{out or x}] y) <{head}> {{ {nodes} }}"


def fused(nodes: str, x: str = "2,3,4", inputs: str = "") -> str:
    return f"g (float[{x}] x{inputs}) => (float[{x}] y) {{ {nodes} }}"


LN = "LayerNormalization<axis=-1, epsilon=0.01>"


def test_scale_and_bias() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} g1 = Mul(n, g) y = Add(g1, b)", "N,3,4", "float[4] g, float[4] b"),
        after=fused(f"y = {LN}(x, g, b)", "N,3,4"),
    )


def test_no_scale_becomes_ones_and_a_negated_bias_is_subtracted() -> None:
    module = check(
        FuseLayerNorm(),
        before=graph(f"{CORE} y = Sub(n, b)", constants="float[4] b = {1,2,3,4}"),
        after=fused(f"y = {LN}(x, g, b)"),
    )
    values = [fcc.ir.Module.constant(v) for v in next(iter(module.nodes())).inputs[1:]]
    assert [v.tolist() for v in values if v is not None] == [[1, 1, 1, 1], [-1, -2, -3, -4]]


def test_bias_minus_normalized_negates_the_scale() -> None:
    module = check(
        FuseLayerNorm(),
        before=graph(f"{CORE} g1 = Mul(n, g) y = Sub(b, g1)", constants="float[4] g = {1,2,3,4}, float[4] b"),
        after=fused(f"y = {LN}(x, g, b)"),
    )
    scale = fcc.ir.Module.constant(next(iter(module.nodes())).inputs[1])
    assert scale is not None
    assert scale.tolist() == [-1, -2, -3, -4]


def test_mean_minus_x_negates_the_scale() -> None:
    flipped = CORE.replace("d = Sub(x, m)", "d = Sub(m, x)")
    check(FuseLayerNorm(), before=graph(flipped.replace("n = ", "y = ")), after=fused(f"y = {LN}(x, g)"))


def test_computed_and_overridable_scale_and_bias_of_the_right_shape() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} g1 = Mul(n, g) y = Add(g1, b)", inputs=", float[4] g, float[4] b"),
        after=fused(f"y = {LN}(x, g, b)", inputs=", float[4] g, float[4] b"),
    )


def test_scalars_are_broadcast() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} g1 = Mul(g, n) y = Add(b, g1)", constants="float g = {2}, float[1,1] b = {3}"),
        after=fused(f"y = {LN}(x, g, b)"),
    )


def test_two_axes() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} y = Mul(n, g)", constants="float[3,4] g", axes="{2,1}"),
        after=fused("y = LayerNormalization<axis=-2, epsilon=0.01>(x, g)"),
    )


def test_scale_along_other_axes_stays_behind() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} g1 = Mul(n, g) y = Add(g1, b)", constants="float[3,1] g, float[3,1] b"),
        after=fused(f"n = {LN}(x, c) g1 = Mul(n, g) y = Add(g1, b)"),
    )


def test_what_follows_stays() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} r = Mul(n, g) y = Add(r, x)", constants="float[4] g"),
        after=fused(f"n = {LN}(x, g) y = Add(n, x)"),
    )


def test_normalized_value_with_two_users() -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} t = Sigmoid(n) y = Mul(n, t)"),
        after=fused(f"n = {LN}(x, g) t = Sigmoid(n) y = Mul(n, t)"),
    )


def test_two_layers_in_a_row() -> None:
    second = CORE
    for name in ("m", "d", "q", "v", "ve", "s", "n"):
        second = second.replace(f"{name} = ", f"{name}2 = ").replace(f"({name}, ", f"({name}2, ")
        second = second.replace(f"({name})", f"({name}2)").replace(f", {name})", f", {name}2)")
    second = second.replace("(x, ", "(n, ").replace("n2 = ", "y = ")
    check(FuseLayerNorm(), before=graph(f"{CORE} {second}"), after=fused(f"n = {LN}(x, g) y = {LN}(n, h)"))


@pytest.mark.parametrize("clamp", ["Max(z, v0)", "Max(v0, z)", "Relu(v0)", "Clip(v0, z)", "Abs(v0)"])
def test_clamped_moments(clamp: str) -> None:
    check(
        FuseLayerNorm(),
        before=graph(
            "m = ReduceMean(x, a) q = Mul(x, x) p = ReduceMean(q, a) mm = Mul(m, m) v0 = Sub(p, mm)"
            f" v = {clamp} ve = Add(v, e) s = Sqrt(ve) d = Sub(x, m) y = Div(d, s)",
            constants="float z = {0}",
        ),
        after=fused(f"y = {LN}(x, g)"),
        tolerance=1e-4,
    )


@pytest.mark.parametrize(
    ("x", "axes", "order", "back"),
    [
        ("2,64,4", "{1}", [0, 2, 1], [0, 2, 1]),
        ("1,32,4", "{1}", [0, 2, 1], [0, 2, 1]),
        ("64,2,3", "{0}", [1, 2, 0], [2, 0, 1]),
        ("1,8,2,8", "{1,3}", [0, 2, 1, 3], [0, 2, 1, 3]),
    ],
)
def test_inner_axes_go_to_the_end_and_back(x: str, axes: str, order: list[int], back: list[int]) -> None:
    before = graph(CORE.replace("n = ", "y = "), x, axes=axes)
    axis = -(axes.count(",") + 1)
    check(
        FuseLayerNorm(),
        before=before,
        after=fused(
            f"t = Transpose<perm={order}>(x) l = LayerNormalization<axis={axis}, epsilon=0.01>(t, g)"
            f" y = Transpose<perm={back}>(l)",
            x,
        ),
    )
    check(FuseLayerNorm(transpose=False), before=before, after=None, because="not the last ones")


@pytest.mark.parametrize("x", ["1,16,64", "2,32,64", "1,31,64", "2,63,5", "N,31,2", "2,1024,256", "1,1024,2048"])
def test_inner_axes_where_transposing_does_not_pay(x: str) -> None:
    check(
        FuseLayerNorm(), before=graph(CORE.replace("n = ", "y = "), x, axes="{1}"), after=None, because="there and back"
    )


def test_other_targets_take_every_inner_axis() -> None:
    before = graph(CORE.replace("n = ", "y = "), "1,2,64", axes="{1}")
    module = check(
        FuseLayerNorm(),
        before=before,
        after=fused(
            f"t = Transpose<perm=[0,2,1]>(x) l = {LN}(t, g) y = Transpose<perm=[0,2,1]>(l)",
            "1,2,64",
        ),
        target="cuda",
    )
    assert module.opset() == 21


def old(text: str) -> str:
    return text.replace("ReduceMean(x, a)", "ReduceMean<axes=[-1]>(x)").replace(
        "ReduceMean(q, a)", "ReduceMean<axes=[-1]>(q)"
    )


def test_opset_16_asks_for_17() -> None:
    before = old(graph(CORE.replace("n = ", "y = ")))
    check(FuseLayerNorm(), before=before, after=None, because="needs opset 17", opset=16)
    check(FuseLayerNorm(), before=before, after=fused(f"y = {LN}(x, g)"), opset=17)


@pytest.mark.parametrize(
    ("old_text", "new_text", "reason"),
    [
        ("ve = Add(v, e) s = Sqrt(ve)", "s = Sqrt(v)", "no epsilon"),
        ("ve = Add(v, e) s = Sqrt(ve)", "s0 = Sqrt(v) s = Add(s0, e)", "nothing is normalized"),
        ("ReduceMean(q, a)", "ReduceMean(q, c)", ""),
        ("Mul(d, d)", "Mul(d, x)", ""),
        ("Mul(d, d)", "Pow(d, e)", ""),
        ("ReduceMean(q, a)", "ReduceMax(q, a)", ""),
        ("n = Div(d, s)", "n = Mul(d, s)", "nothing is normalized"),
        ("n = Div(d, s)", "n = Div(s, d)", "nothing is normalized"),
        ("n = Div(d, s)", "n = Div(x, s)", "nothing is normalized"),
        ("n = Div(d, s)", "n0 = Mul(x, d) n = Div(n0, s)", "nothing is normalized"),
        ("n = Div(d, s)", "n0 = Div(d, s) n = Div(n0, s)", "nothing is normalized"),
    ],
)
def test_what_is_no_layer_norm(old_text: str, new_text: str, reason: str) -> None:
    nodes = CORE.replace(old_text, new_text).replace("n = ", "y = ")
    assert nodes != CORE
    inner = "n0 = Div(d, s)" in new_text
    text = graph(nodes, constants="int64[1] c = {1}", x="2,4,4")
    if inner:
        check(FuseLayerNorm(), before=text, after=None, because="has other users")
    else:
        check(FuseLayerNorm(), before=text, after=None, because=reason)


@pytest.mark.parametrize("name", ["m", "d", "q", "v", "ve", "s"])
def test_values_that_escape(name: str) -> None:
    shape = "2,3,4" if name in "dq" else "2,3,1"
    text = graph(CORE.replace("n = ", "y = ")).replace("(float[2,3,4] y)", f"(float[2,3,4] y, float[{shape}] {name})")
    check(FuseLayerNorm(), before=text, after=None, because=f"'{name}' is a graph output")
    text = text.replace(f"float[{shape}] {name})", f"float[{shape}] z)").replace("y = ", f"z = Neg({name}) y = ")
    check(FuseLayerNorm(), before=text, after=None, because=f"'{name}' has other users")


def test_unknown_size_and_double() -> None:
    nodes = CORE.replace("n = ", "y = ")
    check(FuseLayerNorm(), before=graph(nodes, "2,N"), after=None, because="size of the normalized axes is not known")
    double = graph(nodes).replace("float", "double")
    check(FuseLayerNorm(), before=double, after=None, because="not computed in its own precision")


def test_a_large_scale_of_ones_is_not_added() -> None:
    nodes = CORE.replace("n = ", "y = ")
    check(FuseLayerNorm(), before=graph(nodes, "1,1025"), after=None, because="1025 ones")
    check(FuseLayerNorm(), before=graph(nodes, "1,1024"), after=fused(f"y = {LN}(x, g)", "1,1024"))


@pytest.mark.parametrize("g", [", float[3,4] g", ", float[1,4] g"])
def test_computed_scale_of_another_shape_stays_behind(g: str) -> None:
    check(
        FuseLayerNorm(),
        before=graph(f"{CORE} y = Mul(n, g)", inputs=g),
        after=fused(f"n = {LN}(x, c) y = Mul(n, g)", inputs=g),
    )


def test_overridable_epsilon_stays() -> None:
    text = graph(CORE.replace("n = ", "y = ")).replace("float e = {0.01}, ", "")
    check(FuseLayerNorm(), before=text.replace("x)", "x, float e)", 1), after=None, because="")


def test_a_subgraph_border() -> None:
    nodes = CORE.replace("n = Div(d, s)", "")
    text = graph(
        f"{nodes} y = If(c) <then_branch = t () => (float[2,3,4] p) {{ p = Div(d, s) }},"
        " else_branch = f () => (float[2,3,4] o) { o = Neg(x) }>",
        inputs=", bool c",
    )
    check(FuseLayerNorm(), before=text, after=None, because="nothing is normalized")


def test_inside_a_subgraph() -> None:
    inner = CORE.replace("n = ", "p = ")
    text = graph(
        f"y = If(c) <then_branch = t () => (float[2,3,4] p) {{ {inner} }},"
        " else_branch = f () => (float[2,3,4] o) { o = Neg(x) }>",
        inputs=", bool c",
    )
    module = fcc.read(testing._model(text, 21, {}, 0))
    shapes.infer(module)
    assert run_pass(FuseLayerNorm(), module, PassContext(get_target("cpu"))) == 1
    assert [n.op_type for n in module.nodes()] == ["If", "LayerNormalization", "Neg"]


def test_float16() -> None:
    text = graph(f"{CORE} y = Mul(n, g)", constants="float[4] g").replace("float", "float16").replace(" = {0.01}", "")
    after = fused("y = LayerNormalization<axis=-1, epsilon=0.01000213623046875>(x, g)").replace("float", "float16")
    check(FuseLayerNorm(), before=text, after=after, constants={"e": 0.01})


@pytest.mark.parametrize(("batches", "applied"), [(1, 1), (2, 0)])
def test_symbols_count_as_the_sizes_that_are_timed(batches: int, applied: int) -> None:
    module = fcc.read(testing._model(graph(CORE.replace("n = ", "y = "), "N,32,4", axes="{1}"), 21, {}, 0))
    shapes.infer(module)
    assert run_pass(FuseLayerNorm(), module, PassContext(get_target("cpu"), shapes={"N": batches})) == applied


@pytest.mark.zoo
def test_magika_has_two() -> None:
    path = Path(os.environ.get("FCC_ZOO", "../shared")) / "models" / "magika_standard_v3_3.onnx"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = fcc.compile(
        path,
        passes="fold-shapes,eliminate-no-ops,convert-opset,fuse-layer-norm,fuse-softmax",
        plugins=[ConvertOpset(), FuseLayerNorm(), FuseSoftmax()],
    )
    types = [n.op_type for n in found.proto().graph.node]
    assert types.count("LayerNormalization") == 2
    assert types.count("Softmax") == 1
    assert not {"Sqrt", "ReduceSum", "Exp"} & set(types)
    assert found.proto().opset_import[0].version == 20  # its GELU asks for more than the normalizations
