"""inline-equal-branches: an If that computes the same either way."""

import pytest

from fcc.passes.inline_equal_branches import InlineEqualBranches
from fcc.testing import check

TEXT = """g (float[2] x, float[2] v, bool c) => ({outputs}) <float[2] w, float[2] u> {{
    {results} = If(c) <then_branch = t () => ({then}) {{ {first} }}, else_branch = e () => ({other}) {{ {second} }}> }}"""


def branches(first: str, second: str, outputs: str = "float[2] y", results: str = "y") -> str:
    count = results.count(",") + 1
    then, other = (", ".join(f"float[2] {k}{i}" for i in range(count)) for k in "pq")
    return TEXT.format(**locals())


def test_equal_branches_leave_one() -> None:
    check(
        InlineEqualBranches(),
        branches("a = Mul(x, w) p0 = Add(a, v)", "b = Mul(x, w) q0 = Add(b, v)"),
        "g (float[2] x, float[2] v, bool c) => (float[2] y) { a = Mul(x, w) y = Add(a, v) }",
        tolerance=0,
    )


def test_constants_of_the_branches_are_compared_by_what_they_hold() -> None:
    constant = "{0} = Constant<value = float[2] {{1.5, {1}}}>() {2} = Mul(x, {0})"
    check(
        InlineEqualBranches(),
        branches(constant.format("k", 2.0, "p0"), constant.format("m", 2.0, "q0")),
        "g (float[2] x, float[2] v, bool c) => (float[2] y) { y = Mul(x, k) }",
        tolerance=0,
    )
    check(
        InlineEqualBranches(),
        branches(constant.format("k", 2.0, "p0"), constant.format("m", 2.5, "q0")),
        None,
        because="something else",
    )


def test_several_results_and_outputs_of_one_node() -> None:
    check(
        InlineEqualBranches(),
        branches(
            "k = Concat<axis = 0>(x, v) p0, p1 = Split<axis = 0, num_outputs = 2>(k)",
            "m = Concat<axis = 0>(x, v) q0, q1 = Split<axis = 0, num_outputs = 2>(m)",
            "float[2] y, float[2] z",
            "y, z",
        ),
        """g (float[2] x, float[2] v, bool c) => (float[2] y, float[2] z) {
            k = Concat<axis = 0>(x, v) y, z = Split<axis = 0, num_outputs = 2>(k) }""",
        tolerance=0,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("p0 = Exp(x)", "q0 = Neg(x)"),
        ("p0 = Exp(x)", "q0 = Exp(v)"),
        ("p0 = Sub(x, v)", "q0 = Sub(v, x)"),
        ("p0 = Mul(x, w)", "q0 = Mul(x, u)"),
        ("p0 = Mul(x, w)", "q0 = Mul(x, v)"),
        ("p0 = LeakyRelu<alpha = 0.1>(x)", "q0 = LeakyRelu<alpha = 0.2>(x)"),
        ("p0 = Clip(x, s)  s = ReduceMin<keepdims = 0>(v)", "q0 = Clip(x, , r)  r = ReduceMin<keepdims = 0>(v)"),
        ("p0 = Sum(x, v)", "q0 = Sum(x, v, v)"),
        ("a = Exp(x) b = Exp(v) p0 = Add(a, b)", "a2 = Exp(x) b2 = Exp(v) q0 = Add(a2, a2)"),
        ("a = Exp(x) p0 = Add(a, a)", "a2 = Exp(x) b2 = Exp(x) q0 = Add(a2, b2)"),
        ("a = Concat<axis = 0>(x, v) p0, b = Split<axis = 0, num_outputs = 2>(a)", "m = Concat<axis = 0>(x, v) n, q0 = Split<axis = 0, num_outputs = 2>(m)"),
        ("p0 = If(c) <then_branch = i () => (float[2] j) { j = Exp(x) }, else_branch = k () => (float[2] l) { l = Exp(v) }>",
         "q0 = If(c) <then_branch = i2 () => (float[2] j2) { j2 = Exp(x) }, else_branch = k2 () => (float[2] l2) { l2 = Exp(v) }>"),
    ],
)  # fmt: skip
def test_stays(first: str, second: str) -> None:
    check(
        InlineEqualBranches(),
        branches(
            first.replace(
                "p0 = Clip(x, s)  s = ReduceMin<keepdims = 0>(v)", "s = ReduceMin<keepdims = 0>(v) p0 = Clip(x, s)"
            ),
            second.replace(
                "q0 = Clip(x, , r)  r = ReduceMin<keepdims = 0>(v)", "r = ReduceMin<keepdims = 0>(v) q0 = Clip(x, , r)"
            ),
        ),
        None,
        because="something else",
    )


def test_inner_ones_first() -> None:
    inner = "{0} = If(c) <then_branch = i{0} () => (float[2] j{0}) {{ j{0} = Exp(x) }}, else_branch = k{0} () => (float[2] l{0}) {{ l{0} = Exp(x) }}>"
    check(
        InlineEqualBranches(),
        branches(inner.format("p0"), inner.format("q0")),
        "g (float[2] x, float[2] v, bool c) => (float[2] y) { y = Exp(x) }",
    )


def test_a_branch_with_another_number_of_results() -> None:
    text = branches("p0 = Exp(x) p1 = Neg(x)", "q0 = Exp(x) q1 = Neg(x)", "float[2] y, float[2] z", "y, z")
    check(
        InlineEqualBranches(),
        text.replace("(float[2] q0, float[2] q1)", "(float[2] q0)"),
        None,
        because="other numbers",
    )


def test_values_that_are_shared_are_walked_once() -> None:
    """A walk that followed every use would take 2^60 steps."""
    first = "a0 = Exp(x) " + " ".join(f"a{k + 1} = Add(a{k}, a{k})" for k in range(60)) + " p0 = Neg(a60)"
    second = first.replace("a", "b").replace("p0", "q0")
    after = first.replace("p0", "y")
    check(
        InlineEqualBranches(),
        branches(first, second),
        f"g (float[2] x, float[2] v, bool c) => (float[2] y) {{ {after} }}",
    )
