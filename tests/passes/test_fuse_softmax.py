"""fuse-softmax: spellings of Softmax and LogSoftmax, and what only looks like one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.analysis.softmax import bound
from fcc.frontend import read
from fcc.passes.fuse_softmax import FuseSoftmax
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

SAFE = "m = ReduceMax(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, a)"


def graph(nodes: str, x: str = "2,3,4", axis: str = "-1", constants: str = "", out: str = "") -> str:
    head = ", ".join(filter(None, [f"int64[1] a = {{{axis}}}", constants]))
    return f"g (float[{x}] x) => (float[{out or x}] y) <{head}> {{ {nodes} }}"


def fused(nodes: str, x: str = "2,3,4") -> str:
    return f"g (float[{x}] x) => (float[{x}] y) {{ {nodes} }}"


SPELLINGS = {
    "div": (f"{SAFE} y = Div(e, s)", "Softmax"),
    "mul": (f"{SAFE} r = Reciprocal(s) y = Mul(e, r)", "Softmax"),
    "mul-first": (f"{SAFE} r = Reciprocal(s) y = Mul(r, e)", "Softmax"),
    "one-over": (f"{SAFE} r = Div(one, s) y = Mul(e, r)", "Softmax"),
    "above-minus-infinity": (f"{SAFE.replace('Sub(x, m)', 'Sub(x, mm)')} y = Div(e, s)", "Softmax"),
    "expanded": (f"{SAFE} k = Expand(s, full) y = Div(e, k)", "Softmax"),
    "reciprocal-expanded": (f"{SAFE} r = Reciprocal(s) k = Expand(r, full) y = Mul(e, k)", "Softmax"),
    "log": (f"{SAFE} l = Log(s) y = Sub(d, l)", "LogSoftmax"),
    "log-sum": (f"{SAFE.replace('s = ReduceSum', 'l = ReduceLogSum')} y = Sub(d, l)", "LogSoftmax"),
    "restored": (f"{SAFE} l = Log(s) k = Add(l, m) y = Sub(x, k)", "LogSoftmax"),
    "restored-other": (f"{SAFE} l = Log(s) k = Add(m, l) y = Sub(x, k)", "LogSoftmax"),
    "log-sum-exp": ("l = ReduceLogSumExp(x, a) y = Sub(x, l)", "LogSoftmax"),
    "exp": ("l = LogSoftmax<axis=-1>(x) y = Exp(l)", "Softmax"),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("x", ["2,3,4", "N,3,4", "1,1,1", "5"])
def test_spellings(name: str, x: str) -> None:
    nodes, op_type = SPELLINGS[name]
    if "xpand" in nodes and "N" in x:
        return
    if "mm" in nodes:
        nodes = nodes.replace("d = ", "mm = Max(low, m) d = ")
    axis = x.count(",")
    constants = f"float[1] one = {{1}}, int64[{axis + 1}] full = {{{x.replace('N', '1')}}}, float low"
    check(
        FuseSoftmax(),
        before=graph(nodes, x, constants=constants),
        after=fused(f"y = {op_type}<axis={axis}>(x)", x),
        constants={"low": -np.inf},
    )


@pytest.mark.parametrize("bounded", ["Tanh(x)", "Clip(x, low, high)", "Sigmoid(x)"])
def test_bounded_input_needs_no_maximum(bounded: str) -> None:
    nodes = f"t = {bounded} u = Mul(t, c) e = Exp(u) s = ReduceSum(e, a) y = Div(e, s)"
    constants = "float low = {-1}, float high = {0.5}, float c = {20}"
    after = f"t = {bounded} u = Mul(t, c) y = Softmax<axis=2>(u)"
    check(FuseSoftmax(), before=graph(nodes, constants=constants), after=fused(after), tolerance=1e-4)
    check(
        FuseSoftmax(), before=graph(nodes, constants=constants.replace("20", "87")), after=None, because="not bounded"
    )


def test_logarithm_of_a_bounded_softmax() -> None:
    nodes = "t = Tanh(x) p = Softmax<axis=1>(t) y = Log(p)"
    check(FuseSoftmax(), before=graph(nodes), after=fused("t = Tanh(x) y = LogSoftmax<axis=1>(t)"))
    check(FuseSoftmax(), before=graph(nodes.replace("(t)", "(x)")), after=None, because="may underflow")
    check(FuseSoftmax(), before=graph(nodes, "2,N,4"), after=None, because="may underflow")


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        ("ReduceMax(x, a)", "ReduceMax(x)", "not bounded"),
        ("ReduceMax(x, a)", "ReduceMax(x, b)", "not bounded"),
        ("ReduceMax(x, a)", "ReduceMin(x, a)", "not bounded"),
        ("Sub(x, m)", "Sub(m, x)", "not bounded"),
        ("Sub(x, m)", "Identity(x)", "not bounded"),
        ("Sub(x, m)", "Sub(x, half)", "not bounded"),
        ("s = ReduceSum(e, a)", "s = ReduceMean(e, a)", ""),
        ("s = ReduceSum(e, a)", "s = ReduceSum(d, a)", ""),
        ("s = ReduceSum(e, a)", "s = ReduceSum(e)", "several axes"),
        ("Div(e, s)", "Div(s, e)", ""),
        ("Div(e, s)", "Div(d, s)", ""),
        ("Div(e, s)", "Mul(e, s)", ""),
    ],
)
def test_what_is_no_softmax(old: str, new: str, because: str) -> None:
    nodes = f"{SAFE} y = Div(e, s)".replace(old, new)
    constants = "int64[1] b = {1}, float half = {0.5}"
    check(FuseSoftmax(), before=graph(nodes, "4,4,4", constants=constants), after=None, because=because)


def test_a_sum_laid_along_another_axis() -> None:
    nodes = "m = ReduceMax(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum<keepdims=0>(e, a) y = Div(e, s)"
    check(FuseSoftmax(), before=graph(nodes, "4,4"), after=None)
    laid = nodes.replace("y = Div(e, s)", "t = Unsqueeze(s, a) y = Div(e, t)")
    check(FuseSoftmax(), before=graph(laid, "4,4"), after=fused("y = Softmax<axis=1>(x)", "4,4"))


@pytest.mark.parametrize("name", ["m", "d", "e", "s"])
def test_values_that_escape(name: str) -> None:
    shape = "2,3,4" if name in "de" else "2,3,1"
    text = graph(f"{SAFE} y = Div(e, s)").replace("y) <", f"y, float[{shape}] {name}) <")
    check(FuseSoftmax(), before=text, after=None, because=f"'{name}' is a graph output")
    text = text.replace(f"] {name})", "] z)").replace("y = ", f"z = Neg({name}) y = ")
    check(FuseSoftmax(), before=text, after=None, because=f"'{name}' has other users")


def test_log_softmax_of_a_shared_shift_keeps_both_whole() -> None:
    text = graph(f"{SAFE} y = Div(e, s) l = Log(s) z = Sub(d, l)").replace("y) <", "y, float[2,3,4] z) <")
    check(FuseSoftmax(), before=text, after=None, because="has other users")


@pytest.mark.parametrize(("x", "pays"), [("1,32,64", True), ("1,31,64", False), ("2,64,8", True), ("2,63,8", False)])
def test_inner_axes_where_the_kernel_pays(x: str, pays: bool) -> None:
    before = graph(f"{SAFE} y = Div(e, s)", x, axis="1")
    after = fused("y = Softmax<axis=1>(x)", x)
    check(FuseSoftmax(), before=before, after=after if pays else None, because="" if pays else "there and back")
    check(FuseSoftmax(), before=before, after=after, target="cuda")


def test_double_is_kept() -> None:
    text = graph(f"{SAFE} y = Div(e, s)").replace("float", "double")
    check(FuseSoftmax(), before=text, after=fused("y = Softmax<axis=2>(x)").replace("float", "double"))


def test_overridable_x_is_no_matter_and_unknown_rank_stays() -> None:
    text = f"g (float x) => (float y) {{ {SAFE.replace(', a)', ')')} y = Div(e, s) }}"
    check(FuseSoftmax(), before=text, after=None)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Tanh(x)", 1.0),
        ("Mul(t, c)", 3.0),
        ("Mul(c, t)", 3.0),
        ("Clip(x, n, c)", 4.0),
        ("Clip(x, n)", np.inf),
        ("Relu(x)", np.inf),
        ("Mul(x, x)", np.inf),
        ("Identity(t)", 1.0),
    ],
)
def test_bound(expression: str, expected: float) -> None:
    text = graph(f"t = Sigmoid(x) y = {expression}", constants="float c = {3}, float n = {-4}")
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    assert bound(module.graph.outputs[0]) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_spellings(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    dims: list[Any] = [data.draw(st.sampled_from([1, 2, 3])) for _ in range(rank)]
    axis = data.draw(st.integers(0, rank - 1))
    if rank > 1 and data.draw(st.booleans()):
        dims[axis - 1] = "N"
    keep = data.draw(st.sampled_from([0, 1])) if rank > 1 else 1

    def laid(v: str) -> str:
        return f"Identity({v})" if keep else f"Unsqueeze({v}, a)"

    nodes = (
        f"m0 = ReduceMax<keepdims={keep}>(x, a) m = {laid('m0')} d = Sub(x, m) e = Exp(d)"
        f" s0 = ReduceSum<keepdims={keep}>(e, a)"
    )
    end, op_type = data.draw(
        st.sampled_from(
            [
                (f"s = {laid('s0')} y = Div(e, s)", "Softmax"),
                (f"s = {laid('s0')} r = Reciprocal(s) y = Mul(e, r)", "Softmax"),
                (f"r = Reciprocal(s0) s = {laid('r')} y = Mul(s, e)", "Softmax"),
                (f"l = Log(s0) s = {laid('l')} y = Sub(d, s)", "LogSoftmax"),
                (f"l = Log(s0) k = Add(l, m0) s = {laid('k')} y = Sub(x, s)", "LogSoftmax"),
            ]
        )
    )
    spelled = str(axis - rank if data.draw(st.booleans()) else axis)
    module = read(testing.model_from(graph(f"{nodes} {end}", ",".join(map(str, dims)), spelled), 18, {}, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target("cuda"), Log(strict=True))
    assert run_pass(FuseSoftmax(), module, ctx) == 1, ctx.log.refused
    ir.verify(module)
    assert [(n.op_type, n.attributes.get_int("axis")) for n in module.nodes()] == [(op_type, axis)]
    sizes = {"N": data.draw(st.integers(0, 3))}
    testing.same_outputs(before, serde.serialize_model(module.model), sizes=sizes)
