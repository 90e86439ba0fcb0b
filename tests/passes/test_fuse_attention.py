import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fuse_attention import FuseAttention
from fcc.testing import check

P = FuseAttention()
LOWEST = float(np.finfo(np.float32).min)
FLOOR = float(np.nextafter(np.float32(LOWEST), np.float32(0)))
HEADS = ", int64[4] h, int64[3] e"
SHAPES = {"h": np.array([0, 0, 2, 4]), "e": np.array([0, 0, 8])}
SPLIT = "qr = Reshape(q, h) kr = Reshape(k, h) vr = Reshape(v, h) qh = Transpose<perm=[0,2,1,3]>(qr) "
KEYS = "kh = Transpose<perm=[0,2,3,1]>(kr) "
VALUES = "vh = Transpose<perm=[0,2,1,3]>(vr) "
MERGE = "z = MatMul(p, vh) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e)"


def primitives(
    scores: str = "s = MatMul(qh, kh) t = Mul(s, c) p = Softmax<axis=-1>(t)",
    inputs: str = "",
    constants: str = ", float c",
    *,
    batch: str = "B",
    sequences: str = "ST",
    keys: str = KEYS,
    merge: str = MERGE,
    outputs: str = "",
    split: str = SPLIT,
    values: str = VALUES,
    kind: str = "float",
) -> str:
    s, t = ("S" if sequences == "SS" else sequences[0]), sequences[1]
    return (
        f"g ({kind}[{batch},{s},8] q, {kind}[{batch},{t},8] k, {kind}[{batch},{t},8] v{inputs}) => "
        f"({kind}[{batch},{s},8] y{outputs}) <{HEADS[2:]}{constants}> {{ {split}{keys}{values}{scores} {merge} }}"
    )


def fused(
    mask: str = "", scale: float = 0.5, inputs: str = "", before: str = "", batch: str = "B", st_: str = "ST"
) -> str:
    return (
        f"g (float[{batch},{st_[0]},8] q, float[{batch},{st_[1]},8] k, float[{batch},{st_[1]},8] v{inputs}) => "
        f"(float[{batch},{st_[0]},8] y) "
        f"{{ {before} y = Attention<q_num_heads=2, kv_num_heads=2, scale={scale}>(q, k, v{mask}) }}"
    )


def test_fuses() -> None:
    check(P, before=primitives(), after=fused(), constants={**SHAPES, "c": 0.5}, opset=23)


def test_self_attention() -> None:
    text = primitives().replace("[B,T,8]", "[B,S,8]")
    after = fused(st_="SS")
    check(P, before=text, after=after, constants={**SHAPES, "c": 0.5}, opset=23)


def test_without_a_scale() -> None:
    check(P, before=primitives("s = MatMul(qh, kh) p = Softmax(s)", constants=""), after=fused(scale=1.0),
          constants=SHAPES, opset=23)  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ("s = MatMul(qh, kh) t = Mul(c, s) p = Softmax<axis=3>(t)", 0.25),
        ("s = MatMul(qh, kh) t = Div(s, c) p = Softmax(t)", 4.0),
        ("a = Mul(qh, c) b = Mul(kh, c) s = MatMul(a, b) p = Softmax(s)", 0.0625),
        ("a = Div(qh, c) s = MatMul(a, kh) t = Mul(s, c) u = Mul(t, c) p = Softmax(u)", 0.25),
    ],
)
def test_scales(scores: str, scale: float) -> None:
    check(P, before=primitives(scores), after=fused(scale=scale), constants={**SHAPES, "c": 0.25}, opset=23)


def test_keys_transposed_in_two_steps() -> None:
    keys = "kt = Transpose<perm=[0,2,1,3]>(kr) kh = Transpose<perm=[0,1,3,2]>(kt) "
    check(P, before=primitives(keys=keys), after=fused(), constants={**SHAPES, "c": 0.5}, opset=23)


def test_reshape_to_a_matrix_behind_it() -> None:
    merge = "z = MatMul(p, vh) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, f)"
    text = primitives(merge=merge, constants=", float c, int64[2] f").replace("float[B,S,8] y", "float[R,8] y")
    after = fused().replace("float[B,S,8] y", "float[R,8] y").replace("y = Attention", "a = Attention")
    after = after.replace(" }", " y = Reshape(a, f) }")
    check(P, before=text, after=after, constants={**SHAPES, "c": 0.5, "f": np.array([-1, 8])}, opset=23,
          sizes={"R": 6})  # fmt: skip


# -- masks -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["t, m", "m, t"])
@pytest.mark.parametrize("shape", ["5,7", "1,5,7", "2,5,7", "1,1,5,7", "3,1,5,7", "3,2,5,7"])
def test_constant_mask(order: str, shape: str) -> None:
    text = primitives(
        f"s = MatMul(qh, kh) t = Mul(s, c) u = Add({order}) p = Softmax(u)", constants=f", float c, float[{shape}] m",
        batch="3", sequences="57",
    )  # fmt: skip
    module = check(P, before=text, after=fused(", m", batch="3", st_="57"), constants={**SHAPES, "c": 0.5}, opset=23)
    assert "m" in module.graph.initializers


def test_attention_over_the_border_of_a_branch_stays() -> None:
    branch = "() => (float[B,S,8] {0}) {{ z{0} = MatMul(p, vh) t{0} = Transpose<perm=[0,2,1,3]>(z{0}) {0} = Reshape(t{0}, e) }}"
    merge = f"y = If(w) <then_branch = a {branch.format('i')}, else_branch = b () => (float[B,S,8] j) {{ j = Neg(q) }}>"
    check(P, before=primitives(merge=merge, inputs=", bool w"), after=None, because="border of a nested graph",
          constants={**SHAPES, "c": 0.5}, opset=23)  # fmt: skip


def test_lowest_number_of_a_constant_mask_is_raised() -> None:
    mask = np.where(np.tri(5, 7), 0, LOWEST)
    mask[2] = LOWEST
    text = primitives(
        "s = MatMul(qh, kh) t = Mul(s, c) u = Add(t, m) p = Softmax(u)", constants=", float c, float[5,7] m",
        batch="3", sequences="57",
    )  # fmt: skip
    after = fused(", m1", batch="3", st_="57")
    module = check(P, before=text, after=after, constants={**SHAPES, "c": 0.5, "m": mask}, opset=23)
    (found,) = (v.const_value.numpy() for v in module.graph.initializers.values() if v.const_value is not None)
    assert np.array_equal(found, np.where(mask == LOWEST, FLOOR, 0))


def test_two_layers_share_the_raised_mask() -> None:
    scores = "s = MatMul(qh, kh) t = Mul(s, c) u = Add(t, m) p = Softmax(u)"
    first = primitives(scores, constants=", float c, float[5,7] m", batch="3", sequences="57")
    head, body = first.split("{", 1)
    again = body.replace("}", "")
    for name in ("qr", "kr", "vr", "qh", "kh", "vh", "s", "t", "u", "p", "z", "zt", "y"):
        again = re.sub(rf"\b{name}\b(?= =|[,)])", f"{name}2", again)
    text = head.replace("8] y)", "8] y, float[3,5,8] y2)") + "{" + body.replace("}", "") + again + "}"
    module = check(P, before=text, after=fused(", m1", batch="3", st_="57").replace(
        "8] y)", "8] y, float[3,5,8] y2)").replace(" }", " y2 = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v, m1) }"),
        constants={**SHAPES, "c": 0.5, "m": np.where(np.tri(5, 7), 0, LOWEST)}, opset=23)  # fmt: skip
    assert len(module.graph.initializers) == 1


def test_lowest_number_of_a_chosen_mask_is_raised() -> None:
    text = primitives(
        "m = Where(x, a, b) s = MatMul(qh, kh) t = Mul(s, c) u = Add(t, m) p = Softmax(u)",
        ", bool[B,1,S,T] x", ", float c, float a, float b",
    )  # fmt: skip
    after = fused(", m", inputs=", bool[B,1,S,T] x", before="m = Where(x, a, b)")
    module = check(P, before=text, after=after, constants={**SHAPES, "c": 0.5, "a": 0, "b": LOWEST}, opset=23)
    found = {float(v.const_value.numpy()) for v in module.graph.initializers.values() if v.const_value is not None}
    assert found == {0.0, FLOOR}


@pytest.mark.parametrize("low", [-1e9, -1e4])
def test_mask_of_other_numbers_is_kept(low: float) -> None:
    text = primitives(
        "m = Where(x, a, b) s = MatMul(qh, kh) t = Mul(s, c) u = Add(t, m) p = Softmax(u)",
        ", bool[S,T] x", ", float c, float a, float b",
    )  # fmt: skip
    after = fused(", m", inputs=", bool[S,T] x", before="m = Where(x, a, b)")
    module = check(P, before=text, after=after, constants={**SHAPES, "c": 0.5, "a": 0, "b": low}, opset=23)
    assert {"a", "b"} <= set(module.graph.initializers)


def test_mask_of_keys_is_expanded() -> None:
    text = primitives(
        "s = MatMul(qh, kh) t = Mul(s, c) u = Add(t, m) p = Softmax(u)", constants=", float c, float[3,1,1,7] m",
        batch="3", sequences="57",
    )  # fmt: skip
    after = fused(", n", batch="3", st_="57", before="n = Expand(m, r)")
    module = check(P, before=text, after=after, constants={**SHAPES, "c": 0.5}, opset=23)
    shapes = [v.const_value.numpy().tolist() for v in module.graph.initializers.values() if v.const_value is not None]
    assert [1, 1, 5, 1] in shapes


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "because"),
    [
        (primitives("s = MatMul(qh, kh) t = Mul(s, c) p = Softmax<axis=2>(t)"), "not over the last axis"),
        (primitives("s = Add(qh, qh) p = Softmax(s)", constants="", sequences="S4"), "no product of queries and keys"),
        (primitives("s = MatMul(qh, kh) t = Mul(s, n) p = Softmax(t)", constants=", float n"), "the scale is not positive"),
        (primitives("s = MatMul(qh, kh) t = Mul(s, z0) p = Softmax(t)", constants=", float z0"), "no scalar constant"),
        (primitives("s = MatMul(qh, kh) t = Div(c, s) p = Softmax(t)"), "no scalar constant"),
        (primitives("s = MatMul(qh, kh) t = Mul(s, d) p = Softmax(t)", constants=", float[4] d", sequences="S4"), "no scalar"),
        (primitives("s = MatMul(qh, kh) r = Exp(s) p = Softmax(r)", constants=""), "no product of queries and keys"),
        (primitives("s = MatMul(qh, kh) r = Max(s, c) p = Softmax(r)"), "the scores are bounded"),
        (primitives("s = MatMul(qh, kh) t = Div(s, n) p = Softmax(t)", constants=", float n"), "the scale is not positive"),
        (primitives("s = MatMul(qh, kh) t = Div(s, w) p = Softmax(t)", constants=", float w"), "no number of float32"),
        (primitives("s = MatMul(qh, kh) t = Mul(s, w) u = Mul(t, w) p = Softmax(u)", constants=", float w"),
         "no number of float32"),
        (primitives(outputs=", float[B,2,S,T] p"), "'p' has other users"),
        (primitives(merge=MERGE + " o = Neg(s)", outputs=", float[B,2,S,T] o"), "'s' has other users"),
        (primitives(kind="double", constants=", double c"), "not measured for"),
        (primitives(split=SPLIT.replace("Reshape(k, h)", "Reshape(k, h1)").replace("Reshape(q, h)", "Reshape(q, h1)"),
                    constants=", float c, int64[4] h1"), "differ in heads"),
        (primitives().replace("float[B,T,8] v", "float[B,U,8] v"), "not known to have one batch"),
        (primitives().replace("float[B,T,8] k", "float[1,T,8] k"), "not known to have one batch"),
        (primitives().replace("float[B,T,8] v", "float[1,T,8] v"), "not known to have one batch"),
        (primitives(merge="z = Mul(p, vh) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e)", sequences="44"), ""),
        (primitives("s = MatMul(qh, kh) x = Cast<to=10>(s) p0 = Softmax(x) p = Cast<to=1>(p0)", constants=""), "a narrower type"),
    ],
)  # fmt: skip
def test_refusals(text: str, because: str) -> None:
    constants = {**SHAPES, "c": 0.5, "n": -0.5, "w": 1e-40, "z0": 0, "h1": np.array([0, 0, 4, 2])}
    check(P, before=text, after=None, because=because, constants=constants, opset=23)


def test_reshape_behind_it_that_copies_batch_and_sequence() -> None:
    merge = MERGE.replace("e)", "r)")
    text = primitives(merge=merge, constants=", float c, int64[4] r").replace("S,8] y", "S,4,2] y")
    after = (
        fused()
        .replace("S,8] y", "S,4,2] y")
        .replace("y = Attention", "a = Attention")
        .replace(" }", " y = Reshape(a, r) }")
    )
    check(P, before=text, after=after, constants={**SHAPES, "c": 0.5, "r": np.array([0, 0, 4, 2])}, opset=23)


def test_products_of_another_type_than_the_queries_stay() -> None:
    """Attention returns the type of its queries."""
    text = primitives("s0 = MatMul(qh, kh) s = Cast<to=1>(s0) p = Softmax<axis=-1>(s)", constants="")
    text = text.replace("float[B,S,8] q, float[B,T,8] k", "float16[B,S,8] q, float16[B,T,8] k")
    check(P, before=text, after=None, because="another type than the queries", constants=SHAPES, opset=23)
    check(
        P, before=text, after=None, because="another type than the queries", constants=SHAPES, opset=23, target="cuda"
    )


def test_older_opset_stays() -> None:
    check(P, before=primitives(), after=None, because="needs opset 23", constants={**SHAPES, "c": 0.5}, opset=21)


def test_overridable_scale_stays() -> None:
    check(P, before=primitives(inputs=", float c = {0.5}", constants=""), after=None, constants=SHAPES, opset=23)


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    heads, size, wide = d(st.integers(1, 3)), d(st.integers(1, 3)), d(st.integers(1, 3))
    batch = d(st.sampled_from(["B", "1", "2"]))
    s, t = d(st.sampled_from(["S", "1", "5"])), d(st.sampled_from(["T", "1", "4"]))
    e, f = heads * size, heads * wide
    masked = d(st.booleans()) and s.isdigit() and t.isdigit()
    at = d(st.sampled_from(["scores", "q", "k"]))
    by = d(st.sampled_from(["Mul({0}, c)", "Mul(c, {0})", "Div({0}, c)"]))
    c = d(st.sampled_from([0.5, 0.125, 2.0]))
    lines = {"q": "a = Identity(qh)", "k": "b = Identity(kh)", "scores": "u = Identity(s)"}
    lines = {
        k: (f"{v[0]} = {by.format({'q': 'qh', 'k': 'kh', 'scores': 's'}[k])}" if k == at else "")
        for k, v in lines.items()
    }
    a, b, u = ("a" if at == "q" else "qh"), ("b" if at == "k" else "kh"), ("u" if at == "scores" else "s")
    add = f"w = Add({d(st.sampled_from([f'{u}, m', f'm, {u}']))})" if masked else ""
    io = f"g (float[{batch},{s},{e}] q, float[{batch},{t},{e}] k, float[{batch},{t},{f}] v) => (float[{batch},{s},{f}] y)"
    mask = f", float[{s},{t}] m" if masked else ""
    text = (
        f"{io} <int64[4] h, int64[4] g1, int64[3] e, float c{mask}> {{ qr = Reshape(q, h) kr = Reshape(k, h) "
        "vr = Reshape(v, g1) qh = Transpose<perm=[0,2,1,3]>(qr) kh = Transpose<perm=[0,2,3,1]>(kr) "
        f"vh = Transpose<perm=[0,2,1,3]>(vr) {lines['q']} {lines['k']} s = MatMul({a}, {b}) {lines['scores']} {add} "
        f"p = Softmax({'w' if masked else u}) z = MatMul(p, vh) zt = Transpose<perm=[0,2,1,3]>(z) y = Reshape(zt, e) }}"
    )
    constants = {
        "h": np.array([0, 0, heads, size]),
        "g1": np.array([0, 0, heads, wide]),
        "e": np.array([0, 0, f]),
        "c": c,
    }
    scale = 1 / c if "Div" in by else c
    after = (
        f"{io} {{ y = Attention<q_num_heads={heads}, kv_num_heads={heads}, scale={float(scale)}>"
        f"(q, k, v{', m' if masked else ''}) }}"
    )
    check(P, before=text, after=after, constants=constants, opset=23, seed=d(st.integers(0, 99)))
