"""merge-mapped-elements: what is computed from every element of a sequence, one by one, and stacked."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.merge_mapped_elements import MergeMappedElements
from fcc.testing import check

HEAD = """g (float[4,2,3] x, float[2,4,3] v{inputs}) => ({outputs}) <float[3,5] w, float[5] b, int64[1] ax = {{{axis}}},
    int64 i0 = {{0}}, int64 i1 = {{1}}, int64 i2 = {{2}}, int64 i3 = {{3}}, int64[4] parts = {{1, 1, 1, 1}}, int64[1] none = {{0}}{more}> {{ """


def text(
    row: str,
    count: int = 4,
    axis: int = 0,
    outputs: str = "float[] y",
    inputs: str = "",
    more: str = "",
    after: str = "",
) -> str:
    """``row`` writes the nodes of row K, of which rK is stacked."""
    rows = " ".join(row.replace("K", str(k)) + f" u{k} = Unsqueeze(r{k}, ax)" for k in range(count))
    join = f"y = Concat<axis = {axis}>({', '.join(f'u{k}' for k in range(count))})"
    return HEAD.format(**locals()) + f"{rows} {join} {after} }}"


def flat(body: str, outputs: str = "float[] y") -> str:
    return HEAD.format(outputs=outputs, inputs="", axis=0, more="") + body + " }"


LAYER = "eK = Gather<axis = 0>(x, iK) mK = MatMul(eK, w) aK = Add(mK, b) rK = Relu(aK)"


def test_a_layer_of_every_step() -> None:
    check(MergeMappedElements(), text(LAYER), flat("m = MatMul(x, w) a = Add(m, b) y = Relu(a)"))


def test_a_gemm_becomes_a_product_of_any_rank() -> None:
    check(
        MergeMappedElements(),
        text("eK = Gather<axis = 1>(v, iK) rK = Gemm(eK, w, b)"),
        flat("t = Transpose<perm = [1, 0, 2]>(v) m = MatMul(t, w) y = Add(m, b)"),
    )


def test_elements_that_a_split_gives() -> None:
    before = HEAD.format(outputs="float[] y", inputs="", axis=0, more="")
    before += "p0, p1, p2, p3 = Split<axis = 0>(x, parts) "
    before += " ".join(f"e{k} = Squeeze(p{k}, none) r{k} = Neg(e{k}) u{k} = Unsqueeze(r{k}, ax)" for k in range(4))
    check(
        MergeMappedElements(),
        before + " y = Concat<axis = 0>(u0, u1, u2, u3) }",
        flat("k = Unsqueeze(x, one) s = Squeeze(k, one2) y = Neg(s)"),
        tolerance=0,
    )


@pytest.mark.parametrize(("axis", "perm"), [(1, "[1, 0, 2]"), (2, "[1, 2, 0]"), (-1, "[1, 2, 0]")])
def test_stacks_along_another_axis(axis: int, perm: str) -> None:
    check(
        MergeMappedElements(),
        text("eK = Gather<axis = 0>(x, iK) rK = Neg(eK)", axis=axis),
        flat(f"n = Neg(x) y = Transpose<perm = {perm}>(n)"),
        tolerance=0,
    )


def test_part_of_a_sequence_backwards() -> None:
    row = "eK = Gather<axis = 0>(x, jK) rK = Neg(eK)"
    check(
        MergeMappedElements(),
        text(row, count=3, more=", int64 j0 = {3}, int64 j1 = {2}, int64 j2 = {1}"),
        flat("s = Slice(x, one, four, zero) n = Neg(s) y = Slice(n, last, first, zero2, back)"),
        tolerance=0,
    )


def test_two_sequences_and_what_all_rows_share() -> None:
    row = "eK = Gather<axis = 0>(x, iK) fK = Gather<axis = 1>(v, iK) mK = Mul(eK, fK) rK = Add(mK, s)"
    before = text(row).replace("{ e0", "{ s = Exp(c) e0").replace("float[2,4,3] v", "float[2,4,3] v, float[2,3] c")
    after = flat("s = Exp(c) t = Transpose<perm = [1, 0, 2]>(v) m = Mul(x, t) y = Add(m, s)")
    check(MergeMappedElements(), before, after.replace("float[2,4,3] v", "float[2,4,3] v, float[2,3] c"), tolerance=0)


def test_equal_constants_of_each_row() -> None:
    row = "eK = Gather<axis = 0>(x, iK) cK = Constant<value = float[3] {1.0, 2.0, 3.0}>() rK = Mul(eK, cK)"
    check(MergeMappedElements(), text(row), flat("y = Mul(x, c)"), tolerance=0)


@settings(max_examples=20)
@given(st.permutations(range(4)), st.integers(2, 4))
def test_only_in_order(order: list[int], count: int) -> None:
    row = "eK = Gather<axis = 0>(x, jK) mK = MatMul(eK, w) rK = Tanh(mK)"
    more = "".join(f", int64 j{k} = {{{at}}}" for k, at in enumerate(order))
    places = order[:count]
    steps = {b - a for a, b in itertools.pairwise(places)}
    before = text(row, count=count, more=more)
    if steps not in ({1}, {-1}):
        check(MergeMappedElements(), before, None, because="not in the order of one sequence")
        return
    cut = "" if count == 4 else "s = Slice(x, f, t, z) "
    turn = "" if steps == {1} else " y = Slice(n, a, b2, c, d)"
    after = f"{cut}m = MatMul({'s' if cut else 'x'}, w) {'n' if turn else 'y'} = Tanh(m){turn}"
    check(MergeMappedElements(), before, flat(after))


STAYS = {
    "another operator": (LAYER.replace("Relu(aK)", "Relu(aK)") , "other operators"),
    "an operator that is not known": ("eK = Gather<axis = 0>(x, iK) rK = CumSum(eK, i0)", "CumSum is not known"),
    "the same element": ("eK = Gather<axis = 0>(x, i0) rK = Neg(eK)", "not in the order"),
    "both directions": (
        "eK = Gather<axis = 0>(x, iK) fK = Gather<axis = 0>(x, jK) rK = Mul(eK, fK)", "both directions"),
    "no element": ("rK = Neg(x)", "in both directions, or none"),
    "a position that is not known": ("eK = Gather<axis = 0>(x, q) rK = Neg(eK)", "in both directions, or none"),
    "a value between is used": (LAYER, "has other users"),
}  # fmt: skip


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    row, because = STAYS[case]
    before = text(
        row,
        more=", int64 j0 = {3}, int64 j1 = {2}, int64 j2 = {1}, int64 j3 = {0}" if "jK" in row else "",
        inputs=", int64 q" if " q)" in row else "",
        outputs="float[] y, float[2,5] z" if "between" in case else "float[] y",
        after="z = Neg(a2)" if "between" in case else "",
    )
    if case == "another operator":
        before = before.replace("r2 = Relu(a2)", "r2 = Tanh(a2)")
    check(MergeMappedElements(), before, None, because=because)


@pytest.mark.parametrize(("first", "because"), [(1, "not in the order"), (-5, "from other values")])
def test_positions_that_the_sequence_does_not_have(first: int, because: str) -> None:
    more = "".join(f", int64 j{k} = {{{first + k}}}" for k in range(4))
    before = text("eK = Gather<axis = 0>(x, jK) rK = Neg(eK)", more=more)
    check(MergeMappedElements(), before, None, because=because)


def test_a_value_between_that_is_an_output() -> None:
    before = text(LAYER, outputs="float[] y, float[2,5] a2")
    check(MergeMappedElements(), before, None, because="has other users")


def test_what_is_no_stack_is_no_site() -> None:
    for change in (("axis = 0>(u0", "axis = 1>(u0"), ("(u0, u1", "(r0, u1"), ("(u0, u1", "(x, u1")):
        before = text("eK = Gather<axis = 0>(x, iK) rK = Unsqueeze(eK, none)").replace(*change)
        check(MergeMappedElements(), before.replace("float[] y", "float y").replace("float y", "float[] y"), None)


def test_results_of_unknown_rank_are_stacked_along_the_first_axis_only() -> None:
    """Before opset 17, onnx knows no LayerNormalization."""
    row = "eK = Gather<axis = 0>(x, iK) rK = LayerNormalization(eK, s)"
    more = ", float[3] s"
    check(MergeMappedElements(), text(row, axis=1, more=more), None, because="the rank of what is stacked", opset=16)
    module = check(
        MergeMappedElements(),
        text(row, axis=1, more=more),
        flat("n = LayerNormalization<axis = -1>(x, s) y = Transpose<perm = [1, 0, 2]>(n)"),
    )
    assert [n.op_type for n in module.graph] == ["LayerNormalization", "Transpose"]


def test_rows_of_an_outer_graph_stay_there() -> None:
    rows = " ".join(f"e{k} = Gather<axis = 0>(x, i{k}) r{k} = Neg(e{k}) u{k} = Unsqueeze(r{k}, ax)" for k in range(4))
    first, others = rows[: rows.index("e1 =")], rows[rows.index("e1 =") :]
    head = HEAD.format(inputs=", bool c", outputs="float[] y", axis=0, more="")
    branch = (
        "y = If(c) <then_branch = p () => (float[] a) {{ {} }}, else_branch = q () => (float[] b) {{ b = Abs(x) }}>"
    )
    inner = others.replace("r1", "s1") + " a = Concat<axis = 0>(u0, u1, u2, u3)"
    check(
        MergeMappedElements(),
        head + first + branch.format(inner) + " }",
        head + first + branch.format("a = Neg(x)") + " }",
        tolerance=0,
    )


def test_an_operator_that_the_opset_lacks() -> None:
    """What it gives has no rank that could be known, whatever is declared."""
    row = "eK = Gather<axis = 0>(x, iK) rK = LayerNormalization(eK, s)"
    check(MergeMappedElements(), text(row, more=", float[3] s"), None, because="has no LayerNormalization", opset=16)
