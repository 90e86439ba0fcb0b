"""fuse-instance-norm: one test per condition; the spellings are in test_norm_spellings.py."""

from __future__ import annotations

import numpy as np
import pytest

from fcc.ir import Module
from fcc.passes.fuse_instance_norm import FuseInstanceNorm
from fcc.testing import check

CORE = "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) ve = Add(v, e) s = Sqrt(ve) n = Div(d, s)"
IN = "InstanceNormalization<epsilon=0.01>"


def graph(nodes: str, x: str, axes: str, constants: str = "", inputs: str = "") -> str:
    head = ", ".join(filter(None, ["float e = {0.01}", f"int64[{axes.count(',') + 1}] a = {axes}", constants]))
    return f"g (float[{x}] x{inputs}) => (float[{x}] y) <{head}> {{ {nodes} }}"


def fused(nodes: str, x: str, inputs: str = "") -> str:
    return f"g (float[{x}] x{inputs}) => (float[{x}] y) {{ {nodes} }}"


@pytest.mark.parametrize(("x", "axes"), [("2,3,5", "{2}"), ("N,3,H,4", "{2,3}"), ("1,1,2,3,4", "{-1,-2,2}")])
def test_scale_and_bias_per_channel(x: str, axes: str) -> None:
    shape = ",".join(["3" if x != "1,1,2,3,4" else "1"] + ["1"] * (x.count(",") - 1))
    module = check(
        FuseInstanceNorm(),
        before=graph(f"{CORE} g1 = Mul(n, g) y = Sub(g1, b)", x, axes, f"float[{shape}] g, float[{shape}] b"),
        after=fused(f"y = {IN}(x, g, b)", x),
    )
    assert [v.shape.numpy() for v in next(iter(module.nodes())).inputs[1:] if v is not None and v.shape] == [
        (int(shape[0]),)
    ] * 2


def test_the_core_of_a_group_norm() -> None:
    constants = "int64[3] r = {0,2,-1}, int64[4] back = {0,4,3,2}, float[4,1,1] g, float[4,1,1] b"
    nodes = CORE.replace("x", "z")
    module = check(
        FuseInstanceNorm(),
        before=graph(
            f"z = Reshape(x, r) {nodes} k = Reshape(n, back) g1 = Mul(k, g) y = Add(g1, b)",
            "1,4,3,2",
            "{2}",
            constants + ", float[1,2,1] h",
        ).replace("n = Div(d, s)", "n0 = Div(d, s) n = Mul(n0, h)"),
        after=fused(
            f"z = Reshape(x, r) n = {IN}(z, h, o) k = Reshape(n, back) g1 = Mul(k, g) y = Add(g1, b)", "1,4,3,2"
        ),
    )
    bias = Module.constant(list(module.nodes())[1].inputs[2])
    assert bias is not None
    assert np.array_equal(bias, np.zeros(2, np.float32))


def test_no_scale_of_higher_rank_or_over_many_elements() -> None:
    nodes = CORE.replace("n = ", "y = ")
    check(FuseInstanceNorm(), before=graph(nodes, "2,3,2,2", "{2,3}"), after=fused(f"y = {IN}(x, o, z)", "2,3,2,2"))
    check(FuseInstanceNorm(), before=graph(nodes, "1,2,1025", "{2}"), after=fused(f"y = {IN}(x, o, z)", "1,2,1025"))
    check(FuseInstanceNorm(), before=graph(nodes, "1,2,1024", "{2}"), after=None, because="a LayerNormalization")
    check(FuseInstanceNorm(), before=graph(nodes, "1,2,H", "{2}"), after=fused(f"y = {IN}(x, o, z)", "1,2,H"))


@pytest.mark.parametrize(
    ("x", "axes", "because"),
    [
        ("2,3,4,5", "{1,2,3}", "not all those behind"),
        ("2,3,4,5", "{3}", "not all those behind"),
        ("2,3,4,5", "{2}", "not all those behind"),
        ("2,C,4,5", "{2,3}", "a known number of channels"),
        ("3,4", "{1}", "not all those behind"),
    ],
)
def test_other_axes_stay(x: str, axes: str, because: str) -> None:
    check(FuseInstanceNorm(), before=graph(CORE.replace("n = ", "y = "), x, axes), after=None, because=because)


def test_scale_along_other_axes_stays_behind() -> None:
    check(
        FuseInstanceNorm(),
        before=graph(f"{CORE} y = Mul(n, g)", "2,3,4,5", "{2,3}", "float[5] g"),
        after=fused(f"n = {IN}(x, o, z) y = Mul(n, g)", "2,3,4,5"),
    )


def test_computed_scale_stays_behind() -> None:
    check(
        FuseInstanceNorm(),
        before=graph(f"{CORE} y = Mul(n, g)", "2,3,4,5", "{2,3}", inputs=", float[3,1,1] g"),
        after=fused(f"n = {IN}(x, o, z) y = Mul(n, g)", "2,3,4,5", ", float[3,1,1] g"),
    )


def test_float16_has_no_kernel_on_cpu() -> None:
    text = graph(CORE.replace("n = ", "y = "), "2,3,4,5", "{2,3}").replace("float", "float16").replace(" = {0.01}", "")
    check(FuseInstanceNorm(), before=text, after=None, because="float16", constants={"e": 0.01})


def test_values_that_escape() -> None:
    text = graph(CORE.replace("n = ", "y = "), "2,3,4,5", "{2,3}").replace("y) <", "y, float[2,3,1,1] s) <")
    check(FuseInstanceNorm(), before=text, after=None, because="'s' is a graph output")
