"""merge-concats: what is joined and cut at the same places is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.passes.merge_concats import MergeConcats
from fcc.testing import check

X = "float[N,2,4] x, float[N,3,4] z"
BOUNDS = "<int64[1] a, int64[1] b, int64[1] ax>"
RULES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "nested": (
        f"g ({X}) => (float[N,7,4] y) {{ t = Concat<axis=-2>(x, z) y = Concat<axis=1>(t, x) }}",
        f"g ({X}) => (float[N,7,4] y) {{ y = Concat<axis=1>(x, z, x) }}",
        {},
    ),
    "nested twice": (
        f"g ({X}) => (float[N,10,4] y) {{ t = Concat<axis=1>(x, z) u = Concat<axis=1>(z, x) y = Concat<axis=1>(t, u) }}",
        f"g ({X}) => (float[N,10,4] y) {{ y = Concat<axis=1>(x, z, z, x) }}",
        {},
    ),
    "all parts of a split": (
        "g (float[N,6] x) => (float[N,6] y) { r = Relu(x) p, q = Split<axis=1>(r, a) t = Concat<axis=1>(p, q)"
        " y = Neg(t) }",
        "g (float[N,6] x) => (float[N,6] y) { r = Relu(x) y = Neg(r) }",
        {"a": [2, 4]},
    ),
    "slices that cover": (
        f"g (float[N,6] x) => (float[N,6] y) {BOUNDS} {{ r = Relu(x) p = Slice(r, a, b, ax)"
        " q = Slice(r, b, c, ax) t = Concat<axis=1>(p, q) y = Neg(t) }",
        "g (float[N,6] x) => (float[N,6] y) { r = Relu(x) y = Neg(r) }",
        {"a": 0, "b": 2, "c": 9, "ax": 1},
    ),
    "split of concat": (
        f"g ({X}) => (float[N,2,4] y, float[N,3,4] w) {{ t = Concat<axis=1>(x, z) p, q = Split<axis=1>(t, s)"
        " y = Relu(p) w = Neg(q) }",
        f"g ({X}) => (float[N,2,4] y, float[N,3,4] w) {{ y = Relu(x) w = Neg(z) }}",
        {"s": [2, 3]},
    ),
    "slice of concat, one operand": (
        f"g ({X}) => (float[N,3,4] y) {BOUNDS} {{ t = Concat<axis=1>(x, z) p = Slice(t, a, b, ax) y = Relu(p) }}",
        f"g ({X}) => (float[N,3,4] y) {{ y = Relu(z) }}",
        {"a": 2, "b": 5, "ax": 1},
    ),
    "slice of concat, several operands": (
        f"g ({X}) => (float[N,5,4] y) {BOUNDS} {{ t = Concat<axis=1>(x, z, x) y = Slice(t, a, b, ax) }}",
        f"g ({X}) => (float[N,5,4] y) {{ y = Concat<axis=1>(x, z) }}",
        {"a": 0, "b": 5, "ax": 1},
    ),
    "slice of concat, part of one": (
        f"g ({X}) => (float[N,2,4] y) {BOUNDS} {{ t = Concat<axis=1>(x, z) y = Slice(t, a, b, ax) }}",
        f"g ({X}) => (float[N,2,4] y) {{ y = Slice(z, c, d, e) }}",
        {"a": -2, "b": 99, "ax": 1},
    ),
    "stack": (
        "g (float[N,4] x, float[N,4] z) => (float[N,2,4] y) <int64[1] ax> { p = Unsqueeze(x, ax) q = Unsqueeze(z, ax)"
        " y = Concat<axis=1>(p, q) }",
        "g (float[N,4] x, float[N,4] z) => (float[N,2,4] y) { t = Concat<axis=1>(x, z) y = Reshape(t, c) }",
        {"ax": 1},
    ),
}


def declared(text: str, constants: dict[str, Any]) -> str:
    """Declare the constants of a case."""
    head, _, body = text.partition("{")
    head = head.partition("<")[0]
    sizes = {k: len(v) if isinstance(v, list) else 1 for k, v in constants.items()}
    names = ", ".join(f"int64[{n}] {k}" for k, n in sizes.items())
    return f"{head}<{names}> {{{body}" if names else text


@pytest.mark.parametrize("name", RULES)
def test_merges(name: str) -> None:
    before, after, constants = RULES[name]
    check(MergeConcats(), declared(before, constants), after, constants=constants)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "another axis": (
        "g (float[2,2] x, float[4,2] z) => (float[4,4] y) { t = Concat<axis=0>(x, x) y = Concat<axis=1>(t, z) }",
        {},
    ),
    "the inner one has other users": (
        f"g ({X}) => (float[N,7,4] y, float[N,5,4] t) {{ t = Concat<axis=1>(x, z) y = Concat<axis=1>(t, x) }}",
        {},
    ),
    "parts out of order": (
        "g (float[N,6] x) => (float[N,6] y) { r = Relu(x) p, q = Split<axis=1>(r, a) t = Concat<axis=1>(q, p) y = Neg(t) }",
        {"a": [3, 3]},
    ),
    "parts joined along another axis": (
        "g (float[6,6] x) => (float[12,3] y) { r = Relu(x) p, q = Split<axis=1>(r, a) t = Concat<axis=0>(p, q) y = Neg(t) }",
        {"a": [3, 3]},
    ),
    "not all parts": (
        "g (float[N,6] x) => (float[N,4] y) { u = Relu(x) p, q, r = Split<axis=1>(u, a) t = Concat<axis=1>(p, q) y = Neg(t) }",
        {"a": [2, 2, 2]},
    ),
    "parts of two tensors": (
        "g (float[N,6] x, float[N,6] z) => (float[N,6] y) { p, q = Split<axis=1>(x, a) r, s = Split<axis=1>(z, a)"
        " t = Concat<axis=1>(p, s) y = Neg(t) }",
        {"a": [2, 4]},
    ),
    "a split at another place": (
        f"g ({X}) => (float[N,3,4] y, float[N,2,4] w) {{ t = Concat<axis=1>(x, z) p, q = Split<axis=1>(t, s) y = Neg(p) w = Neg(q) }}",
        {"s": [3, 2]},
    ),
    "parts of several operands": (
        f"g ({X}) => (float[N,3,4] y) {{ t = Concat<axis=1>(x, z) y = Slice(t, a, b, ax) }}",
        {"a": 1, "b": 4, "ax": 1},
    ),
    "a slice along another axis": (
        f"g ({X}) => (float[N,5,2] y) {{ t = Concat<axis=1>(x, z) u = Slice(t, a, b, ax) y = Neg(u) }}",
        {"a": 1, "b": 3, "ax": 2},
    ),
    "a slice of nothing": (
        f"g ({X}) => (float[N,0,4] y) {{ t = Concat<axis=1>(x, z) y = Slice(t, a, a, ax) }}",
        {"a": 2, "ax": 1},
    ),
    "a stack along the last axis": (
        "g (float[N,4] x, float[N,4] z) => (float[N,4,2] y) { p = Unsqueeze(x, ax) q = Unsqueeze(z, ax)"
        " y = Concat<axis=2>(p, q) }",
        {"ax": 2},
    ),
    "a stack of an axis that was there": (
        "g (float[4] x, float[4] z) => (float[1,8] y) { p = Unsqueeze(x, ax) q = Unsqueeze(z, ax)"
        " y = Concat<axis=1>(p, q) }",
        {"ax": 0},
    ),
    "a stack of some and others": (
        "g (float[2,4] x, float[2,1,4] z) => (float[2,3,4] y) { p = Unsqueeze(x, ax) q = Unsqueeze(x, ax)"
        " y = Concat<axis=1>(p, z, q) }",
        {"ax": 1},
    ),
    "a stack whose parts are used": (
        "g (float[N,4] x, float[N,4] z) => (float[N,2,4] y, float[N,1,4] p) { p = Unsqueeze(x, ax)"
        " q = Unsqueeze(z, ax) y = Concat<axis=1>(p, q) }",
        {"ax": 1},
    ),
    "a stack of sizes that no Reshape can write": (
        "g (float[N,M,K] x, float[N,M,K] z) => (float[N,2,M,K] y) { p = Unsqueeze(x, ax) q = Unsqueeze(z, ax)"
        " y = Concat<axis=1>(p, q) }",
        {"ax": 1},
    ),
    "inputs that would be outputs": (
        f"g ({X}) => (float[N,2,4] y, float[N,3,4] w) {{ t = Concat<axis=1>(x, z) y, w = Split<axis=1>(t, s) }}",
        {"s": [2, 3]},
    ),
    "an input that would be an output": (
        f"g ({X}) => (float[N,3,4] y) {{ t = Concat<axis=1>(x, z) y = Slice(t, a, b, ax) }}",
        {"a": 2, "b": 5, "ax": 1},
    ),
}


@pytest.mark.parametrize(("cut", "shape"), [(0, "0,2,4"), (1, "3,2,0")])
def test_a_stack_of_nothing_stays(cut: int, shape: str) -> None:
    text = f"""g (float[3,4] x, float[3,4] z) => (float[{shape}] y) <int64[1] none, int64[1] cut, int64[1] ax> {{
        a = Slice(x, none, none, cut) b = Slice(z, none, none, cut) p = Unsqueeze(a, ax) q = Unsqueeze(b, ax)
        y = Concat<axis=1>(p, q) }}"""
    check(MergeConcats(), text, None, because="a size is not known, or 0", constants={"none": 0, "cut": cut, "ax": 1})


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    text, constants = REFUSED[name]
    check(MergeConcats(), declared(text, constants), None, constants=constants)


@pytest.mark.parametrize("axis", [0, -3])
def test_the_first_axis_by_either_number(axis: int) -> None:
    io = "g (float[2,3,4] x, float[1,3,4] z) => (float[5,3,4] y)"
    check(
        MergeConcats(),
        f"{io} {{ t = Concat<axis={axis}>(x, z) y = Concat<axis=0>(t, x) }}",
        f"{io} {{ y = Concat<axis=0>(x, z, x) }}",
    )
    io = "g (float[2,3,4] x, float[1,3,4] z) => (float[2,3,4] y, float[1,3,4] w)"
    check(
        MergeConcats(),
        f"{io} <int64[2] s> {{ t = Concat<axis={axis}>(x, z) p, q = Split<axis={axis}>(t, s) y = Neg(p) w = Neg(q) }}",
        f"{io} {{ y = Neg(x) w = Neg(z) }}",
        constants={"s": [2, 1]},
    )


@pytest.mark.parametrize("operands", [512, 513])
def test_operands_do_not_double_without_end(operands: int) -> None:
    many = ", ".join(["x"] * operands)
    text = f"g (float[2] x) => (float[{4 * operands}] y) {{ t = Concat<axis=0>({many}) y = Concat<axis=0>(t, t) }}"
    if operands > 512:
        check(MergeConcats(), before=text, after=None, because="the operands are no Unsqueezes of the axis")
        return
    after = text.replace(f"t = Concat<axis=0>({many}) ", "").replace("(t, t)", f"({many}, {many})")
    check(MergeConcats(), before=text, after=after)
