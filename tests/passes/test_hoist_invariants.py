"""hoist-invariants: nodes of a loop that depend on nothing of it run once, in front of it."""

import pytest

from fcc.passes.hoist_invariants import HoistInvariants
from fcc.testing import check

HEAD = "g (float[2] x, int64 n, float[N,3] p, float[3,2] q, int64[2] k{more}) => (float[2] y) <float[2] w, int64 five = {{5}}, bool go = {{1}}> {{ "
LOOP = "{before} y = Loop({most}, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) {{ d = Identity(c) {body} }}> }}"


def loop(body: str, before: str = "", most: str = "n", more: str = "") -> str:
    return (HEAD + LOOP).format(**locals())


@pytest.mark.parametrize("most", ["n", "five"])
def test_moves_with_the_constants_it_uses(most: str) -> None:
    module = check(
        HoistInvariants(),
        loop("o = Constant<value = float[2] {0.5, 2.0}>() e = Exp(w) f = Mul(e, o) t = Add(s, f)", most=most),
        loop("t = Add(s, f)", before="e = Exp(w) f = Mul(e, o)", most=most),
        tolerance=0,
    )
    assert "o" in module.graph.initializers


def test_a_constant_that_the_body_uses_too_is_captured() -> None:
    check(
        HoistInvariants(),
        loop("o = Constant<value = float[2] {0.5, 2.0}>() e = Mul(w, o) f = Mul(s, o) t = Add(e, f)"),
        loop("f = Mul(s, o) t = Add(e, f)", before="e = Mul(w, o)"),
        tolerance=0,
    )


def test_operators_that_cannot_fail_leave_a_loop_that_may_not_run() -> None:
    before = """a = MatMul(p, q) b = Transpose(a) c0 = Softmax(b) e = Unsqueeze(x, five) f = Shape(e) h = Div(w, x)
        j = Max(x, w)"""
    use = """m = Mul(h, j) u = ReduceSum(c0) v = Add(m, u) g0 = Cast<to = 1>(f) z = ReduceSum<keepdims = 0>(g0)
        o = Add(v, z) t = Add(s, o)"""
    text = loop(f"{before} {use}")
    check(
        HoistInvariants(),
        text.replace("int64 five = {5}", "int64[1] five = {0}"),
        loop(
            "u = ReduceSum(c0) v = Add(m, u) z = ReduceSum<keepdims = 0>(g0) o = Add(v, z) t = Add(s, o)",
            before=before.replace("j = Max(x, w)", "j = Max(x, w) m = Mul(h, j) g0 = Cast<to = 1>(f)"),
        ).replace("int64 five = {5}", "int64[1] five = {0}"),
    )


def test_an_absent_operand_cannot_fail() -> None:
    check(
        HoistInvariants(),
        loop("e = Clip(w, , top) t = Add(s, e)", more=", float top"),
        loop("t = Add(s, e)", before="e = Clip(w, , top)", more=", float top"),
    )


FAILING = {
    "an integer division": ("e = Div(k, k) f = Cast<to = 1>(e) t = Add(s, f)", ""),
    "an integer remainder": ("e = Mod(k, k) f = Cast<to = 1>(e) t = Add(s, f)", ""),
    "an integer power": ("e = Pow(k, k) f = Cast<to = 1>(e) t = Add(s, f)", ""),
    "shapes that may not fit": ("e = Add(w, v) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", ", float[M] v"),
    "sizes that may not fit": ("e = MatMul(v, q) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", ", float[2,M] v"),
    "stacks that may not fit": (
        "e = MatMul(v, u) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)",
        ", float[A,2,2] v, float[B,2,2] u",
    ),
    "a vector": ("e = MatMul(v, q) t = Add(s, e)", ", float[M] v"),
    "a view": ("e = Reshape(x, k) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", ""),
    "computed axes": ("e = Unsqueeze(x, k) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", ""),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_may_fail_stays_in_a_loop_that_may_not_run(case: str) -> None:
    body, more = FAILING[case]
    check(HoistInvariants(), loop(body, more=more), None, because="may fail")


def test_what_may_fail_leaves_a_loop_that_runs() -> None:
    branches = "<then_branch = f () => (float[2] a) { a = Neg(w) }, else_branch = o () => (float[2] r) { r = Abs(x) }>"
    check(
        HoistInvariants(),
        loop(
            f"e = Mod(k, five) f = Cast<to = 1>(e) h = If(z) {branches} j = Add(h, f) t = Add(s, j)",
            more=", bool z",
            most="five",
        ),
        loop(
            "t = Add(s, j)",
            before=f"e = Mod(k, five) f = Cast<to = 1>(e) h = If(z) {branches} j = Add(h, f)",
            more=", bool z",
            most="five",
        ),
        tolerance=0,
    )


RUNNING = {
    "what depends on the trip": ("e = Cast<to = 1>(i) f = Mul(e, w) t = Add(s, f)", ""),
    "what depends on a carried value": ("e = Exp(s) t = Add(s, e)", ""),
    "random numbers": ("e = RandomNormalLike(w) f = Sub(e, e) t = Add(s, f)", ""),
    "what the body gives": ("t = Exp(w)", ""),
    "a nested graph that reads the trip": (
        "t = If(z) <then_branch = f () => (float[2] a) { a = Neg(s) }, else_branch = o () => (float[2] r) { r = Abs(x) }>",
        ", bool z",
    ),
    "random numbers in a nested graph": (
        """h = If(z) <then_branch = f () => (float[2] a) { m = RandomNormalLike(w) a = Sub(m, m) },
                      else_branch = o () => (float[2] r) { r = Sub(x, x) }> t = Add(s, h)""",
        ", bool z",
    ),
    "branches": (
        """f = Less(i, five) t = If(f) <then_branch = f () => (float[2] a) { a = Neg(w) },
                                      else_branch = o () => (float[2] r) { r = Abs(s) }>""",
        "",
    ),
    "a quantizer": ("m = Abs(s) e = DequantizeLinear(k8, w) t = Add(s, e)", ", int8[2] k8"),
}


@pytest.mark.parametrize("case", RUNNING)
def test_stays(case: str) -> None:
    body, more = RUNNING[case]
    text = loop(body, most="five", more=more)
    if case == "a quantizer":
        text = text.replace("DequantizeLinear(k8, w)", "DequantizeLinear(k8, s0)").replace(
            "float[2] w,", "float[2] w, float s0 = {0.5},"
        )
    check(HoistInvariants(), text, None, because="every node of it depends on the trip, or may fail")


def test_from_the_inner_loop_to_the_outermost() -> None:
    inner = """t = Loop(n, go, s) <body = u (int64 j, bool f, float[2] o) => (bool h, float[2] m) {{
        h = Identity(f) {} m = Add(o, e) }}>"""
    check(
        HoistInvariants(),
        loop(inner.format("e = Exp(w)")),
        loop(inner.format(""), before="e = Exp(w)"),
        tolerance=0,
    )


def test_a_scan() -> None:
    text = """g (float[3,2] x) => (float[3,2] y) <float[2] w, int64[1] k = {{0}}> {{ {before}
        y = Scan(x) <num_scan_inputs = 1, body = b (float[2] e) => (float[2] f) {{ {body} f = Add(e, o) }}> }}"""
    check(
        HoistInvariants(),
        text.format(before="", body="u = Exp(w) o = Gather(u, k)"),
        text.format(before="u = Exp(w) o = Gather(u, k)", body=""),
        tolerance=0,
    )


def test_a_loop_without_a_view() -> None:
    text = loop("t = Add(s, s)").replace("y = Loop", "y, z = Loop")
    check(HoistInvariants(), text, None, because="another number")


def test_a_loop_that_never_runs_keeps_what_may_fail() -> None:
    text = loop("e = Mod(k, five) f = Cast<to = 1>(e) t = Add(s, f)", most="five").replace("{5}", "{0}")
    check(HoistInvariants(), text, None, because="may fail")


MORE = {
    "other domains": ("e = com.microsoft.QuickGelu(w) t = Add(s, e)", "five", ""),
    "numbers of strings": ("e = Cast<to = 1>(v) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", "n", ", string[2] v"),
    "a rank that is not known": ("e = Max(w, v) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", "n", ", float[] v"),
    "a division of shapes that may not fit": (
        "e = Div(w, v) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)",
        "n",
        ", float[M] v",
    ),
    "a product by a vector": ("e = MatMul(q, v) f = ReduceSum<keepdims = 0>(e) t = Add(s, f)", "n", ", float[M] v"),
}


@pytest.mark.parametrize("case", MORE)
def test_stays_too(case: str) -> None:
    body, most, more = MORE[case]
    check(HoistInvariants(), loop(body, most=most, more=more), None, because="may fail")


def test_operands_of_fewer_axes_that_fit() -> None:
    more = ", float[3,2] v, float[1,3,1] u"
    check(
        HoistInvariants(),
        loop(
            "e = Max(w, v) h = Mul(u, e) j = MatMul(h, z) f = ReduceSum<keepdims = 0>(j) t = Add(s, f)",
            more=more + ", float[2,2] z",
        ),
        loop(
            "f = ReduceSum<keepdims = 0>(j) t = Add(s, f)",
            before="e = Max(w, v) h = Mul(u, e) j = MatMul(h, z)",
            more=more + ", float[2,2] z",
        ),
    )
