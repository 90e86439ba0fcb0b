from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_table import FoldTable
from fcc.testing import check

ROOMY = FoldTable(max_growth=1 << 20)
C: dict[str, Any] = {"one": [1]}


def folds(
    work: str, *, dims: str = "N,3", row: str = "4", out: str | None = None, constants: str = "", **more: Any
) -> None:
    """Check that ``work`` on x = Gather(t, i) becomes a look-up, whose outputs equal those of the source."""
    shape = ",".join(p for p in (dims, row if out is None else out) if p)
    kind = more.pop("kind", "float")
    check(
        ROOMY,
        before=f"g (int64[{dims}] i) => ({kind}[{shape}] y) <float[5,{row}] t{constants}> {{ x = Gather(t, i) {work} }}",
        after=f"g (int64[{dims}] i) => ({kind}[{shape}] y) {{ y = Gather<axis = 0>(u, i) }}",
        **{"constants": C, **more},
    )


UNARY = ["Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "HardSwish", "Mish", "Gelu", "Exp", "Identity"]


@pytest.mark.parametrize("f", UNARY)
def test_elementwise(f: str) -> None:
    folds(f"y = {f}(x)")


@pytest.mark.parametrize("shape", ["", "4", "1,4", "1", "1,1,1", "1,1,4"])
@pytest.mark.parametrize("work", ["y = Add(x, c)", "y = Mul(c, x)", "y = Sub(c, x)", "y = Max(x, c)"])
def test_constants_that_repeat_over_the_index(shape: str, work: str) -> None:
    folds(work, constants=f", float[{shape}] c")


@pytest.mark.parametrize(
    ("dims", "shape"), [("N,3", "3,1"), ("N,3", "3,4"), ("2,3", "2,1,4"), ("2,3", "1,3,4"), ("N,3", "1,1,1,4")]
)
def test_constants_that_differ_along_the_index_stay(dims: str, shape: str) -> None:
    out = f"{dims},4" if shape.count(",") < 3 else f"1,{dims},4"
    check(
        ROOMY,
        before=f"g (int64[{dims}] i) => (float[{out}] y) <float[5,4] t, float[{shape}] c> "
        "{ x = Gather(t, i) y = Add(x, c) }",
        after=None,
    )


def test_a_row_grows_by_broadcasting() -> None:
    folds("y = Add(x, c)", row="1", out="6", constants=", float[6] c")


def test_rows_of_scalars() -> None:
    check(
        ROOMY,
        before="g (int64[N] i) => (float[N] y) <float[5] t, float[] c> { x = Gather(t, i) a = Add(x, c) y = Exp(a) }",
        after="g (int64[N] i) => (float[N] y) { y = Gather<axis = 0>(u, i) }",
    )


def test_product_by_a_matrix_and_what_follows() -> None:
    folds(
        "a = MatMul(x, w) b = Add(a, c) d = Erf(b) e = Mul(d, b) y = Add(e, b)",
        out="6",
        constants=", float[4,6] w, float[6] c",
    )


def test_gemm_on_a_vector_of_indices() -> None:
    folds("y = Gemm<transB = 1>(x, w, c)", dims="N", out="6", constants=", float[6,4] w, float[1,6] c")


@pytest.mark.parametrize(
    ("work", "out"),
    [
        ("y = Softmax<axis = -1>(x)", "2,4"),
        ("y = Softmax<axis = 2>(x)", "2,4"),
        ("y = LogSoftmax<axis = 3>(x)", "2,4"),
        ("y = LayerNormalization<axis = -2>(x, s)", "2,4"),
        ("y = LayerNormalization<axis = 3>(x, v, v)", "2,4"),
        ("y = RMSNormalization<axis = -1>(x, v)", "2,4"),
        ("y = ReduceMean(x, last)", "2,1"),
        ("y = ReduceSum<keepdims = 0>(x, last)", "2"),
        ("y = ReduceMax<keepdims = 0>(x, both)", ""),
        ("m = ReduceMean(x, last) y = Sub(x, m)", "2,4"),
    ],
)
def test_work_over_axes_of_the_row(work: str, out: str) -> None:
    shape = ",".join(p for p in ("N,3", out) if p)
    check(
        ROOMY,
        before=f"g (int64[N,3] i) => (float[{shape}] y) "
        "<float[5,2,4] t, float[2,4] s, float[4] v, int64[1] last, int64[2] both> { x = Gather(t, i) " + work + " }",
        after=f"g (int64[N,3] i) => (float[{shape}] y) {{ y = Gather<axis = 0>(u, i) }}",
        constants={"last": [-1], "both": [2, 3]},
        opset=23,
    )


@pytest.mark.parametrize(
    "work",
    [
        "y = Softmax<axis = 1>(x)",
        "y = Softmax<axis = -3>(x)",
        "y = LayerNormalization<axis = 1>(x, s)",
        "y = ReduceMean(x, first)",
        "y = ReduceMean(x, mixed)",
        "y = ReduceMean(x)",
        "y = MatMul(w, x)",
        "y = MatMul(x, z)",
        "y = CumSum(x, first)",
        "y = Add(x, other)",
    ],
)
def test_work_across_rows_stays(work: str) -> None:
    check(
        ROOMY,
        before="g (int64[2,3] i, float[4] other) => (float y) <float[5,2,4] t, float[4] s, int64[1] first, "
        "int64[2] mixed, float[2,2] w, float[3,4,4] z> { x = Gather(t, i) " + work + " }",
        after=None,
        constants={"first": [1], "mixed": [1, 3]},
    )


def test_a_normalization_whose_scale_is_looked_up_stays() -> None:
    check(
        ROOMY,
        before="g (int64[1] i) => (float[1,4] y) <float[5,4] t, float[5,4] u> "
        "{ x = Gather(t, i) s = Gather(u, i) y = LayerNormalization<axis = -1>(x, s) }",
        after=None,
    )


def test_two_tables_of_one_index() -> None:
    check(
        ROOMY,
        before="g (int64[N] i) => (float[N,4] y) <float[5,4] t, float[5,1] v> "
        "{ a = Gather(t, i) b = Gather(v, i) y = Mul(a, b) }",
        after="g (int64[N] i) => (float[N,4] y) { y = Gather<axis = 0>(u, i) }",
    )


@pytest.mark.parametrize("tables", ["float[5,4] t, float[6,4] v", "float[5,4] t, float[5] v"])
def test_tables_that_do_not_align_stay(tables: str) -> None:
    check(
        ROOMY,
        before=f"g (int64[4] i) => (float[4,4] y) <{tables}> {{ a = Gather(t, i) b = Gather(v, i) y = Mul(a, b) }}",
        after=None,
    )


def test_different_indices_stay() -> None:
    check(
        ROOMY,
        before="g (int64[N] i, int64[N] j) => (float[N,4] y) <float[5,4] t> "
        "{ a = Gather(t, i) b = Gather(t, j) y = Mul(a, b) }",
        after=None,
    )


def test_what_another_user_needs_ends_the_table() -> None:
    check(
        ROOMY,
        before="g (int64[N] i, float[N,4] z) => (float[N,4] y, float[N,4] q) <float[5,4] t, float[4] c> "
        "{ x = Gather(t, i) a = Add(x, c) b = Tanh(a) y = Neg(b) q = Mul(a, z) }",
        after="g (int64[N] i, float[N,4] z) => (float[N,4] y, float[N,4] q) "
        "{ a = Gather<axis = 0>(u, i) b = Tanh(a) y = Neg(b) q = Mul(a, z) }",
    )


def test_an_output_inside_ends_the_table() -> None:
    check(
        ROOMY,
        before="g (int64[N] i) => (float[N,4] y, float[N,4] a) <float[5,4] t, float[4] c> "
        "{ x = Gather(t, i) a = Add(x, c) y = Tanh(a) }",
        after="g (int64[N] i) => (float[N,4] y, float[N,4] a) { a = Gather<axis = 0>(u, i) y = Tanh(a) }",
    )


def test_the_look_up_itself_is_an_output() -> None:
    check(
        ROOMY,
        before="g (int64[N] i) => (float[N,4] y, float[N,4] x) <float[5,4] t> { x = Gather(t, i) y = Tanh(x) }",
        after=None,
    )


def test_a_use_in_a_subgraph_ends_the_table() -> None:
    branch = (
        "<then_branch = p () => (float[N,4] m) { m = Neg(a) }, else_branch = q () => (float[N,4] n) { n = Abs(a) }>"
    )
    check(
        ROOMY,
        before="g (int64[N] i, bool c) => (float[N,4] y) <float[5,4] t> "
        f"{{ x = Gather(t, i) a = Tanh(x) y = If (c) {branch} }}",
        after=f"g (int64[N] i, bool c) => (float[N,4] y) {{ a = Gather<axis = 0>(u, i) y = If (c) {branch} }}",
    )


def test_a_larger_file_is_refused() -> None:
    work = "g (int64[N] i) => (float[N,64] y) <float[500,4] t, float[4,64] w> { x = Gather(t, i) y = MatMul(x, w) }"
    check(FoldTable(), before=work, after=None, because="the file would grow by")
    check(
        FoldTable(max_growth=500 * 64 * 4),
        before=work,
        after="g (int64[N] i) => (float[N,64] y) { y = Gather<axis = 0>(u, i) }",
    )


def test_the_longest_prefix_that_fits() -> None:
    check(
        FoldTable(),
        before="g (int64[N] i) => (float[N,64] y) <float[500,4] t, float[4,64] w> "
        "{ x = Gather(t, i) a = Tanh(x) y = MatMul(a, w) }",
        after="g (int64[N] i) => (float[N,64] y) <float[4,64] w> { a = Gather<axis = 0>(u, i) y = MatMul(a, w) }",
    )


def test_a_shared_table_is_copied_only_within_the_growth_allowed() -> None:
    text = (
        "g (int64[N] i, float[M,4] z) => (float[N,4] y, float[M,5] q) <float[5,4] t, int64[] k> "
        "{ x = Gather(t, i) y = Tanh(x) r = Transpose<perm = [1, 0]>(t) q = MatMul(z, r) }"
    )
    check(FoldTable(max_growth=79 - 64), before=text, after=None, because="grow")
    check(
        FoldTable(max_growth=80 - 64),
        before=text,
        after="g (int64[N] i, float[M,4] z) => (float[N,4] y, float[M,5] q) <float[5,4] t> "
        "{ y = Gather<axis = 0>(u, i) r = Transpose<perm = [1, 0]>(t) q = MatMul(z, r) }",
    )


def test_too_many_elements_are_refused() -> None:
    check(
        FoldTable(max_elements=19),
        before="g (int64[N] i) => (float[N,4] y) <float[5,4] t> { x = Gather(t, i) y = Tanh(x) }",
        after=None,
        because="20 elements",
    )


@pytest.mark.parametrize(
    "before",
    [
        "g (int64 i) => (float[4] y) <float[5,4] t> { x = Gather(t, i) y = Tanh(x) }",
        "g (int64[N] i) => (float[5,N] y) <float[5,4] t> { x = Gather<axis = 1>(t, i) y = Tanh(x) }",
        "g (int64[N] i, float[5,4] t) => (float[N,4] y) { x = Gather(t, i) y = Tanh(x) }",
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N] i, float[2] t = {1.0, 2.0}) => (float[N] y) '
        "{ x = Gather(t, i) y = Tanh(x) }",
        "g () => (float[2,4] y) <float[5,4] t, int64[2] i> { x = Gather(t, i) y = Tanh(x) }",
    ],
)
def test_other_look_ups_stay(before: str) -> None:
    check(ROOMY, before=before, after=None, constants={"i": [0, 1]})


def test_a_cast_changes_the_bytes() -> None:
    text = "g (int64[N] i) => (float[N,4] y) <float16[50,4] t> { x = Gather(t, i) y = Cast<to = 1>(x) }"
    check(FoldTable(), before=text, after=None, because="grow")
    check(ROOMY, before=text, after="g (int64[N] i) => (float[N,4] y) { y = Gather<axis = 0>(u, i) }")


STEPS = [
    "Add({0}, c)", "Mul(c, {0})", "Tanh({0})", "Neg({0})", "MatMul({0}, w)", "Softmax<axis = -1>({0})",
    "Mul({0}, {1})", "Add({0}, {1})", "Max({0}, zero)", "LayerNormalization<axis = -1>({0}, c)",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), min_size=1, max_size=6),
    st.sampled_from(["N", "N,3", "0", "1", "1,0,2", "2,1,M"]),
    st.sampled_from(["float", "double"]),
    st.integers(1, 4),
    st.integers(0, 2**16),
)
def test_random_work_on_rows(steps: list[tuple[str, int]], dims: str, kind: str, width: int, seed: int) -> None:
    """Chains and diamonds that end in one value: everything folds, whatever the shape of the index."""
    names, lines = ["x"], []
    for k, (step, back) in enumerate(steps):
        earlier = names[-1 - min(back, len(names) - 1)]
        lines.append(f"v{k} = " + step.format(names[-1], earlier))
        names.append(f"v{k}")
    shape = f"{dims},{width}"
    check(
        ROOMY,
        before=f"g (int64[{dims}] i) => ({kind}[{shape}] y) <{kind}[5,{width}] t, {kind}[{width}] c, "
        f"{kind}[{width},{width}] w, {kind}[] zero> {{ x = Gather(t, i) {' '.join(lines)} y = Identity({names[-1]}) }}",
        after=f"g (int64[{dims}] i) => ({kind}[{shape}] y) {{ y = Gather<axis = 0>(u, i) }}",
        constants={"zero": 0.0},
        seed=seed,
    )


def test_negative_indices_count_from_the_end() -> None:
    from onnx.reference import ReferenceEvaluator
    from onnx_ir import serde

    module = check(
        ROOMY,
        before="g (int64[N] i) => (float[N,2] y) <float[5,2] t> { x = Gather(t, i) y = Neg(x) }",
        after="g (int64[N] i) => (float[N,2] y) { y = Gather<axis = 0>(u, i) }",
        constants={"t": np.arange(10).reshape(5, 2)},
    )
    found = ReferenceEvaluator(serde.serialize_model(module.model)).run(None, {"i": np.array([-1, 4, -5, 0])})[0]
    assert np.array_equal(found, -np.array([[8, 9], [8, 9], [0, 1], [0, 1]]))


def test_the_default_limits() -> None:
    assert (FoldTable().max_growth, FoldTable().max_elements) == (0, 1 << 22)
    check(
        FoldTable(max_elements=20),
        before="g (int64[N] i) => (float[N,4] y) <float[5,4] t> { x = Gather(t, i) y = Tanh(x) }",
        after="g (int64[N] i) => (float[N,4] y) { y = Gather<axis = 0>(u, i) }",
    )


@pytest.mark.parametrize("work", ["y = Softmax(x)", "y = LayerNormalization(x, c)", "y = LogSoftmax(x)"])
def test_the_axis_by_default(work: str) -> None:
    folds(work, constants=", float[4] c")


@pytest.mark.parametrize(
    ("dims", "row", "work"),
    [
        ("2,3", "4", "y = Softmax<axis = 0>(x)"),
        ("2,3", "4", "y = ReduceMean(x, first)"),
        ("4", "", "y = MatMul(x, w)"),
        ("3", "4", "y = Gemm(x, w, c)"),
        ("4", "4", "y = Gemm<transA = 1>(x, w)"),
        ("2,3", "4", "y = LayerNormalization<axis = -1>(x, s)"),
    ],
)
def test_work_along_the_index_stays(dims: str, row: str, work: str) -> None:
    table = f"5,{row}" if row else "5"
    check(
        ROOMY,
        before=f"g (int64[{dims}] i) => (float y) <float[{table}] t, int64[1] first, float[4,6] w, float[3,6] c, "
        f"float[2,3,4] s> {{ x = Gather(t, i) {work} }}",
        after=None,
        constants={"first": [0]},
    )


def test_what_cannot_be_computed_stays() -> None:
    check(
        ROOMY,
        before="g (int64[N] i) => (int64[N,4] y) <int64[5,4] t, int64[] z> { x = Gather(t, i) y = Div(x, z) }",
        after=None,
        because="cannot be computed",
        constants={"z": 0},
    )


def test_a_region_of_many_nodes() -> None:
    """Only the first nodes of a very long chain fold at once; the rest folds in the next run of the pass."""
    chain = " ".join(f"v{k + 1} = Neg(v{k})" for k in range(256))
    check(
        ROOMY,
        before=f"g (int64[N] i) => (float[N,4] v256) <float[5,4] t> {{ v0 = Gather(t, i) {chain} }}",
        after="g (int64[N] i) => (float[N,4] v256) { v256 = Gather<axis = 0>(u, i) }",
    )


def test_a_new_table_is_named_after_the_last_operator_that_it_takes_in() -> None:
    module = check(
        ROOMY,
        before="g (int64[N] i) => (float[N,4] y) <float[5,4] t> { x = Gather(t, i) a = Tanh(x) y = Abs(a) }",
        after="g (int64[N] i) => (float[N,4] y) { y = Gather<axis = 0>(u, i) }",
    )
    assert list(module.graph.initializers) == ["y/c"]
