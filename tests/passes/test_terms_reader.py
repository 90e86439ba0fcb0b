"""What the reader makes of one step: a sum of what it is known to be, rows of its own, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._terms import Sum
from fcc.passes._terms_reader import Reader
from fcc.testing import model_from

TEXT = """g (float[2,4] h, float[2,3] x, float[4] v, float[1,4] u, int64[2,4] k, float[N,4] n) => ({out} y)
    <float[4,4] r, float[3,4] w, float[4] b, float[4,4] zero, float one = {{1}}, float two = {{2}}, float[4,4] c0, float[0,4] none,
     float nil = {{0}}, float[1,4] ones = {{1,1,1,1}}, float[1,4] gap = {{1,0,1,1}}, int64[2] halves = {{2,2}}, int64[1] i0 = {{0}}, int64[1] i1 = {{1}},
     int64[1] i2 = {{2}}, int64[1] i3 = {{3}}, float[2,4] pair, int64[4,4] ints, int64[2] flat = {{1,8}}, int64[2] same = {{2,4}}, float[1,4,4] cube> {{ {body} }}"""
FUNCTIONS: dict[str, Any] = {
    "Tanh": np.tanh,
    "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "Exp": np.exp,
    "Relu": lambda v: np.maximum(v, 0),
    "HardSigmoid": lambda v, a, b: np.clip(a * v + b, 0, 1),
    "Elu": lambda v, a: np.where(v > 0, v, a * (np.exp(np.minimum(v, 0)) - 1)),
    "LeakyRelu": lambda v, a: np.where(v > 0, v, a * v),
    "ThresholdedRelu": lambda v, a: np.where(v > a, v, 0),
}


def reader(body: str, out: str = "float[2,4]", **options: Any) -> tuple[Reader, ir.Module]:
    """A reader of a graph whose state is h; what h leads to moves."""
    module = read(model_from(TEXT.format(body=body, out=out), 21, {}, 0))
    shapes.infer(module)
    state = next(v for v in module.graph.inputs if v.name == "h")
    moving = {state}
    for node in module.graph:
        if not moving.isdisjoint(node.inputs):
            moving.update(node.outputs)
    return Reader(module.graph, {state}, moving.__contains__, **options), module


def number_of(a: Sum, given: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    total: Any = 0.0
    for product, form in a.terms.items():
        part: Any = form.bias
        for source in form.sources():
            rows = number_of(source, given) if isinstance(source, Sum) else given[source.name]  # type: ignore[attr-defined]
            part = part + rows @ form.dense(source, rows.shape[-1])
        for atom in product:
            part = part * FUNCTIONS[atom.kind](number_of(atom.of, given), *atom.parameters)
        total = total + part
    return np.asarray(total)


READ = {
    "a product": "y = MatMul(h, r)",
    "Gemm": "y = Gemm<alpha = 0.5, beta = 3.0>(h, r, b)",
    "Gemm turned": "y = Gemm<transB = 1>(h, r, b)",
    "Gemm without a bias": "y = Gemm(h, r)",
    "Gemm with an absent bias": "y = Gemm<transB = 1, alpha = 2.0>(h, r, )",
    "Gemm of a computed bias": "t = MatMul(x, w) y = Gemm<beta = 2.0>(h, r, t)",
    "Gemm of a Gemm": "t = Gemm(x, w, b) y = Gemm<beta = 2.0>(h, r, t)",
    "a sum": "t = MatMul(x, w) s = MatMul(h, r) y = Add(t, s)",
    "a sum of three": "t = MatMul(x, w) s = MatMul(h, r) y = Sum(t, s, b)",
    "a difference": "s = MatMul(h, r) y = Sub(s, b)",
    "a difference turned": "s = MatMul(h, r) y = Sub(b, s)",
    "a product of numbers": "s = MatMul(h, r) y = Mul(s, b)",
    "a product of gates": "s = Sigmoid(h) t = Tanh(h) y = Mul(s, t)",
    "a gate of a state": "s = Sigmoid(h) y = Mul(h, s)",
    "a quotient": "s = MatMul(h, r) y = Div(s, ones)",
    "a quotient by two": "s = MatMul(h, r) y = Div(s, two)",
    "a sigmoid written out": "n1 = Neg(h) e = Exp(n1) p = Add(e, one) y = Div(one, p)",
    "a sigmoid of a product": "n1 = MatMul(h, r) e = Exp(n1) p = Add(one, e) y = Div(ones, p)",
    "a sigmoid by Reciprocal": "e = Exp(h) p = Add(e, one) y = Reciprocal(p)",
    "a sigmoid times a state": "e = Exp(h) p = Add(e, one) y = Div(h, p)",
    "negated": "t = Tanh(h) y = Neg(t)",
    "Relu": "s = MatMul(h, r) y = Relu(s)",
    "Elu": "y = Elu<alpha = 0.5>(h)",
    "Elu by default": "y = Elu(h)",
    "LeakyRelu": "y = LeakyRelu<alpha = 0.25>(h)",
    "LeakyRelu by default": "y = LeakyRelu(h)",
    "ThresholdedRelu": "y = ThresholdedRelu<alpha = 0.5>(h)",
    "ThresholdedRelu by default": "y = ThresholdedRelu(h)",
    "HardSigmoid": "y = HardSigmoid<alpha = 0.25, beta = 0.375>(h)",
    "HardSigmoid by default": "y = HardSigmoid(h)",
    "Clip": "y = Clip(h, nil, one)",
    "columns": "s = MatMul(h, r) p, q = Split<axis = 1>(s, halves) y = Concat<axis = -1>(q, p)",
    "a slice": "s = MatMul(h, r) p = Slice(s, i1, i3, i1) q = Slice(h, i2, i3, i1) t = Slice(h, i0, i1, i1) y = Concat<axis = 1>(q, p, t)",
    "a view": "s = MatMul(h, r) a = Unsqueeze(s, i0) q = Squeeze(a, i0) z = Identity(q) y = Reshape(z, same)",
    "a product of leading ones": "a = Unsqueeze(h, i0) s = MatMul(a, r) c = Squeeze(s, i0) y = Add(c, h)",
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read(name: str) -> None:
    found, module = reader(READ[name])
    proto = serde.serialize_model(module.model)
    rng = np.random.default_rng(3)
    feeds = {str(v.name): rng.standard_normal([2 if d == "N" else d for d in dims_(v)]) for v in module.graph.inputs}
    feeds = {k: a.astype(np.int64 if k == "k" else np.float32) for k, a in feeds.items()}
    (y,) = ReferenceEvaluator(proto).run(None, feeds)
    a = found.read(module.graph.outputs[0])
    assert a is not None
    assert np.allclose(np.broadcast_to(number_of(a, feeds), y.shape), y, atol=1e-5)


def dims_(value: ir.Value) -> list[Any]:
    return [d if isinstance(d, int) else str(d) for d in ir.dims_of(value) or ()]


NOTHING = {
    "an operator that is not known": ("y = Sin(h)", "float[2,4]"),
    "of another domain": ("y = com.test.Tanh(h)", "float[2,4]"),
    "a product by what is computed": ("a = Neg(r) y = MatMul(h, a)", "float[2,4]"),
    "a product of a matrix by the state": ("t = Transpose(h) y = MatMul(r, t)", "float[4,2]"),
    "Gemm turned over": ("y = Gemm<transA = 1>(h, x)", "float[4,3]"),
    "a product of stacks": ("y = MatMul(h, cube)", "float[1,2,4]"),
    "other rows": ("a = Unsqueeze(h, i1) c = Unsqueeze(h, i0) y = Add(a, c)", "float[2,2,4]"),
    "a difference of other rows": ("a = Unsqueeze(h, i1) c = Unsqueeze(h, i0) y = Sub(a, c)", "float[2,2,4]"),
    "a product of other rows": ("a = Unsqueeze(h, i1) c = Unsqueeze(h, i0) d = Tanh(c) y = Mul(a, d)", "float[2,2,4]"),
    "a quotient of other rows": ("a = Unsqueeze(h, i1) e = Exp(h) p = Add(e, one) c = Unsqueeze(p, i0) y = Div(a, c)", "float[2,2,4]"),
    "Gemm with other rows": ("y = Gemm(h, r, u)", "float[2,4]"),
    "rows of unknown number": ("y = Add(h, n)", "float[2,4]"),
    "a view of other columns": ("y = Reshape(h, flat)", "float[1,8]"),
    "a quotient by zero": ("y = Div(h, gap)", "float[2,4]"),
    "a quotient by a state": ("y = Div(b, h)", "float[2,4]"),
    "one plus two exponentials": ("e = Exp(h) f = Exp(x) m = MatMul(f, w) a = Add(e, m) p = Add(a, one) y = Reciprocal(p)", "float[2,4]"),
    "two plus an exponential": ("e = Exp(h) p = Add(e, two) y = Reciprocal(p)", "float[2,4]"),
    "one plus two times an exponential": ("e = Exp(h) f = Mul(e, two) p = Add(f, one) y = Reciprocal(p)", "float[2,4]"),
    "one plus a tangent": ("e = Tanh(h) p = Add(e, one) y = Reciprocal(p)", "float[2,4]"),
    "one plus a gated exponential": ("e = Exp(h) t = Tanh(h) f = Mul(e, t) p = Add(f, one) y = Reciprocal(p)", "float[2,4]"),
    "a state plus an exponential": ("e = Exp(h) p = Add(e, h) y = Reciprocal(p)", "float[2,4]"),
    "Clip to two": ("y = Clip(h, nil, two)", "float[2,4]"),
    "Clip from one": ("y = Clip(h, one, two)", "float[2,4]"),
    "Clip without an upper bound": ("y = Clip(h, nil)", "float[2,4]"),
    "a slice of rows": ("s = MatMul(h, r) y = Slice(s, i0, i1, i0)", "float[1,4]"),
    "parts of rows": ("s = MatMul(h, r) y, z = Split<axis = 0, num_outputs = 2>(s)", "float[1,4]"),
    "joined rows": ("y = Concat<axis = 0>(h, h)", "float[4,4]"),
    "joined with what is not read": ("s = Sin(h) y = Concat<axis = 1>(h, s)", "float[2,8]"),
    "constants that are no row": ("y = Add(h, pair)", "float[2,4]"),
    "an empty constant": ("a = MatMul(h, none) y = Add(a, h)", "float[2,4]"),
    "a row of one more": ("y = Add(h, u)", "float[2,4]"),
    "no floats": ("y = Add(q, k) q = Cast<to = 7>(h)", "int64[2,4]"),
    "added to what is not read": ("s = Sin(h) y = Add(h, s)", "float[2,4]"),
    "what is not read, and more": ("s = Sin(h) y = Add(s, h)", "float[2,4]"),
    "less what is not read": ("s = Sin(h) y = Sub(h, s)", "float[2,4]"),
    "times what is not read": ("s = Sin(h) y = Mul(h, s)", "float[2,4]"),
    "a function of what is not read": ("s = Sin(h) y = Tanh(s)", "float[2,4]"),
    "a hard sigmoid of what is not read": ("s = Sin(h) y = HardSigmoid(s)", "float[2,4]"),
    "a Clip of what is not read": ("s = Sin(h) y = Clip(s, nil, one)", "float[2,4]"),
    "what is not read, negated": ("s = Sin(h) y = Neg(s)", "float[2,4]"),
    "Gemm with a bias that is not read": ("s = Sin(h) y = Gemm(h, r, s)", "float[2,4]"),
    "one over what is not read": ("s = Sin(h) y = Reciprocal(s)", "float[2,4]"),
    "by what is not read": ("s = Sin(h) y = Div(h, s)", "float[2,4]"),
    "a product of what is not read": ("s = Sin(h) y = MatMul(s, r)", "float[2,4]"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_not_read(name: str) -> None:
    body, out = NOTHING[name]
    found, module = reader(reordered(body), out)
    assert found.read(module.graph.outputs[0]) is None
    assert not any(n.op_type == "Sin" for n in found.nodes)


def reordered(body: str) -> str:
    """Put what is written behind y in front of it."""
    first, _, rest = body.partition(") ")
    return body if not first.startswith("y =") else f"{rest} {first})" if rest else body


def test_what_moves_with_no_state_is_rows_of_its_own() -> None:
    body = "t = Tanh(x) m = MatMul(t, w) s = MatMul(h, r) y = Add(m, s)"
    found, module = reader(body)
    a = found.read(module.graph.outputs[0])
    assert a is not None
    (form,) = a.terms.values()
    assert {s.name for s in form.sources()} == {"t", "h"}  # type: ignore[attr-defined]
    assert {n.op_type for n in found.nodes} == {"MatMul", "Add"}
    found, module = reader(body, eager=True)
    a = found.read(module.graph.outputs[0])
    assert a is not None
    assert {n.op_type for n in found.nodes} == {"MatMul", "Add", "Tanh"}


def test_a_product_that_moves_with_no_state_is_rows() -> None:
    body = "s = Sigmoid(x) t = Mul(s, x) m = MatMul(t, w) y = Add(m, h)"
    found, module = reader(body)
    a = found.read(module.graph.outputs[0])
    assert a is not None
    assert {n.op_type for n in found.nodes} == {"MatMul", "Add"}


def test_a_step_has_a_largest_size() -> None:
    body = "a0 = Neg(h) " + " ".join(f"a{k + 1} = Neg(a{k})" for k in range(130))
    found, module = reader(body + " y = Neg(a130)")
    assert found.read(module.graph.outputs[0]) is None
    found, module = reader(body.replace("Neg(h) ", "Neg(h) ", 1) + " y = Neg(a120)")
    assert found.read(module.graph.outputs[0]) is not None
    assert len(found.nodes) == 122


def test_absent_operands_are_nothing() -> None:
    found, _ = reader("y = Neg(h)")
    assert found.read(None) is None


def test_what_an_outer_graph_computes_is_rows_of_its_own() -> None:
    body = "a = MatMul(x, w) y = If(one_of) <then_branch = t () => (float[2,4] p) { p = Add(a, b) }, else_branch = e () => (float[2,4] q) { q = Neg(a) }>"
    module = read(
        model_from(
            TEXT.replace("float[N,4] n)", "float[N,4] n, bool one_of)").format(body=body, out="float[2,4]"), 21, {}, 0
        )
    )
    shapes.infer(module)
    branch = module.graph[-1].attributes["then_branch"].as_graph()
    found = Reader(branch, (), lambda value: False, eager=True).read(branch.outputs[0])
    assert found is not None
    assert list(found.sources()) == [module.graph[0].outputs[0]]
