import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fuse_matmul_add import FuseMatMulAdd
from fcc.testing import check


@pytest.mark.parametrize("shape", ["1", "5", "1,5", "4,1", "4,5", "1,1"])
@pytest.mark.parametrize("add", ["Add(p, c)", "Add(c, p)"])
def test_every_addend_that_broadcasts(shape: str, add: str) -> None:
    check(
        FuseMatMulAdd(),
        before=f"g (float[4,3] a, float[3,5] b, float[{shape}] c) => (float[4,5] y) {{ p = MatMul(a, b) y = {add} }}",
        after=f"g (float[4,3] a, float[3,5] b, float[{shape}] c) => (float[4,5] y) {{ y = Gemm(a, b, c) }}",
    )


def test_constant_scalar() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[N,3] a, float[3,5] b) => (float[N,5] y) <float[] c> { p = MatMul(a, b) y = Add(p, c) }",
        after="g (float[N,3] a, float[3,5] b) => (float[N,5] y) { y = Gemm(a, b, c) }",
    )


def test_symbolic_sizes() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[N,3] a, float[N,5] c) => (float[N,5] y) <float[3,5] b> { p = MatMul(a, b) y = Add(p, c) }",
        after="g (float[N,3] a, float[N,5] c) => (float[N,5] y) { y = Gemm(a, b, c) }",
    )


def test_sum_of_two_products() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[N,3] a) => (float[N,5] y) <float[3,5] b, float[3,5] d> "
        "{ p = MatMul(a, b) q = MatMul(a, d) y = Add(p, q) }",
        after="g (float[N,3] a) => (float[N,5] y) { q = MatMul(a, d) y = Gemm(a, b, q) }",
    )


@pytest.mark.parametrize(
    ("a", "b", "c", "y", "reason"),
    [
        ("2,4,3", "3,5", "5", "2,4,5", "not one of two matrices"),
        ("4,3", "2,3,5", "5", "2,4,5", "not one of two matrices"),
        ("3", "3,5", "5", "5", "not one of two matrices"),
        ("4,3", "3,5", "1,4,5", "1,4,5", "does not broadcast"),
        ("1,3", "3,5", "4,5", "4,5", "does not broadcast"),
        ("4,3", "3,1", "5", "4,5", "does not broadcast"),
        ("N,3", "3,5", "M,5", "K,5", "does not broadcast"),
        ("N,3", "3,5", "4,5", "4,5", "does not broadcast"),
    ],
)
def test_other_shapes_stay(a: str, b: str, c: str, y: str, reason: str) -> None:
    check(
        FuseMatMulAdd(),
        before=f"g (float[{a}] a, float[{b}] b, float[{c}] c) => (float[{y}] y) {{ p = MatMul(a, b) y = Add(p, c) }}",
        after=None,
        because=reason,
    )


def test_unknown_rank_stays() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[4,3] a, float[3,5] b, int64[R] s) => (float y) "
        "{ p = MatMul(a, b) c = Reshape(a, s) y = Add(p, c) }",
        after=None,
        because="rank is not known",
    )


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [("int32", "cpu", "floats"), ("float16", "cpu", "Gemm takes"), ("int32", "cuda", "floats")],
)
def test_element_types_without_a_gemm_stay(kind: str, target: str, reason: str) -> None:
    check(
        FuseMatMulAdd(),
        before=f"g ({kind}[4,3] a, {kind}[3,5] b, {kind}[5] c) => ({kind}[4,5] y) {{ p = MatMul(a, b) y = Add(p, c) }}",
        after=None,
        because=reason,
        target=target,
    )


def test_product_used_elsewhere_stays() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[4,3] a, float[3,5] b, float[5] c) => (float[4,5] y, float[4,5] z) "
        "{ p = MatMul(a, b) y = Add(p, c) z = Relu(p) }",
        after=None,
        because="'p' has other users",
    )


def test_product_added_to_itself_stays() -> None:
    check(
        FuseMatMulAdd(),
        before="g (float[4,3] a, float[3,5] b) => (float[4,5] y) { p = MatMul(a, b) y = Add(p, p) }",
        after=None,
        because="added to itself",
    )


@settings(max_examples=30, deadline=None)
@given(
    m=st.integers(1, 3), k=st.integers(1, 3), n=st.integers(1, 3), form=st.sampled_from(["1", "N", "1,N", "M,1", "M,N"])
)
def test_every_size(m: int, k: int, n: int, form: str) -> None:
    c = form.replace("M", str(m)).replace("N", str(n))
    head = f"g (float[{m},{k}] a, float[{k},{n}] b, float[{c}] c) => (float[{m},{n}] y)"
    check(
        FuseMatMulAdd(),
        before=f"{head} {{ p = MatMul(a, b) y = Add(c, p) }}",
        after=f"{head} {{ y = Gemm(a, b, c) }}",
    )
