"""Model-local functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, parser
from onnx_ir import to_proto

from fcc import ir
from fcc.errors import LoadError
from fcc.frontend import read

X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


def model(graph: str, *functions: str, opset: int = 17, local: int = 1) -> onnx.ModelProto:
    header = f'<ir_version: 9, opset_import: ["" : {opset}, "local" : {local}]>'
    return parser.parse_model(f"{header} g {graph} " + " ".join(functions))


def function(text: str, opset: int = 17, attributes: str = "") -> str:
    return f'<domain: "local", opset_import: ["" : {opset}, "local" : 1]> {text}'


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return list(ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds))


def inlined(proto: onnx.ModelProto, feeds: dict[str, Any]) -> ir.Module:
    module = read(proto)
    ir.verify(module)
    assert not module.model.functions
    emitted = to_proto(module.model)
    onnx.checker.check_model(emitted)
    for want, got in zip(run(proto, feeds), run(emitted, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    return module


def ops(module: ir.Module) -> list[str]:
    return [n.op_type for n in module.nodes()]


def test_calls_are_replaced_and_the_domain_goes() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { a = local.twice(x) y = local.twice(a) }",
        function("twice (v) => (w) { c = Constant<value_float=2.0>() w = Mul(v, c) }"),
    )
    module = inlined(proto, {"x": X})
    assert ops(module) == ["Mul", "Mul"]
    assert module.model.opset_imports == {"": 17}
    assert [v.name for v in module.graph.outputs] == ["y"]


def test_attribute_references_with_and_without_value() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { a = local.lr<alpha=0.5>(x) y = local.lr(a) }",
        function("lr <alpha> (v) => (w) { w = LeakyRelu<alpha: float = @alpha>(v) }"),
    )
    module = inlined(proto, {"x": X})
    assert [n.attributes.get_float("alpha", 0.01) for n in module.nodes()] == [0.5, 0.01]


def test_attribute_default() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { a = local.lr<alpha=0.5>(x) y = local.lr(a) }",
        function("lr <alpha: float = 0.25> (v) => (w) { w = LeakyRelu<alpha: float = @alpha>(v) }"),
    )
    module = inlined(proto, {"x": X})
    assert [n.attributes.get_float("alpha", 0.01) for n in module.nodes()] == [0.5, 0.25]


def test_constant_from_an_attribute_becomes_an_initializer() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { y = local.scale<by=3.0>(x) }",
        function("scale <by> (v) => (w) { c = Constant<value_float: float = @by>() w = Mul(v, c) }"),
    )
    module = inlined(proto, {"x": X})
    assert ops(module) == ["Mul"]
    (value,) = module.graph.initializers.values()
    assert ir.Module.constant(value) == 3.0


def test_functions_call_functions() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { y = local.outer(x) }",
        function("outer (v) => (w) { a = local.inner(v) b = local.inner(a) w = Neg(b) }"),
        function("inner (v) => (w) { w = Abs(v) }"),
    )
    assert ops(inlined(proto, {"x": X})) == ["Abs", "Abs", "Neg"]


def test_call_and_capture_in_nested_graphs() -> None:
    proto = model(
        """(bool c, float[2,3] x) => (float[2,3] z) { z = If(c) <
        then_branch = t () => (float[2,3] a) { a = local.f(x) },
        else_branch = e () => (float[2,3] b) { q = local.f(x) b = Neg(q) }> }""",
        function("""f (v) => (w) { s = ReduceSum<keepdims=0>(v) zero = Constant<value_float=0.0>() p = Greater(s, zero)
        w = If(p) <then_branch = t () => (a) { a = Relu(v) }, else_branch = e () => (b) { b = Abs(v) }> }"""),
    )
    for c in (True, False):
        inlined(proto, {"c": np.array(c), "x": X})


def test_pass_through_and_repeated_outputs() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] p, float[2,3] q, float[2,3] r) { p, q, r = local.f(x) }",
        function("f (v) => (v, w, w) { w = Neg(v) }"),
    )
    module = read(proto)
    ir.verify(module)
    assert [v.name for v in module.graph.inputs] == ["x"]
    assert [v.name for v in module.graph.outputs] == ["p", "q", "r"]
    for want, got in zip([X, -X, -X], run(to_proto(module.model), {"x": X}), strict=True):
        np.testing.assert_array_equal(got, want)


def test_omitted_optional_inputs_and_outputs() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { y = local.f(x) }",
        function("f (v, low) => (w, u) { w = Clip(v, low) u = Neg(w) }"),
    )
    module = read(proto)
    ir.verify(module)
    clip = next(n for n in module.nodes() if n.op_type == "Clip")
    assert len(clip.inputs) == 1


def test_names_of_two_calls_do_not_collide() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { t = Neg(x) a = local.f(t) b = local.f(a) y = Add(a, b) }",
        function("f (v) => (w) { t = Abs(v) w = Relu(t) }"),
    )
    module = inlined(proto, {"x": X})
    assert len({n.name for n in module.nodes()}) == 6


def test_metadata_of_call_and_body_is_kept() -> None:
    proto = model("(float[2,3] x) => (float[2,3] y) { y = local.f(x) }", function("f (v) => (w) { w = Abs(v) }"))
    proto.graph.node[0].metadata_props.add(key="call", value="1")
    proto.functions[0].node[0].metadata_props.add(key="body", value="2")
    (node,) = inlined(proto, {"x": X}).nodes()
    assert dict(node.metadata_props) == {"call": "1", "body": "2"}


OLDER = {
    "unsqueeze": (11, "f (v) => (w) { a = Unsqueeze<axes=[0]>(v) w = Squeeze<axes=[0]>(a) }"),
    "softmax": (12, "f (v) => (w) { w = Softmax<axis=0>(v) }"),
    "reduce": (13, "f (v) => (w) { m = ReduceMean<axes=[1]>(v) w = Sub(v, m) }"),
    "split": (13, "f (v) => (w) { k = Constant<value_ints=[1,1]>() a, b = Split(v, k) w = Concat<axis=0>(b, a) }"),
    "split-equal": (13, "f (v) => (w) { a, b = Split(v) w = Concat<axis=0>(b, a) }"),
    "types": (15, "f (v) => (w) { w = Relu(v) }"),
    "grid": (
        16,
        """f (v) => (w) { s = Constant<value_ints=[1,1,2,3]>() i = Reshape(v, s)
        g0 = Constant<value_floats=[0.1,0.2]>() t = Constant<value_ints=[1,1,1,2]>() g = Reshape(g0, t)
        r = GridSample<mode="bilinear">(i, g) q = Constant<value_ints=[1,1]>() e = Reshape(r, q) w = Add(v, e) }""",
    ),
}


@pytest.mark.parametrize("name", OLDER)
def test_function_of_an_older_opset_is_raised(name: str) -> None:
    """Judged by a model of the function's opset: onnxruntime reads bodies at the model's, against the specification."""
    opset, body = OLDER[name]
    call = "(float[2,3] x) => (float[2,3] y) { y = local.f(x) }"
    module = read(model(call, function(body, opset), opset=21))
    ir.verify(module)
    assert not module.model.functions
    assert module.notes == []
    meant = model(call, function(body, opset), opset=opset)
    np.testing.assert_allclose(run(to_proto(module.model), {"x": X})[0], run(meant, {"x": X})[0], rtol=1e-6)


KEPT = {
    "means opset 18": (17, 18, "f (v) => (w) { w = Relu(v) }"),
    "not known": (17, 10, "f (v) => (w) { w = Clip<min=0.0>(v) }"),
    "caller of its function": (17, 9, "f <k> (v) => (w) { w = ReduceSum<axes: ints = @k>(v) }"),
    "per group": (
        21,
        18,
        "f (v) => (w) { o = Constant<value_floats=[1.0]>() w = GroupNormalization<num_groups=1>(v, o, o) }",
    ),
}


@pytest.mark.parametrize("reason", KEPT)
def test_function_that_cannot_be_converted_stays(reason: str) -> None:
    opset, own, body = KEPT[reason]
    proto = model("(float[2,3] x) => (float[2,3] y) { y = local.f(x) }", function(body, own), opset=opset)
    module = read(proto)
    ir.verify(module)
    assert ops(module) == ["f"]
    assert len(module.notes) == 1
    assert reason in module.notes[0]
    (kept,) = to_proto(module.model).functions
    assert kept.opset_import == proto.functions[0].opset_import
    assert [n.attribute for n in kept.node] == [n.attribute for n in proto.functions[0].node]
    assert module.model.opset_imports == {"": opset, "local": 1}


def test_what_a_kept_function_calls_stays_too() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { a = local.f(x) y = local.g(a) }",
        function("f (v) => (w) { w = local.g(v) }", 18),
        function("g (v) => (w) { w = Relu(v) }"),
    )
    module = read(proto)
    assert sorted(ops(module)) == ["f", "g"]
    assert len(module.notes) == 2
    np.testing.assert_array_equal(run(to_proto(module.model), {"x": X})[0], np.maximum(X, 0))


def test_functions_in_a_circle_are_refused() -> None:
    proto = model(
        "(float[2,3] x) => (float[2,3] y) { y = local.f(x) }",
        function("f (v) => (w) { w = local.g(v) }"),
        function("g (v) => (w) { w = local.f(v) }"),
    )
    with pytest.raises(LoadError, match="circle"):
        read(proto)


def test_call_with_too_many_inputs_is_refused() -> None:
    proto = model("(float[2,3] x) => (float[2,3] y) { y = local.f(x, x) }", function("f (v) => (w) { w = Relu(v) }"))
    with pytest.raises(LoadError, match="2 inputs"):
        read(proto)


def test_undefined_value_in_a_function_is_refused() -> None:
    proto = model("(float[2,3] x) => (float[2,3] y) { y = local.f(x) }", function("f (v) => (w) { w = Relu(q) }"))
    with pytest.raises(LoadError, match="'q'"):
        read(proto)


def test_unused_function_goes() -> None:
    proto = model("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }", function("f (v) => (w) { w = Relu(v) }"))
    assert not read(proto).model.functions


def test_function_brings_the_imports_of_its_body() -> None:
    proto = model("(float[2,3] x) => (float[2,3] y) { y = local.f(x) }", function("f (v) => (w) { w = Relu(v) }"))
    function_ = proto.functions[0]
    function_.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    function_.node[0].op_type, function_.node[0].domain = "Gelu", "com.microsoft"
    module = inlined(proto, {"x": X})
    assert module.model.opset_imports == {"": 17, "com.microsoft": 1}
