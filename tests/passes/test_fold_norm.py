"""fold-norm: scale and bias after a normalization, and casts around one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.ir import Module
from fcc.passes.fold_norm import FoldNorm
from fcc.testing import check

LN = "LayerNormalization<axis=-1, epsilon=0.01>"


def graph(nodes: str, constants: str = "", x: str = "2,3,4") -> str:
    return f"g (float[{x}] x) => (float[{x}] y) " + (f"<{constants}> " if constants else "") + f"{{ {nodes} }}"


@pytest.mark.parametrize(
    "nodes", ["n = Mul(l, f) y = Add(n, c)", "n = Mul(f, l) y = Add(c, n)", "n = Add(l, c) y = Mul(n, f)"]
)
@pytest.mark.parametrize("bias", ["", ", b"])
def test_factor_and_addend(nodes: str, bias: str) -> None:
    check(
        FoldNorm(),
        before=graph(f"l = {LN}(x, s{bias}) {nodes}", "float[4] s, float[4] b, float[1,1,4] f, float[1] c", "N,3,4"),
        after=graph(f"y = {LN}(x, s, b)", x="N,3,4"),
    )


@given(st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4))
def test_the_numbers(numbers: list[float]) -> None:
    s, b, f, c = numbers
    module = check(
        FoldNorm(),
        before=graph(f"l = {LN}(x, s, b) n = Mul(l, f) y = Add(n, c)", "float[4] s, float[4] b, float f, float c"),
        after=graph(f"y = {LN}(x, s, b)"),
        constants={"s": s, "b": b, "f": f, "c": c},
        tolerance=1e-4,
    )
    scale, bias = (Module.constant(v) for v in next(iter(module.nodes())).inputs[1:])
    assert scale is not None
    assert bias is not None
    np.testing.assert_allclose(scale, np.full(4, np.float64(s) * f), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(bias, np.full(4, np.float64(b) * f + c), rtol=1e-5, atol=1e-6)


def test_rms_norm_takes_a_factor_but_no_addend() -> None:
    rms = "RMSNormalization<axis=-2, epsilon=0.01>"
    check(
        FoldNorm(),
        before=graph(f"l = {rms}(x, s) n = Mul(l, f) y = Add(n, f)", "float[3,4] s, float[3,1] f"),
        after=graph(f"n = {rms}(x, s) y = Add(n, f)"),
        opset=23,
    )


@pytest.mark.parametrize("f", ["3,4", "2,1,1", "3,1"])
def test_other_axes_stay(f: str) -> None:
    before = graph(f"l = {LN}(x, s) y = Mul(l, f)", f"float[4] s, float[{f}] f")
    check(FoldNorm(), before=before, after=None, because="not normalized")


def test_a_factor_that_adds_axes_stays() -> None:
    text = graph(f"l = {LN}(x, s) y = Mul(l, f)", "float[4] s, float[1,1,1,4] f").replace(
        "(float[2,3,4] y", "(float[1,2,3,4] y"
    )
    check(FoldNorm(), before=text, after=None, because="another shape")


def test_overflow_stays() -> None:
    before = graph(f"l = {LN}(x, s) y = Mul(l, f)", "float[4] s, float f")
    check(FoldNorm(), before=before, after=None, because="not finite", constants={"s": 1e30, "f": 1e30})
    check(FoldNorm(), before=before, after=None, because="not finite", constants={"s": 1, "f": np.inf})


def test_used_statistics_and_other_users_stay() -> None:
    text = graph(f"l, m = {LN}(x, s) y = Mul(l, s)", "float[4] s").replace("y) <", "y, float[2,3,1] m) <")
    check(FoldNorm(), before=text, after=None, because="'m' is a graph output")
    text = graph(f"l = {LN}(x, s) y = Mul(l, s)", "float[4] s").replace("y) <", "y, float[2,3,4] l) <")
    check(FoldNorm(), before=text, after=None, because="'l' is a graph output")


HALF = f"w = Cast<to=1>(x) l = {LN}(w, s, b) y = Cast<to=10>(l)"


def half(nodes: str, constants: str = "") -> str:
    return graph(nodes, constants).replace("float[2", "float16[2")


def test_casts_around_a_norm() -> None:
    given_ = {"s": [1, 2, 3, 0.5], "b": [0, 1, -1, 4]}
    before = half(HALF, "float[4] s, float[4] b")
    check(FoldNorm(), before=before, after=half(f"y = {LN}(x, s, b)"), constants=given_)
    check(FoldNorm(), before=before, after=None, because="its bias has no exact form", constants={**given_, "b": 0.1})
    check(FoldNorm(), before=before, after=None, because="its scale has no exact form", constants={**given_, "s": 1e6})


def test_the_wide_value_may_have_other_users() -> None:
    before = half(HALF, "float[4] s, float[4] b").replace("y) <", "y, float[2,3,4] w) <")
    after = half(f"w = Cast<to=1>(x) y = {LN}(x, s, b)").replace("y) ", "y, float[2,3,4] w) ")
    check(FoldNorm(), before=before, after=after, constants={"s": 1, "b": 2})


def test_then_scale_and_bias_of_half_precision() -> None:
    nodes = HALF.replace(", b)", ")").replace("y = ", "h = ") + " k = Mul(h, g) y = Add(k, c)"
    before = half(nodes, "float[4] s, float16[4] g, float16[4] c")
    check(FoldNorm(), before=before, after=half(f"y = {LN}(x, g, c)"), constants={"s": 1})


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        ("to=10", "to=16", "no casts from half"),
        ("epsilon", "stash_type=16, epsilon", "not computed in single"),
        ("to=1>", "to=11>", ""),
    ],
)
def test_other_casts_stay(old: str, new: str, because: str) -> None:
    text = half(HALF.replace(old, new), "float[4] s, float[4] b")
    text = text.replace("(float16[2,3,4] y", "(bfloat16[2,3,4] y") if new == "to=16" else text
    text = text.replace("float[4]", "double[4]") if new == "to=11>" else text
    check(FoldNorm(), before=text, after=None, because=because, constants={"s": 1, "b": 2})


@pytest.mark.parametrize(("s", "b"), [("1,4", "4"), ("4", "1,4"), ("4", "1"), ("1,4", "1,4")])
def test_scale_and_bias_of_other_shapes_stay(s: str, b: str) -> None:
    before = graph(f"l = {LN}(x, s, b) y = Mul(l, f)", f"float[{s}] s, float[{b}] b, float f")
    check(FoldNorm(), before=before, after=None, because="not the shape of the normalized axes")


@pytest.mark.parametrize(("axis", "shape"), [("", "4"), ("axis=1, ", "3,4"), ("axis=2, ", "4"), ("axis=0, ", "2,3,4")])
def test_axes_by_number_and_by_default(axis: str, shape: str) -> None:
    norm = f"LayerNormalization<{axis}epsilon=0.01>"
    check(
        FoldNorm(),
        before=graph(f"l = {norm}(x, s) y = Mul(l, f)", f"float[{shape}] s, float[4] f"),
        after=graph(f"y = {norm}(x, s)"),
    )


def test_double_precision_stays() -> None:
    """Its statistics are in single precision (stash_type), its scale is not."""
    before = graph(f"l = {LN}(x, s) y = Mul(l, f)", "float[4] s, float f").replace("float", "double")
    check(FoldNorm(), before=before, after=None, because="not folded")
