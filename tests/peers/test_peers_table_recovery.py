"""Rows of the table of rewrites (peers.md, section 1a): chains, data movement, and operators recovered from primitives."""

import math
from typing import Any

import pytest


def test_relu_clip_chains(compiled: Any) -> None:
    row = compiled(
        "g (float[N,4] x) => (float[N,4] y) <float l, float h, float m> "
        "{ a = Relu(x) b = Clip(a, l, h) c = Relu(b) y = Clip(c, l, m) }",
        "Clip",
        {"l": -1.0, "h": 6.0, "m": 8.0},
    )
    assert len(row.found["cpu"].graph.initializer) == 2


def test_relu_clip_chains_with_bounds_out_of_order(compiled: Any) -> None:
    """Relu(Clip(x, -5, -2)) is 0 everywhere, not Clip(x, 0, -2)."""
    compiled(
        "g (float[2,4] x) => (float[2,4] y) <float l, float h> { a = Clip(x, l, h) b = Relu(a) c = Add(b, x) y = Sin(c) }",
        "Sin",
        {"l": -5.0, "h": -2.0},
    )


def test_transpose_sinking_through_elementwise(compiled: Any) -> None:
    compiled(
        "g (float[2,3,4,5] x) => (float[2,3,4,5] y) <float[3] c> { t = Transpose<perm=[0,2,3,1]>(x) a = Add(t, c) "
        "r = Sigmoid(a) y = Transpose<perm=[0,3,1,2]>(r) }",
        "Add Sigmoid",
    )


def test_pad_into_conv(compiled: Any) -> None:
    compiled(
        "g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,3,3] w, int64[8] pads> { p = Pad(x, pads) y = Conv(p, w) }",
        "Conv",
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    )


@pytest.mark.parametrize("pads", [[0, 0, 1, 0, 0, 0, 1, 2], [0, 0, 0, 1, 0, 0, 0, 1]])
def test_pad_into_pooling(compiled: Any, pads: list[int]) -> None:
    compiled(
        "g (float[N,3,6,6] x) => (float[N,3,H,W] y, float[N,3,I,J] z) <int64[8] pads> { r = Sigmoid(x) p = Pad(r, pads) "
        "y = MaxPool<kernel_shape=[2,3]>(p) q = Pad(r, pads) z = AveragePool<kernel_shape=[2,3]>(q) }",
        "Sigmoid MaxPool AveragePool",
        {"pads": pads},
    )


def test_erf_gelu_and_decomposed_layernorm(compiled: Any) -> None:
    root, half = math.sqrt(2.0), 0.5
    compiled(
        "g (float[N,8] x) => (float[N,8] y) <float r, float one, float h> "
        "{ d = Div(x, r) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, h) }",
        "Gelu",
        {"r": root, "one": 1.0, "h": half},
    )
    compiled(
        "g (float[N,8] x) => (float[N,8] y) <int64[1] last, float two, float eps, float[8] s, float[8] b> "
        "{ m = ReduceMean(x, last) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, eps) q = Sqrt(e) "
        "n = Div(d, q) t = Mul(n, s) y = Add(t, b) }",
        "LayerNormalization",
        {"last": -1, "two": 2.0, "eps": 1e-5},
    )


ATTENTION = """g (float[N,T,8] x) => (float[N,T,8] y)
<float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, int64[4] heads, int64[3] joined, float root> {
  q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
  q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)
  qh = Transpose<perm=[0,2,1,3]>(q4) kt = Transpose<perm=[0,2,3,1]>(k4) vh = Transpose<perm=[0,2,1,3]>(v4)
  s = MatMul(qh, kt) d = Div(s, root) p = Softmax<axis=-1>(d) o = MatMul(p, vh)
  t = Transpose<perm=[0,2,1,3]>(o) j = Reshape(t, joined) y = MatMul(j, wo)
}"""


def test_attention_gqa_rotary(compiled: Any) -> None:
    """Plain attention on cpu; a row for grouped queries, and one for rotary embedding, belong behind it."""
    constants = {"heads": [0, 0, 2, 4], "joined": [0, 0, 8], "root": 2.0}
    compiled(ATTENTION, "Attention MatMul MatMul MatMul MatMul", constants, opset=23, targets=("cpu",))
