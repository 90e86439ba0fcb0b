from typing import Any

import numpy as np
import pytest

from fcc import ir
from fcc.passes.convert_diagonal_linears import ConvertDiagonalLinears
from fcc.testing import check

P = ConvertDiagonalLinears()
DENSE = "g (float[N,S,4] x) => (float[N,S,4] y)"
FLAT = "g (float[N,4] x) => (float[N,4] y)"
IMAGE = "g (float[N,4,5,5] x) => (float[N,4,H,W] y)"
D = np.diag([2.0, -1.0, 0.5, 3.0])


def constants(module: ir.Module) -> dict[str, Any]:
    found = {}
    for node in module.nodes():
        for value in node.inputs:
            array = ir.Module.constant(value)
            if array is not None:
                found[node.op_type] = array
    return found


def rewritten(io: str, declared: str, body: str, after: str | None, because: str = "", **given: Any) -> dict[str, Any]:
    module = check(
        P,
        before=f"{io} <{declared}> {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants=given,
    )
    return constants(module)


def test_matmul() -> None:
    found = rewritten(DENSE, "float[4,4] w", "y = MatMul(x, w)", "y = Mul(x, d)", w=D)
    assert found["Mul"].tolist() == [2.0, -1.0, 0.5, 3.0]
    found = rewritten(
        DENSE, "float[4,4] w, float[4] b", "m = MatMul(x, w) y = Add(b, m)", "m = Mul(x, d) y = Add(m, b)", w=D
    )
    assert found["Add"].shape == (4,)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    body = f"y = Gemm<transB={transposed}, alpha=0.5, beta=2.0>(x, w, b)"
    found = rewritten(FLAT, "float[4,4] w, float[1,4] b", body, "m = Mul(x, d) y = Add(m, b)", w=D, b=[[1, 2, 3, 4]])
    assert found["Mul"].tolist() == [1.0, -0.5, 0.25, 1.5]
    assert found["Add"].tolist() == [2, 4, 6, 8]


def test_convolutions() -> None:
    found = rewritten(IMAGE, "float[4,4,1,1] w", "y = Conv(x, w)", "y = Mul(x, d)", w=D.reshape(4, 4, 1, 1))
    assert found["Mul"].shape == (4, 1, 1)
    found = rewritten(
        IMAGE, "float[4,1,1,1] w", "y = Conv<group=4>(x, w)", "y = Mul(x, d)", w=np.arange(4).reshape(4, 1, 1, 1)
    )
    assert found["Mul"].reshape(-1).tolist() == [0, 1, 2, 3]
    rewritten(
        IMAGE,
        "float[4,4,1,1] w, float[4] b",
        "y = Conv(x, w, b)",
        "m = Mul(x, d) y = Add(m, b)",
        w=D.reshape(4, 4, 1, 1),
    )


def test_identity() -> None:
    rewritten(DENSE, "float[4,4] w", "m = MatMul(x, w) y = Sin(m)", "m = Identity(x) y = Sin(m)", w=np.eye(4))
    rewritten(
        IMAGE,
        "float[4,4,1,1] w, float[4] b",
        "y = Conv(x, w, b)",
        "y = Identity(x)",
        w=np.eye(4).reshape(4, 4, 1, 1),
        b=0.0,
    )
    rewritten(FLAT, "float[4,4] w, float[4] b", "y = Gemm(x, w, b)", "y = Add(x, b)", w=np.eye(4))


LAYER = "float[4,4,3,3] v, float[4,1,1,1] w, float[4] b"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("a = Conv(x, v) y = Conv<group=4>(a, w, b)", "a = Conv(x, v) m = Mul(a, d) y = Add(m, e)"),
        ("a = Conv<group=4>(x, w, b) y = Conv(a, v)", "m = Mul(x, d) a = Add(m, e) y = Conv(a, v)"),
    ],
)
def test_a_depthwise_layer_with_a_bias_beside_a_layer(body: str, after: str) -> None:
    rewritten(IMAGE, LAYER, body, after)


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv<group=4>(x, w, b)",
        "a = Conv<group=4>(x, w, b) y = Conv<pads=[1,1,1,1]>(a, v)",
        'a = Conv<group=4>(x, w, b) y = Conv<auto_pad="SAME_LOWER">(a, v)',
        "r = Relu(x) a = Conv<group=4>(r, w, b) y = Relu(a)",
        "q = Conv(x, v) r = Relu(q) a = Conv<group=4>(r, w, b) y = Relu(a)",
    ],
)
def test_a_depthwise_layer_with_a_bias_elsewhere_stays(body: str) -> None:
    rewritten(IMAGE, LAYER, body, None, "no factor folds into")


def test_a_convolution_that_others_read_absorbs_nothing() -> None:
    text = f"{IMAGE} <{LAYER}> {{ a = Conv<pads=[1,1,1,1]>(x, v) m = Conv<group=4>(a, w, b) y = Add(m, a) }}"
    check(P, before=text, after=None, because="no factor folds into")


@pytest.mark.parametrize(
    ("io", "declared", "body", "because"),
    [
        (DENSE, "float[4,4] w", "y = MatMul(x, w)", "not diagonal"),
        (FLAT, "float[4,5] w", "y = Gemm(x, w)", "not as many outputs"),
        (FLAT, "float[4,4] w, float[4,4] b", "y = Gemm(x, w, b)", "no constant row"),
        (IMAGE, "float[4,1,3,3] w", "y = Conv<group=4>(x, w)", "larger than 1"),
        (IMAGE, "float[8,1,1,1] w", "y = Conv<group=4>(x, w)", "or reads several channels"),
        (IMAGE, "float[4,2,1,1] w", "y = Conv<group=2>(x, w)", "or reads several channels"),
        (IMAGE, "float[4,1,1,1] w", "y = Conv<group=4, strides=[2,2]>(x, w)", "strides or pads"),
        (IMAGE, "float[4,1,1,1] w", "y = Conv<group=4, pads=[1,1,1,1]>(x, w)", "strides or pads"),
        (IMAGE, "float[4,4,1,1] w", "y = Conv<strides=[2,2]>(x, w)", "the stride is not 1"),
    ],
)
def test_other_layers_stay(io: str, declared: str, body: str, because: str) -> None:
    io = (
        io.replace("float[N,4] y", "float[N,K] y")
        .replace("float[N,4,H,W] y", "float[N,K,H,W] y")
        .replace("float[N,4] x", "float[4,4] x")
    )
    rewritten(io, declared, body, None, because)


@pytest.mark.parametrize("at", [(0, 2), (2, 0), (1, 2), (3, 1)])
def test_one_element_beside_the_diagonal(at: tuple[int, int]) -> None:
    w = D.copy()
    w[at] = 0.25
    rewritten(DENSE, "float[4,4] w", "y = MatMul(x, w)", None, "not diagonal", w=w)


def test_an_element_in_place_of_one_on_the_diagonal() -> None:
    w = D.copy()
    w[1, 1], w[1, 2] = 0, 1
    rewritten(DENSE, "float[4,4] w", "y = MatMul(x, w)", None, "not diagonal", w=w)


def test_numbers_out_of_range_and_variable_weights_stay() -> None:
    io = FLAT.replace("float[", "float16[")
    body = "y = Gemm<alpha=100.0>(x, w)"
    text = f"{io} <float16[4,4] w> {{ {body} }}"
    check(P, before=text, after=None, because="leaves the range", constants={"w": np.eye(4) * 1000})
    check(
        P,
        before=f"{FLAT} <float[4,4] w, float[4] b> {{ y = Gemm(x, w, b) }}",
        after=None,
        because="leaves the range",
        constants={"w": np.eye(4), "b": np.inf},
    )
    check(
        P,
        before="g (float[N,4] x, float[4,4] w) => (float[N,4] y) { y = MatMul(x, w) }",
        after=None,
        because="not constant",
    )
    text = "g (float[N,4,5,5] x, float[4,1,1,1] w) => (float[N,4,5,5] y) { y = Conv<group=4>(x, w) }"
    check(P, before=text, after=None, because="not constant")
    text = "g (int32[N,4] x) => (int32[N,4] y) <int32[4,4] w> { y = MatMul(x, w) }"
    check(P, before=text, after=None, because="no float", constants={"w": np.eye(4)})
