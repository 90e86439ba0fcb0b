"""Triangles: what the analysis says of a mask is what the mask holds, at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._triangle import Triangle, triangle

INDICES: dict[str, Any] = {"i0": 0, "i1": 1, "s0": 0, "s1": 1, "k2": 2, "km": -1, "one": 1, "two": 2, "far": -1e9, "zero": 0,
                           "both": [0, 1], "table": np.tri(9), "three": 3, "big": 99, "m1": -1,
                           "nine": 9, "nines": [9, 9], "flat": [1, -1]}  # fmt: skip
DECLARED = """int64[1] i0, int64[1] i1, int64 s0, int64 s1, int64 k2, int64 km, float one, float two, float far, float zero,
    int64[2] both, float[9,9] table, int64[1] three, int64[1] big, int64[1] m1, int64[1] nine, int64[2] nines, int64[2] flat"""
SIZES = "r = Shape<start=0, end=1>(x) c = Shape<start=1, end=2>(x) rc = Concat<axis=0>(r, c)"


def found_in(body: str) -> tuple[Triangle | None, onnx.ModelProto]:
    text = f"g (float[R,C] x, float[R] w) => (float[U,V] y) <{DECLARED}> {{ {SIZES} {body} }}"
    model = testing.model_from(text, 21, INDICES, 0)
    module = read(model)
    shapes.infer(module)
    return triangle(module.graph.outputs[0]), serde.serialize_model(module.model)


def held(x: Any, sizes: dict[str, int]) -> int:
    if not isinstance(x, ir.Dim):
        return int(x)
    total = 0
    for monomial, factor in x.terms.items():
        total += factor * int(np.prod([sizes[s] for s in monomial]))
    return total


BODIES = {
    "lower": "f = Expand(one, rc) y = Trilu<upper=0>(f)",
    "lower by two": "f = Expand(one, rc) y = Trilu<upper=0>(f, k2)",
    "lower by minus one": "f = Expand(two, rc) y = Trilu<upper=0>(f, km)",
    "upper": "f = Expand(far, rc) y = Trilu<upper=1>(f, s1)",
    "upper from the diagonal on": "f = ConstantOfShape(rc) g1 = Add(f, two) y = Trilu(g1)",
    "filled": "f = ConstantOfShape<value=float[1]{3}>(rc) y = Trilu<upper=1>(f, k2)",
    "negated and shifted": "f = Expand(one, rc) t = Trilu<upper=0>(f) n = Neg(t) y = Add(n, two)",
    "product": "f = Expand(one, rc) t = Trilu<upper=0>(f) n = Sub(one, t) y = Mul(n, far)",
    "chosen": "f = Expand(one, rc) t = Trilu<upper=1>(f) b = Cast<to=9>(t) n = Not(b) y = Where(n, two, far)",
    "compared": "f = Expand(one, rc) t = Trilu<upper=1>(f) b = Equal(t, one) y = Cast<to=1>(b)",
    "two of one diagonal": "f = Expand(one, rc) t = Trilu<upper=0>(f) g1 = Expand(two, rc) u = Trilu<upper=0>(g1) y = Sub(t, u)",
    "laid out and back": "f = Expand(one, rc) t = Trilu<upper=0>(f) a = Unsqueeze(t, both) y = Squeeze(a, both)",
    "positions": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1) p = Unsqueeze(a, i0)"
                 " q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions, less": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1) p = Unsqueeze(a, i0)"
                       " q = Unsqueeze(b, i1) l = Less(p, q) y = Cast<to=1>(l)",
    "positions, mirrored": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1) p = Unsqueeze(a, i0)"
                           " q = Unsqueeze(b, i1) l = Less(q, p) y = Cast<to=1>(l)",
    "positions, greater or equal": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1)"
                                   " p = Unsqueeze(a, i0) q = Unsqueeze(b, i1) l = GreaterOrEqual(p, q) y = Cast<to=1>(l)",
    "positions, moved": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1) p0 = Sub(a, s1)"
                        " p = Unsqueeze(p0, i0) q0 = Add(b, k2) q1 = Cast<to=6>(q0) p1 = Cast<to=6>(p) q = Unsqueeze(q1, i1)"
                        " l = Greater(p1, q) y = Cast<to=1>(l)",
    "positions from a start": "cc = Squeeze(c) rr = Squeeze(r) e = Add(rr, k2) a = Range(s0, cc, s1) b = Range(k2, e, s1)"
                              " p = Unsqueeze(a, i0) q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "rows of a table": "y = Slice(table, i0, r, i0)",
    "columns of a table": "y = Slice(table, i0, c, i1)",
    "rows and columns": "t = Slice(table, i0, r, i0) y = Slice(t, i0, c, i1)",
    "the last rows": "a = Sub(c, r) t = Slice(table, i0, c, i1) y = Slice(t, three, big, i0)",
    "columns from three on": "y = Slice(table, three, big, i1)",
    "rows in one cut": "y = Slice(table, i0, r)",
    "rows of what is the same throughout": "f = ConstantOfShape<value=float[1]{3}>(nines) s = Slice(f, i0, three, i0) y = Trilu<upper=0>(s, k2)",
    "a column of leading axes": "t = Slice(table, i0, r, i0) a = Unsqueeze(t, i0) b = Slice(a, i0, i1, i0) y = Squeeze(b, i0)",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 5), (2, 5), (5, 2), (1, 4)])
def test_triangles(name: str, size: tuple[int, int]) -> None:
    found, model = found_in(BODIES[name])
    assert found is not None
    assert found.diagonal is not None
    sizes = dict(zip("RC", size, strict=True))
    (y,) = ReferenceEvaluator(model).run(None, {"x": np.zeros(size, np.float32), "w": np.zeros(size[0], np.float32)})
    rows, columns = (held(n, sizes) for n in (found.rows, found.columns))
    want = np.where(np.tri(rows, columns, held(found.diagonal, sizes), dtype=bool), found.inside, found.outside)
    assert np.array_equal(y, want.astype(np.float32)), (found, y)


NONE = {
    "of what is computed": "y = Trilu<upper=0>(x)",
    "of a triangle": "f = Expand(one, rc) t = Trilu<upper=0>(f) y = Trilu<upper=1>(t)",
    "by a computed shift": "f = Expand(one, rc) k = ReduceSum<keepdims=0>(x) l = Cast<to=7>(k) y = Trilu<upper=0>(f, l)",
    "two diagonals": "f = Expand(one, rc) t = Trilu<upper=0>(f) u = Trilu<upper=0>(f, k2) y = Sub(t, u)",
    "with a tensor": "f = Expand(one, rc) t = Trilu<upper=0>(f) y = Mul(t, x)",
    "rows from the end": "y = Slice(table, m1, big, i0)",
    "every other row": "y = Slice(table, i0, big, i0, three)",
    "turned": "f = Expand(one, rc) t = Trilu<upper=0>(f) y = Transpose(t)",
    "repeated along the columns": "f = Expand(one, rc) t = Trilu<upper=0>(f) u = Slice(t, i0, i1, i1) y = Expand(u, rc)",
    "rows from a computed start": "s = ReduceSum<keepdims=1>(w) k = Cast<to=7>(s) y = Slice(table, k, big, i0)",
    "rows to a computed end": "s = ReduceSum<keepdims=1>(w) k = Cast<to=7>(s) y = Slice(table, i0, k, i0)",
    "rows along a computed axis": "s = ReduceSum<keepdims=1>(w) k = Cast<to=7>(s) y = Slice(table, i0, big, k)",
    "rows by a computed step": "s = ReduceSum<keepdims=1>(w) k = Cast<to=7>(s) y = Slice(table, i0, big, i0, k)",
    "all rows but the last": "y = Slice(table, i0, m1, i0)",
    "a slice of what is computed": "y = Slice(x, i0, i1, i0)",
    "laid out anew": "t = Slice(table, i0, r, i0) n9 = Concat<axis=0>(r, nine) u = Expand(t, n9) y = Reshape(u, flat)",
    "a sum with what is computed": "f = Expand(one, rc) y = Add(f, x)",
    "positions moved by what is computed": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1)"
        " k = Cast<to=7>(w) b2 = Add(b, k) p = Unsqueeze(a, i0) q = Unsqueeze(b2, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions that are multiplied": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1)"
        " b2 = Mul(b, k2) p = Unsqueeze(a, i0) q = Unsqueeze(b2, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions to a computed end": "rr = Squeeze(r) z = ReduceSum<keepdims=0>(w) k = Cast<to=7>(z) a = Range(s0, k, s1)"
        " b = Range(s0, rr, s1) p = Unsqueeze(a, i0) q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions from a computed start": "rr = Squeeze(r) cc = Squeeze(c) z = ReduceSum<keepdims=0>(w) k = Cast<to=7>(z) a = Range(k, cc, s1)"
        " b = Range(s0, rr, s1) p = Unsqueeze(a, i0) q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions by a computed step": "rr = Squeeze(r) cc = Squeeze(c) z = ReduceSum<keepdims=0>(w) k = Cast<to=7>(z) a = Range(s0, cc, k)"
        " b = Range(s0, rr, s1) p = Unsqueeze(a, i0) q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions repeated along the rows": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1)"
        " p = Expand(a, rc) q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions repeated along the columns": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, s1) b = Range(s0, rr, s1)"
        " p = Unsqueeze(a, i0) q0 = Unsqueeze(b, i1) q = Expand(q0, rc) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "deeper than is looked": "t0 = Slice(table, i0, r, i0) " + " ".join(f"t{k + 1} = Neg(t{k})" for k in range(18)) + " y = Neg(t18)",
    "positions of one kind": "rr = Squeeze(r) b = Range(s0, rr, s1) q = Unsqueeze(b, i1) p = Unsqueeze(b, i1)"
                             " l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions by two": "rr = Squeeze(r) cc = Squeeze(c) a = Range(s0, cc, k2) b = Range(s0, rr, s1) p = Unsqueeze(a, i0)"
                        " q = Unsqueeze(b, i1) l = LessOrEqual(p, q) y = Cast<to=1>(l)",
    "positions that are fed": "cc = Squeeze(c) a = Range(s0, cc, s1) d = Cast<to=1>(a) p = Unsqueeze(d, i0) q = Unsqueeze(w, i1)"
                              " l = LessOrEqual(p, q) y = Cast<to=1>(l)",
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_no_triangles(name: str) -> None:
    found, _ = found_in(NONE[name])
    assert found is None or found.diagonal is None


@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("diagonal", [-1, 0, 1, 2])
def test_constants(shape: tuple[int, ...], diagonal: int) -> None:
    array = np.broadcast_to(np.where(np.tri(3, 4, diagonal), 2.0, -7.0), shape).astype(np.float32)
    value = ir.Value(
        name="m", const_value=ir.tensor(array), type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape)
    )
    ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 21})
    found = triangle(value)
    assert found == Triangle(np.float32(2), np.float32(-7), diagonal, 3, 4)


@pytest.mark.parametrize(
    "array",
    [np.array([[1.0, 0], [1, 0]]), np.array([[1.0, 2], [1, 1.5]]), np.stack([np.tri(2), np.tri(2).T]), np.arange(4.0)],
)
def test_other_constants(array: Any) -> None:
    value = ir.Value(
        name="m", const_value=ir.tensor(array), type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape(array.shape)
    )
    ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 21})
    assert triangle(value) is None


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.array([["a", "b"], ["a", "a"]], object)])
def test_constants_that_are_empty_or_no_numbers(array: Any) -> None:
    value = ir.Value(name="m", const_value=ir.tensor(array), shape=ir.Shape(array.shape))
    ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 21})
    assert triangle(value) is None


def test_constants_that_are_computed_at_save_are_not_read() -> None:
    lazy = ir.LazyTensor(lambda: pytest.fail("read"), ir.DataType.FLOAT, ir.Shape((3, 3)))
    value = ir.Value(name="m", const_value=lazy, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape((3, 3)))
    ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 21})
    assert triangle(value) is None
    assert triangle(None) is None
