"""Rows of the table of rewrites (peers.md, section 1a): folding, sharing, control flow, functions, metadata."""

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import fcc


def test_constant_folding(compiled: Any) -> None:
    row = compiled(
        "g (float[N,4] x) => (float[N,4] y) <float[4] a, float[4] b, int64[1] axis> "
        "{ s = Mul(a, b) t = Sqrt(s) u = Unsqueeze(t, axis) v = Concat<axis=0>(u, u) w = ReduceMax<keepdims=0>(v, axis) "
        "y = Add(x, w) }",
        "Add",
        {"a": 2.0, "b": 8.0, "axis": 0},
    )
    assert row.shapes() == {(4,)}


def test_output_size_guard_on_folding(compiled: Any) -> None:
    """64 MB of one number are not written down."""
    big = "<int64[2] shape, int64[2] starts, int64[2] ends> { c = ConstantOfShape<value=float[1]{2.0}>(shape) "
    row = compiled(
        f"g (int64[1] i) => (float[1,4096] y) {big} y = Gather(c, i) }}",
        "ConstantOfShape Gather",
        {"shape": 4096, "starts": 0, "ends": 4},
        targets=("cpu",),
    )
    assert row.shapes() == {(2,)}


def test_dynamic_batch_shape_arithmetic_to_static_reshape(compiled: Any) -> None:
    row = compiled(
        "g (float[N,3,4] x) => (float[N,M] y) <int64 zero, int64[1] at, int64[1] rest> { s = Shape(x) n = Gather(s, zero) "
        "u = Unsqueeze(n, at) d = Concat<axis=0>(u, rest) r = Reshape(x, d) y = Relu(r) }",
        "Reshape Relu",
        {"zero": 0, "at": 0, "rest": -1},
    )
    (shape,) = row.found["cpu"].graph.initializer
    assert onnx.numpy_helper.to_array(shape).tolist() == [0, -1]


def test_cse(compiled: Any) -> None:
    compiled(
        "g (float[N,4] x) => (float[N,4] y) { a = Sin(x) b = Sin(x) c = Exp(a) d = Exp(b) y = Mul(c, d) }",
        "Sin Exp Mul",
    )


def test_duplicate_initialiser_merge(compiled: Any) -> None:
    same = np.linspace(-1, 1, 64).reshape(8, 8)
    row = compiled(
        "g (float[N,8] x) => (float[N,8] y, float[N,8] z) <float[8,8] a, float[8,8] b> "
        "{ s = MatMul(x, a) y = Relu(s) r = Tanh(x) t = MatMul(r, b) z = Sigmoid(t) }",
        "MatMul MatMul Relu Tanh Sigmoid",
        {"a": same, "b": same},
    )
    assert len(row.found["cpu"].graph.initializer) == 1


def test_if_with_constant_condition(compiled: Any) -> None:
    compiled(
        "g (float[N,4] x) => (float[N,4] y) <bool c> { "
        "t = If (c) <then_branch = a () => (float[N,4] p) { p = Sin(x) }, "
        "else_branch = b () => (float[N,4] q) { q = Cos(x) }> y = Relu(t) }",
        "Cos Relu",
        {"c": False},
    )


def test_fold_inside_if_and_loop_bodies(compiled: Any) -> None:
    compiled(
        "g (float[4] x, bool c, int64 n) => (float[4] y, float[4] z) <bool go, float[4] k> { "
        "y = If (c) <then_branch = a () => (float[4] p) { s = Mul(k, k) t = Sqrt(s) p = Mul(x, t) }, "
        "else_branch = b () => (float[4] q) { u = Identity(x) q = Sin(u) }> "
        "z = Loop (n, go, x) <body = l (int64 i, bool d, float[4] v) => (bool e, float[4] w) "
        "{ r = Add(k, k) o = Exp(r) e = Identity(d) f = Identity(v) w = Mul(f, o) }> }",
        "If Mul Sin Loop Identity Mul",
        {"go": True, "k": [0.1, 0.2, 0.3, 0.4]},
        sizes=(3,),
    )


def test_inline_local_functions_by_default(compiled: Any) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
      g (float[N,4] x) => (float[N,4] y) { t = own.twice(x) y = own.twice(t) }
      <domain: "own", opset_import: ["" : 21]> twice (a) => (b) { s = Sin(a) b = Add(s, a) }"""
    row = compiled(text, "Sin Add Sin Add")
    assert all(not proto.functions for proto in row.found.values())


# -- what is kept ------------------------------------------------------------------------------------------------------
def _described() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N,4] x) => (float[N,4] y) { i = Identity(x) y = Sin(i) }'
    )
    proto.producer_name, proto.doc_string, proto.model_version = "me", "the model", 7
    onnx.helper.set_model_props(proto, {"author": "someone"})
    proto.graph.doc_string = "the graph"
    proto.graph.input[0].doc_string, proto.graph.output[0].doc_string = "the input", "the output"
    proto.graph.node[1].doc_string = "the node"
    proto.graph.node[1].metadata_props.add(key="where", value="layer 1")
    return proto


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_keeps_metadata(target: str) -> None:
    """Model, node doc, node metadata, input doc."""
    found = fcc.compile(_described(), target=target, allow_growth=True).proto()
    assert [n.op_type for n in found.graph.node] == ["Sin"]
    assert (found.doc_string, found.model_version, found.graph.doc_string) == ("the model", 7, "the graph")
    assert {p.key: p.value for p in found.metadata_props}["author"] == "someone"
    assert found.graph.input[0].doc_string == "the input"
    assert found.graph.output[0].doc_string == "the output"
    (node,) = found.graph.node
    assert node.doc_string == "the node"
    assert {p.key: p.value for p in node.metadata_props}["where"] == "layer 1"


def test_keeps_overridable_initialisers(compiled: Any) -> None:
    """An initializer that is an input too has a default and no constant: nothing is folded into or out of it."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> '
        "g (float[N,4] x, float[4] s) => (float[N,4] y) <float[4] s = {1.0, 1.0, 1.0, 1.0}> { i = Identity(x) y = Mul(i, s) }"
    )
    row = compiled(proto, "Mul")
    for found in row.found.values():
        assert [v.name for v in found.graph.input] == ["x", "s"]
        assert [t.name for t in found.graph.initializer] == ["s"]
