from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_one_hot import FoldOneHot
from fcc.testing import check

IDS = np.arange(5)


def product(index: str, hot: str, *, dims: str = "N,3", out: str = "N,3,4", declared: str = "") -> str:
    return (
        f"g (int32[{dims}] i) => (float[{out}] y) <int32[1,5] ids, float[5,4] w, float[] one, float[] zero, "
        f"int32[1] last{declared}> {{ {index} {hot} y = MatMul(h, w) }}"
    )


CONSTANTS: dict[str, Any] = {"ids": IDS, "one": 1.0, "zero": 0.0, "last": -1}
UNSQUEEZED = "j = Unsqueeze(i, axis)"
AXIS: dict[str, Any] = {**CONSTANTS, "axis": -1}
AFTER = "j = Unsqueeze(i, axis) s = Squeeze(j, minus) c = Clip(s, low, high) y = Gather<axis = 0>(rows, c)"


@pytest.mark.parametrize(
    "hot",
    [
        "e = Equal(j, ids) h = Cast<to = 1>(e)",
        "e = Equal(ids, j) h = Cast<to = 1>(e)",
        "e = Equal(j, ids) h = Where(e, one, zero)",
    ],
)
def test_every_spelling_of_the_comparison(hot: str) -> None:
    check(
        FoldOneHot(),
        before=product(UNSQUEEZED, hot, declared=", int64[1] axis"),
        after=f"g (int32[N,3] i) => (float[N,3,4] y) {{ {AFTER} }}",
        constants=AXIS,
    )


def run(index: np.ndarray[Any, Any], **options: Any) -> np.ndarray[Any, Any]:
    """What the rewritten product gives for given indices; the same is asked of the source by ``check``."""
    from onnx.reference import ReferenceEvaluator
    from onnx_ir import serde

    kind = {"int32": "int32", "int64": "int64", "uint8": "uint8", "int8": "int8"}[str(index.dtype)]
    ids = options.get("ids", IDS)
    guard = " s = Cast<to = 6>(q)" if kind in ("uint8", "int8") else " s = Identity(q)"
    del guard
    module = check(
        FoldOneHot(max_growth=1 << 20),
        before=f"g ({kind}[N,1] i) => (float[N,4] y) <{kind}[{len(ids)}] ids, float[{len(ids)},4] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=options["after"],
        constants={"ids": ids, "w": np.arange(4 * len(ids)).reshape(-1, 4) + 1},
    )
    model = serde.serialize_model(module.model)
    return np.asarray(ReferenceEvaluator(model).run(None, {"i": index[:, None]})[0])


PLAIN = "g (int32[N,1] i) => (float[N,4] y) { s = Squeeze(i, a) c = Clip(s, l, h) y = Gather<axis = 0>(t, c) }"


def test_an_id_outside_of_the_table_has_a_row_of_zeros() -> None:
    lowest, highest = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    index = np.array([0, 4, 5, -1, -5, -6, lowest, highest, 2], np.int32)
    rows = np.arange(20, dtype=np.float32).reshape(5, 4) + 1
    expected = [rows[i] if 0 <= i < 5 else np.zeros(4) for i in index]
    assert np.array_equal(run(index, after=PLAIN), np.asarray(expected, np.float32))


def test_ids_in_any_order_and_with_gaps() -> None:
    ids = np.array([7, 2, 3])
    rows = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    index = np.arange(-2, 11).astype(np.int32)
    expected = [rows[ids.tolist().index(i)] if i in ids else np.zeros(4) for i in index]
    assert np.array_equal(run(index, ids=ids, after=PLAIN), np.asarray(expected, np.float32))


def test_a_narrow_index_proves_itself() -> None:
    after = "g (uint8[N,1] i) => (float[N,4] y) { s = Squeeze(i, a) c = Cast<to = 6>(s) y = Gather<axis = 0>(t, c) }"
    rows = np.arange(1024, dtype=np.float32).reshape(256, 4) + 1
    found = run(np.arange(256).astype(np.uint8), ids=np.arange(256), after=after)
    assert np.array_equal(found, rows)


def test_a_narrow_index_with_ids_left_out() -> None:
    after = (
        "g (uint8[N,1] i) => (float[N,4] y) "
        "{ s = Squeeze(i, a) c = Cast<to = 6>(s) d = Clip(c, l, h) y = Gather<axis = 0>(t, d) }"
    )
    found = run(np.arange(256).astype(np.uint8), ids=np.arange(255), after=after)
    assert np.array_equal(found[255], np.zeros(4))


@pytest.mark.parametrize("bound", ["Clip(i, zero, four)", "Mod(i, five)"])
def test_a_proved_domain_needs_no_guard(bound: str) -> None:
    check(
        FoldOneHot(),
        before="g (int64[N,1] i) => (float[N,4] y) <int64[5] ids, float[5,4] w, int64[] zero, int64[] four, "
        f"int64[] five> {{ b = {bound} e = Equal(b, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }}",
        after="g (int64[N,1] i) => (float[N,4] y) <int64[] zero, int64[] four, int64[] five> "
        f"{{ b = {bound} s = Squeeze(b, a) y = Gather<axis = 0>(w, s) }}",
        constants={"ids": IDS, "zero": 0, "four": 4, "five": 5},
    )


def test_argmax_is_a_row_of_its_axis() -> None:
    check(
        FoldOneHot(),
        before="g (float[N,5] x) => (float[N,4] y) <int64[5] ids, float[5,4] w> "
        "{ b = ArgMax<axis = -1>(x) e = Equal(b, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after="g (float[N,5] x) => (float[N,4] y) { b = ArgMax<axis = -1>(x) s = Squeeze(b, a) "
        "y = Gather<axis = 0>(w, s) }",
        constants={"ids": IDS},
    )


ONE_HOT = (
    "g (int64[N,3] i) => (float[N,3,4] y) <float[5,4] w, int64[] zero, int64[] four, int64[{rank}] depth, "
    "float[2] values> {{ b = {index} h = OneHot{axis}(b, depth, values) y = MatMul(h, w) }}"
)
VALUES: dict[str, Any] = {"values": [0, 1], "depth": 5, "zero": 0, "four": 4}


@pytest.mark.parametrize("axis", ["", "<axis = -1>", "<axis = 2>"])
@pytest.mark.parametrize(("low", "high"), [(0, 4), (-5, 4), (-5, 0), (1, 2)])
def test_one_hot_whose_domain_is_proved(axis: str, low: int, high: int) -> None:
    check(
        FoldOneHot(),
        before=ONE_HOT.format(index="Clip(i, zero, four)", axis=axis, rank=""),
        after="g (int64[N,3] i) => (float[N,3,4] y) { b = Clip(i, zero, four) y = Gather<axis = 0>(w, b) }",
        constants={**VALUES, "zero": low, "four": high},
    )


@pytest.mark.parametrize(
    ("index", "axis", "values", "reason"),
    [
        ("Identity(i)", "", {}, "wraps negative ones"),
        ("Clip(i, zero, four)", "", {"zero": -6}, "wraps negative ones"),
        ("Clip(i, zero, four)", "", {"four": 5}, "wraps negative ones"),
        ("Clip(i, zero, four)", "", {"values": [0, 2]}, "the values"),
        ("Clip(i, zero, four)", "", {"values": [1, 0]}, "the values"),
    ],
)
def test_one_hot_that_stays(index: str, axis: str, values: dict[str, Any], reason: str) -> None:
    text = ONE_HOT.format(index=index, axis=axis, rank="")
    check(FoldOneHot(), before=text, after=None, because=reason, constants={**VALUES, **values})


@pytest.mark.parametrize(
    ("axis", "depth", "rows", "out", "reason"),
    [(1, 5, 3, "N,5,4", "last axis"), (-1, 4, 4, "N,3,4", ""), (-2, 5, 3, "N,5,4", "last axis")],
)
def test_one_hot_on_another_axis_or_of_another_depth(axis: int, depth: int, rows: int, out: str, reason: str) -> None:
    check(
        FoldOneHot(),
        before=f"g (uint8[N,3] i) => (float[{out}] y) <float[{rows},4] w, int64 depth, float[2] values> "
        f"{{ h = OneHot<axis = {axis}>(i, depth, values) y = MatMul(h, w) }}",
        after=None,
        because=reason,
        constants={"values": [0, 1], "depth": depth},
    )


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", ["", "4", "1,4"])
def test_gemm_with_its_bias(transposed: int, bias: str) -> None:
    shape, declared = ("4,5" if transposed else "5,4"), f", float[{bias}] b" if bias else ""
    check(
        FoldOneHot(),
        before=f"g (int32[N,1] i) => (float[N,4] y) <int32[1,5] ids, float[{shape}] w{declared}> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) "
        f"y = Gemm<alpha = 0.5, beta = 2.0, transB = {transposed}>(h, w{', b' if bias else ''}) }}",
        after=PLAIN,
        constants={"ids": IDS},
    )


@pytest.mark.parametrize(
    ("dims", "out", "w", "constants", "reason"),
    [
        ("N,1", "N,4", "5,4", {"ids": [0, 1, 2, 3, 3]}, "distinct"),
        ("N,1", "N,4", "5,4", {"ids": [-1, 0, 1, 2, 3]}, "negative"),
        ("N,1", "N,4", "5,4", {"w": np.inf}, "NaN or infinity"),
        ("N,1", "N,4", "5,4", {"w": np.nan}, "NaN or infinity"),
        ("N,5", "N,4", "5,4", {}, "[..., 1]"),
        ("N,1", "N,400", "5,400", {}, "bytes"),
        ("N,1", "N,4", "5,4", {"ids": [0, 1, 2, 3, 90]}, "bytes"),
        ("7,N,1", "7,N,4", "7,5,4", {}, "no matrix"),
    ],
)
def test_other_products_stay(dims: str, out: str, w: str, constants: dict[str, Any], reason: str) -> None:
    check(
        FoldOneHot(),
        before=f"g (int32[{dims}] i) => (float[{out}] y) <int32[1,5] ids, float[{w}] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=None,
        because=reason,
        constants={"ids": IDS, **constants},
    )


@pytest.mark.parametrize(
    ("kind", "reason"), [("float", "no index of type"), ("uint32", "no index of type"), ("uint64", "no index of type")]
)
def test_other_types_stay(kind: str, reason: str) -> None:
    check(
        FoldOneHot(),
        before=f"g ({kind}[N,1] i) => (float[N,4] y) <{kind}[1,5] ids, float[5,4] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=None,
        because=reason,
        constants={"ids": IDS},
    )


def test_a_shared_table_is_not_copied() -> None:
    check(
        FoldOneHot(max_growth=0),
        before="g (int32[N,1] i, float[N,300] z) => (float[N,300] y, float[N,300] u) <int32[1,5] ids, float[5,300] w, "
        "int64[] row> { e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) g = Gather(w, row) u = Add(z, g) }",
        after=None,
        because="shared",
        constants={"ids": IDS, "row": 2},
    )


def test_an_overridable_table_stays() -> None:
    check(
        FoldOneHot(),
        before='<ir_version: 8, opset_import: ["" : 17]> g (int32[N,1] i, float[2,2] w = {1.0,2.0,3.0,4.0}) '
        "=> (float[N,2] y) <int32[1,2] ids = {0, 1}> { e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=None,
        because="not constant",
    )


def test_a_one_hot_matrix_that_is_an_output_stays() -> None:
    check(
        FoldOneHot(),
        before="g (int32[N,1] i) => (float[N,4] y, float[N,5] h) <int32[1,5] ids, float[5,4] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=None,
        because="graph output",
        constants={"ids": IDS},
    )


def test_a_subgraph_border_is_not_crossed() -> None:
    check(
        FoldOneHot(),
        before="g (int32[N,1] i, bool c) => (float[N,4] y) <int32[1,5] ids, float[5,4] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) "
        "y = If (c) <then_branch = a () => (float[N,4] p) { p = MatMul(h, w) }, "
        "else_branch = b () => (float[N,4] q) { r = MatMul(h, w) q = Neg(r) }> }",
        after=None,
        because="subgraph",
        constants={"ids": IDS},
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    st.sampled_from(["int32", "int64", "uint8", "int8"]),
    st.sampled_from(["N", "0", "1", "N,2", "2,1,3"]),
    st.integers(0, 5),
    st.booleans(),
)
def test_random_one_hot_products(ids: list[int], kind: str, dims: str, width: int, swapped: bool) -> None:
    """Generated instances: the pass applies (or refuses) and ``check`` compares the outputs of both graphs."""
    rows, equal = len(ids), "Equal(ids, i)" if swapped else "Equal(i, ids)"
    cast = "k = Cast<to = 6>(s) " if "8" in kind else "k = Identity(s) "
    after = (
        f"g ({kind}[{dims},1] i) => (float[{dims},{width}] y) "
        "{ s = Squeeze(i, a) " + cast + "c = Clip(k, l, h) y = Gather<axis = 0>(t, c) }"
    )
    if "8" not in kind:
        after = after.replace("k = Identity(s) ", "").replace("Clip(k", "Clip(s")
    check(
        FoldOneHot(max_growth=1 << 20),
        before=f"g ({kind}[{dims},1] i) => (float[{dims},{width}] y) <{kind}[{rows}] ids, float[{rows},{width}] w> "
        f"{{ e = {equal} h = Cast<to = 1>(e) y = MatMul(h, w) }}",
        after=after if width else None,
        constants={"ids": ids},
    )


@pytest.mark.parametrize("product", ["MatMul(h, w)", "Gemm(h, w)"])
def test_a_table_that_needs_no_row_stays_the_tensor_it_is(product: str) -> None:
    module = check(
        FoldOneHot(max_growth=-1000),
        before="g (uint8[N,1] i) => (float[N,4] y) <uint8[256] ids, float[256,4] w> "
        f"{{ e = Equal(i, ids) h = Cast<to = 1>(e) y = {product} }}",
        after="g (uint8[N,1] i) => (float[N,4] y) { s = Squeeze(i, a) c = Cast<to = 6>(s) y = Gather<axis = 0>(w, c) }",
        constants={"ids": np.arange(256)},
    )
    assert "w" in module.graph.initializers


@pytest.mark.parametrize("gemm", ["Gemm<alpha = 0.5>(h, w)", "Gemm(h, w, b)", "Gemm<transB = 1>(h, w)"])
def test_a_gemm_that_changes_the_table(gemm: str) -> None:
    check(
        FoldOneHot(),
        before="g (uint8[N,1] i) => (float[N,256] y) <uint8[256] ids, float[256,256] w, float[256] b> "
        f"{{ e = Equal(i, ids) h = Cast<to = 1>(e) y = {gemm} }}",
        after="g (uint8[N,1] i) => (float[N,256] y) "
        "{ s = Squeeze(i, a) c = Cast<to = 6>(s) y = Gather<axis = 0>(w, c) }",
        constants={"ids": np.arange(256)},
    )


@pytest.mark.parametrize(
    ("users", "least"),
    [("", 96 - 80 - 20), ("u = Transpose(w)", 96 - 20), ("u = Cast<to = 1>(ids)", 96 - 80)],
)
def test_growth_is_what_does_not_go(users: str, least: int) -> None:
    out, more = ("", "") if not users else (", float[A,B] z" if "w" in users else ", float[A] z", " z = Identity(u)")
    text = (
        f"g (int32[N,1] i, float[A,B] q) => (float[N,4] y{out}) <int32[5] ids, float[5,4] w> "
        f"{{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) {users}{more} }}"
    )
    check(FoldOneHot(max_growth=least - 1), before=text, after=None, because="bytes", constants={"ids": IDS})
    rest = text[text.index("y = MatMul(h, w)") + 16 :]
    check(
        FoldOneHot(max_growth=least),
        before=text,
        after=f"g (int32[N,1] i, float[A,B] q) => (float[N,4] y{out}) <int32[5] ids, float[5,4] w> "
        f"{{ s = Squeeze(i, a) c = Clip(s, l, k) y = Gather<axis = 0>(t, c) {rest}",
        constants={"ids": IDS},
    )


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_the_bounds_have_the_type_of_the_index(kind: str) -> None:
    module = check(
        FoldOneHot(),
        before=f"g ({kind}[N,1] i) => (float[N,4] y) <{kind}[5] ids, float[5,4] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=PLAIN.replace("int32", kind),
        constants={"ids": IDS},
    )
    (clip,) = (n for n in module.graph if n.op_type == "Clip")
    assert {v.dtype.name.lower() for v in clip.inputs if v is not None and v.dtype is not None} == {kind}


@pytest.mark.parametrize(
    ("body", "declared", "reason"),
    [
        ("h = Cast<to = 6>(e) p = MatMul(h, n) y = Cast<to = 1>(p)", "int32[5,4] n", "no floats"),
        ("h = Cast<to = 1>(e) y = Gemm<transA = 1>(h, w)", "float[5,4] w", "transposed"),
        ("h = Cast<to = 1>(e) y = Gemm(h, w, b)", "float[5,4] w, float[5,4] b", "no row"),
        ("h = Cast<to = 1>(e) y = Gemm(h, w, b)", "float[5,4] w, float[5,1] b", "no row"),
    ],
)
def test_other_forms_of_the_product_stay(body: str, declared: str, reason: str) -> None:
    check(
        FoldOneHot(),
        before=f"g (int32[5,1] i) => (float[5,4] y) <int32[5] ids, {declared}> {{ e = Equal(i, ids) {body} }}",
        after=None,
        because=reason,
        constants={"ids": IDS},
    )


def test_more_ids_than_are_read() -> None:
    check(
        FoldOneHot(max_growth=1 << 30),
        before="g (int32[2,1] i) => (float[2,1] y) <int32[65537] ids, float[65537,1] w> "
        "{ e = Equal(i, ids) h = Cast<to = 1>(e) y = MatMul(h, w) }",
        after=None,
        because="too many ids",
        constants={"ids": np.arange(65537)},
    )


def test_the_default_growth() -> None:
    assert FoldOneHot().max_growth == 1024
