"""fuse-rms-norm: one test per condition; the spellings are in test_norm_spellings.py."""

from __future__ import annotations

import pytest

from fcc.passes.fuse_rms_norm import FuseRmsNorm
from fcc.testing import check

CORE = "q = Mul(x, x) m = ReduceMean(q, a) v = Add(m, e) s = Sqrt(v) r = Reciprocal(s) n = Mul(x, r)"
RMS = "RMSNormalization<axis=-1, epsilon=0.01>"
FUSED_AT_LOAD = "q = Pow(x, two) m = ReduceMean(q, a) v = Add(m, e) s = Sqrt(v) n = Div(x, s) y = Mul(n, g)"


def graph(nodes: str, x: str = "2,3,4", constants: str = "float[4] g", inputs: str = "", axes: str = "{-1}") -> str:
    head = ["float e = {0.01}", f"int64[{axes.count(',') + 1}] a = {axes}", "float two = {2}", constants]
    return f"g (float[{x}] x{inputs}) => (float[{x}] y) <{', '.join(filter(None, head))}> {{ {nodes} }}"


def fused(nodes: str, x: str = "2,3,4", inputs: str = "") -> str:
    return f"g (float[{x}] x{inputs}) => (float[{x}] y) {{ {nodes} }}"


def test_from_opset_23_it_is_the_operator() -> None:
    for nodes in (f"{CORE} y = Mul(n, g)", FUSED_AT_LOAD):
        check(FuseRmsNorm(), before=graph(nodes, "N,3,4"), after=fused(f"y = {RMS}(x, g)", "N,3,4"), opset=23)
    check(FuseRmsNorm(), before=graph(CORE.replace("n = ", "y = ")), after=fused(f"y = {RMS}(x, o)"), opset=23)


def test_two_axes() -> None:
    before = graph(f"{CORE} y = Mul(n, g)", constants="float[3,4] g", axes="{1,2}")
    after = fused("y = RMSNormalization<axis=-2, epsilon=0.01>(x, g)")
    check(FuseRmsNorm(), before=before, after=after, opset=23)
    check(FuseRmsNorm(), before=before, after=None, because="over one axis")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize("opset", [18, 22])
def test_below_it_is_the_form_that_onnxruntime_fuses(opset: int, target: str) -> None:
    check(
        FuseRmsNorm(),
        before=graph(f"{CORE} y = Mul(g, n)"),
        after=fused(FUSED_AT_LOAD),
        opset=opset,
        target=target,
    )


def test_axes_are_an_attribute_below_18() -> None:
    old = CORE.replace("ReduceMean(q, a)", "ReduceMean<axes=[2]>(q)")
    after = FUSED_AT_LOAD.replace("ReduceMean(q, a)", "ReduceMean<axes=[-1]>(q)")
    check(FuseRmsNorm(), before=graph(f"{old} y = Mul(n, g)"), after=fused(after), opset=17)


def test_below_23_where_that_is_of_no_use() -> None:
    check(FuseRmsNorm(), before=graph(FUSED_AT_LOAD), after=None, because="onnxruntime fuses itself")
    check(FuseRmsNorm(), before=graph(CORE.replace("n = ", "y = ")), after=None, because="only with a scale")
    before = graph(f"{CORE} y = Mul(n, g)")
    check(FuseRmsNorm(), before=before, after=None, because="one spelling of the primitives", target="tensorrt")


def test_an_addend_stays_behind() -> None:
    check(
        FuseRmsNorm(),
        before=graph(f"{CORE} k = Mul(n, g) y = Add(k, b)", constants="float[4] g, float[4] b"),
        after=fused(f"k = {RMS}(x, g) y = Add(k, b)"),
        opset=23,
    )


@pytest.mark.parametrize(
    ("nodes", "x", "axes", "because"),
    [
        (CORE.replace("n = ", "y = "), "2,4,4", "{1}", "not the last ones"),
        (CORE.replace("n = ", "y = "), "2,4,N", "{2}", "of known size"),
        (CORE.replace("n = ", "y = "), "1,1025", "{1}", "1025 ones"),
        (CORE.replace("v = Add(m, e)", "v = Identity(m)").replace("n = ", "y = "), "2,4", "{1}", "no epsilon"),
        (CORE.replace("Mul(x, r)", "Mul(q, r)").replace("n = ", "y = "), "2,4", "{1}", "nothing is normalized"),
    ],
)
def test_refusals(nodes: str, x: str, axes: str, because: str) -> None:
    check(FuseRmsNorm(), before=graph(nodes, x, axes=axes), after=None, because=because, opset=23)


def test_scale_that_is_none_stays_behind() -> None:
    check(
        FuseRmsNorm(),
        before=graph(f"{CORE} y = Mul(n, g)", constants="float[3,1] g"),
        after=fused(f"n = {RMS}(x, o) y = Mul(n, g)"),
        opset=23,
    )


def test_values_that_escape() -> None:
    text = graph(f"{CORE} y = Mul(n, g)").replace("y) <", "y, float[2,3,1] r) <")
    check(FuseRmsNorm(), before=text, after=None, because="'r' is a graph output", opset=23)
