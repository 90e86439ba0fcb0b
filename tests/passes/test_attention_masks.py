"""fuse-attention: masks that are added, that choose, and that are causal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir
from fcc.passes.fuse_attention import FuseAttention
from fcc.testing import check

P = FuseAttention()
LOWEST = float(np.finfo(np.float32).min)
# {0} is {1} with the lowest numbers closer together
TOGETHER = "{0}h = Mul({1}, {0}a) {0}g = Add({0}h, {0}b) {0} = Max({1}, {0}g)"
NOTHING = TOGETHER.format("n0", "m")
FLOOR = float(np.nextafter(np.float32(LOWEST), np.float32(0)))
IO = "g ({kind}[B,2,{s},4] q, {kind}[B,2,{t},4] k, {kind}[B,2,{t},5] v{inputs}) => ({kind}[B,2,{s},5] z)"
NUMBERS: dict[str, Any] = {"low": LOWEST, "inf": -np.inf, "zero": 0.0, "one": 1.0, "some": -1e4, "far": -1e9, "i0": 0,
                           "i1": 1, "axes": [1, 2]}  # fmt: skip
DECLARED = (
    ", ".join(f"float {n}" for n in ("low", "inf", "zero", "one", "some", "far"))
    + ", int64[1] i0, int64 i1, int64[2] axes"
)


def head(inputs: str = "", s: str = "S", t: str = "T", kind: str = "float") -> str:
    return IO.format(kind=kind, inputs=f", {inputs}" if inputs else "", s=s, t=t)


def before(scores: str, inputs: str = "", s: str = "S", t: str = "T", constants: str = "", kind: str = "float") -> str:
    """``scores`` makes u of the product s."""
    more = f", {constants}" if constants else ""
    declared = DECLARED.replace("float ", f"{kind} ")
    return f"""{head(inputs, s, t, kind)} <{declared}{more}> {{ kt = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, kt) {scores}
        p = Softmax(u) z = MatMul(p, v) }}"""


def after(
    mask: str = "", name: str = "", inputs: str = "", s: str = "S", t: str = "T", more: str = "", kind: str = "float"
) -> str:
    """``mask`` makes what is named ``name``."""
    operand = f", {name}" if name else ""
    return f"{head(inputs, s, t, kind)} {{ {mask} z = Attention<scale=1.0{more}>(q, k, v{operand}) }}"


def masks(old: str, new: str | None, constants: dict[str, Any] | None = None, **options: Any) -> ir.Module:
    with np.errstate(invalid="ignore", over="ignore"):  # -inf - -inf, and twice the lowest number
        return check(P, before=old, after=new, constants={**NUMBERS, **(constants or {})}, opset=23, **options)


def numbers(module: ir.Module) -> list[float]:
    """The scalar constants that nodes read, in order."""
    read = {v for n in module.nodes() for v in n.inputs if v is not None and v.const_value is not None}
    found = [v.const_value.numpy() for v in read if v.const_value is not None]
    return sorted(float(a.reshape(-1)[0]) for a in found if a.size == 1 and a.dtype == np.float32)


# -- added -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["s, m", "m, s"])
def test_an_input_is_kept_above_what_attention_reads_as_masked(order: str) -> None:
    """The operator's rows of the lowest number are 0, those of Softmax the mean."""
    io = "float[B,1,S,T] m"
    module = masks(before(f"u = Add({order})", io), after(TOGETHER.format("n", "m"), "n", io))
    assert numbers(module) == [float(np.float32(-5e37)), 0.5]


def test_a_row_that_is_masked_entirely_is_the_mean() -> None:
    mask = np.where(np.tri(5, 7), 0, LOWEST)
    mask[2] = LOWEST
    masks(before("u = Add(s, m)", s="5", t="7", constants="float[5,7] m"), after("", "n", s="5", t="7"), {"m": mask})


def test_infinite_numbers_of_a_constant_stay() -> None:
    mask = np.where(np.tri(5, 7), 0, -np.inf)
    mask[1, 0] = LOWEST
    module = masks(
        before("u = Add(s, m)", s="5", t="7", constants="float[5,7] m"), after("", "n", s="5", t="7"), {"m": mask}
    )
    attention = next(n for n in module.nodes() if n.op_type == "Attention")
    found = ir.Module.constant(attention.inputs[3])
    assert found is not None
    assert np.array_equal(found, np.where(mask == LOWEST, FLOOR, mask.astype(np.float32)))


def test_numbers_that_are_known_to_lie_above_are_used_as_they_are() -> None:
    """BERT: (1 - mask) * -10000."""
    io = "int64[B,3] a"
    mask = "b = Unsqueeze(a, axes) c = Cast<to=1>(b) d = Sub(one, c) m = Mul(d, some)"
    masks(before(f"{mask} u = Add(s, m)", io, s="3", t="3"), after(f"{mask} n = Expand(m, x)", "n", io, s="3", t="3"))


def test_a_factor_of_whole_numbers_is_raised() -> None:
    """BERT of newer exports: (1 - mask) * finfo.min."""
    io = "bool[B,3] a"
    steps = "b = Unsqueeze(a, axes) c = Cast<to=1>(b) d = Sub(one, c) m = Mul({0})"
    for order in ("d, low", "low, d"):
        module = masks(before(f"{steps.format(order)} u = Add(s, m)", io, s="3", t="3"),
                       after(f"{steps.format(order.replace('low', 'e'))} n = Expand(m, x)", "n", io, s="3", t="3"))  # fmt: skip
        assert numbers(module) == [FLOOR, 1.0]


def test_a_factor_of_other_numbers_is_not() -> None:
    io = "float[B,1,S,T] a"
    masks(before("d = Sigmoid(a) m = Mul(d, low) u = Add(s, m)", io),
          after("d = Sigmoid(a) m = Mul(d, low) " + TOGETHER.format("n", "m"), "n", io))  # fmt: skip


def test_parts_of_a_sum_and_what_is_laid_out_are_raised_where_they_are_made() -> None:
    """T5: a bias per head, and a mask per key."""
    io = "float[1,2,S,T] r, bool[B,S,T] w"
    old = "a = Tanh(r) c = Cast<to=1>(w) m = Mul(c, low) b = Unsqueeze(m, i11) e = Add(a, b) u = Add(s, e)"
    new = "a = Tanh(r) c = Cast<to=1>(w) m = Mul(c, x1) b = Unsqueeze(m, i11) n = Add(a, b)"
    masks(before(old, io, constants="int64[1] i11"), after(new, "n", io), {"i11": 1})


def test_a_chosen_mask_is_raised_in_its_constants_and_in_its_tensors() -> None:
    io = "bool[B,1,S,T] a, float[B,1,S,T] b"
    module = masks(
        before("d = Tanh(b) m = Where(a, d, low) u = Add(s, m)", io), after("d = Tanh(b) n = Where(a, d, f)", "n", io)
    )
    assert numbers(module) == [FLOOR]
    masks(
        before("m = Where(a, b, low) u = Add(s, m)", io),
        after("m = Where(a, b, low) " + TOGETHER.format("n", "m"), "n", io),
    )


def test_a_mask_of_keys_is_expanded_by_a_size_read_from_an_input() -> None:
    io = "float[B,1,1,T] m"
    masks(before("u = Add(s, m)", io),
          after(TOGETHER.format("n0", "m") + " x = Shape<start=2, end=3>(q) y = Concat<axis=0>(c1, x, c2) n = Expand(n0, y)", "n", io))  # fmt: skip


def test_masks_of_lower_rank() -> None:
    for shape in ("S,T", "1,S,T", "2,S,T"):
        io = f"float[{shape}] m"
        masks(before("u = Add(s, m)", io), after(TOGETHER.format("n", "m"), "n", io))
    for shape in ("7", "1,7", "5,1"):
        io = f"float[{shape}] m"
        masks(
            before("u = Add(s, m)", io, s="5", t="7"),
            after(TOGETHER.format("n0", "m") + " n = Expand(n0, x)", "n", io, s="5", t="7"),
        )


def test_a_mask_beside_scores_of_rank_3() -> None:
    """ALiBi: [batch * heads, 1, keys] is added while batch and heads are one axis."""
    io = "g (float[6,5,4] q, float[6,4,7] k, float[3,2,7,4] v, float[6,1,7] m) => (float[3,2,5,4] z)"
    check(P, before=f"{io} <int64[4] r> {{ s = MatMul(q, k) t = Add(m, s) u = Reshape(t, r) p = Softmax(u) z = MatMul(p, v) }}",
          after=f"""{io} {{ a = Reshape(q, c0) b = Transpose<perm=[0,2,1]>(k) d = Reshape(b, c1) {TOGETHER.format("e", "m")}
            f = Reshape(e, c3) n = Expand(f, c4) z = Attention<scale=1.0>(a, d, v, n) }}""",
          constants={"r": [3, 2, 5, 7]}, opset=23)  # fmt: skip


def test_a_mask_whose_batch_and_heads_a_reshape_joined() -> None:
    """ALiBi as Bloom reads it; with a symbol for batch only what was there before the Reshape tells its axes apart."""
    io = "g (float[B,2,5,4] q, float[B,2,4,7] k, float[B,2,7,4] v, float[B,2,7] m) => (float[B,2,5,4] z)"
    check(P, before=f"""{io} <int64[3] rq, int64[3] rk, int64[3] rm, int64[4] rs, int64[3] rv, int64[1] i> {{
            q1 = Reshape(q, rq) k1 = Reshape(k, rk) m1 = Reshape(m, rm) s = MatMul(q1, k1) t = Add(m1, s)
            u = Reshape(t, rs) p = Softmax(u) z = MatMul(p, v) }}""",
          after=f"""{io} {{ b = Transpose<perm=[0,1,3,2]>(k) {TOGETHER.format("e", "m")} d = Reshape(e, c1)
            f = Reshape(d, c3) n = Expand(f, c4)
            z = Attention<scale=1.0>(q, b, v, n) }}""",
          constants={"rq": [-1, 5, 4], "rk": [-1, 4, 7], "rm": [-1, 1, 7], "rs": [-1, 2, 5, 7]}, opset=23)  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "options", "because"),
    [
        ("m0 = Add(s, m) u = Mul(m0, some)", {"inputs": "float[S,T] m"}, "scaled together"),
        ("w = Cast<to=11>(s) w1 = Add(w, m) u = Cast<to=1>(w1)", {"inputs": "double[S,T] m"}, "another element type"),
        ("u = Add(s, m)", {"inputs": "float[1,1,1,1] m", "t": "T"}, "not known to broadcast"),
        ("u = Add(s, m)", {"inputs": "float m"}, "not known to broadcast"),
        ("u = Add(s, m)", {"inputs": "float[N,1,S,T] m"}, "not known to broadcast"),
    ],
)  # fmt: skip
def test_masks_that_stay(scores: str, options: dict[str, str], because: str) -> None:
    masks(before(scores, **options), None, because=because)


def test_masks_of_half_precision() -> None:
    """They cannot hold -1e30: what may hold the lowest number stays, what is known not to is taken."""
    io = "float16[S,T] m"
    masks(before("u = Add(s, m)", io, kind="float16"), None, because="may hold the lowest number", target="cuda",
          constants={"low": -65504.0, "far": -65504.0})  # fmt: skip
    io = "bool[S,T] a"
    text = before("m = Where(a, zero, some) u = Add(s, m)", io, kind="float16")
    masks(text, after("m = Where(a, zero, some)", "m", io, kind="float16"), target="cuda",
          constants={"low": -65504.0, "far": -65504.0})  # fmt: skip


# -- choosing --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("fill", "number"), [("low", FLOOR), ("far", float(np.float32(-1e30)))])
def test_a_choice_becomes_a_mask_that_is_added(fill: str, number: float) -> None:
    io = "bool[B,1,S,T] a"
    sizes = {"B": 3, "S": 4, "T": 2}
    masks(before(f"u = Where(a, s, {fill})", io), after("n = Where(a, c, d)", "n", io), sizes=sizes)
    module = masks(before(f"u = Where(a, {fill}, s)", io), after("n = Where(a, d, c)", "n", io), sizes=sizes)
    assert numbers(module) == [number, 0.0]


def test_a_choice_of_minus_infinity_is_a_mask_of_bools() -> None:
    kept = np.tri(5, 7, 1) > 0
    masks(
        before("u = Where(a, s, inf)", s="5", t="7", constants="bool[5,7] a"), after("", "a", s="5", t="7"), {"a": kept}
    )
    masks(
        before("u = Where(a, inf, s)", s="5", t="7", constants="bool[5,7] a"),
        after("n = Not(a)", "n", s="5", t="7"),
        {"a": ~kept},
    )


def test_an_added_choice_of_zero_and_minus_infinity_is_one_too() -> None:
    kept = np.tri(5, 7, 1) > 0
    for old, new, a in (("a, zero, inf", "", kept), ("a, inf, zero", "n = Not(a)", ~kept)):
        masks(before(f"m = Where({old}) u = Add(s, m)", s="5", t="7", constants="bool[5,7] a"),
              after(new, "n" if new else "a", s="5", t="7"), {"a": a})  # fmt: skip


def test_two_masks_of_bools_are_joined() -> None:
    one, two = np.tri(5, 7, 3) > 0, np.ones((1, 7), bool)
    two[0, 2] = False
    masks(before("w = Where(a, s, inf) u = Where(b, w, inf)", s="5", t="7", constants="bool[5,7] a, bool[1,7] b"),
          after("n = And(a, b)", "n", s="5", t="7"), {"a": one, "b": two})  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "mask"),
    [
        ("w = Add(s, m) u = Where(a, w, low)", f"{NOTHING} n = Where(a, n0, d)"),
        ("w = Where(a, s, low) u = Add(w, m)", f"n1 = Where(a, d, c) {NOTHING} n = Add(n1, n0)"),
        ("w = Where(a, s, inf) u = Add(w, m)", f"n1 = Where(a, d, c) {NOTHING} n = Add(n1, n0)"),
    ],
)
def test_choices_and_sums_keep_their_order(scores: str, mask: str) -> None:
    """With rows that both mask entirely."""
    kept = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]], bool)
    if "inf" in scores:
        kept[1] = True
    constants = "bool[4,3] a, float[4,3] m"
    added = np.where(np.array([[0, 1, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]], bool), 0, LOWEST)
    text = before(scores, s="4", t="3", constants=constants)
    given = before(scores, "float[4,3] m", s="4", t="3", constants="bool[4,3] a")
    masks(given, after(mask, "n", "float[4,3] m", s="4", t="3"), {"a": kept})
    folded = mask.replace(f"{NOTHING} ", "").replace("n0", "m1")
    masks(text, after(folded, "n", s="4", t="3"), {"a": kept, "m": added})


@pytest.mark.parametrize(
    ("scores", "inputs", "because"),
    [
        ("u = Where(a, s, some)", "bool[S,T] a", "set to -10000"),
        ("w = Mul(s, some) u = Where(a, w, one)", "bool[S,T] a", "set to 1"),
        ("w = Where(a, s, far) w1 = Add(w, m) u = Identity(w1)", "bool[S,T] a, float[S,T] m", ""),
        ("w = Add(s, m) u = Where(a, w, far)", "bool[S,T] a, float[S,T] m", "set to -1e+09"),
        ("u = Where(a, s, m)", "bool[S,T] a, float[S,T] m", "beside what is no scalar"),
        ("u = Where(s0, zero, s) ", "bool[N,1,S,T] s0", "not known to broadcast"),
    ],
)  # fmt: skip
def test_choices_that_stay(scores: str, inputs: str, because: str) -> None:
    text = before(scores, inputs).replace("Where(s0, zero, s)", "Where(s0, low, s)")
    masks(text, None, because=because)


def test_a_scale_behind_a_choice_takes_the_fill_along() -> None:
    io = "bool[B,1,S,T] a"
    masks(before("w = Where(a, s, far) u = Mul(w, half)", io, constants="float half"),
          None, {"half": 0.5}, because="set to -5e+08")  # fmt: skip
    masks(before("w = Where(a, s, far) u = Mul(w, half)", io, constants="float half"),
          after("n = Where(a, c, d)", "n", io).replace("scale=1.0", "scale=2.0"), {"half": 2.0}, sizes={"B": 3, "S": 4, "T": 2})  # fmt: skip


# -- causal ----------------------------------------------------------------------------------------------------------
COUNT = "n0 = Shape<start=2, end=3>(q)"
CAUSAL = {
    "full of -inf, upper": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(inf, nn) m = Trilu<upper=1>(f, i1) u = Add(s, m)",
    "full of the lowest": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(low, nn) m = Trilu<upper=1>(f, i1) m4 = Unsqueeze(m, axes0) u = Add(m4, s)",
    "ones below": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(one, nn) t = Trilu<upper=0>(f) e = Equal(t, zero) u = Where(e, inf, s)",
    "bools": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = ConstantOfShape<value=bool[1]{{1}}>(nn) t = Trilu<upper=0>(f) u = Where(t, s, low)",
    "not bools": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = ConstantOfShape<value=bool[1]{{1}}>(nn) t = Trilu<upper=1>(f, i1) w = Not(t) u = Where(w, s, low)",
    "times": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(one, nn) t = Trilu<upper=1>(f, i1) m = Mul(t, far) u = Add(s, m)",
    "one minus": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(one, nn) t = Trilu<upper=0>(f) w = Sub(one, t) m = Mul(w, low) u = Add(s, m)",
    "chosen": f"{COUNT} nn = Concat<axis=0>(n0, n0) f = Expand(one, nn) t = Trilu<upper=0>(f) b = Cast<to=9>(t) m = Where(b, zero, inf) u = Add(s, m)",
    "positions": f"{COUNT} n1 = Squeeze(n0) r = Range(i00, n1, i1) a = Unsqueeze(r, i0) b = Unsqueeze(r, i11)"
                 " c = LessOrEqual(a, b) u = Where(c, s, inf)",
    "positions, greater": f"{COUNT} n1 = Squeeze(n0) r = Range(i00, n1, i1) a = Unsqueeze(r, i0) b = Unsqueeze(r, i11)"
                          " c = Greater(a, b) u = Where(c, inf, s)",
    "positions, turned": f"{COUNT} n1 = Squeeze(n0) r = Range(i00, n1, i1) r1 = Add(r, i1) a = Unsqueeze(r, i0)"
                         " b = Unsqueeze(r1, i11) c = Greater(b, a) u = Where(c, s, inf)",
}  # fmt: skip
MORE = "int64[2] axes0, int64 i00, int64[1] i11"
INDICES: dict[str, Any] = {"axes0": [0, 1], "i00": 0, "i11": 1}


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str) -> None:
    old = before(CAUSAL[name], s="S", t="S", constants=MORE)
    module = masks(old, after(s="S", t="S", more=", is_causal=1"), INDICES)
    assert len(list(module.nodes())) == 1


@pytest.mark.parametrize("shape", ["5,5", "1,1,5,5", "1,5,5", "2,5,5"])
def test_causal_constants(shape: str) -> None:
    for fill in (-np.inf, LOWEST, -1e9):
        masks(before("u = Add(s, m)", s="5", t="5", constants=f"float[{shape}] m"), after(s="5", t="5", more=", is_causal=1"),
              {"m": np.where(np.tri(5), 0, fill)})  # fmt: skip
    masks(before("u = Where(m, s, low)", s="5", t="5", constants=f"bool[{shape}] m"), after(s="5", t="5", more=", is_causal=1"),
          {"m": np.tri(5) > 0})  # fmt: skip


@pytest.mark.parametrize(("batch", "heads"), [(3, 1), (3, 2), (1, 2)])
def test_causal_masks_that_enlarge_the_scores_stay(batch: int, heads: int) -> None:
    check(P, before=f"""g (float[1,1,5,4] q, float[1,1,4,5] k, float[1,1,5,4] v) => (float[{batch},{heads},5,4] z)
            <float[{batch},{heads},5,5] m> {{ s = MatMul(q, k) u = Add(s, m) p = Softmax(u) z = MatMul(p, v) }}""",
          after=None, because="not known to broadcast", constants={"m": np.where(np.tri(5), 0, -np.inf)}, opset=23)  # fmt: skip


def test_causal_slice_of_a_table() -> None:
    """GPT-2: a buffer of the largest length, cut to rows [T - S, T) and columns [0, T)."""
    cut = "m0 = Slice(m, i0, n0, i11) w = Slice(m0, i0, n0, i0) u = Where(w, s, low)"
    masks(before(f"n0 = Shape<start=2, end=3>(q) {cut}", s="S", t="S", constants=f"bool[16,16] m, {MORE}"),
          after(s="S", t="S", more=", is_causal=1"), {**INDICES, "m": np.tri(16) > 0})  # fmt: skip


def past(scores: str, constants: str = "", more: str = "") -> str:
    declared = f"{DECLARED}, {MORE}{', ' + constants if constants else ''}"
    return f"""g (float[B,2,S,4] q, float[B,2,S,4] k, float[B,2,S,5] v, float[B,2,P,4] pk, float[B,2,P,5] pv)
        => (float[B,2,S,5] z, float[B,2,U,4] nk, float[B,2,W,5] nv) <{declared}> {{
        nk = Concat<axis=2>(pk, k) nv = Concat<axis=2>(pv, v) kt = Transpose<perm=[0,1,3,2]>(nk) s = MatMul(q, kt)
        t0 = Shape<start=2, end=3>(nk) {scores} p = Softmax(u) z = MatMul(p, nv) }}"""


@pytest.mark.parametrize(
    "mask",
    [
        "n0 = Shape<start=2, end=3>(q) a = Sub(t0, n0) m0 = Slice(m, a, t0, i0) w = Slice(m0, i0, t0, i11) u = Where(w, s, low)",
        "p0 = Shape<start=2, end=3>(pk) m0 = Slice(m, p0, t0, i0) w = Slice(m0, i0, t0, i11) u = Where(w, s, low)",
        "n1 = Squeeze(t0) p0 = Shape<start=2, end=3>(pk) p1 = Squeeze(p0) r = Range(i00, n1, i1) q1 = Range(p1, n1, i1) a = Unsqueeze(r, i0)"
        " b = Unsqueeze(q1, i11) c = LessOrEqual(a, b) u = Where(c, s, low)",
    ],
)
def test_causal_after_a_past(mask: str) -> None:
    text = past(mask, "bool[16,16] m" if "Slice" in mask else "")
    module = check(P, before=text, after=f"""{text.partition('<')[0]} {{ z, nk, nv = Attention<scale=1.0, is_causal=1>(q, k, v, , pk, pv) }}""",
                   constants={**NUMBERS, **INDICES, "m": np.tri(16) > 0}, opset=23, sizes={"S": 2, "P": 3})  # fmt: skip
    assert len(list(module.nodes())) == 1


@pytest.mark.parametrize(
    ("target", "fused"),
    [
        ("cpu", "z, nk, nv = Attention<scale=1.0>(q, k, v, , pk, pv)"),
        ("tensorrt", "nk = Concat<axis=2>(pk, k) nv = Concat<axis=2>(pv, v) z = Attention<scale=1.0>(q, nk, nv)"),
    ],
)
def test_one_query_after_a_past_sees_every_key(target: str, fused: str) -> None:
    cut = "p0 = Shape<start=2, end=3>(pk) m0 = Slice(m, p0, t0, i0) w = Slice(m0, i0, t0, i11) u = Where(w, s, low)"
    text = past(cut, "bool[16,16] m").replace("B,2,S,", "B,2,1,")
    masks(text, f"{text.partition('<')[0]} {{ {fused} }}", {**INDICES, "m": np.tri(16) > 0}, target=target)


def test_a_mask_of_the_first_positions_after_a_past_is_not_the_causal_one() -> None:
    """Its diagonal starts at key 0 and not behind the past; it is made with the size of what the operator joins."""
    text = past(
        "n0 = Shape<start=2, end=3>(q) m0 = Slice(m, i0, n0, i0) w = Slice(m0, i0, t0, i11) u = Where(w, s, low)",
        "bool[16,16] m",
    )
    head_ = text.partition("<")[0]
    check(P, before=text, after=f"""{head_} {{ nk = Concat<axis=2>(pk, k) nv = Concat<axis=2>(pv, v)
          t0 = Shape<start=2, end=3>(nk) n0 = Shape<start=2, end=3>(q) m0 = Slice(m, i0, n0, i0)
          w = Slice(m0, i0, t0, i11) n = Where(w, c, d) z = Attention<scale=1.0>(q, nk, nv, n) }}""",
          constants={**NUMBERS, **INDICES, "m": np.tri(16) > 0}, opset=23, sizes={"S": 2, "P": 3})  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "s", "t", "mask"),
    [
        ("u = Add(s, m)", "5", "7", np.where(np.tri(5, 7), 0, -np.inf)),
        ("u = Add(s, m)", "5", "7", np.where(np.tri(5, 7, 2), 0, -np.inf)),
        ("u = Add(s, m)", "5", "5", np.where(np.tri(5, 5, 1), 0, -np.inf)),
        ("u = Add(s, m)", "5", "5", np.where(np.tri(5), 0, -1e8)),
        ("u = Add(s, m)", "5", "5", np.where(np.tri(5), 1, -np.inf)),
    ],
)
def test_constants_that_are_not_causal_are_masks(scores: str, s: str, t: str, mask: Any) -> None:
    masks(before(scores, s=s, t=t, constants=f"float[{s},{t}] m"), after("", "m", s=s, t=t), {"m": mask})


def test_causal_beside_a_bias() -> None:
    """ALiBi from a table is known not to mask: both go along. An input may mask, with rows that both mask entirely."""
    constants = "float[1,2,5,5] b, float[5,5] m"
    given = {"m": np.where(np.tri(5), 0, LOWEST)}
    masks(
        before("w = Add(s, b) u = Add(w, m)", s="5", t="5", constants=constants),
        after("", "b", s="5", t="5", more=", is_causal=1"),
        given,
    )
    io = "float[B,1,1,5] b"
    masks(before("w = Add(s, b) u = Add(w, m)", io, s="5", t="5", constants="float[5,5] m"),
          after(TOGETHER.format("n0", "b") + " n1 = Add(n0, m1)", "n1", io, s="5", t="5"), given)  # fmt: skip


def test_causal_beside_a_mask_of_bools() -> None:
    """With -inf in both, a row that they mask entirely is NaN; with the lowest number it is another mean."""
    padding = np.array([[1, 1, 1, 0, 1]], bool)
    constants = "bool[1,5] a, float[5,5] m"
    text = before("w = Where(a, s, inf) u = Add(w, m)", s="5", t="5", constants=constants)
    masks(
        text,
        after("n = Expand(a, x)", "n", s="5", t="5", more=", is_causal=1"),
        {"a": padding, "m": np.where(np.tri(5), 0, -np.inf)},
    )
    masks(
        text,
        after("n0 = Where(a, c, d) n = Add(n0, m1)", "n", s="5", t="5"),
        {"a": padding, "m": np.where(np.tri(5), 0, LOWEST)},
    )


def test_tensorrt_takes_the_causal_mask_alone() -> None:
    given = {"m": np.where(np.tri(5), 0, LOWEST), "b": np.zeros((1, 2, 5, 5))}
    constants = "float[1,2,5,5] b, float[5,5] m"
    masks(
        before("u = Add(s, m)", s="5", t="5", constants=constants),
        after(s="5", t="5", more=", is_causal=1"),
        given,
        target="tensorrt",
    )
    masks(before("w = Add(s, b) u = Add(w, m)", s="5", t="5", constants=constants), after("n = Add(b, m1)", "n", s="5", t="5"), given,
          target="tensorrt")  # fmt: skip


def test_tensorrt_takes_masks_of_rank_4() -> None:
    io = "bool[S,T] a"
    masks(before("m = Where(a, zero, low) u = Add(s, m)", io),
          after("n0 = Where(a, zero, c) n = Expand(n0, x)", "n", io), target="tensorrt")  # fmt: skip


STEPS = "c = Cast<to=1>(w) d = Sub(one, c)"


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
@pytest.mark.parametrize(
    ("scores", "inputs", "mask"),
    [
        ("u = Add(s, m)", "float[B,1,4,3] m", TOGETHER.format("n", "m")),
        ("d = Sigmoid(a) m = Mul(d, low) u = Add(s, m)", "float[B,1,4,3] a",
         "d = Sigmoid(a) m = Mul(d, low) " + TOGETHER.format("n", "m")),
        ("m = Where(a, low, far) u = Add(s, m)", "bool[B,1,4,3] a", "m = Where(a, low, far) " + TOGETHER.format("n", "m")),
        ("m = Where(a, zero, low) n = Where(b, zero, far) w = Add(s, m) u = Add(w, n)",
         "bool[B,1,4,3] a, bool[4,3] b", f"m = Where(a, zero, low) m1 = Where(b, zero, far)"
         f" {TOGETHER.format('t', 'm')} {TOGETHER.format('u', 'm1')} n = Add(t, u)"),
        ("w = Where(a, s, low) u = Where(b, w, far)", "bool[B,1,4,3] a, bool[4,3] b",
         "m = Where(a, c0, c1) n = Where(b, m, c2)"),
    ],
)  # fmt: skip
def test_masks_whose_lowest_numbers_differ_keep_them_apart(target: str, scores: str, inputs: str, mask: str) -> None:
    """A row of nothing but -3e38 and -2e38 is that of the second; with one number for both it would be the mean."""
    sizes = {"s": "4", "t": "3"}
    masks(before(scores, inputs, **sizes), after(mask, "n", inputs, **sizes), {"far": -2e38}, target=target)


def test_different_lowest_numbers_of_a_constant_stay_apart() -> None:
    table = np.where(np.tri(4, 3), 0, LOWEST)
    table[0] = [LOWEST, LOWEST / 2, -np.inf]
    text = before("u = Add(s, m)", s="4", t="3", constants="float[4,3] m")
    module = masks(text, after("", "n", s="4", t="3"), {"m": table}, target="cuda")
    found = ir.Module.constant(next(n for n in module.nodes() if n.op_type == "Attention").inputs[3])
    assert found is not None
    assert np.allclose(found[0, :2] / np.float32(1e38), [-2.2014, -1.3507], rtol=1e-4)
    assert found[0, 2] == -np.inf


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
@pytest.mark.parametrize(
    ("scores", "mask", "inputs"),
    [
        (f"{STEPS} m = Mul(d, low) u = Add(s, m)", f"{STEPS} m = Mul(d, e)", "bool[B,1,S,T] w"),
        ("m = Where(a, low, zero) u = Add(s, m)", "m = Where(a, e, zero)", "bool[B,1,S,T] a"),
        ("r = Tanh(b) m = Where(a, r, low) u = Add(s, m)", "r = Tanh(b) m = Where(a, r, e)",
         "bool[B,1,S,T] a, float[B,1,S,T] b"),
    ],
)  # fmt: skip
def test_masks_with_one_lowest_number_are_raised(target: str, scores: str, mask: str, inputs: str) -> None:
    sizes = {"B": 3, "S": 4, "T": 2}
    text = after(mask, "m", inputs)
    masks(before(scores, inputs), text, target=target, sizes=sizes)


# -- rows without keys -----------------------------------------------------------------------------------------------
GUARD = "p0 = Softmax(u) e = IsNaN(p0) p = Where(e, zero, p0)"


def guarded(scores: str, **options: str) -> str:
    return before(scores, **options).replace("p = Softmax(u)", GUARD)


def test_rows_of_nan_that_become_0() -> None:
    """scaled_dot_product_attention of torch: what the operator does with a row that has no key."""
    kept = np.tri(5, 7, -1) > 0
    masks(
        guarded("u = Where(a, s, inf)", s="5", t="7", constants="bool[5,7] a"),
        after("", "a", s="5", t="7"),
        {"a": kept},
    )
    masks(
        guarded("m = Where(a, zero, inf) u = Add(s, m)", s="5", t="7", constants="bool[5,7] a"),
        after("", "a", s="5", t="7"),
        {"a": kept},
    )


def test_rows_that_cannot_become_nan_need_no_guard() -> None:
    kept = np.tri(5, 7, -1) > 0
    masks(guarded("m = Where(a, zero, low) u = Add(s, m)", s="5", t="7", constants="bool[5,7] a"),
          after("n = Where(a, zero, d)", "n", s="5", t="7"), {"a": kept})  # fmt: skip
    masks(guarded("u = Identity(s)").replace("u = Identity(s)", "u = Mul(s, one)"), after())


@pytest.mark.parametrize(
    ("scores", "inputs"),
    [("u = Add(s, m)", "float[S,T] m"), ("w = Add(s, m) u = Where(a, w, inf)", "float[S,T] m, bool[S,T] a")],
)
def test_guards_of_masks_that_may_be_infinite_stay(scores: str, inputs: str) -> None:
    masks(guarded(scores, inputs=inputs), None, because="not known which rows")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_guards_stay_where_a_row_without_keys_is_not_known_to_be_0(target: str) -> None:
    masks(guarded("u = Where(a, s, inf)", inputs="bool[S,T] a"), None, because="a row without keys", target=target)


@pytest.mark.parametrize(
    "guard", [GUARD.replace("zero", "one"), GUARD.replace("IsNaN(p0)", "IsNaN(u)"), GUARD.replace("IsNaN", "IsInf")]
)
def test_other_guards_stay(guard: str) -> None:
    masks(before("u = Mul(s, one)").replace("p = Softmax(u)", guard), None)


@pytest.mark.parametrize(
    ("q", "k", "v", "z"),
    [
        ("B,H,5,4", "B,H,4,7", "B,H,7,6", "B,H,5,6"),
        ("B,2,5,D", "B,2,D,7", "B,2,7,6", "B,2,5,6"),
        ("B,2,5,4", "B,2,4,7", "B,2,7,E", "B,2,5,E"),
    ],
)
def test_numbers_that_attention_needs_to_know(q: str, k: str, v: str, z: str) -> None:
    io = f"g (float[{q}] q, float[{k}] k, float[{v}] v) => (float[{z}] z)"
    check(P, f"{io} {{ s = MatMul(q, k) p = Softmax(s) z = MatMul(p, v) }}", None, because="the number of heads, or their size, is not known, or a size is 0", opset=23)  # fmt: skip
