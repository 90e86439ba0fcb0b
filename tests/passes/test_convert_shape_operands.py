import pytest

from fcc.passes.convert_shape_operands import ConvertShapeOperands
from fcc.testing import check

CHAIN = "s = Shape(x) n = Gather(s, i) u = Unsqueeze(n, a) t = Concat<axis=0>(u, one, d)"


def test_expand_reads_the_batch_from_a_slice() -> None:
    head = (
        "g (float[N,4,8] x, float[1,1,8] z) => (float[N,1,8] y) <int64 i = {0}, int64[1] a = {0}, int64[1] one = {1}, "
    )
    check(
        ConvertShapeOperands(),
        head + f"int64[1] d = {{8}}> {{ {CHAIN} y = Expand(z, t) }}",
        head + "int64[1] d = {8}> { c = Slice(x, c0, c1, c2) s = Shape(c) y = Expand(z, s) }",
    )


def test_start_and_end_where_the_rank_is_higher() -> None:
    head = "g (float[N,4,8,2] x, float[1,1,8] z) => (float[N,1,8] y) <int64 i = {0}, int64[1] a = {0}, int64[1] one = {1}, "
    check(
        ConvertShapeOperands(),
        head + f"int64[1] d = {{8}}> {{ {CHAIN} y = Expand(z, t) }}",
        head + "int64[1] d = {8}> { c = Slice(x, c0, c1, c2) s = Shape<end=3, start=0>(c) y = Expand(z, s) }",
    )


def test_reshape_where_the_rank_is_lower() -> None:
    head = "g (float[N,1] x, float[1,1,8] z) => (float[N,1,8] y) <int64 i = {0}, int64[1] a = {0}, int64[1] one = {1}, "
    check(
        ConvertShapeOperands(),
        head + f"int64[1] d = {{8}}> {{ {CHAIN} y = Expand(z, t) }}",
        head + "int64[1] d = {8}> { c = Reshape(x, c0) s = Shape(c) y = Expand(z, s) }",
    )


def test_range_reads_a_scalar() -> None:
    head = "g (float[N,4] x) => (int64[N] y) <int64 i = {0}, int64 one = {1}>"
    check(
        ConvertShapeOperands(),
        head + " { s = Shape(x) n = Gather(s, i) m = Identity(n) y = Range(i, m, one) }",
        head + " { c = Slice(x, c0, c1, c2) m = Size(c) y = Range(c3, m, c4) }",
    )


@pytest.mark.parametrize(
    ("head", "body", "because"),
    [
        (
            "float[N,M] x, float[1,1] z) => (float[N,M] y",
            "s = Shape(x) t = Identity(s) y = Expand(z, t)",
            "but for one symbol",
        ),
        (
            "float[N,4] x, float[1,1] z) => (float[N,4] y",
            "s = Shape(x) t = Identity(s) y = Expand(z, t)",
            "but for one symbol",
        ),
        (
            "float[N,M] x, float[1] z) => (float[N] y",
            "s = Shape<end=1>(x) t = Identity(s) v = Identity(t) y = Expand(z, v)",
            "no tensor nearby",
        ),
        (
            "float[N,0] x, float[1] z) => (float[N] y",
            "s = Shape<end=1>(x) t = Identity(s) y = Expand(z, t)",
            "no tensor",
        ),
        ("float[N,4] x, float[1] z) => (float[N] y", "s = Shape<end=1>(x) y = Expand(z, s)", "would replace"),
        (
            "float[N,4] x, int64[1] q) => (float[N] y, int64[1] o",
            "s = Shape<end=1>(x) o = Add(s, q) z = Cast<to=1>(q) y = Expand(z, s)",
            "would replace",
        ),
    ],
    ids=["two symbols", "another size", "source with two symbols", "empty axis", "short already", "shared"],
)
def test_stays(head: str, body: str, because: str) -> None:
    check(ConvertShapeOperands(), f"g ({head}) {{ {body} }}", None, because=because)


def test_stays_before_opset_15() -> None:
    head = (
        "g (float[N,4,8] x, float[1,1,8] z) => (float[N,1,8] y) <int64 i = {0}, int64[1] a = {0}, int64[1] one = {1}, "
    )
    text = head + f"int64[1] d = {{8}}> {{ {CHAIN} y = Expand(z, t) }}"
    check(ConvertShapeOperands(), text, None, because="opset 15", opset=14)


@pytest.mark.parametrize(("kind", "target"), [("bfloat16", "cpu"), ("float8e4m3fn", "cuda")])
def test_a_scalar_stays_where_size_has_no_kernel(kind: str, target: str) -> None:
    text = (
        f"g ({kind}[N,4] x) => (int64[N] y) <int64 i = {{0}}, int64 one = {{1}}>"
        " { s = Shape(x) n = Gather(s, i) m = Identity(n) y = Range(i, m, one) }"
    )
    check(ConvertShapeOperands(), text, None, because="no kernel for the Size", target=target)
