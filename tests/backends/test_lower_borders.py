"""lower-borders, and the placement that it works on."""

from __future__ import annotations

import pytest

from fcc.backends.lower_borders import LowerBorders
from fcc.testing import check

P = LowerBorders()
IO = "g (int64[N,4,6] x) => (int64[A,B,C] y)"
DECLARED = "<int64 seven, int64 nine, int64[3] shape, int64[3] wide, int64[2] rows, int64[1] a0, int64[1] a2, int64[1] a1, int64[3] twice, int64[6] six>"
CONSTANTS = {
    **{"seven": 7, "nine": 9, "shape": [0, 6, 4], "wide": [2, 4, 6], "rows": [2, 0], "a0": [0], "a1": [1], "a2": [2]},
    **{"twice": [1, 1, 2], "six": [5, 4, 3, 2, 1, 0]},
}


def lowered(body: str, after: str | None, because: str = "", io: str = IO, target: str = "cuda") -> None:
    check(
        P,
        before=f"{io} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants=CONSTANTS,
        target=target,
        sizes={"N": 3},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            "a = BitwiseAnd(x, seven) t = Transpose<perm=[0,2,1]>(a) y = BitwiseXor(t, nine)",
            "a = BitwiseAnd(x, p) b = BitwiseXor(a, q) y = Transpose<perm=[0,2,1]>(b)",
        ),
        (
            "a = BitwiseNot(x) t = Reshape(a, shape) y = BitwiseXor(nine, t)",
            "a = BitwiseNot(x) b = BitwiseXor(q, a) y = Reshape(b, s)",
        ),
        (
            "a = BitwiseNot(x) t = Gather<axis=2>(a, six) y = BitwiseNot(t)",
            "a = BitwiseNot(x) b = BitwiseNot(a) y = Gather<axis=2>(b, s)",
        ),
        (
            "a = BitwiseNot(x) t = Transpose(a) b = BitwiseNot(t) u = Transpose(b) y = BitwiseNot(u)",
            "a = BitwiseNot(x) b = BitwiseNot(a) c = BitwiseNot(b) t = Transpose(c) y = Transpose(t)",
        ),
    ],
)
def test_nodes_on_the_host_are_joined(body: str, after: str) -> None:
    lowered(body, after)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("t = Tile(x, twice) y = BitwiseNot(t)", "a = BitwiseNot(x) y = Tile(a, s)"),
        ("a = BitwiseNot(x) y = Slice(a, a0, a1, a2)", "t = Slice(x, b, c, d) y = BitwiseNot(t)"),
        ("a = BitwiseNot(x) y = Gather<axis=1>(a, rows)", "t = Gather<axis=1>(x, s) y = BitwiseNot(t)"),
        (
            "a = BitwiseNot(x) t = Slice(a, a0, a1, a2) y = BitwiseXor(t, nine)",
            "t = Slice(x, b, c, d) a = BitwiseNot(t) y = BitwiseXor(a, q)",
        ),
        (
            "a = BitwiseNot(x) b = BitwiseXor(a, nine) y = Slice(b, a0, a1, a2)",
            "t = Slice(x, b, c, d) a = BitwiseNot(t) y = BitwiseXor(a, q)",
        ),
    ],
)
def test_fewer_bytes_are_copied(body: str, after: str) -> None:
    lowered(body, after)


def test_expand() -> None:
    io = "g (int64[1,4,6] x) => (int64[A,B,C] y)"
    lowered("t = Expand(x, wide) y = BitwiseNot(t)", "a = BitwiseNot(x) y = Expand(a, s)", io=io)


@pytest.mark.parametrize(
    "body",
    [
        "t = Transpose(x) y = BitwiseNot(t)",
        "a = Abs(x) t = Transpose(a) y = BitwiseNot(t)",
        "a = BitwiseNot(x) t = Transpose(a) y = Abs(t)",
        "a = BitwiseNot(x) y = Tile(a, twice)",
        "a = BitwiseNot(x) t = Transpose(a) b = BitwiseNot(t) u = ReduceSum(t) y = Add(b, u)",
        "a = BitwiseNot(x) t = Transpose(a) b = BitwiseNot(t) u = ReduceSum(a) y = Add(b, u)",
        "a = BitwiseNot(x) t = Slice(a, a0, a1, a2) u = ReduceSum(a) y = Add(t, u)",
    ],
)
def test_what_stays(body: str) -> None:
    lowered(body, None, "no data movement beside it")


def test_no_site_without_a_foreign_node() -> None:
    lowered("a = Neg(x) t = Tile(a, twice) y = Neg(t)", None)
    lowered("t = Tile(x, twice) y = BitwiseNot(t)", None, target="cpu")
    io = "g (int64[N,4,6] x, int64[N,4,6] z) => (int64[A,B,C] y)"
    lowered("t = Tile(x, twice) u = Tile(z, twice) y = BitwiseAnd(t, u)", None, io=io)
    lowered("a = BitwiseAnd(x, six) y = Slice(a, a0, a1, a2)", None)


def test_a_shape_that_is_computed_stays() -> None:
    io = "g (int64[1,4,6] x, int64[N,4,6] z) => (int64[A,B,C] y)"
    lowered("s = Shape(z) t = Expand(x, s) y = BitwiseNot(t)", None, "no data movement beside it", io=io)


def test_another_graph_keeps_its_own() -> None:
    text = (
        "g (int64[2,3] x, bool c) => (int64[A,B] y) { a = BitwiseNot(x) t = Transpose(a) y = If (c) "
        "<then_branch = p () => (int64[A,B] u) { u = BitwiseNot(t) }, else_branch = q () => (int64[A,B] v) { v = Neg(t) }> }"
    )
    check(P, before=text, after=None, because="no data movement beside it", target="cuda")
