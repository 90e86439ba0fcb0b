from typing import Any

import numpy as np
import pytest

from fcc import ir
from fcc.passes.fold_concat_constants import FoldConcatConstants
from fcc.testing import check

P = FoldConcatConstants()
FLAT = "g (float[2,3] x, float[2,2] z) => (float[2,5] y)"
DECLARED = "float[2,2] c, float[5,5] w, float[7,5] w7, float[5] b, float[2,2] uneven"
EQUAL = {"c": [[1.0, -2.0]] * 2}


def rewritten(
    body: str, after: str | None, because: str = "", io: str = FLAT, declared: str = DECLARED, **given: Any
) -> ir.Module:
    return check(
        P,
        before=f"{io} <{declared}> {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants={**EQUAL, **given},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("j = Concat<axis=1>(x, c) y = Gemm(j, w, b)", "y = Gemm(x, v, d)"),
        ("j = Concat<axis=-1>(c, x) y = Gemm(j, w)", "y = Gemm(x, v, d)"),
        ("j = Concat<axis=1>(x, c) y = Gemm<transB=1, alpha=0.5, beta=2.0>(j, w, b)", "y = Gemm(x, v, d)"),
        ("j = Concat<axis=1>(x, c, z) y = Gemm(j, w7, b)", "j = Concat<axis=1>(x, z) y = Gemm(j, v, d)"),
        ("j = Concat<axis=1>(x, c) m = MatMul(j, w) y = Add(m, b)", "m = MatMul(x, v) y = Add(m, d)"),
        ("j = Concat<axis=1>(x, c) y = MatMul(j, w)", "m = MatMul(x, v) y = Add(m, d)"),
    ],
)
def test_constant_rows(body: str, after: str) -> None:
    rewritten(body, after)


def test_constants_that_are_repeated() -> None:
    io = "g (float[N,4,3] x) => (float[N,4,5] y)"
    declared = "float[1,1,2] c, int64[1] two, float[5,5] w, float[5] b, float zero"
    body = "s = Shape<start=0, end=2>(x) e = Concat<axis=0>(s, two) t = Expand(c, e) j = Concat<axis=2>(t, x) m = MatMul(j, w) y = Add(m, b)"
    after = "s = Shape<start=0, end=2>(x) e = Concat<axis=0>(s, two) t = Expand(c, e) m = MatMul(x, v) y = Add(m, d)"
    rewritten(body, after, io=io, declared=declared, c=[[[0.5, -1.0]]], two=2)
    body = "s = Shape(x) r = ConstantOfShape(s) j = Concat<axis=2>(x, r) y = MatMul(j, w)"
    after = "s = Shape(x) r = ConstantOfShape(s) y = MatMul(x, v)"
    rewritten(body, after, io=io, declared="float[6,5] w")


IMAGE = "g (float[N,3,6,6] x) => (float[N,4,H,W] y)"


@pytest.mark.parametrize(("pads", "number"), [("", 1.5), ("<pads=[1,1,1,1]>", 0.0)])
def test_channels(pads: str, number: float) -> None:
    io = IMAGE.replace("N", "2")
    body = f"j = Concat<axis=1>(x, c) y = Conv{pads}(j, w, b)"
    after = f"y = Conv{pads}(x, v, d)"
    rewritten(body, after, io=io, declared="float[2,2,6,6] c, float[4,5,3,3] w, float[4] b", c=number)


def test_channels_of_a_convolution_that_pads_stay() -> None:
    body = "j = Concat<axis=1>(x, c) y = Conv<pads=[1,1,1,1]>(j, w)"
    rewritten(
        body, None, "pads with zeros", io=IMAGE.replace("N", "2"), declared="float[2,2,6,6] c, float[4,5,3,3] w", c=1.5
    )


STAYS = "g (float[2,3] x, float[2,2] z, float[5,5] wx) => (float[2,5] y, float[A,B] q)"


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("j = Concat<axis=1>(x, uneven) y = Gemm(j, w, b) q = Neg(x)", "no part of the Concat is constant"),
        ("j = Concat<axis=1>(x, z) y = Gemm(j, w, b) q = Neg(x)", "no part of the Concat is constant"),
        ("j = Concat<axis=1>(c, c) y = Gemm(j, w4, b) q = Neg(x)", "or all are"),
        ("j = Concat<axis=1>(x, c) y = Gemm(j, w, b) q = Neg(j)", "the Concat has other users"),
        ("j = Concat<axis=1>(x, c) y = Gemm(j, w, b) q = MatMul(wx, w)", "has other users and would stay"),
        ("j = Concat<axis=1>(x, c) y = Gemm(j, wx, b) q = Neg(x)", "the weight is not constant"),
    ],
)
def test_what_stays(body: str, because: str) -> None:
    rewritten(body, None, because, io=STAYS, declared=f"{DECLARED}, float[4,5] w4", uneven=[[1.0, 2.0], [1.0, 3.0]])


def test_a_concat_of_rows_is_no_site() -> None:
    text = (
        "g (float[3,4] x) => (float[5,2] y) <float[2,4] c, float[4,2] w> { j = Concat<axis=0>(x, c) y = MatMul(j, w) }"
    )
    check(P, before=text, after=None, because="not along the features", constants={"c": 1.0})


def test_a_bias_out_of_range_stays() -> None:
    text = "g (float16[2,3] x) => (float16[2,4] y) <float16[2,2] c, float16[5,4] w> { j = Concat<axis=1>(x, c) y = Gemm(j, w) }"
    check(P, before=text, after=None, because="leaves the range", constants={"c": 300.0, "w": 300.0})


def test_the_numbers() -> None:
    w, b = np.arange(25.0).reshape(5, 5), np.ones(5)
    module = rewritten("j = Concat<axis=1>(x, c) y = Gemm<alpha=2.0, beta=3.0>(j, w, b)", "y = Gemm(x, v, d)", w=w, b=b)
    (node,) = module.nodes()
    weight, bias = (ir.Module.constant(v) for v in node.inputs[1:])
    assert weight is not None
    assert bias is not None
    np.testing.assert_array_equal(weight, 2 * w[:3])
    np.testing.assert_array_equal(bias, 2 * (w[3] - 2 * w[4]) + 3)
