import pytest

from fcc.passes.merge_logic import MergeLogic
from fcc.testing import check

P = MergeLogic()
IO = "g (float[3] x, float[3] z, bool[3] c, bool[3] d, int64[3] i, int64[3] j) => ({} y)"
DECLARED = "<float one, float zero, bool yes, bool no, int64 ione, int64 izero, float[2,3] ones, float[2,3] zeros, bool[2,3] wide>"
CONSTANTS = {
    **{
        "one": 1.0,
        "zero": 0.0,
        "yes": True,
        "no": False,
        "ione": 1,
        "izero": 0,
        "ones": 1.0,
        "zeros": 0.0,
        "wide": True,
    }
}


def rewritten(kind: str, body: str, after: str | None, because: str = "") -> None:
    io = IO.format(kind)
    check(
        P,
        before=f"{io} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants=CONSTANTS,
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("n = Not(c) y = Where(n, x, z)", "y = Where(c, z, x)"),
        ("w = Where(c, x, x) y = Sin(w)", "y = Sin(x)"),
        ("w = Where(c, x, z) y = Where(c, w, s)", "y = Where(c, x, s)"),
        ("w = Where(c, x, z) y = Where(c, s, w)", "y = Where(c, s, z)"),
        ("y = Where(c, one, zero)", "y = Cast<to=1>(c)"),
        ("m = Max(x, x) y = Sin(m)", "y = Sin(x)"),
        ("m = Min(x, x) y = Sin(m)", "y = Sin(x)"),
    ],
)
def test_choices(body: str, after: str) -> None:
    both = [
        f"s = Cos(x) {text}" if "s)" in text.replace("yes)", "") or "s," in text else text for text in (body, after)
    ]
    rewritten("float[3]", both[0], both[1])


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("w = Where(c, yes, no) y = Xor(w, d)", "y = Xor(c, d)"),
        ("w = Where(c, no, yes) y = Xor(w, d)", "w = Not(c) y = Xor(w, d)"),
        ("w = And(c, c) y = Xor(w, d)", "y = Xor(c, d)"),
        ("w = Or(c, c) y = Xor(w, d)", "y = Xor(c, d)"),
        ("w = Less(i, j) y = Not(w)", "y = GreaterOrEqual(i, j)"),
        ("w = LessOrEqual(i, j) y = Not(w)", "y = Greater(i, j)"),
        ("w = Greater(i, j) y = Not(w)", "y = LessOrEqual(i, j)"),
        ("w = GreaterOrEqual(i, j) y = Not(w)", "y = Less(i, j)"),
        ("m = Not(c) n = Not(d) y = And(m, n)", "w = Or(c, d) y = Not(w)"),
        ("m = Not(c) n = Not(d) y = Or(m, n)", "w = And(c, d) y = Not(w)"),
        ("e = Equal(c, yes) y = Xor(e, d)", "y = Xor(c, d)"),
        ("y = Equal(no, c)", "y = Not(c)"),
        ("f = Cast<to=1>(c) e = Equal(f, one) y = Xor(e, d)", "y = Xor(c, d)"),
        ("f = Cast<to=7>(c) y = Equal(izero, f)", "y = Not(c)"),
        ("f = Cast<to=1>(c) e = Greater(f, zero) y = Xor(e, d)", "y = Xor(c, d)"),
        ("e = Equal(i, i) y = Xor(e, d)", "y = Xor(k, d)"),
        ("e = Xor(c, c) y = Or(e, d)", "y = Or(k, d)"),
    ],
)
def test_truth(body: str, after: str) -> None:
    rewritten("bool[3]", body, after)


@pytest.mark.parametrize(
    ("test", "choice", "after"),
    [
        ("Greater(x, z)", "x, z", "Max(x, z)"),
        ("GreaterOrEqual(x, z)", "z, x", "Min(z, x)"),
        ("Less(x, z)", "x, z", "Min(x, z)"),
        ("LessOrEqual(x, z)", "z, x", "Max(z, x)"),
        ("Greater(x, one)", "one, x", "Min(k, x)"),
    ],
)
def test_extremes(test: str, choice: str, after: str) -> None:
    rewritten("float[3]", f"t = {test} y = Where(t, {choice})", f"y = {after}")


def test_extremes_need_a_kernel() -> None:
    text = "g (bfloat16[3] x, bfloat16[3] z) => (bfloat16[3] y) { t = Greater(x, z) y = Where(t, x, z) }"
    check(P, text, None, because="not between 1 and 0")


def test_extremes_of_integers_that_broadcast() -> None:
    io = "g (int64[2,1] i, int64[3] j) => (int64[2,3] y)"
    check(P, f"{io} {{ t = Less(i, j) y = Where(t, j, i) }}", f"{io} {{ y = Max(j, i) }}")


@pytest.mark.parametrize("body", ["t = Greater(x, z) y = Where(t, x, s)", "t = Equal(i, j) y = Where(t, x, z)"])
def test_no_extremes(body: str) -> None:
    rewritten("float[3]", f"s = Sin(x) {body}", None, "not between 1 and 0")


def test_the_constants_of_what_is_decided() -> None:
    io = "g (int64[2] i) => (int64[2] y)"
    module = check(P, before=f"{io} {{ s = Sub(i, i) y = Add(i, s) }}", after=f"{io} {{ y = Add(i, k) }}")
    (zero,) = module.graph.initializers.values()
    assert zero.const_value is not None
    assert zero.const_value.numpy().tolist() == [0, 0]
    io = "g (int64[2] i, bool[2] c) => (bool[2] y)"
    module = check(P, before=f"{io} {{ s = Equal(i, i) y = Xor(c, s) }}", after=f"{io} {{ y = Xor(c, k) }}")
    (true,) = module.graph.initializers.values()
    assert true.const_value is not None
    assert true.const_value.numpy().tolist() == [True, True]


@pytest.mark.parametrize(
    ("kind", "body", "because"),
    [
        ("float[3]", "y = Where(c, x, z)", "not between 1 and 0"),
        ("float[2,3]", "y = Where(wide, x, x)", "not between 1 and 0"),
        ("float[3]", "w = Where(d, x, z) y = Where(c, w, x)", "not between 1 and 0"),
        ("float[3]", "y = Where(c, zero, one)", "not between 1 and 0"),
        ("float[2,3]", "y = Where(c, ones, zeros)", "it broadcasts, or may"),
        ("float[3]", "y = Max(x, z)", "the operands differ"),
        ("float[3]", "y = Max(x, z, x)", "the operands differ"),
        ("float[3]", "y = Sub(x, x)", "may be NaN"),
        ("bool[3]", "y = Equal(x, x)", "may be NaN"),
        ("bool[3]", "w = Less(x, z) y = Not(w)", "may be NaN"),
        ("bool[3]", "w = Less(i, j) n = Not(w) y = Xor(n, w)", "nobody else uses"),
        ("bool[3]", "w = Equal(i, j) y = Not(w)", "nobody else uses"),
        ("bool[3]", "n = Not(c) y = And(n, d)", "not both operands"),
        ("bool[3]", "n = Not(c) m = Not(d) a = And(n, m) y = Xor(a, n)", "not both operands"),
        ("bool[3]", "y = Equal(c, d)", "the operands differ"),
        ("bool[3]", "f = Cast<to=1>(c) y = Greater(f, one)", "compares no truth value"),
        ("bool[3]", "f = Cast<to=1>(c) y = Greater(one, f)", "compares no truth value"),
        ("bool[3]", "f = Cast<to=1>(c) y = Greater(zero, f)", "compares no truth value"),
        ("bool[3]", "f = Cast<to=1>(i) y = Equal(f, one)", "may be NaN"),
        ("bool[2,3]", "y = Equal(c, wide)", "the operands differ"),
    ],
)
def test_what_stays(kind: str, body: str, because: str) -> None:
    rewritten(kind, body, None, because)


def test_a_choice_that_broadcasts_stays() -> None:
    io = "g (float[1,3] x, bool[2,1] c, float[3] z) => (float[2,3] y)"
    check(P, before=f"{io} {{ w = Where(c, x, x) y = Sin(w) }}", after=None, because="not between 1 and 0")
    check(
        P,
        before=f"{io} {{ w = Where(c, x, z) v = Where(c, w, z) y = Sin(v) }}",
        after=None,
        because="not between 1 and 0",
    )
    io = "g (bool[1,3] c, bool[2,3] d) => (bool[2,3] y)"
    text = f"{io} <bool[2,1] t> {{ e = Equal(c, t) y = Xor(e, d) }}"
    check(P, before=text, after=None, because="the operands differ", constants={"t": True})


def test_large_results_are_not_written() -> None:
    text = "g (int64[40,40] i) => (bool[40,40] y) { y = Equal(i, i) }"
    check(P, before=text, after=None, because="at most 1024 elements")
    text = "g (int64[N] i) => (int64[N] y) { y = Sub(i, i) }"
    check(P, before=text, after=None, because="at most 1024 elements")


def test_an_overridable_constant_stays() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (bool[3] c, float one = {1.0}) => (float[3] y) '
        "<float zero = {0.0}> { y = Where(c, one, zero) }"
    )
    check(P, before=text, after=None, because="not between 1 and 0")
