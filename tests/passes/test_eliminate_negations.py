import pytest

from fcc.passes.eliminate_negations import EliminateNegations
from fcc.testing import check

P = EliminateNegations()
IO = "g (float[N,3] x, float[3] z) => (float[N,3] y)"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("n = Neg(z) y = Add(x, n)", "y = Sub(x, z)"),
        ("n = Neg(z) y = Add(n, x)", "y = Sub(x, z)"),
        ("n = Neg(z) y = Sub(x, n)", "y = Add(x, z)"),
        ("n = Neg(x) m = Neg(z) y = Mul(n, m)", "y = Mul(x, z)"),
        ("n = Neg(x) m = Neg(z) y = Div(n, m)", "y = Div(x, z)"),
        ("s = Sub(x, z) y = Neg(s)", "y = Sub(z, x)"),
        ("n = Neg(x) y = Abs(n)", "y = Abs(x)"),
        ("n = Neg(x) y = Cos(n)", "y = Cos(x)"),
        ("n = Neg(x) a = Abs(n) y = Add(a, n)", "a = Abs(x) y = Sub(a, x)"),
        (
            "n = Neg(x) a = Add(n, z) b = Neg(a) y = Sin(b)",
            "b = Sub(x, z) y = Sin(b)",
        ),
    ],
)
def test_signs(body: str, after: str) -> None:
    check(P, before=f"{IO} {{ {body} }}", after=f"{IO} {{ {after} }}")


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("y = Add(x, z)", "no operand is a Neg"),
        ("n = Neg(x) a = Add(n, z) y = Mul(a, n)", "no operand is a Neg that nobody else uses"),
        ("n = Neg(x) y = Add(n, n)", "no operand is a Neg that nobody else uses"),
        ("n = Neg(x) y = Sub(n, z)", "no operand is a Neg"),
        ("n = Neg(x) y = Mul(n, z)", "not both operands"),
        ("n = Neg(x) y = Div(z, n)", "not both operands"),
        ("n = Neg(x) m = Neg(z) a = Mul(n, m) y = Add(a, m)", "not both operands"),
        ("s = Sub(x, z) n = Neg(s) y = Mul(s, n)", "negates no Sub that nobody else uses"),
        ("n = Sin(x) y = Abs(n)", "it is of no Neg"),
    ],
)
def test_what_stays(body: str, because: str) -> None:
    check(P, before=f"{IO} {{ {body} }}", after=None, because=because)


def test_a_negation_in_another_graph_stays() -> None:
    text = (
        "g (float[3] x, float[3] z, bool c) => (float[3] y) { n = Neg(z) y = If (c) <then_branch = t () => (float[3] a) "
        "{ a = Add(x, n) }, else_branch = e () => (float[3] b) { b = Sin(x) }> }"
    )
    check(P, before=text, after=None, because="no operand is a Neg")


def test_integers() -> None:
    io = "g (int64[3] x, int64[3] z) => (int64[3] y)"
    check(P, before=f"{io} {{ n = Neg(z) y = Add(x, n) }}", after=f"{io} {{ y = Sub(x, z) }}")
