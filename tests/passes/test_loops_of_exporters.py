"""Whole loops as converters write them, through the pipeline of -O2."""

from collections import Counter
from typing import Any

import onnx
import onnx.parser
import pytest

import fcc
from fcc import testing

HEADER = '<ir_version: 9, opset_import: ["" : 17]>\n'


def compiled(text: str, constants: dict[str, Any] | None = None, **options: Any) -> Counter[str]:
    """The operators that are left; the outputs are those of the source."""
    pytest.importorskip("onnxruntime")
    model = testing.model_from(HEADER + text, 17, constants or {}, 0)
    onnx.checker.check_model(model)
    result = fcc.compile(model, require_parity=True, **options)
    assert not result.report.guilty
    assert all(row.ok for row in result.report.parity)
    return Counter(n.op_type for n in result.module.nodes())


KERAS = """g (float[N,T,3] x) => (float[N,T,4] y, float[N,4] last)
    <float[3,16] kernel, float[4,16] rk, float[16] bias, int64 zero = {0}, int64 one = {1}, int64[1] a0 = {0},
     int64[1] units = {4}, int32 i0 = {0}, int32 i1 = {1}, int64 most = {9223372036854775807}, int64[4] parts = {4,4,4,4}> {
    xt = Transpose<perm = [1, 0, 2]>(x)
    sh = Shape(xt) t64 = Gather(sh, zero) t = Cast<to = 6>(t64) n = Gather(sh, one) n1 = Unsqueeze(n, a0)
    hs = Concat<axis = 0>(n1, units) h0 = ConstantOfShape(hs) c0 = ConstantOfShape(hs)
    l0 = Less(i0, t) l1 = Less(i0, t) start = And(l0, l1)
    o_count, o_time, o_h, o_c, o_k, o_rk, o_b, rows = Loop(most, start, i0, i0, h0, c0, kernel, rk, bias)
        <body = while_body (int64 it, bool cond, int32 count, int32 time, float[N,4] h, float[N,4] c,
                            float[3,16] k, float[4,16] r, float[16] b)
            => (bool go, int32 count2, int32 time2, float[N,4] h2, float[N,4] c2, float[3,16] k2, float[4,16] r2,
                float[16] b2, float[N,4] row) {
            xk = Gather(xt, time) mx = MatMul(xk, k) mh = MatMul(h, r) s = Add(mx, mh) z = Add(s, b)
            zi, zf, zc, zo = Split<axis = 1>(z, parts)
            gi = Sigmoid(zi) gf = Sigmoid(zf) gc = Tanh(zc) go2 = Sigmoid(zo)
            fc = Mul(gf, c) ic = Mul(gi, gc) c2 = Add(fc, ic) tc = Tanh(c2) h2 = Mul(go2, tc)
            count2 = Add(count, i1) time2 = Add(time, i1) la = Less(count2, t) lb = Less(time2, t) go = And(la, lb)
            k2 = Identity(k) r2 = Identity(r) b2 = Identity(b) row = Identity(h2) }>
    y = Transpose<perm = [1, 0, 2]>(rows) last = Identity(o_h) }"""


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_a_keras_layer_that_tf2onnx_left_as_a_while_loop(target: str) -> None:
    """The gates in Keras' order, weights handed from trip to trip, two counters, an unlimited bound."""
    found = compiled(KERAS, target=target)
    assert found == {"LSTM": 1, "Transpose": 2, "Squeeze": 2}


JAX = """g (float[6,2,3] xs, float[2,4] h0) => (float[2,4] h, float[6,2,5] ys)
    <float[3,4] wz, float[4,4] uz, float[3,4] wr, float[4,4] ur, float[3,4] wn, float[4,4] un, float[4] bz, float[4] br,
     float[4] bn, float[4] cn, float[4,5] out, float one = {1}> {
    h, ys = Scan(h0, xs) <num_scan_inputs = 1, body = step (float[2,4] c, float[2,3] e) => (float[2,4] n, float[2,5] o) {
        a = MatMul(e, wz) a2 = MatMul(c, uz) a3 = Add(a, bz) a4 = Add(a3, a2) z = Sigmoid(a4)
        d = MatMul(e, wr) d2 = MatMul(c, ur) d3 = Add(d2, d) d4 = Add(d3, br) r = Sigmoid(d4)
        f = MatMul(e, wn) f2 = Add(f, bn) g2 = MatMul(c, un) g3 = Add(cn, g2) g4 = Mul(r, g3) g5 = Add(f2, g4) k = Tanh(g5)
        nz = Sub(one, z) p = Mul(nz, k) q = Mul(z, c) n = Add(p, q) o = MatMul(n, out) }> }"""


def test_a_scan_with_a_layer_of_every_state_as_jax_writes_it() -> None:
    """The layer behind the cell has no counter to read the states by: the steps are written out first."""
    found = compiled(JAX)
    assert found["GRU"] == 1
    assert found["MatMul"] == 1
    assert "Scan" not in found


def test_the_pieces_of_a_map() -> None:
    text = """g (float[T,3] x) => (float[T,3] y) <float[3,3] w, int64 zero = {0}, bool yes = {1}, float fake = {0}> {
        sh = Shape(x) n = Gather(sh, zero)
        f, y = Loop(n, yes, fake) <body = each (int64 i, bool c, float a) => (bool d, float b, float[3] r) {
            d = Identity(c) b = Identity(a) e = Gather(x, i) m = MatMul(e, w) r = Tanh(m) }> }"""
    assert compiled(text) == {"MatMul": 1, "Tanh": 1}


def test_a_constant_loop_of_arithmetic() -> None:
    """Newton's iteration for a square root, three times; the halves are computed once."""
    text = """g (float[N] x) => (float[N] y) <int64 n = {3}, bool yes = {1}, float half = {0.5}> {
        s = Abs(x)
        y = Loop(n, yes, s) <body = newton (int64 i, bool c, float[N] v) => (bool d, float[N] u) {
            d = Identity(c) two = Add(half, half) k = Add(s, two) q = Div(k, v) p = Add(v, q) u = Mul(p, half) }> }"""
    found = compiled(text)
    assert found["Div"] == 3
    assert found["Add"] == 4
    assert "Loop" not in found


@pytest.mark.parametrize("steps", [20, 40])
def test_a_file_that_would_grow_keeps_its_loop(steps: int) -> None:
    body = " ".join(f"v{k + 1} = Sin(v{k})" for k in range(6))
    text = f"""g (float[N] x) => (float[N] y) <int64 n = {{{steps}}}, bool yes = {{1}}> {{
        y = Loop(n, yes, x) <body = b (int64 i, bool c, float[N] v0) => (bool d, float[N] v6) {{ d = Identity(c) {body} }}> }}"""
    found = compiled(text)
    assert found["Loop"] == 1
    assert compiled(text, allow_growth=True)["Loop"] == (0 if steps == 20 else 1)
