"""Recognizers, one spelling and its nearest misses at a time."""

from __future__ import annotations

import pytest

from fcc import ir, testing
from fcc.analysis import recognize, shapes
from fcc.frontend import read

CONSTANTS = (
    "int64[1] a = {-1}, int64[2] b = {0,1}, int64[0] none = {}, float k = {0.25}, float[1,1] z = {0}, float two = {2},"
    " float four = {4}, float one = {1}, float half = {0.5}, float e = {0.01}, float[2] many = {1,2}, int64 i = {2},"
    " int64[2] full = {3,4}, int64[2] col = {3,1}"
)


def value(nodes: str, name: str = "y", opset: int = 18) -> ir.Value:
    text = f"g (float[3,4] x, float[N,4] w, float o) => (float[A,B] y) <{CONSTANTS}> {{ {nodes} }}"
    module = read(testing.model_from(text, opset, {}, 0))
    shapes.infer(module)
    return next(v for n in module.nodes() for v in n.outputs if v.name == name)


def told(found: recognize.Reduced | None) -> tuple[str | None, tuple[int, ...]] | None:
    return None if found is None else (found.x.name, found.axes)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = ReduceMean(x, a)", ("x", (1,))),
        ("y = ReduceMean<keepdims=0>(x, b)", ("x", (0, 1))),
        ("y = ReduceMean(x)", ("x", (0, 1))),
        ("y = ReduceMean(x, none)", ("x", (0, 1))),
        ("y = ReduceMean<noop_with_empty_axes=1>(x)", None),
        ("y = ReduceMean<noop_with_empty_axes=1>(x, a)", ("x", (1,))),
        ("c = Identity(a) y = ReduceMean(x, c)", None),
        ("s = ReduceSum(x, a) y = Mul(s, k)", ("x", (1,))),
        ("s = ReduceSum(x, a) y = Mul(k, s)", ("x", (1,))),
        ("s = ReduceSum(x, a) y = Div(s, four)", ("x", (1,))),
        ("s = ReduceSum(x, a) y = Div(four, s)", None),
        ("s = ReduceSum(x, a) y = Mul(s, four)", None),
        ("s = ReduceSum(x, a) y = Div(s, two)", None),
        ("s = ReduceSum(w, b) y = Div(s, four)", None),
        ("s = ReduceSum(x, a) y = Mul(s, o)", None),
        ("s = ReduceMax(x, a) y = Mul(s, k)", None),
        ("y = ReduceMax(x, a)", None),
        ("m = ReduceMean<keepdims=0>(x, a) y = Unsqueeze(m, a)", ("x", (1,))),
        ("m = ReduceMean(x, a) y = Expand(m, col)", ("x", (1,))),
        ("m = ReduceMean(x, a) y = Expand(m, full)", None),
        ("m = ReduceMean(x, a) y = Transpose(m)", None),
    ],
)
def test_mean(nodes: str, expected: tuple[str, tuple[int, ...]] | None) -> None:
    assert told(recognize.mean_of(value(nodes))) == expected


def test_axes_attribute_and_pooling() -> None:
    assert told(recognize.mean_of(value("y = ReduceMean<axes=[0]>(x)", opset=17))) == ("x", (0,))
    pooled = "s = Unsqueeze(x, b) y = GlobalAveragePool(s)"
    assert told(recognize.mean_of(value(pooled))) == ("s", (2, 3))
    assert recognize.mean_of(value("y = GlobalAveragePool(x)")) is None


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Mul(x, x)", "x"),
        ("y = Pow(x, two)", "x"),
        ("y = Pow(x, i)", "x"),
        ("y = Pow(x, four)", None),
        ("y = Pow(two, x)", None),
        ("t = Abs(x) y = Mul(x, t)", None),
        ("y = Add(x, x)", None),
        ("q = Mul(x, x) y = Reshape(q, full)", None),
    ],
)
def test_square(nodes: str, expected: str | None) -> None:
    found = recognize.square_of(value(nodes))
    assert (None if found is None else found.name) == expected


def test_mean_square() -> None:
    assert told(recognize.mean_square_of(value("s = ReduceSumSquare(x, a) y = Div(s, four)"))) == ("x", (1,))
    assert recognize.mean_square_of(value("s = ReduceSumSquare(x, a) y = Div(s, two)")) is None
    assert recognize.mean_square_of(value("q = Abs(x) y = ReduceMean(q, a)")) is None
    flat = "q = Mul(x, x) r = Flatten<axis=0>(q) y = ReduceMean(r, a)"
    assert recognize.mean_square_of(value(flat)) is None


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Sub(x, m)", ("x", (1,), 1)),
        ("y = Sub(m, x)", ("x", (1,), -1)),
        ("n = Neg(m) y = Add(x, n)", ("x", (1,), 1)),
        ("n = Neg(m) y = Add(n, x)", ("x", (1,), 1)),
        ("f = Expand(m, full) y = Sub(x, f)", ("x", (1,), 1)),
        ("y = Add(x, m)", None),
        ("t = Abs(x) y = Sub(t, m)", None),
        ("n = Mul(m, two) y = Add(x, n)", None),
    ],
)
def test_centered(nodes: str, expected: tuple[str, tuple[int, ...], int] | None) -> None:
    found = recognize.centered(value(f"m = ReduceMean(x, a) {nodes}"))
    assert (None if found is None else (found[0].x.name, found[0].axes, found[1])) == expected


def test_a_mean_laid_along_the_wrong_axis_is_not_subtracted_from_x() -> None:
    square = "q = MatMul(x, t) t = Transpose(x) m = ReduceMean<keepdims=0>(q, a)"
    assert recognize.centered(value(f"{square} y = Sub(q, m)")) is None
    assert recognize.centered(value(f"{square} c = Unsqueeze(m, a) y = Sub(q, c)")) is not None


MOMENTS = "m = ReduceMean(x, a) q = Mul(x, x) p = ReduceMean(q, a) mm = Mul(m, m)"


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("y = Sub(p, mm)", True),
        ("y = Sub(mm, p)", False),
        ("y = Sub(p, m)", False),
        ("y = Add(p, mm)", False),
        ("v = Sub(p, mm) y = Max(v, z)", True),
        ("v = Sub(p, mm) y = Max(z, v)", True),
        ("v = Sub(p, mm) y = Max(v, e)", False),
        ("v = Sub(p, mm) y = Max(v, z, e)", False),
        ("v = Sub(p, mm) y = Min(v, z)", False),
        ("v = Sub(p, mm) y = Clip(v, e)", False),
        ("v = Sub(p, mm) s = Squeeze(z) y = Clip(v, s)", False),
        ("v = Sub(p, mm) y = Clip(v, , e)", False),
        ("d = Sub(x, m) w2 = Mul(d, d) y = ReduceMean(w2, a)", True),
        ("d = Sub(x, m) w2 = Mul(d, d) y = ReduceMean(w2)", False),
        ("k2 = ReduceMean(x) mm2 = Mul(k2, k2) y = Sub(p, mm2)", False),
    ],
)
def test_variance(nodes: str, found: bool) -> None:
    assert told(recognize.variance_of(value(f"{MOMENTS} {nodes}"))) == (("x", (1,)) if found else None)


def test_statistics_of_two_layouts_are_not_paired() -> None:
    square = "q0 = MatMul(x, t) t = Transpose(x) q = Mul(q0, q0) m = ReduceMean(q0, a) mm = Mul(m, m)"
    nodes = f"{square} p = ReduceMean<keepdims=0>(q, a) y = Sub(p, mm)"
    assert recognize.variance_of(value(nodes)) is None


@pytest.mark.parametrize(
    ("nodes", "inverse"),
    [
        ("y = Sqrt(v)", False),
        ("y = Pow(v, half)", False),
        ("s = Sqrt(v) y = Reciprocal(s)", True),
        ("s = Sqrt(v) y = Div(one, s)", True),
        ("r = Reciprocal(v) y = Sqrt(r)", True),
        ("r = Reciprocal(v) s = Sqrt(r) y = Reciprocal(s)", False),
        ("r = Reciprocal(v) y = Pow(r, half)", True),
        ("y = Pow(v, two)", None),
        ("s = Sqrt(v) y = Div(two, s)", None),
        ("y = Exp(v)", None),
    ],
)
@pytest.mark.parametrize("sum_", ["Add(p, e)", "Add(e, p)"])
def test_scale(nodes: str, inverse: bool | None, sum_: str) -> None:
    found = recognize.scale_of(value(f"q = Mul(x, x) p = ReduceMean(q, a) v = {sum_} {nodes}"))
    assert (None if found is None else found.inverse) == inverse
    if found is not None:
        assert (found.centered, told(found.of)) == (False, ("x", (1,)))
        assert found.epsilon == pytest.approx(0.01)


@pytest.mark.parametrize(("name", "expected"), [("k", 0.25), ("z", 0.0), ("i", 2.0), ("many", None), ("none", None)])
def test_number(name: str, expected: float | None) -> None:
    node = value(f"n = Neg({name}) y = Neg(x)", "n").producer()
    assert node is not None
    assert recognize.number(node.inputs[0]) == expected


def test_an_overridable_or_computed_number_is_none() -> None:
    assert recognize.number(value("y = Neg(one)")) is None
    assert recognize.number(None) is None
