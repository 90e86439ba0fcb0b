"""fuse-rotary: rotary position embedding in the spellings that exporters write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.passes.fuse_rotary import FuseRotary
from fcc.testing import check

P = FuseRotary()
HALVES = {"h": [2, 2], "i0": 0, "i1": 1, "i2": 2, "i4": 4, "big": 99, "m1": -1}
INDICES = "int64[2] h, int64[1] i0, int64[1] i1, int64[1] i2, int64[1] i4, int64[1] big, int64[1] m1"
TURN = "a, b = Split<axis=3>(x, h) n = Neg(b) t = Concat<axis=-1>(n, a)"
SUM = "p = Mul(x, cc) q = Mul(t, ss) y = Add(p, q)"
TWICE = "c2 = Concat<axis=-1>(c, c) s2 = Concat<axis=-1>(s, s) cc = Unsqueeze(c2, i1) ss = Unsqueeze(s2, i1)"
IO = "g (float[B,2,S,4] x, float[B,S,2] c, float[B,S,2] s) => (float[B,2,S,4] y)"
LAID = "c1 = Unsqueeze(c, i1) s1 = Unsqueeze(s, i1) c3 = Squeeze(c1, i1) s3 = Squeeze(s1, i1)"


def rotary(body: str, io: str = IO, more: str = "") -> str:
    return f"{io} <{INDICES}{', ' + more if more else ''}> {{ {body} }}"


def holds(
    body: str, after: str | None, io: str = IO, more: str = "", constants: dict[str, Any] | None = None, **options: Any
) -> ir.Module:
    new = None if after is None else f"{io} {{ {after} }}"
    return check(
        P, before=rotary(body, io, more), after=new, constants={**HALVES, **(constants or {})}, opset=23, **options
    )


# -- halves ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [
        f"{TWICE} {TURN} {SUM}",
        f"{TWICE} {TURN} p = Mul(cc, x) q = Mul(ss, t) y = Add(q, p)",
        f"{TWICE} {TURN.replace('Concat<axis=-1>(n, a)', 'Concat<axis=3>(n, a)')} {SUM}",
        f"{TWICE} a = Slice(x, i0, i2, m1) b = Slice(x, i2, big, m1) n = Neg(b) t = Concat<axis=-1>(n, a) {SUM}",
        f"{TWICE} a, b = Split<axis=-1>(x, h) n = Neg(a) t = Concat<axis=-1>(b, n) p = Mul(x, cc) q = Mul(t, ss) y = Sub(p, q)",
        "c1 = Unsqueeze(c, i1) s1 = Unsqueeze(s, i1) cc = Concat<axis=3>(c1, c1) ss = Concat<axis=3>(s1, s1) "
        + f"{TURN} {SUM}",
    ],
)
def test_rotated_halves(body: str) -> None:
    short = "c1 = Unsqueeze(c, i1) s1 = Unsqueeze(s, i1) c3 = Squeeze(c1, i1) s3 = Squeeze(s1, i1)"
    if body.startswith("c1"):
        short = "c1 = Unsqueeze(c, i1) s1 = Unsqueeze(s, i1) c3 = Squeeze(c1, j) s3 = Squeeze(s1, k)"
    else:
        short = "c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, k)"
    holds(body, f"{short} y = RotaryEmbedding(x, c3, s3)")


def test_products_of_the_halves() -> None:
    """Concat(a cos - b sin, b cos + a sin)."""
    products = "ac = Mul(a, cc) bs = Mul(ss, b) u = Sub(ac, bs) bc = Mul(b, cc) as = Mul(a, ss)"
    for total in ("v = Add(bc, as)", "v = Add(as, bc)"):
        holds(f"a, b = Split<axis=3>(x, h) cc = Unsqueeze(c, i1) ss = Unsqueeze(s, i1) {products} {total} y = Concat<axis=-1>(u, v)",
              "cc = Unsqueeze(c, i1) ss = Unsqueeze(s, i1) c3 = Squeeze(cc, j) s3 = Squeeze(ss, k) y = RotaryEmbedding(x, c3, s3)")  # fmt: skip


def test_packed_heads_are_rotated_before_they_are_cut() -> None:
    io = "g (float[B,S,8] w, float[B,S,2] c, float[B,S,2] s) => (float[B,2,S,4] y)"
    holds(f"{TWICE} r = Reshape(w, k) x = Transpose<perm=[0,2,1,3]>(r) {TURN} {SUM}",
          """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, l)
          z = RotaryEmbedding<num_heads=2>(w, c3, s3) r = Reshape(z, m) y = Transpose<perm=[0,2,1,3]>(r)""",
          io, "int64[4] k", {"k": [0, 0, 2, 4]})  # fmt: skip


def test_heads_behind_the_sequence() -> None:
    io = "g (float[B,S,3,4] x, float[B,S,2] c, float[B,S,2] s) => (float[B,S,3,4] y)"
    holds(f"{TWICE.replace('i1', 'i2')} {TURN} {SUM}",
          """xr = Reshape(x, k) c1 = Unsqueeze(c, i2) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i2) s3 = Squeeze(s1, l)
          z = RotaryEmbedding<num_heads=3>(xr, c3, s3) y = Reshape(z, m)""".replace("xr = Reshape(x, k) c1", "c1").replace(
              "z = Rot", "xr = Reshape(x, k) z = Rot"), io)  # fmt: skip


def test_no_heads() -> None:
    io = "g (float[B,S,4] x, float[B,S,2] c, float[B,S,2] s) => (float[B,S,4] y)"
    twice = "cc = Concat<axis=-1>(c, c) ss = Concat<axis=-1>(s, s)"
    holds(f"{twice} {TURN.replace('axis=3', 'axis=2')} {SUM}", "y = RotaryEmbedding<num_heads=1>(x, c, s)", io)


def test_one_position() -> None:
    """Decoding: which axis is the sequence says the axis of the heads, along which the tables are the same."""
    io = "g (float[B,1,3,4] x, float[B,1,2] c, float[B,1,2] s) => (float[B,1,3,4] y)"
    holds(f"{TWICE} {TURN} {SUM}",
          """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, l) xr = Reshape(x, k)
          z = RotaryEmbedding<num_heads=3>(xr, c3, s3) y = Reshape(z, m)""", io)  # fmt: skip


# -- pairs -----------------------------------------------------------------------------------------------------------
PAIRS = (
    "a = Slice(x, i0, big, m1, i2) b = Slice(x, i1, big, m1, i2) n = Neg(b) n1 = Unsqueeze(n, m1) a1 = Unsqueeze(a, m1)"
)
STACK = f"{PAIRS} st = Concat<axis=-1>(n1, a1) t = Reshape(st, k)"
EACH = "ce = Unsqueeze(c, m1) se = Unsqueeze(s, m1) cx = {0}(ce, e) sx = {0}(se, e) cr = Reshape(cx, f) sr = Reshape(sx, f) cc = Unsqueeze(cr, i1) ss = Unsqueeze(sr, i1)"
SHAPES: dict[str, Any] = {"k": [0, 0, 0, 4], "e": [1, 1, 1, 2], "f": [0, 0, 4]}
SHAPE_NAMES = "int64[4] k, int64[4] e, int64[3] f"


@pytest.mark.parametrize("repeat", ["Expand", "Tile"])
def test_rotated_pairs(repeat: str) -> None:
    """GPT-J: stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2), and tables by repeat_interleave."""
    holds(f"{EACH.format(repeat)} {STACK} {SUM}",
          """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, l)
          y = RotaryEmbedding<interleaved=1>(x, c3, s3)""", IO, SHAPE_NAMES, SHAPES)  # fmt: skip


def test_products_of_pairs() -> None:
    """Meta's LLaMA: x seen as [.., H / 2, 2]; the axis of two is cut by Split, Gather or Slice."""
    cuts = {
        "Split": "a1, b1 = Split<axis=-1>(w, o) a = Squeeze(a1, m1) b = Squeeze(b1, m1)",
        "Gather": "a = Gather<axis=-1>(w, z0) b = Gather<axis=4>(w, z1)",
        "Gather of a list": "a1 = Gather<axis=-1>(w, i0) b1 = Gather<axis=-1>(w, i1) a = Squeeze(a1, m1) b = Squeeze(b1, m1)",
        "Slice": "a1 = Slice(w, i0, i1, m1) b1 = Slice(w, i1, big, m1) a = Squeeze(a1, m1) b = Squeeze(b1, m1)",
    }
    body = """w = Reshape(x, v) {0} cc = Unsqueeze(c, i1) ss = Unsqueeze(s, i1) ac = Mul(a, cc) bs = Mul(b, ss) u0 = Sub(ac, bs)
        as = Mul(a, ss) bc = Mul(b, cc) v0 = Add(as, bc) u1 = Unsqueeze(u0, m1) v1 = Unsqueeze(v0, m1)
        st = Concat<axis=-1>(u1, v1) y = Reshape(st, k)"""
    for cut in cuts.values():
        holds(body.format(cut), """cc = Unsqueeze(c, i1) ss = Unsqueeze(s, i1) c3 = Squeeze(cc, j) s3 = Squeeze(ss, l)
              y = RotaryEmbedding<interleaved=1>(x, c3, s3)""",
              IO, "int64[4] k, int64[5] v, int64[2] o, int64 z0, int64 z1",
              {"k": [0, 0, 0, 4], "v": [0, 0, 0, 2, 2], "o": [1, 1], "z0": 0, "z1": 1})  # fmt: skip


# -- a part of the axis ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cut", ["x, r = Split<axis=-1>(w, o)", "x = Slice(w, i0, i4, m1) r = Slice(w, i4, big, m1)"])
def test_partial(cut: str) -> None:
    io = "g (float[B,2,S,7] w, float[B,S,2] c, float[B,S,2] s) => (float[B,2,S,7] z)"
    holds(f"{cut} {TWICE} {TURN} {SUM} z = Concat<axis=-1>(y, r)",
          """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, l)
          z = RotaryEmbedding<rotary_embedding_dim=4>(w, c3, s3)""", io, "int64[2] o", {"o": [4, 3]})  # fmt: skip


@pytest.mark.parametrize(
    ("cut", "end"),
    [
        ("r, x = Split<axis=-1>(w, o)", "z = Concat<axis=-1>(r, y)"),
        ("x, r = Split<axis=-1>(w, o4)", "z = Concat<axis=-1>(r, y)"),
        ("x, q0, r = Split<axis=-1>(w, o3)", "z = Concat<axis=-1>(y, r)"),
        ("x, r = Split<axis=-1>(w, o4)", "z = Concat<axis=1>(y, y)"),
    ],
)
def test_what_is_joined_otherwise_is_joined_behind(cut: str, end: str) -> None:
    width = {"o3": 8, "axis=1": 4}
    size = next((n for k, n in width.items() if k in cut or k in end), 7)
    heads = 4 if "axis=1" in end else 2
    io = f"g (float[B,2,S,7] w, float[B,S,2] c, float[B,S,2] s) => (float[B,{heads},S,{min(size, 7)}] z)"
    after = f"""{cut} c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, l)
          y = RotaryEmbedding(x, c3, s3) {end}"""
    if "o3" in cut:
        io = io.replace("S,7] z", "S,6] z")
    holds(f"{cut} {TWICE} {TURN} {SUM} {end}", after, io, "int64[2] o, int64[2] o4, int64[3] o3",
          {"o": [3, 4], "o4": [4, 3], "o3": [4, 1, 2]})  # fmt: skip


# -- tables ----------------------------------------------------------------------------------------------------------
def test_constant_tables() -> None:
    half = np.arange(6.0).reshape(3, 2)
    io = "g (float[1,2,3,4] x) => (float[1,2,3,4] y)"
    for shape, interleaved in (("1,1,3,4", False), ("3,4", False), ("1,3,4", True)):
        full = np.repeat(half, 2, -1) if interleaved else np.tile(half, 2)
        turn, more, given = (STACK, SHAPE_NAMES, SHAPES) if interleaved else (TURN, "", {})
        kind = "<interleaved=1>" if interleaved else ""
        one = {
            "1,1,3,4": "c3 = Squeeze(c1, j) s3 = Squeeze(s1, k)",
            "3,4": "c3 = Unsqueeze(c1, j) s3 = Unsqueeze(s1, k)",
        }
        name = "(x, c1, s1)" if shape == "1,3,4" else "(x, c3, s3)"
        declared = f"float[{shape}] cc, float[{shape}] ss" + (f", {more}" if more else "")
        module = holds(f"{turn} {SUM}", f"{one.get(shape, '')} y = RotaryEmbedding{kind}{name}", io, declared,
                       {**given, "cc": full, "ss": -full})  # fmt: skip
        found = [v.const_value.numpy() for v in module.graph.initializers.values() if v.const_value is not None]
        kept = [a.reshape(3, 2) for a in found if a.dtype == np.float32 and a.size == 6]
        assert sorted(float(a.sum()) for a in kept) == [-15.0, 15.0]


LOOKED_UP = {
    "Gather": (
        "cg = Gather<axis=0>(ct, ids) sg = Gather<axis=0>(st, ids)",
        "cg = Gather<axis=0>(ch, ids)",
        "sg = Gather<axis=0>(sh, ids)",
    ),
    "GatherND": (
        "iu = Unsqueeze(ids, m1) cg = GatherND(ct, iu) sg = GatherND(st, iu)",
        "cg = GatherND(ch, iu)",
        "sg = GatherND(sh, iu)",
    ),
}


@pytest.mark.parametrize("by", LOOKED_UP)
def test_tables_that_are_looked_up(by: str) -> None:
    half = np.arange(18.0).reshape(9, 2)
    io = "g (float[B,2,S,4] x, int64[B,S] ids) => (float[B,2,S,4] y)"
    before, cos, sin = LOOKED_UP[by]
    first = "iu = Unsqueeze(ids, m1) " if by == "GatherND" else ""
    holds(f"{before} cc = Unsqueeze(cg, i1) ss = Unsqueeze(sg, i1) {TURN} {SUM}",
          f"""{first}{cos} cu = Unsqueeze(cg, i1) c3 = Squeeze(cu, j) {sin} su = Unsqueeze(sg, i1) s3 = Squeeze(su, k)
          y = RotaryEmbedding(x, c3, s3)""", io, "float[9,4] ct, float[9,4] st",
          {"ct": np.tile(half, 2), "st": np.tile(half + 1, 2)})  # fmt: skip


def test_tables_that_are_computed_from_positions() -> None:
    """LLaMA: cos(Concat(f, f)) times a factor, cast, of f = Transpose(inv_freq * positions)."""
    io = "g (float[B,2,S,4] x, float[B,S,2] f) => (float[B,2,S,4] y)"
    made = """e = Concat<axis=-1>(f, f) c1 = Cos(e) s1 = Sin(e) c2 = Mul(c1, z) s2 = Mul(z, s1) c3 = Cast<to=11>(c2)
        c4 = Cast<to=1>(c3) s3 = Div(s2, z) cc = Unsqueeze(c4, i1) ss = Unsqueeze(s3, i1)"""
    holds(f"{made} {TURN} {SUM}",
          """c1 = Cos(f) c2 = Mul(c1, z) c3 = Cast<to=11>(c2) c4 = Cast<to=1>(c3) c5 = Unsqueeze(c4, i1) c6 = Squeeze(c5, j)
          s1 = Sin(f) s2 = Mul(z, s1) s3 = Div(s2, z) s4 = Unsqueeze(s3, i1) s5 = Squeeze(s4, k)
          y = RotaryEmbedding(x, c6, s5)""", io, "float z", {"z": 0.75})  # fmt: skip


def test_tables_that_are_cut_and_turned() -> None:
    half = np.arange(18.0).reshape(9, 1, 2)
    io = "g (float[2,2,3,4] x) => (float[2,2,3,4] y)"
    holds(f"""cs = Slice(ct, i0, i3, i0) ss0 = Slice(st, i0, i3, i0) cc = Transpose<perm=[1,0,2]>(cs)
          ss = Transpose<perm=[1,0,2]>(ss0) {TURN} {SUM}""",
          """cs = Slice(ch, i0, i3, i0) cc = Transpose<perm=[1,0,2]>(cs) cx = Expand(cc, e) ss0 = Slice(sh, i0, i3, i0)
          ss = Transpose<perm=[1,0,2]>(ss0) sx = Expand(ss, e1) y = RotaryEmbedding(x, cx, sx)""",
          io, "float[9,1,4] ct, float[9,1,4] st, int64[1] i3",
          {"ct": np.tile(half, 2), "st": np.tile(half + 1, 2), "i3": 3})  # fmt: skip


def test_tables_in_another_shape() -> None:
    io = "g (float[2,2,3,4] x, float[6,2] f) => (float[2,2,3,4] y)"
    module = holds(f"e = Concat<axis=-1>(f, f) c1 = Cos(e) s1 = Sin(e) cc = Reshape(c1, k) ss = Reshape(s1, k) {TURN} {SUM}",
                   """c1 = Cos(f) c2 = Reshape(c1, k1) c3 = Squeeze(c2, j) s1 = Sin(f) s2 = Reshape(s1, k2) s3 = Squeeze(s2, l)
                   y = RotaryEmbedding(x, c3, s3)""", io, "int64[4] k", {"k": [2, 1, 3, 4]})  # fmt: skip
    assert any(
        v.const_value is not None and v.const_value.numpy().tolist() == [2, 1, 3, 2]
        for v in module.graph.initializers.values()
    )


def test_tables_are_repeated_over_a_batch_of_any_size() -> None:
    io = "g (float[B,2,3,4] x, float[1,3,2] c, float[1,3,2] s) => (float[B,2,3,4] y)"
    holds(f"{TWICE} {TURN} {SUM}",
          """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) n = Shape<start=0, end=1>(x) e = Concat<axis=0>(n, o) cx = Expand(c3, e)
          s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, k) n1 = Shape<start=0, end=1>(x) e1 = Concat<axis=0>(n1, o1) sx = Expand(s3, e1)
          y = RotaryEmbedding(x, cx, sx)""", io)  # fmt: skip


def test_a_table_cut_to_the_length_of_the_sequence() -> None:
    """min(9, S) rows: S, or the model has no answer."""
    half = np.arange(18.0).reshape(9, 2)
    io = "g (float[1,2,S,4] x) => (float[1,2,S,4] y)"
    holds(f"n1 = Shape<start=2, end=3>(x) cc = Slice(ct, i0, n1, i0) ss = Slice(st, i0, n1, i0) {TURN} {SUM}",
          """n1 = Shape<start=2, end=3>(x) cs = Slice(ch, i0, n1, i0) c3 = Unsqueeze(cs, j) ss = Slice(sh, i0, n1, i0)
          s3 = Unsqueeze(ss, k) y = RotaryEmbedding(x, c3, s3)""", io, "float[9,4] ct, float[9,4] st",
          {"ct": np.tile(half, 2), "st": np.tile(half + 1, 2)})  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------------------------
RANDOM = "g (float[B,2,S,4] x, float[B,1,S,4] cc, float[B,1,S,4] ss) => (float[B,2,S,4] y)"
SAME = "g (float[B,2,S,4] x, float[{0}] c, float[{0}] s) => (float[B,2,S,4] y)"
FULL = "cc = Concat<axis=-1>(c, c) ss = Concat<axis=-1>(s, s)"


@pytest.mark.parametrize(
    ("body", "io", "because"),
    [
        (f"{TURN} {SUM}", RANDOM, "not known to be there twice"),
        (f"{FULL} {TURN} {SUM}", SAME.format("B,2,S,2"), "not known to be those of the positions"),
        (f"{FULL} {TURN} {SUM}", SAME.format("1,1,1,2"), "not known to be those of the positions"),
        (f"{FULL} {TURN} {SUM}", SAME.format("B,1,1,2"), "not known to be those of the positions"),
        (f"{FULL} {TURN} {SUM}", SAME.format("3,1,S,2").replace("B,", "1,").replace("S,4] y", "S,4] y").replace("[1,2,S,4] y", "[3,2,S,4] y"),
         "the shape changes"),
        (f"{FULL} a, b = Split<axis=4>(x, h) n = Neg(b) t = Concat<axis=-1>(n, a) {SUM}",
         "g (float[1,B,2,S,4] x, float[S,2] c, float[S,2] s) => (float[1,B,2,S,4] y)", "not of rank 3 or 4"),
        (f"{FULL.replace('c, c', 'c, s')} {TURN} {SUM}", SAME.format("B,1,S,2"), "not known to be there twice"),
    ],
)  # fmt: skip
def test_refusals(body: str, io: str, because: str) -> None:
    holds(body, None, io, because=because)


@pytest.mark.parametrize(
    "body",
    [
        f"{FULL} a, b = Split<axis=3>(x, h) n = Neg(a) t = Concat<axis=-1>(n, b) {SUM}",
        f"{FULL} a, b = Split<axis=3>(x, h) n = Neg(b) t = Concat<axis=-1>(a, n) {SUM}",
        f"{FULL} {TURN} {SUM.replace('Add', 'Sub')}",
        f"{FULL} {TURN} {SUM.replace('Add(p, q)', 'Sub(q, p)')}",
        f"{FULL} a, b = Split<axis=3>(x, h) t = Concat<axis=-1>(b, a) {SUM}",
        f"{FULL} a, b = Split<axis=3>(x, h) n = Neg(b) m = Neg(a) t = Concat<axis=-1>(n, m) {SUM}",
        f"{FULL} a, b, e = Split<axis=3>(x, three) n = Neg(b) t = Concat<axis=-1>(n, a, e) {SUM}",
        f"{FULL} e = Exp(x) a, b = Split<axis=3>(e, h) n = Neg(b) t = Concat<axis=-1>(n, a) {SUM}",
        f"{FULL} {TURN} p = Mul(x, cc) q = Div(t, ss) y = Add(p, q)",
    ],
)
def test_other_sums_stay(body: str) -> None:
    holds(body, None, SAME.format("B,1,S,2"), "int64[3] three", {"three": [1, 1, 2]})


PRODUCTS = "ac = Mul(a, c) bs = Mul(b, s) u = Sub(ac, bs) bc = Mul(b, c) as = Mul(a, s) v = Add(bc, as) y = Concat<axis=-1>(u, v)"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sub(ac, bs)", "Sub(bs, ac)"), ("Sub(ac, bs)", "Add(ac, bs)"), ("Add(bc, as)", "Sub(bc, as)"), ("Mul(b, c)", "Mul(b, b)"),
        ("Mul(a, s) v", "Mul(a, c) v"), ("Concat<axis=-1>(u, v)", "Concat<axis=-1>(v, u)"), ("Mul(a, c) bs", "Exp(a) bs"),
    ],
)  # fmt: skip
def test_other_products_stay(old: str, new: str) -> None:
    assert old in PRODUCTS
    holds(f"a, b = Split<axis=3>(x, h) {PRODUCTS.replace(old, new)}", None, SAME.format("B,1,S,2"))


def test_products_of_parts_that_are_no_halves_stay() -> None:
    io = SAME.format("B,1,S,1").replace("S,4] y", "S,2] y")
    holds(f"a, b, e, f = Split<axis=3>(x, four) {PRODUCTS}", None, io, "int64[4] four", {"four": 1})
    io = SAME.format("B,1,S,2")
    holds(f"b, a = Split<axis=3>(x, h) {PRODUCTS}", None, io)


def test_an_older_opset_stays() -> None:
    check(P, before=rotary(f"{TWICE} {TURN} {SUM}"), after=None, because="needs opset 23", constants=HALVES, opset=21)


def test_types_without_a_kernel_stay() -> None:
    text = rotary(f"{TWICE} {TURN} {SUM}").replace("float[", "double[")
    check(P, before=text, after=None, because="kernel of RotaryEmbedding", constants=HALVES, opset=23, target="cuda")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_targets(target: str) -> None:
    holds(f"{TWICE} {TURN} {SUM}", """c1 = Unsqueeze(c, i1) c3 = Squeeze(c1, j) s1 = Unsqueeze(s, i1) s3 = Squeeze(s1, k)
          y = RotaryEmbedding(x, c3, s3)""", target=target)  # fmt: skip


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=30)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    b, n, s, half = (d(st.integers(1, 3)) for _ in range(4))
    behind, pairs, products = d(st.booleans()), d(st.booleans()), d(st.booleans())
    dims = (b, s, n, 2 * half) if behind else (b, n, s, 2 * half)
    table = (d(st.sampled_from([1, b])), s, 1, half) if behind else (d(st.sampled_from([1, b])), 1, s, half)
    x = ",".join(map(str, dims))
    t = ",".join(map(str, table))
    io = f"g (float[{x}] x, float[{t}] c, float[{t}] s) => (float[{x}] y)"
    cut = "a = Slice(x, i0, big, m1, i2) b = Slice(x, i1, big, m1, i2)" if pairs else "a, b = Split<axis=3>(x, h)"
    join = (
        "{0}1 = Unsqueeze({0}, m1) {1}1 = Unsqueeze({1}, m1) both = Concat<axis=-1>({0}1, {1}1) {2} = Reshape(both, k)"
    )
    if not pairs:
        join = "{2} = Concat<axis=-1>({0}, {1})"
    if products:
        body = f"""{cut} ac = Mul(a, c) bs = Mul(b, s) u = Sub(ac, bs) bc = Mul(b, c) as = Mul(a, s) v = Add(bc, as)
            {join.format("u", "v", "y")}"""
    else:
        twice = "{0}{0} = Concat<axis=-1>({0}, {0})"
        if pairs:
            twice = "{0}u = Unsqueeze({0}, m1) {0}t = Tile({0}u, e) {0}{0} = Reshape({0}t, f)"
        body = f"{twice.format('c')} {twice.format('s')} {cut} n = Neg(b) {join.format('n', 'a', 't')} {SUM}"
    fuses(rotary(body, io, "int64[4] k, int64[5] e, int64[4] f"),
          {**HALVES, "h": [half, half], "k": dims, "e": [1, 1, 1, 1, 2], "f": [*table[:3], 2 * half]})  # fmt: skip


def fuses(text: str, constants: dict[str, Any]) -> None:
    """Check numerics and well-formedness of what the pass gives, without saying what that is."""
    from onnx_ir import serde

    from fcc import testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    module = read(testing.model_from(text, 23, constants, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(P, module, ctx) == 1, ctx.log.refused
    ir.verify(module)
    assert not {"Neg", "Add", "Mul"} & {n.op_type for n in module.nodes()}
    testing.same_outputs(before, serde.serialize_model(module.model))
