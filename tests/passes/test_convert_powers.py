from typing import Any

import pytest

from fcc.passes.convert_powers import ConvertPowers
from fcc.testing import check

P = ConvertPowers()
IO = "g (float[N,3] x, float[N,3] z) => (float[N,3] y)"
DECLARED = "<float k, float one, float eight, float third, float zero, float[3] row, float tiny>"
CONSTANTS: dict[str, Any] = {"one": 1.0, "eight": 8.0, "third": 3.0, "zero": 0.0, "row": [1.0, 2.0, 5.0], "tiny": 1e-39}
POSITIVE = "p = Sigmoid(x)"


def rewritten(body: str, after: str | None, because: str = "", target: str = "cpu", **constants: Any) -> None:
    check(
        P,
        before=f"{IO} {DECLARED} {{ {POSITIVE} {body} }}",
        after=None if after is None else f"{IO} {{ {POSITIVE} {after} }}",
        because=because,
        target=target,
        constants={**CONSTANTS, **constants},
    )


@pytest.mark.parametrize(
    ("exponent", "after", "everywhere"),
    [
        (2.0, "y = Mul(p, p)", True),
        (0.5, "y = Sqrt(p)", True),
        (-1.0, "y = Reciprocal(p)", True),
        (-0.5, "s = Sqrt(p) y = Reciprocal(s)", False),
        (-2.0, "s = Mul(p, p) y = Reciprocal(s)", False),
        (0.25, "s = Sqrt(p) y = Sqrt(s)", False),
        (1.5, "s = Sqrt(p) y = Mul(p, s)", False),
        (4.0, "s = Mul(p, p) y = Mul(s, s)", False),
    ],
)
def test_powers(exponent: float, after: str, everywhere: bool) -> None:
    rewritten("y = Pow(p, k)", after, k=exponent)
    for target in ("cuda", "tensorrt"):
        rewritten("y = Pow(p, k)", after if everywhere else None, "costs no less", target, k=exponent)


@pytest.mark.parametrize("exponent", [3.0, 0.0, 1.0, -3.0])
def test_other_powers_stay(exponent: float) -> None:
    rewritten("y = Pow(p, k)", None, "costs no less", k=exponent)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("y = Div(one, x)", "y = Reciprocal(x)"),
        ("r = Reciprocal(p) y = Div(x, r)", "y = Mul(x, p)"),
        ("r = Reciprocal(p) y = Mul(x, r)", "y = Div(x, p)"),
        ("r = Reciprocal(p) y = Mul(r, x)", "y = Div(x, p)"),
        ("r = Reciprocal(p) s = Reciprocal(r) y = Sin(s)", "y = Sin(p)"),
        ("d = Div(x, p) y = Reciprocal(d)", "y = Div(p, x)"),
        ("y = Div(x, eight)", "y = Mul(x, k)"),
        ("y = Div(x, third)", "y = Mul(x, k)"),
        ("y = Div(x, row)", "y = Mul(x, k)"),
        ("s = Sqrt(p) m = Mul(s, s) y = Sin(m)", "y = Sin(p)"),
        ("m = Mul(p, p) y = Sqrt(m)", "y = Abs(p)"),
        ("l = Log(p) e = Exp(l) y = Sin(e)", "y = Sin(p)"),
        ("e = Exp(p) l = Log(e) y = Sin(l)", "y = Sin(p)"),
        ("s = Sqrt(p) m = Pow(s, k) y = Sin(m)", "y = Sin(p)"),
    ],
)
def test_quotients_and_inverses(body: str, after: str) -> None:
    rewritten(body, after, k=2.0)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("y = Pow(p, z)", "no constant number"),
        ("y = Pow(p, row)", "no constant number"),
        ("q = Pow(x, k) m = ReduceMean<keepdims=1>(q) y = Mul(m, z)", "variance"),
        ("r = Reciprocal(p) d = Div(x, r) y = Add(d, r)", "the divisor is no constant"),
        ("y = Div(x, z)", "the divisor is no constant"),
        ("y = Div(x, zero)", "not finite and normal"),
        ("y = Div(x, tiny)", "not finite and normal"),
        ("r = Reciprocal(p) d = Mul(x, r) y = Add(d, r)", "nobody else uses"),
        ("r = Reciprocal(p) y = Mul(r, r)", "nobody else uses"),
        ("d = Div(x, p) r = Reciprocal(d) y = Add(d, r)", "inverts no Reciprocal"),
        ("y = Reciprocal(x)", "inverts no Reciprocal"),
        ("s = Sqrt(x) m = Mul(s, s) y = Sin(m)", "nobody else uses"),
        ("m = Mul(x, x) y = Sqrt(m)", "may overflow: -inf <= x <= inf"),
        ("m = Mul(x, p) y = Sqrt(m)", "no root of a square"),
        ("l = Log(x) e = Exp(l) y = Sin(e)", "of a negative number"),
        ("y = Exp(x)", "no exponential of a Log"),
        ("e = Exp(x) l = Log(e) y = Sin(l)", "may overflow"),
        ("y = Log(x)", "no logarithm of an Exp"),
        ("d = Div(x, third) y = Erf(d)", "runtimes fuse"),
        ("t = Tanh(x) y = Div(t, third)", "runtimes fuse"),
    ],
)
def test_what_stays(body: str, because: str) -> None:
    rewritten(body, None, because, k=2.0)


def test_a_root_of_what_may_be_negative_is_squared() -> None:
    """NaN where x < 0."""
    check(
        P,
        before="g (float[3] x) => (float[3] y) { s = Sqrt(x) m = Mul(s, s) y = Sin(m) }",
        after=None,
        because="",
    )
    check(
        P,
        before="g (float[3] x) => (float[3] y) { a = Sqrt(x) y = Mul(a, x) }",
        after=None,
        because="no factor is a Reciprocal",
    )


def test_constants_that_widen_stay() -> None:
    io = "g (float[3] x) => (float[2,3] y)"
    check(
        P,
        before=f"{io} <float[2,1] two> {{ y = Pow(x, two) }}",
        after=None,
        because="no constant number",
        constants={"two": 2.0},
    )
    check(
        P,
        before="g (float[3] x) => (float[1,3] y) <float[1,1] two> { y = Pow(x, two) }",
        after=None,
        because="broadcasts",
        constants={"two": 2.0},
    )
    check(
        P,
        before=f"{io} <float[2,1] one> {{ y = Div(one, x) }}",
        after=None,
        because="the divisor is no constant",
        constants={"one": 1.0},
    )


def test_a_quotient_of_a_wider_constant() -> None:
    io = "g (float[3] x) => (float[2,3] y)"
    check(
        P,
        before=f"{io} <float[2,1] c> {{ y = Div(x, c) }}",
        after=f"{io} {{ y = Mul(x, k) }}",
        constants={"c": [[2.0], [3.0]]},
    )


@pytest.mark.parametrize(("number", "converted"), [(8.0, True), (3.0, False)])
def test_half_precision_is_exact(number: float, converted: bool) -> None:
    io = "g (float16[3] x) => (float16[3] y)"
    check(
        P,
        before=f"{io} <float16 c> {{ y = Div(x, c) }}",
        after=f"{io} {{ y = Mul(x, k) }}" if converted else None,
        because="is rounded in FLOAT16",
        constants={"c": number},
    )


def test_kernels_decide() -> None:
    text = "g (float16[3] x) => (float16[3] y) <float16 c> { y = Pow(x, c) }"
    check(P, before=text, after=None, because="CPU kernel", constants={"c": 0.5})
    check(
        P, before=text, after="g (float16[3] x) => (float16[3] y) { y = Sqrt(x) }", constants={"c": 0.5}, target="cuda"
    )
    text = "g (float16[3] x) => (float16[3] y) <float16 c> { y = Div(c, x) }"
    check(P, before=text, after=None, constants={"c": 1.0})


def test_integers_stay() -> None:
    text = "g (int32[3] x) => (int32[3] y) <int32 c> { a = Pow(x, c) b = Div(a, c) y = Div(c, b) }"
    check(P, before=text, after=None, because="a power of integers", constants={"c": 2})


def test_wide_bounds_of_inverse_functions() -> None:
    io = "g (float[3] x) => (float[3] y)"
    for low, high, inside in ((-80.0, 80.0, True), (-90.0, 10.0, False), (-10.0, 89.0, False)):
        text = f"{io} <float l, float h> {{ c = Clip(x, l, h) e = Exp(c) a = Log(e) y = Sin(a) }}"
        after = f"{io} {{ c = Clip(x, l, h) y = Sin(c) }}" if inside else None
        check(P, before=text, after=after, because="may overflow", constants={"l": low, "h": high})
    for high, inside in ((1e19, True), (2e19, False)):
        text = f"{io} <float l, float h> {{ c = Clip(x, l, h) m = Mul(c, c) y = Sqrt(m) }}"
        after = f"{io} {{ c = Clip(x, l, h) y = Abs(c) }}" if inside else None
        check(P, before=text, after=after, because="may overflow", constants={"l": -high, "h": 1.0})


def test_overridable_exponent() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, float k = {2.0}) => (float[3] y) { y = Pow(x, k) }'
    check(P, before=text, after=None, because="no constant number")
