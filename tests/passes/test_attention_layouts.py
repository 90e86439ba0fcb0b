"""fuse-attention: how queries, keys and values were cut into heads, and where the result goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fuse_attention import FuseAttention
from fcc.testing import check

P = FuseAttention()
CORE = "s = MatMul({q}, {k}) t = Mul(s, c) p = Softmax(t) z = MatMul(p, {v})"
SCALE = {"c": np.float32(0.5)}


def holds(before: str, after: str | None, constants: dict[str, Any] | None = None, **options: Any) -> None:
    check(P, before=before, after=after, constants={**SCALE, **(constants or {})}, opset=23, **options)


# -- operands in heads -----------------------------------------------------------------------------------------------
def test_operands_of_rank_4_that_nothing_cut() -> None:
    io = "g (float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,5] v) => (float[B,2,S,5] z)"
    holds(f"{io} <float c> {{ kt = Transpose<perm=[0,1,3,2]>(k) {CORE.format(q='q', k='kt', v='v')} }}",
          f"{io} {{ z = Attention<scale=0.5>(q, k, v) }}")  # fmt: skip


def test_keys_that_come_turned() -> None:
    io = "g (float[B,2,S,4] q, float[B,2,4,T] k, float[B,2,T,5] v) => (float[B,2,S,5] z)"
    holds(f"{io} <float c> {{ {CORE.format(q='q', k='k', v='v')} }}",
          f"{io} {{ kt = Transpose<perm=[0,1,3,2]>(k) z = Attention<scale=0.5>(q, kt, v) }}")  # fmt: skip


def test_one_head_of_rank_3() -> None:
    io = "g (float[B,S,4] q, float[B,T,4] k, float[B,T,5] v) => (float[B,S,5] z)"
    holds(f"{io} <float c> {{ kt = Transpose<perm=[0,2,1]>(k) {CORE.format(q='q', k='kt', v='v')} }}",
          f"{io} {{ z = Attention<q_num_heads=1, kv_num_heads=1, scale=0.5>(q, k, v) }}")  # fmt: skip


def test_batch_and_heads_in_one_axis() -> None:
    """Bart, Bloom, nn.MultiheadAttention: [batch * heads, sequence, size]."""
    io = "g (float[3,5,8] q, float[3,7,8] k, float[3,7,8] v) => (float[3,5,8] y)"
    cut = " ".join(
        f"{n}r = Reshape({n}, h) {n}h = Transpose<perm=[0,2,1,3]>({n}r) {n}b = Reshape({n}h, {n}s)" for n in "qkv"
    )
    holds(f"""{io} <float c, int64[4] h, int64[3] qs, int64[3] ks, int64[3] vs, int64[4] u, int64[3] e> {{
            {cut} kt = Transpose<perm=[0,2,1]>(kb) {CORE.format(q='qb', k='kt', v='vb')}
            a = Reshape(z, u) b = Transpose<perm=[0,2,1,3]>(a) y = Reshape(b, e) }}""",
          f"{io} {{ y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v) }}",
          {"h": [0, 0, 2, 4], "qs": [6, 5, 4], "ks": [6, 7, 4], "vs": [6, 7, 4], "u": [3, 2, 5, 4], "e": [3, 5, 8]})  # fmt: skip


def test_scores_laid_out_anew_between_the_products() -> None:
    """Bloom: the product of [batch * heads, ..] becomes [batch, heads, ..] for the Softmax, and is multiplied so."""
    io = "g (float[6,5,4] q, float[6,4,7] k, float[3,2,7,4] v) => (float[3,2,5,4] z)"
    holds(f"{io} <float c, int64[4] u> {{ s = MatMul(q, k) t = Reshape(s, u) w = Mul(t, c) p = Softmax(w) z = MatMul(p, v) }}",
          f"""{io} {{ qr = Reshape(q, a) kt = Transpose<perm=[0,2,1]>(k) kr = Reshape(kt, b)
            z = Attention<scale=0.5>(qr, kr, v) }}""", {"u": [3, 2, 5, 7]})  # fmt: skip


def test_sequence_first() -> None:
    io = "g (float[5,3,8] q, float[7,3,8] k, float[7,3,8] v) => (float[5,3,8] y)"
    cut = " ".join(f"{n}r = Reshape({n}, {n}s) {n}h = Transpose<perm=[1,2,0,3]>({n}r)" for n in "qv")
    holds(f"""{io} <float c, int64[4] qs, int64[4] vs, int64[3] e> {{
            {cut} kr = Reshape(k, vs) kh = Transpose<perm=[1,2,3,0]>(kr) {CORE.format(q='qh', k='kh', v='vh')}
            b = Transpose<perm=[2,0,1,3]>(z) y = Reshape(b, e) }}""",
          f"""{io} {{ qt = Transpose<perm=[1,0,2]>(q) kt = Transpose<perm=[1,0,2]>(k) vt = Transpose<perm=[1,0,2]>(v)
            a = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(qt, kt, vt) y = Transpose<perm=[1,0,2]>(a) }}""",
          {"qs": [5, 3, 2, 4], "vs": [7, 3, 2, 4], "e": [5, 3, 8]})  # fmt: skip


def test_joined_projection_cut_behind_the_transposition() -> None:
    """ViT: [batch, sequence, 3 * heads * size] seen as five axes; what is left are slices of the projection."""
    io = "g (float[B,S,24] x) => (float[B,S,8] y)"
    holds(f"""{io} <float c, int64[5] f, int64[3] one, int64[1] o, int64[3] e> {{ r = Reshape(x, f)
            w = Transpose<perm=[2,0,3,1,4]>(r) q1, k1, v1 = Split<axis=0>(w, one)
            q = Squeeze(q1, o) k = Squeeze(k1, o) v = Squeeze(v1, o) kt = Transpose<perm=[0,1,3,2]>(k)
            {CORE.format(q='q', k='kt', v='v')} b = Transpose<perm=[0,2,1,3]>(z) y = Reshape(b, e) }}""",
          f"""{io} {{ q = Slice(x, n0, n1, a0) k = Slice(x, n2, n3, a1) v = Slice(x, n4, n5, a2)
            y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v) }}""",
          {"f": [0, 0, 3, 2, 4], "one": [1, 1, 1], "o": [0], "e": [0, 0, 8]})  # fmt: skip


@pytest.mark.parametrize("by", ["{} = Mul({}, c)", "{} = Mul(c, {})", "{} = Div({}, d)"])
def test_scales_between_the_moves(by: str) -> None:
    io = "g (float[B,S,8] q, float[B,T,8] k, float[B,T,8] v) => (float[B,S,8] y)"
    holds(f"""{io} <float c, float d, int64[4] h, int64[3] e> {{ {by.format('qs', 'q')} qr = Reshape(qs, h)
            qh = Transpose<perm=[0,2,1,3]>(qr) kr = Reshape(k, h) kh = Transpose<perm=[0,2,1,3]>(kr) {by.format('ks', 'kh')}
            kt = Transpose<perm=[0,1,3,2]>(ks) vr = Reshape(v, h) vh = Transpose<perm=[0,2,1,3]>(vr)
            s = MatMul(qh, kt) p = Softmax(s) z = MatMul(p, vh) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e) }}""",
          f"{io} {{ y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.25>(q, k, v) }}",
          {"h": [0, 0, 2, 4], "e": [0, 0, 8], "d": 2.0})  # fmt: skip


def test_a_scale_of_the_values_is_not_one_of_the_scores() -> None:
    io = "g (float[B,2,S,4] q, float[B,2,4,T] k, float[B,2,T,5] v) => (float[B,2,S,5] z)"
    holds(f"{io} <float c> {{ w = Mul(v, c) {CORE.format(q='q', k='k', v='w')} }}",
          f"{io} {{ w = Mul(v, c) kt = Transpose<perm=[0,1,3,2]>(k) z = Attention<scale=0.5>(q, kt, w) }}")  # fmt: skip


def test_softmax_in_another_type() -> None:
    io = "g (float[B,2,S,4] q, float[B,2,4,T] k, float[B,2,T,5] v) => (float[B,2,S,5] z)"
    holds(f"""{io} <float c> {{ s = MatMul(q, k) t = Mul(s, c) d = Cast<to=11>(t) r = Softmax(d) p = Cast<to=1>(r)
            z = MatMul(p, v) }}""",
          f"{io} {{ kt = Transpose<perm=[0,1,3,2]>(k) z = Attention<scale=0.5>(q, kt, v) }}")  # fmt: skip


def test_bounded_scores() -> None:
    """Gemma 2: c tanh(scores / c)."""
    io = "g (float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,5] v) => (float[B,2,S,5] z)"
    text = f"""{io} <float c, float d, float[2,3] m> {{ kt = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, kt) t = Mul(s, c)
            u = Div(t, d) w = Tanh(u) x = Mul(w, d) p = Softmax(x) z = MatMul(p, v) }}"""
    after = f"{io} {{ z = Attention<scale=0.5, softcap=4.0>(q, k, v) }}"
    holds(text, after, {"d": 4.0})
    for target in ("cuda", "tensorrt"):
        holds(text, None, {"d": 4.0}, because="bounded by a tanh", target=target)
    for old, new, because in (
        ("w = Tanh(u)", "w0 = Tanh(u) w = Tanh(w0)", "bounded together"),
        ("x = Mul(w, d)", "x0 = Mul(w, d) x = Mul(x0, d)", "scaled twice"),
        ("w = Tanh(u)", "u1 = Add(u, m) w = Tanh(u1)", "bounded together"),
    ):
        static = text.replace("S,", "2,").replace("T,", "3,")
        holds(static.replace(old, new), None, {"d": 4.0}, because=because)


# -- grouped queries -------------------------------------------------------------------------------------------------
GROUPED = "g (float[B,S,16] q, float[B,T,8] k, float[B,T,8] v) => (float[B,S,16] y)"
REPEATS = {
    "Expand": "{n}u = Unsqueeze({n}h, two) {n}e = Expand({n}u, x) {n}g = Reshape({n}e, r)",
    "Tile": "{n}u = Unsqueeze({n}h, two) {n}e = Tile({n}u, x) {n}g = Reshape({n}e, r)",
    "late": "{n}u = Reshape({n}h, five) {n}e = Expand({n}u, x) {n}g = Reshape({n}e, r)",
}


def grouped(repeat: str, order: str = "two") -> str:
    cut = " ".join(
        f"{n}r = Reshape({n}, g1) {n}h = Transpose<perm=[0,2,1,3]>({n}r) {repeat.format(n=n)}".replace("two", order)
        for n in "kv"
    )
    return f"""{GROUPED} <float c, int64[4] h, int64[4] g1, int64[1] two, int64[1] one, int64[5] x, int64[4] r,
            int64[5] five, int64[3] e> {{ qr = Reshape(q, h) qh = Transpose<perm=[0,2,1,3]>(qr) {cut}
            kt = Transpose<perm=[0,1,3,2]>(kg) {CORE.format(q="qh", k="kt", v="vg")}
            zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e) }}"""


GROUPS: dict[str, Any] = {"h": [0, 0, 4, 4], "g1": [0, 0, 2, 4], "two": 2, "one": 1, "x": [1, 1, 2, 1, 1],
                          "r": [0, 4, -1, 4], "five": [0, 2, 1, -1, 4], "e": [0, 0, 16]}  # fmt: skip


@pytest.mark.parametrize("spelling", REPEATS)
def test_keys_and_values_repeated_for_groups_of_queries(spelling: str) -> None:
    holds(grouped(REPEATS[spelling]),
          f"{GROUPED} {{ y = Attention<q_num_heads=4, kv_num_heads=2, scale=0.5>(q, k, v) }}", GROUPS)  # fmt: skip


def test_heads_repeated_in_another_order_are_kept() -> None:
    """[a, b, a, b] instead of [a, a, b, b]: keys and values stay repeated."""
    kept = " ".join(
        f"{n}r = Reshape({n}, g1) {n}h = Transpose<perm=[0,2,1,3]>({n}r) {n}u = Unsqueeze({n}h, one) {n}e = Expand({n}u, x)"
        for n in "kv"
    )
    kept = kept.replace("ke = Expand(ku, x)", "ke = Expand(ku, x) kg = Reshape(ke, r)") + " vg = Reshape(ve, r)"
    holds(grouped(REPEATS["Expand"], "one"), f"""{GROUPED} {{ qr = Reshape(q, h) qh = Transpose<perm=[0,2,1,3]>(qr) {kept}
            z = Attention<scale=0.5>(qh, kg, vg) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e) }}""",
          {**GROUPS, "x": [1, 2, 1, 1, 1]})  # fmt: skip


def test_one_head_of_keys_for_all_queries() -> None:
    """Multi-query attention: the product broadcasts over the heads."""
    io = "g (float[B,4,S,4] q, float[B,1,T,4] k, float[B,1,T,5] v) => (float[B,4,S,5] z)"
    holds(f"{io} <float c> {{ kt = Transpose<perm=[0,1,3,2]>(k) {CORE.format(q='q', k='kt', v='v')} }}",
          f"{io} {{ z = Attention<scale=0.5>(q, k, v) }}")  # fmt: skip


def test_keys_repeated_over_the_batch_stay() -> None:
    io = "g (float[3,2,S,4] q, float[1,2,T,4] k, float[3,2,T,5] v) => (float[3,2,S,5] z)"
    holds(f"{io} <float c, int64[4] x> {{ w = Expand(k, x) kt = Transpose<perm=[0,1,3,2]>(w) {CORE.format(q='q', k='kt', v='v')} }}",
          f"{io} {{ w = Expand(k, x) z = Attention<scale=0.5>(q, w, v) }}", {"x": [3, 1, 1, 1]})  # fmt: skip


# -- the past --------------------------------------------------------------------------------------------------------
DECODER = """g (float[B,S,8] q, float[B,S,8] k, float[B,S,8] v, float[B,2,P,4] pk, float[B,2,P,4] pv)
    => (float[B,S,8] y, float[B,2,U,4] nk, float[B,2,W,4] nv)"""
CUT = " ".join(f"{n}r = Reshape({n}, h) {n}h = Transpose<perm=[0,2,1,3]>({n}r)" for n in "qkv")
JOIN = "nk = Concat<axis=2>(pk, kh) nv = Concat<axis=-2>(pv, vh) kt = Transpose<perm=[0,1,3,2]>(nk)"
MERGE = "zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e)"
PAST: dict[str, Any] = {"h": [0, 0, 2, 4], "e": [0, 0, 8], "one": 1, "x": [1, 1, 2, 1, 1], "r": [0, 4, -1, 4]}


def decoder(join: str = JOIN, core: str = CORE.format(q="qh", k="kt", v="nv"), more: str = "") -> str:
    return f"{DECODER} <float c, int64[4] h, int64[3] e> {{ {CUT} {join} {core} {MERGE} {more} }}"


def test_past_and_present() -> None:
    holds(decoder(), f"""{DECODER}
            {{ y, nk, nv = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v, , pk, pv) }}""", PAST)  # fmt: skip


def test_present_that_is_no_output() -> None:
    head = DECODER.replace(", float[B,2,U,4] nk, float[B,2,W,4] nv", "")
    holds(decoder().replace(DECODER, head), f"""{head}
            {{ y, nk, nv = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v, , pk, pv) }}""", PAST)  # fmt: skip


def without_past(join: str, k: str = "nk") -> str:
    return f"""{DECODER} {{ {CUT} {join} z = Attention<scale=0.5>(qh, {k}, nv) {MERGE} }}"""


def test_present_that_is_read_before_the_scores_are_known() -> None:
    """What stays reads the joined keys: they are joined outside."""
    more = DECODER.replace("=> (", "=> (int64[4] o, ")
    holds(decoder(more="o = Shape(nk)").replace(DECODER, more), f"""{more} {{ {CUT}
            nk = Concat<axis=2>(pk, kh) nv = Concat<axis=-2>(pv, vh) z = Attention<scale=0.5>(qh, nk, nv) {MERGE}
            o = Shape(nk) }}""", PAST)  # fmt: skip


def test_values_that_are_made_of_the_joined_keys() -> None:
    """They are read by the operator, so that the keys are joined outside."""
    io = "g (float[B,2,1,4] q, float[B,2,2,4] pk, float[B,2,1,4] kh, float[B,2,2,4] pv) => (float[B,2,1,4] z)"
    join = "nk = Concat<axis=2>(pk, kh) vh = Slice(nk, i2, i3, i2) nv = Concat<axis=2>(pv, vh)"
    indices = {"i2": 2, "i3": 3}
    holds(f"{io} <float c, int64[1] i2, int64[1] i3> {{ {join} kt = Transpose<perm=[0,1,3,2]>(nk) {CORE.format(q='q', k='kt', v='nv')} }}",
          f"{io} <int64[1] i2, int64[1] i3> {{ {join} z = Attention<scale=0.5>(q, nk, nv) }}", indices)  # fmt: skip


def test_a_past_of_two_parts_is_none() -> None:
    join = "nk = Concat<axis=2>(pk, pk, kh) nv = Concat<axis=-2>(pv, pv, vh)"
    holds(decoder(f"{join} kt = Transpose<perm=[0,1,3,2]>(nk)"), without_past(join), PAST)


def test_keys_joined_along_another_axis_are_no_past() -> None:
    io = "g (float[B,4,S,4] q, float[B,2,T,4] pk, float[B,2,T,4] kh, float[B,2,T,4] pv, float[B,2,T,4] vh) => (float[B,4,S,4] z)"
    join = "nk = Concat<axis=1>(pk, kh) nv = Concat<axis=1>(pv, vh)"
    holds(f"{io} <float c> {{ {join} kt = Transpose<perm=[0,1,3,2]>(nk) {CORE.format(q='q', k='kt', v='nv')} }}",
          f"{io} {{ {join} z = Attention<scale=0.5>(q, nk, nv) }}")  # fmt: skip


def test_pasts_of_two_lengths_are_none() -> None:
    io = "g (float[B,2,S,4] q, float[B,2,2,4] pk, float[B,2,2,4] kh, float[B,2,1,4] pv, float[B,2,3,4] vh) => (float[B,2,S,4] z)"
    join = "nk = Concat<axis=2>(pk, kh) nv = Concat<axis=2>(pv, vh)"
    holds(f"{io} <float c> {{ {join} kt = Transpose<perm=[0,1,3,2]>(nk) {CORE.format(q='q', k='kt', v='nv')} }}",
          f"{io} {{ {join} z = Attention<scale=0.5>(q, nk, nv) }}")  # fmt: skip


def test_grouped_queries_after_a_past() -> None:
    io = DECODER.replace("float[B,S,8] q", "float[B,S,16] q").replace("float[B,S,8] y", "float[B,S,16] y")
    repeat = " ".join(f"{n}u = Unsqueeze(n{n}, two) {n}e = Expand({n}u, x) {n}g = Reshape({n}e, r)" for n in "kv")
    before = f"""{io} <float c, int64[4] h, int64[4] g1, int64[1] two, int64[5] x, int64[4] r, int64[3] e> {{
        {CUT.replace("k, h", "k, g1").replace("v, h", "v, g1")} nk = Concat<axis=2>(pk, kh) nv = Concat<axis=2>(pv, vh)
        {repeat} kt = Transpose<perm=[0,1,3,2]>(kg) {CORE.format(q="qh", k="kt", v="vg")} {MERGE} }}"""
    holds(before, f"""{io}
            {{ y, nk, nv = Attention<q_num_heads=4, kv_num_heads=2, scale=0.5>(q, k, v, , pk, pv) }}""", GROUPS)  # fmt: skip


def test_tensorrt_takes_no_past() -> None:
    after = without_past("nk = Concat<axis=2>(pk, kh) nv = Concat<axis=-2>(pv, vh)").replace(
        "scale=0.5>(qh", "scale=1.0>(qs"
    )
    holds(decoder(), after.replace("z = Att", "qs = Mul(qh, c) z = Att"), PAST, target="tensorrt")


# -- targets ---------------------------------------------------------------------------------------------------------
PACKED = "g ({0}[B,S,8] q, {0}[B,T,8] k, {0}[B,T,8] v) => ({0}[B,S,8] y)"


def primitives(kind: str = "float") -> str:
    return f"""{PACKED.format(kind)} <{kind} c, int64[4] h, int64[3] e> {{ {CUT} kt = Transpose<perm=[0,1,3,2]>(kh)
            {CORE.format(q="qh", k="kt", v="vh")} {MERGE} }}"""


@pytest.mark.parametrize("kind", ["float", "float16", "bfloat16"])
def test_cuda(kind: str) -> None:
    text, after = (
        primitives(kind),
        f"{PACKED.format(kind)} {{ y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v) }}",
    )
    holds(text, after, PAST, target="cuda")


@pytest.mark.parametrize("kind", ["float", "float16"])
def test_tensorrt_takes_rank_4_and_queries_that_are_scaled(kind: str) -> None:
    holds(primitives(kind), f"""{PACKED.format(kind)} {{ {CUT} qs = Mul(qh, c) z = Attention<scale=1.0>(qs, kh, vh) {MERGE} }}""",
          PAST, target="tensorrt")  # fmt: skip


def test_tensorrt_without_a_scale() -> None:
    text = primitives().replace("t = Mul(s, c) p = Softmax(t)", "p = Softmax(s)").replace("float c, ", "")
    holds(
        text,
        f"{PACKED.format('float')} {{ {CUT} z = Attention<scale=1.0>(qh, kh, vh) {MERGE} }}",
        PAST,
        target="tensorrt",
    )


def test_half_precision_on_cpu_stays() -> None:
    holds(primitives("float16"), None, PAST, because="not measured for FLOAT16")


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=30)
def test_generated(data: st.DataObject) -> None:
    """Any way from packed operands to heads and back: the outputs are the same, whatever form is chosen."""
    d = data.draw
    b, n, g, s, t, h, w = (d(st.integers(1, 3)) for _ in range(7))
    kv = n if g != 1 else 1
    flat = d(st.booleans()) and kv == n
    cut = {"q": (b, s, n, h), "k": (b, t, kv, h), "v": (b, t, kv, w)}
    lines: list[str] = []
    consts: dict[str, Any] = {"c": 0.5}
    given: dict[str, Any] = {}
    for name, dims in cut.items():
        order = [1, 2, 0, 3] if d(st.booleans()) else [0, 2, 1, 3]
        io = (dims[1], dims[0]) if order[0] == 1 else (dims[0], dims[1])
        consts |= {f"{name}1": np.array([*io, *dims[2:]]), f"{name}2": np.array([dims[0] * dims[2], dims[1], dims[3]])}
        given[name] = (*io, dims[2] * dims[3])
        scaled = f"{name}x = Mul({name}, c)" if name != "v" and d(st.booleans()) else f"{name}x = Identity({name})"
        lines += [scaled, f"{name}r = Reshape({name}x, {name}1)", f"{name}h = Transpose<perm={order}>({name}r)"]
        lines.append(f"{name}f = Reshape({name}h, {name}2)" if flat else f"{name}f = Identity({name}h)")
    turn = "[0,2,1]" if flat else "[0,1,3,2]"
    consts |= {"z1": np.array([b, n, s, w]), "z2": np.array([b, s, n * w])}
    end = "zr = Reshape(z, z1)" if flat else "zr = Identity(z)"
    lines += [f"kt = Transpose<perm={turn}>(kf)", "s = MatMul(qf, kt)", "p = Softmax(s)", "z = MatMul(p, vf)", end,
              "zt = Transpose<perm=[0,2,1,3]>(zr)", "y = Reshape(zt, z2)"]  # fmt: skip
    io_text = ", ".join(f"float[{','.join(map(str, x))}] {k}" for k, x in given.items())
    declared = ", ".join(f"int64[{np.size(v)}] {k}" for k, v in consts.items() if k != "c")
    text = f"g ({io_text}) => (float[{b},{s},{n * w}] y) <float c, {declared}> {{ {' '.join(lines)} }}"
    fuses(text, consts)


def fuses(text: str, constants: dict[str, Any]) -> None:
    """Check numerics and well-formedness of what the pass gives, without saying what that is."""
    from onnx_ir import serde

    from fcc import ir, testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.passes.eliminate_identity import EliminateIdentity
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    module = read(testing.model_from(text, 23, constants, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    run_pass(EliminateIdentity(), module, ctx)
    assert run_pass(P, module, ctx) == 1, ctx.log.refused
    ir.verify(module)
    assert not {"Softmax", "MatMul"} & {n.op_type for n in module.nodes()}
    testing.same_outputs(before, serde.serialize_model(module.model))
