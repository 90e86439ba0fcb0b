"""convert-einsum: products, sums and transpositions; every equation against onnx.reference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes._einsum import equation_of
from fcc.passes.convert_einsum import ConvertEinsum
from fcc.testing import check

P = ConvertEinsum()


def holds(io: str, equation: str, after: str | None, operands: str = "a, b", weights: str = "", **options: Any) -> None:
    declared = f"<{weights}> " if weights else ""
    before = f'{io} {declared}{{ y = Einsum<equation="{equation}">({operands}) }}'
    check(P, before=before, after=None if after is None else f"{io} {{ {after} }}", **options)


# -- the spellings of layers -----------------------------------------------------------------------------------------
def test_dense_layer() -> None:
    holds("g (float[B,S,6] a) => (float[B,S,4] y)", "abc,cd->abd", "y = MatMul(a, b)", weights="float[6,4] b")


def test_dense_layer_of_heads() -> None:
    """Keras: the projection of MultiHeadAttention; the weight is folded to a matrix."""
    holds("g (float[B,S,6] a) => (float[B,S,2,4] y)", "abc,cde->abde", "w = Reshape(b, s) m = MatMul(a, w) y = Reshape(m, t)",
          weights="float[6,2,4] b")  # fmt: skip


def test_dense_layer_over_heads() -> None:
    holds("g (float[B,S,2,4] a) => (float[B,S,6] y)", "abcd,cde->abe",
          "x = Reshape(a, s) w = Reshape(b, t) y = MatMul(x, w)", weights="float[2,4,6] b")  # fmt: skip


def test_weight_that_comes_turned() -> None:
    holds("g (float[B,S,6] a) => (float[B,S,4] y)", "abc,dc->abd", "w = Transpose<perm=[1,0]>(b) y = MatMul(a, w)",
          weights="float[4,6] b")  # fmt: skip


def test_weight_first() -> None:
    holds(
        "g (float[B,S,6] a) => (float[B,S,4] y)", "cd, abc -> abd", "y = MatMul(a, b)", "b, a", weights="float[6,4] b"
    )


def test_scores_of_keras_attention() -> None:
    holds("g (float[B,T,2,4] a, float[B,S,2,4] b) => (float[B,2,S,T] y)", "aecd,abcd->acbe",
          "q = Transpose<perm=[0,2,1,3]>(b) k = Transpose<perm=[0,2,3,1]>(a) y = MatMul(q, k)")  # fmt: skip


def test_values_of_keras_attention() -> None:
    holds("g (float[B,2,S,T] a, float[B,T,2,4] b) => (float[B,S,2,4] y)", "acbe,aecd->abcd",
          "v = Transpose<perm=[0,2,1,3]>(b) z = MatMul(a, v) y = Transpose<perm=[0,2,1,3]>(z)")  # fmt: skip


def test_batched_product() -> None:
    holds("g (float[B,2,S,4] a, float[B,2,T,4] b) => (float[B,2,S,T] y)", "bhqd,bhkd->bhqk",
          "t = Transpose<perm=[0,1,3,2]>(b) y = MatMul(a, t)")  # fmt: skip


def test_ellipsis() -> None:
    io = "g (float[B,2,S,4] a, float[B,2,4,T] b) => (float[B,2,S,T] y)"
    holds(io, "...ij,...jk->...ik", "y = MatMul(a, b)")
    holds(io, "...ij,...jk", "y = MatMul(a, b)")


def test_operands_that_change_sides() -> None:
    holds("g (float[K,M] a, float[N,K] b) => (float[N,M] y)", "km,nk->nm", "y = MatMul(b, a)")


# -- without a sum over both -----------------------------------------------------------------------------------------
def test_elementwise_and_outer_products() -> None:
    holds("g (float[A,B] a, float[A,B] b) => (float[A,B] y)", "ij,ij->ij", "y = Mul(a, b)")
    holds("g (float[A,3] a, float[3] b) => (float[A,3] y)", "ij,j->ij", "y = Mul(a, b)")
    holds("g (float[2] a, float[3] b) => (float[2,3] y)", "i,j->ij", "c = Reshape(a, s) y = Mul(c, b)")
    holds("g (float[2,5] a, float[3] b) => (float[3,5,2] y)", "ij,k->kji",
          "t = Transpose<perm=[1,0]>(a) d = Reshape(b, s) y = Mul(t, d)")  # fmt: skip


def test_one_operand() -> None:
    holds("g (float[A,B,3] a) => (float[3,A,B] y)", "abc->cab", "y = Transpose<perm=[2,0,1]>(a)", "a")
    holds("g (float[A,B,3] a) => (float[B] y)", "abc->b", "s = ReduceSum<keepdims=1>(a, x) y = Reshape(s, t)", "a")
    holds("g (float[2,3] a) => (float y)", "ab->", "s = ReduceSum<keepdims=1>(a, x) y = Reshape(s, t)", "a")
    holds("g (float[3,2] a) => (float[2,3] y)", "ba", "y = Transpose<perm=[1,0]>(a)", "a")


def test_sums_over_labels_of_one_operand() -> None:
    holds("g (float[A,B,3] a, float[B,4,5] b) => (float[A,4] y)", "abc,bde->ad",
          """s = ReduceSum<keepdims=1>(a, x) u = ReduceSum<keepdims=1>(b, z) c = Reshape(s, i) d = Reshape(u, j)
          y = MatMul(c, d)""")  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("io", "equation", "operands", "because"),
    [
        ("g (float[3,3] a) => (float[3] y)", "ii->i", "a", "a diagonal"),
        ("g (float[3] a, float[3] b) => (float[3] y)", "i,i->i", "a, a", "both operands are one value"),
        ("g (float[A,B] a, float[C,D] b) => (float[A,D] y)", "ij,jk->ik", "a, b", "not known to have one size"),
        ("g (float[A,B,C,D] a, float[C,D] b) => (float[A,B] y)", "abcd,cd->ab", "a, b", "cannot be laid out"),
    ],
)
def test_refusals(io: str, equation: str, operands: str, because: str) -> None:
    holds(io, equation, None, operands, because=because)


def test_empty_operands_stay() -> None:
    holds("g (float[A,2] a) => (float[A,0] y)", "ij,jk->ik", None, weights="float[2,0] b", because="a size is 0")


def test_three_operands_stay() -> None:
    check(P, before='g (float[2,3] a, float[3,4] b, float[4,5] c) => (float[2,5] y) { y = Einsum<equation="ij,jk,kl->il">(a, b, c) }',
          after=None, because="has 3 inputs")  # fmt: skip


def test_types_without_a_kernel_stay() -> None:
    io = "g (int16[2,3] a, int16[3,4] b) => (int16[2,4] y)"
    check(P, before=f'{io} {{ y = Einsum<equation="ij,jk->ik">(a, b) }}', after=None, because="CPU kernel of MatMul")


def test_bfloat16_stays() -> None:
    """From opset 28 on, where the operator is a function that casts."""
    text = 'g (bfloat16[3,4] a) => (bfloat16[3] y) { y = Einsum<equation="ij->i">(a) }'
    check(P, before=text, after=None, because="bfloat16", opset=28, target="cuda")


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", [(2, 3)]),
        ("ijk->ij", [(2, 3)]),
        ("i...j->...", [(2,)]),
        ("i1->i", [(2, 3)]),
        ("ij->ik", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
    ],
)
def test_equations_that_do_not_fit(equation: str, shapes: list[tuple[int, ...]]) -> None:
    assert isinstance(equation_of(equation, shapes), str)


# -- generated -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=80)
def test_generated(data: st.DataObject) -> None:
    from onnx_ir import serde

    from fcc import ir, testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    d = data.draw
    labels = "abcdef"[: d(st.integers(1, 6))]
    sizes = {c: d(st.integers(1, 4)) for c in labels}
    operands = ["".join(d(st.permutations(labels))[: d(st.integers(0, 4))]) for _ in range(d(st.integers(1, 2)))]
    used = sorted(set("".join(operands)))
    result = "".join(d(st.permutations(used))[: d(st.integers(0, len(used)))]) if used else ""
    constant = d(st.booleans()) and len(operands) == 2
    io = [f"float[{','.join(str(sizes[c]) for c in o)}] x{i}" if o else f"float x{i}" for i, o in enumerate(operands)]
    shape = f"[{','.join(str(sizes[c]) for c in result)}]" if result else ""
    names = ", ".join(f"x{i}" for i in range(len(operands)))
    given_ = f"<{io.pop()}>" if constant else ""
    text = f'g ({", ".join(io)}) => (float{shape} y) {given_} {{ y = Einsum<equation="{",".join(operands)}->{result}">({names}) }}'
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    applied = run_pass(P, module, ctx)
    if operands == [result]:
        return  # nothing is left, or what stays is an Identity
    assert applied == 1, ctx.log.refused
    ir.verify(module)
    testing.same_outputs(before, serde.serialize_model(module.model))


def test_a_sum_needs_opset_13() -> None:
    from fcc import testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    module = read(testing.model_from('g (float[2,3] a) => (float[2] y) { y = Einsum<equation="ij->i">(a) }', 13, {}, 0))
    shapes.infer(module)
    module.model.opset_imports[""] = 12
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(P, module, ctx) == 0
    assert [r.reason for r in ctx.log.refused] == ["ReduceSum takes its axes as attributes (opset below 13)"]
