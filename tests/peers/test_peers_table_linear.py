"""Rows of the table of rewrites (peers.md, section 1a, and what no tool does): layers and what folds into them."""

from typing import Any

import numpy as np
import pytest

SPATIAL = "float[N,3,6,6] x"


# -- BatchNormalization ------------------------------------------------------------------------------------------------
BN = "float[{n}] scale, float[{n}] shift, float[{n}] mean, float[{n}] var"


def test_conv_bn(compiled: Any) -> None:
    compiled(
        f"g ({SPATIAL}) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4] b, {BN.format(n=4)}> "
        "{ t = Conv(x, w, b) y = BatchNormalization<epsilon=0.1>(t, scale, shift, mean, var) }",
        "Conv",
    )


@pytest.mark.parametrize("group", [1, 3])
def test_conv_transpose_bn_group_1_and_grouped(compiled: Any, group: int) -> None:
    out = 2 * group
    compiled(
        f"g ({SPATIAL}) => (float[N,{out},8,8] y) <float[3,2,3,3] w, {BN.format(n=out)}> "
        f"{{ t = ConvTranspose<group={group}>(x, w) y = BatchNormalization(t, scale, shift, mean, var) }}",
        "ConvTranspose",
    )


@pytest.mark.parametrize("layer", ["Gemm(x, w, b)", "Gemm<alpha=0.5, beta=2.0>(x, w, b)", "MatMul(x, w)"])
def test_gemm_bn_and_matmul_bn(compiled: Any, layer: str) -> None:
    compiled(
        f"g (float[N,4] x) => (float[N,5] y) <float[4,5] w, float[5] b, {BN.format(n=5)}> "
        f"{{ t = {layer} y = BatchNormalization(t, scale, shift, mean, var) }}",
        "Gemm",
    )


@pytest.mark.parametrize(
    ("io", "layer", "left"),
    [
        ("(float[N,3] x) => (float[N,4] y) <float[3,4] w, float[4] b", "Gemm(r, w, b)", "Relu Gemm"),
        ("(float[N,3,6,6] x) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4] b", "Conv(r, w, b)", "Relu Conv"),
    ],
)
def test_bn_forward_into_next_conv_or_gemm(compiled: Any, io: str, layer: str, left: str) -> None:
    compiled(
        f"g {io}, {BN.format(n=3)}> {{ a = Relu(x) r = BatchNormalization(a, scale, shift, mean, var) y = {layer} }}",
        left,
    )


def test_bn_forward_into_a_conv_that_pads_and_is_grouped(compiled: Any) -> None:
    """Without a shift, which the padding does not have; a layer in between keeps it from folding backwards."""
    compiled(
        f"g (float[N,4,6,6] x) => (float[N,4,6,6] y) <float[4,2,3,3] w, {BN.format(n=4)}> {'{'} a = Tanh(x) "
        "r = BatchNormalization(a, scale, shift, mean, var) y = Conv<group=2, pads=[1,1,1,1]>(r, w) }",
        "Tanh Conv",
        {"shift": 0.0, "mean": 0.0},
    )


# -- scales and biases -------------------------------------------------------------------------------------------------
def test_per_channel_mul_add_after_conv(compiled: Any) -> None:
    compiled(
        f"g ({SPATIAL}) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4,1,1] s, float[1,4,1,1] a> "
        "{ t = Conv(x, w) u = Mul(t, s) y = Add(u, a) }",
        "Conv",
    )


def test_scalar_mul_before_conv(compiled: Any) -> None:
    compiled(
        f"g ({SPATIAL}) => (float[N,4,6,6] y) <float[4,3,3,3] w, float s> "
        "{ t = Mul(x, s) y = Conv<pads=[1,1,1,1]>(t, w) }",
        "Conv",
        {"s": 1 / 255},
    )


def test_scalar_scale_into_matmul(compiled: Any) -> None:
    compiled(
        "g (float[N,5,4] x) => (float[N,5,3] y) <float[4,3] w, float s> { t = MatMul(x, w) y = Div(t, s) }",
        "MatMul",
        {"s": 8.0},
    )


def test_matmul_add_to_gemm(compiled: Any) -> None:
    compiled("g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b> { t = MatMul(x, w) y = Add(b, t) }", "Gemm")


def test_matmul_add_of_rank_3_stays_without_reshapes(compiled: Any) -> None:
    compiled(
        "g (float[N,5,4] x) => (float[N,5,3] y) <float[4,3] w, float[3] b> { t = MatMul(x, w) y = Add(t, b) }",
        "MatMul Add",
    )


# -- layers side by side -----------------------------------------------------------------------------------------------
def test_qkv_same_input_linear_merge(compiled: Any) -> None:
    row = compiled(
        "g (float[2,3,8] x) => (float[2,3,8] q, float[2,3,8] k, float[2,3,8] v) "
        "<float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8] bq, float[8] bk, float[8] bv> "
        "{ a = MatMul(x, wq) q = Add(a, bq) b = MatMul(x, wk) k = Add(b, bk) c = MatMul(x, wv) v = Add(c, bv) }",
        "MatMul Add Split",
        targets=("cpu",),
    )
    assert (8, 24) in row.shapes()


def test_same_input_conv_merge(compiled: Any) -> None:
    """Inception: branches that are joined again."""
    row = compiled(
        f"g ({SPATIAL}) => (float[N,9,6,6] y) <float[4,3,1,1] u, float[5,3,1,1] v, float[4] a, float[5] b> "
        "{ s = Conv(x, u, a) p = Relu(s) t = Conv(x, v, b) q = Relu(t) y = Concat<axis=1>(p, q) }",
        "Conv Relu",
    )
    assert (9, 3, 1, 1) in row.shapes()


# -- layers in a row ---------------------------------------------------------------------------------------------------
def test_gemm_gemm_and_1x1_conv_conv_composition(compiled: Any) -> None:
    row = compiled(
        "g (float[N,8] x) => (float[N,6] y) <float[8,16] u, float[16,6] v, float[16] a, float[6] b> "
        "{ t = Gemm(x, u, a) y = Gemm(t, v, b) }",
        "Gemm",
    )
    assert (8, 6) in row.shapes()
    row = compiled(
        f"g ({SPATIAL}) => (float[N,4,4,4] y) <float[16,3,1,1] u, float[4,16,3,3] v, float[16] a, float[4] b> "
        "{ t = Conv(x, u, a) y = Conv(t, v, b) }",
        "Conv",
    )
    assert (4, 3, 3, 3) in row.shapes()


def test_a_composition_that_costs_more_is_left(compiled: Any) -> None:
    compiled(
        "g (float[N,64] x) => (float[N,64] y) <float[64,4] u, float[4,64] v> { t = Gemm(x, u) y = Gemm(t, v) }",
        "Gemm Gemm",
    )


def test_dead_neuron_and_dead_channel_elimination(compiled: Any) -> None:
    dead = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    dead[:, [1, 5]] = 0
    row = compiled(
        "g (float[N,8] x) => (float[N,4] y) <float[8,16] u, float[16] a, float[16,4] v> "
        "{ t = Gemm(x, u, a) r = Relu(t) y = Gemm(r, v) }",
        "Gemm Relu Gemm",
        {"u": dead},
    )
    assert {(8, 14), (14, 4)} <= row.shapes()
    kernels = np.random.default_rng(1).standard_normal((12, 3, 3, 3)).astype(np.float32)
    kernels[[0, 3, 4, 7]] = 0
    row = compiled(
        f"g ({SPATIAL}) => (float[N,4,2,2] y) <float[12,3,3,3] u, float[12] a, float[4,12,3,3] v> "
        "{ t = Conv(x, u, a) r = Relu(t) y = Conv(r, v) }",
        "Conv Relu Conv",
        {"u": kernels},
    )
    assert {(8, 3, 3, 3), (4, 8, 3, 3)} <= row.shapes()


def test_exact_low_rank(compiled: Any) -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((64, 4)) @ rng.standard_normal((4, 64))
    row = compiled(
        "g (float[N,64] x) => (float[N,64] y) <float[64,64] w, float[64] b> { y = Gemm(x, w, b) }",
        "Gemm Gemm",
        {"w": weight},
    )
    assert {(64, 4), (4, 64)} <= row.shapes()
