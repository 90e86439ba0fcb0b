"""The certificate counts the weights that integer kernels multiply, and emulated 16-bit sums prove what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.analysis import shapes
from fcc.compress.certificate import KEY, certificate
from fcc.compress.quantize import MAX_PAIR, quantize_weight
from fcc.frontend import read
from fcc.testing import model_from

INT16 = np.iinfo(np.int16)


def saturating(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x [K] u8 @ w [K, N] s8 as vpmaddubsw adds it: two products in int16, saturated, then in int32."""
    products = x[:, None].astype(np.int64) * w.astype(np.int64)
    if len(products) % 2:
        products = np.concatenate([products, np.zeros((1, products.shape[1]), np.int64)])
    pairs = products[0::2] + products[1::2]
    return np.asarray(np.clip(pairs, INT16.min, INT16.max).sum(axis=0))


@given(st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_pair_safe_weights_are_exact_at_the_largest_activations(
    size: int, seed: int, spread: bool, per_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((size, 3)) * (np.exp(3 * rng.standard_normal((size, 1))) if spread else 1)
    w = quantize_weight(weight, 1, pair_safe=True, per_channel=per_channel).values
    for x in (np.full(size, 255, np.uint8), rng.integers(0, 256, size).astype(np.uint8)):
        assert np.array_equal(saturating(x, w), x.astype(np.int64) @ w.astype(np.int64))


def test_the_probe_of_full_range_weights_saturates() -> None:
    x, w = np.full(2, 255, np.uint8), np.array([[127], [127]], np.int8)
    assert saturating(x, w) == INT16.max != 2 * 255 * 127
    safe = quantize_weight(np.array([[1.0], [1.0]]), 1, pair_safe=True)
    assert saturating(x, safe.values) == 255 * int(safe.values.sum())
    assert np.allclose(safe.values * safe.scale, 1, atol=1 / 127)


def of(text: str, **constants: object) -> str:
    module = read(model_from(text, 21, constants, 0))
    shapes.infer(module)
    return certificate(module).get(KEY, "")


CONV = (
    "g (float[1,2,3,3] x) => (float[1,2,2,2] y) <int8[2,2,2,2] w, float[2] s, int8[2] z>"
    " { v = DequantizeLinear<axis=0>(w, s, z) y = Conv(x, v) }"
)
GEMM = (
    "g (float[1,2] x) => (float[1,3] y) <int8[{}] w, float[3] s, int8[3] z>"
    " {{ v = DequantizeLinear<axis={}>(w, s, z) y = Gemm<transB={}>(x, v) }}"
)


def test_convolutions_in_both_orders() -> None:
    w = np.zeros((2, 2, 2, 2), np.int8)
    w[0, 0, 0, 0] = w[0, 1, 0, 0] = 100  # neighbours where channels come last
    assert "largest sum of two 200, needs VNNI" in of(CONV, w=w, s=[1, 1], z=[0, 0])
    w[0, 1, 0, 0] = 28
    assert of(CONV, w=w, s=[1, 1], z=[0, 0]) == (
        f"1 weights, largest sum of two {MAX_PAIR}, exact in 16-bit pair sums: at most {MAX_PAIR}"
    )


@pytest.mark.parametrize(("shape", "axis", "trans"), [("2,3", 1, 0), ("3,2", 0, 1)])
def test_matrix_products(shape: str, axis: int, trans: int) -> None:
    w = np.array([[90, 1, 1], [90, 1, 1]], np.int8)
    text = GEMM.format(shape, axis, trans)
    assert "two 180" in of(text, w=w.T if trans else w, s=[1, 1, 1], z=[0, 0, 0])


def test_contrib_ops_and_recurrent_layers() -> None:
    direct = (
        "g (uint8[1,2] x, float a, uint8 b) => (float[1,1] y) <int8[2,1] w, float s, int8 z>"
        " { y = com.microsoft.MatMulIntegerToFloat(x, w, a, s, b, z) }"
    )
    assert "1 weights, largest sum of two 150" in of(direct, w=[[75], [75]], s=1, z=0)
    lstm = (
        "g (float[2,1,2] x) => (float[2,1,1,1] y)"
        " <int8[1,2,4] w, int8[1,1,4] r, float[1] s, int8[1] z>"
        " { y = com.microsoft.DynamicQuantizeLSTM<hidden_size=1>(x, w, r, , , , , , s, z, s, z) }"
    )
    w = np.full((1, 2, 4), 50, np.int8)
    assert "2 weights, largest sum of two 100" in of(lstm, w=w, r=np.ones((1, 1, 4)), s=[1], z=[0])


def test_nothing_for_float_and_blocked_weights() -> None:
    assert of("g (float[1,2] x) => (float[1,2] y) <float[2,2] w> { y = MatMul(x, w) }") == ""
    blocked = (
        "g (float[1,32] x) => (float[1,2] y) <int8[32,2] w, float[2,2] s>"
        " { v = DequantizeLinear<axis=0, block_size=16>(w, s) y = MatMul(x, v) }"
    )
    assert of(blocked) == ""
