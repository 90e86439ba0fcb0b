from typing import Any

import pytest

from fcc.passes.convert_conv_to_gemm import ConvertConvToGemm
from fcc.testing import check

P = ConvertConvToGemm()


def holds(before: str, after: str | None, **options: Any) -> None:
    check(P, before=before, after=after, **options)


def conv(io: str, body: str, weights: str = "float[5,2,4,3] w, float[5] b", attributes: str = "") -> str:
    return f"{io} <{weights}> {{ c = Conv{attributes}(x, w, b) {body} }}"


IO = "g (float[N,2,4,3] x) => (float[N,5] y)"


@pytest.mark.parametrize("end", ["y = Flatten(c)", "y = Squeeze(c, i)", "r = Relu(c) t = Tanh(r) y = Flatten(t)"])
@pytest.mark.parametrize(
    "attributes", ["", "<kernel_shape=[4,3], strides=[2,2], pads=[0,0,0,0]>", '<auto_pad="VALID">']
)
def test_kernel_of_the_whole_input(end: str, attributes: str) -> None:
    holds(conv(IO, end, "float[5,2,4,3] w, float[5] b, int64[2] i", attributes),
          f"{IO} {{ f = Flatten(x) g1 = Gemm<transB=1>(f, v, b) c = Reshape(g1, s) {end} }}", constants={"i": [2, 3]})  # fmt: skip


def test_without_a_bias_and_in_one_dimension() -> None:
    io = "g (float[N,2,4] x) => (float[N,5] y)"
    holds(f"{io} <float[5,2,4] w> {{ c = Conv(x, w) y = Flatten(c) }}",
          f"{io} {{ f = Flatten(x) g1 = Gemm<transB=1>(f, v) c = Reshape(g1, s) y = Flatten(c) }}")  # fmt: skip


def test_many_weights_pay_for_four_rows() -> None:
    io = "g (float[{0},64,8,8] x) => (float[{0},33] y)"
    weights, end = "float[33,64,8,8] w, float[33] b", "y = Flatten(c)"
    after = f"{io.format(4)} {{ f = Flatten(x) g1 = Gemm<transB=1>(f, v, b) c = Reshape(g1, s) {end} }}"
    holds(conv(io.format(4), end, weights), after, tolerance=1e-4)
    for few in ("3", "N"):
        holds(conv(io.format(few), end, weights), None, because="so many weights for so few rows")


@pytest.mark.parametrize(
    ("before", "because"),
    [
        (conv("g (float[N,2,5,3] x) => (float[N,5,2,1] c)", "", attributes=""), "not as large as the input"),
        (conv("g (float[N,2,4,A] x) => (float[N,5,1,B] c)", ""), "not as large as the input"),
        (conv("g (float[N,2,1,1] x) => (float[N,5] y)", "y = Flatten(c)", "float[5,2,1,1] w, float[5] b"), "or is 1"),
        (conv("g (float[N,4,4,3] x) => (float[N,6] y)", "y = Flatten(c)", "float[6,2,4,3] w, float[6] b", "<group=2>"), "grouped"),
        (conv("g (float[N,2,4,3] x) => (float[N,15] y)", "y = Flatten(c)", attributes="<pads=[0,1,0,1]>"), "padded"),
        (conv("g (float[N,2,4,3] x) => (float[N,60] y)", "y = Flatten(c)", attributes='<auto_pad="SAME_UPPER">'), "padded"),
        (conv("g (float[N,2,4,3] x) => (float[N,5] y)", "y = Flatten(c)", attributes="<dilations=[1,2]>").replace("4,3] x", "4,5] x").replace("2,4,3] w", "2,4,3] w"),
         "not as large"),
        (conv("g (float[N,2,4,3] x) => (float[N,10] y)", "y = Flatten(c)", attributes="<kernel_shape=[2,3], strides=[2,2]>"), "not that of the weight"),
        (conv("g (float[N,2,4,3] x) => (float[N,5,1,1] c)", ""), "takes the axes of 1 away"),
        (conv("g (float[N,2,4,3] x) => (float[N,5,1,1] y)", "y = Relu(c)"), "takes the axes of 1 away"),
        (conv("g (float[N,2,4,3] x) => (float[N,5] y, float[5,2,4,3] v)", "y = Flatten(c) v = Neg(w)"), "the weight has other users"),
    ],
)  # fmt: skip
def test_refusals(before: str, because: str) -> None:
    holds(before, None, because=because)


def test_a_dilated_kernel_of_the_whole_input_stays() -> None:
    holds(conv("g (float[N,2,4,1] x) => (float[N,5] y)", "y = Flatten(c)", "float[5,2,4,1] w, float[5] b", "<dilations=[1,2]>"),
          None, because="dilated")  # fmt: skip


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_targets_that_were_not_measured_stay(target: str) -> None:
    holds(conv(IO, "y = Flatten(c)"), None, because="nothing says that it pays", target=target)
