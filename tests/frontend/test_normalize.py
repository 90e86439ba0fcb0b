"""One form for every model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper, parser
from onnx_ir import to_proto

import fcc
from fcc import ir
from fcc.backends import size_of
from fcc.frontend import read

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def graph(body: str, header: str = HEADER) -> onnx.ModelProto:
    return parser.parse_model(f"{header} g {body}")


def normal(proto: onnx.ModelProto) -> ir.Module:
    module = read(proto)
    ir.verify(module)
    emitted = to_proto(module.model)
    onnx.checker.check_model(emitted)
    names = [v.name for g in module.graphs() for n in g for v in n.outputs if v.name]
    assert len(names) == len(set(names))
    nodes = [n.name for n in module.nodes()]
    assert all(nodes)
    assert len(nodes) == len(set(nodes))
    return module


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return list(ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds))


def same(proto: onnx.ModelProto, module: ir.Module, feeds: dict[str, Any]) -> None:
    for want, got in zip(run(proto, feeds), run(to_proto(module.model), feeds), strict=True):
        np.testing.assert_array_equal(got, want)


def ops(module: ir.Module) -> list[str]:
    return [n.op_type for n in module.nodes()]


FORMS: dict[str, Any] = {
    "value": numpy_helper.from_array(np.array([[1, 2]], np.float16)),
    "value_float": 1.5,
    "value_floats": [1.5, 2.5],
    "value_int": 3,
    "value_ints": [3, 4],
    "value_string": "text",
    "value_strings": ["a", "b"],
}
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "value": np.array([[1, 2]], np.float16),
    "value_float": np.array(1.5, np.float32),
    "value_floats": np.array([1.5, 2.5], np.float32),
    "value_int": np.array(3),
    "value_ints": np.array([3, 4]),
    "value_string": np.array(b"text", object),
    "value_strings": np.array([b"a", b"b"], object),
}


@pytest.mark.parametrize("form", FORMS)
def test_constant_becomes_initializer(form: str) -> None:
    node = helper.make_node("Constant", [], ["c"], **{form: FORMS[form]})
    out = helper.make_node("Identity", ["c"], ["y"])
    info = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(ARRAYS[form].dtype), ARRAYS[form].shape)
    proto = helper.make_model(
        helper.make_graph([node, out], "g", [], [info]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    module = normal(proto)
    assert ops(module) == ["Identity"]
    value = ir.Module.constant(module.graph.initializers["c"])
    assert value is not None
    assert value.dtype == ARRAYS[form].dtype
    assert value.shape == ARRAYS[form].shape
    assert value.tolist() == ARRAYS[form].tolist()
    assert run(to_proto(module.model), {})[0].tolist() == run(proto, {})[0].tolist()


def test_sparse_constant_becomes_initializer() -> None:
    values = numpy_helper.from_array(np.array([5.0], np.float32), "v")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([2]), "i"), [4])
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    proto = graph("(float[4] x) => (float[4] y) { y = Relu(x) }")
    proto.graph.node.insert(0, node)
    proto.graph.node[1].op_type = "Add"
    proto.graph.node[1].input.append("c")
    module = normal(proto)
    np.testing.assert_array_equal(ir.Module.constant(module.graph.initializers["c"]), [0, 0, 5, 0])


def test_constant_of_a_nested_graph_stays_in_it() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { z = If(c) <
      then_branch = t () => (float[2] a) { k = Constant<value = float[2] {1,2}>() a = Add(x, k) },
      else_branch = e () => (float[2] b) { k = Constant<value = float[2] {3,4}>() b = Sub(x, k) }> }""")
    module = normal(proto)
    assert not module.graph.initializers
    assert [len(g.initializers) for g in module.graphs()] == [0, 1, 1]
    for c in (True, False):
        same(proto, module, {"c": np.array(c), "x": np.array([5, 6], np.float32)})


def test_names_repeated_in_sibling_branches_become_unique() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { z = If(c) <
      then_branch = t () => (float[2] a) { q = Neg(x) a = Relu(q) },
      else_branch = e () => (float[2] a) { q = Abs(x) a = Neg(q) }> }""")
    module = normal(proto)
    for c in (True, False):
        same(proto, module, {"c": np.array(c), "x": np.array([5, -6], np.float32)})


def test_inner_names_give_way_to_the_contract() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { w = If(c) <
      then_branch = t () => (float[2] z) { z = Neg(x) },
      else_branch = e () => (float[2] z) { z = Abs(x) }> z = Relu(w) }""")
    module = read(proto)
    ir.verify(module)
    assert [v.name for v in module.graph.inputs] == ["c", "x"]
    assert [v.name for v in module.graph.outputs] == ["z"]


def test_unnamed_and_equally_named_nodes() -> None:
    proto = graph("(float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Abs(b) }")
    proto.graph.node[0].name = proto.graph.node[1].name = "n"
    names = [n.name for n in normal(proto).nodes()]
    assert names == ["n", "n_1", "Abs_y"]


def test_unsorted_nodes_are_sorted() -> None:
    proto = graph("(float[2] x) => (float[2] y) { y = Relu(b) b = Neg(a) a = Abs(x) }")
    module = normal(proto)
    assert ops(module) == ["Abs", "Neg", "Relu"]
    same(proto, module, {"x": np.array([1, -2], np.float32)})


def test_node_that_is_captured_before_it_is_produced() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { z = If(c) <
      then_branch = t () => (float[2] a) { a = Relu(q) },
      else_branch = e () => (float[2] b) { b = Abs(q) }> q = Neg(x) }""")
    assert ops(normal(proto)) == ["Neg", "If", "Relu", "Abs"]


def test_sorted_nodes_keep_their_order() -> None:
    proto = graph("(float[2] x) => (float[2] y) { a = Relu(x) b = Neg(x) d = Abs(x) e = Add(d, b) y = Add(e, a) }")
    assert ops(normal(proto)) == ["Relu", "Neg", "Abs", "Add", "Add"]


def test_captured_value_as_branch_output_gets_an_identity() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { q = Neg(x) z = If(c) <
      then_branch = t () => (float[2] q) {  },
      else_branch = e () => (float[2] b) { b = Abs(q) }> }""")
    module = normal(proto)
    assert ops(module) == ["Neg", "If", "Identity", "Abs"]
    emitted = to_proto(module.model)
    x = np.array([1, -2], np.float32)
    np.testing.assert_array_equal(run(emitted, {"c": np.array(True), "x": x})[0], -x)


def test_initializer_and_input_as_branch_output_get_identities() -> None:
    proto = graph("""(int64 n, bool c, float[2] x) => (float[2] y, float[N,2] z) {
      y, z = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool k, float[2] s, float[2] w)
      <float[2] w = {1,2}> { }> }""")
    module = normal(proto)
    assert ops(module) == ["Loop", "Identity", "Identity", "Identity"]
    feeds = {"n": np.array(3), "c": np.array(True), "x": np.array([5, 6], np.float32)}
    y, z = run(to_proto(module.model), feeds)
    np.testing.assert_array_equal(y, [5, 6])
    np.testing.assert_array_equal(z, [[1, 2]] * 3)


def test_value_twice_as_branch_output_gets_an_identity() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] y, float[2] z) { y, z = If(c) <
      then_branch = t () => (float[2] a, float[2] a) { a = Neg(x) },
      else_branch = e () => (float[2] b, float[2] d) { b = Abs(x) d = Relu(x) }> }""")
    module = read(proto)
    ir.verify(module)
    assert ops(module) == ["If", "Neg", "Identity", "Abs", "Relu"]


def test_initializer_as_model_output_keeps_the_name_of_the_output() -> None:
    proto = graph("(float[2] x) => (float[2] y, float[2] w) <float[2] w = {1,2}> { y = Add(x, w) }")
    module = normal(proto)
    assert ops(module) == ["Add", "Identity"]
    assert [v.name for v in module.graph.outputs] == ["y", "w"]
    assert list(module.graph.initializers) == ["w_1"]
    same(proto, module, {"x": np.array([5, 6], np.float32)})


def test_constant_node_as_model_output_keeps_its_name() -> None:
    proto = graph("(float[2] x) => (float[2] x2, float[2] w) { w = Constant<value = float[2] {1,2}>() x2 = Add(x, w) }")
    module = normal(proto)
    assert [v.name for v in module.graph.outputs] == ["x2", "w"]
    same(proto, module, {"x": np.array([5, 6], np.float32)})


def test_the_identity_of_a_constant_output_leaves_no_name_in_the_file() -> None:
    proto = graph("(bool k) => (float[2] y) { y = Constant<value = float[2] {1.0, 2.0}>() }")
    emitted = fcc.compile(proto, opt_level=0).proto()
    assert [(n.op_type, n.name) for n in emitted.graph.node] == [("Identity", "")]
    assert size_of(emitted) <= size_of(proto)


def test_input_as_model_output_stays() -> None:
    proto = graph("(float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }")
    module = normal(proto)
    assert [v.name for v in module.graph.outputs] == ["x", "y"]
    same(proto, module, {"x": np.array([5, -6], np.float32)})


def test_trailing_omitted_inputs_are_trimmed_and_inner_ones_stay() -> None:
    proto = graph("(float[2] x, float m) => (float[2] y, float[2] z) { y = Clip(x, , ) z = Clip(x, , m) }")
    module = normal(proto)
    assert [[v.name if v else None for v in n.inputs] for n in module.nodes()] == [["x"], ["x", None, "m"]]


def test_omitted_output_keeps_its_empty_name() -> None:
    proto = graph("""(float[3,1,2] x, float[1,8,2] w, float[1,8,2] r) => (float[1,1,2] h)
    { y, h = LSTM<hidden_size=2>(x, w, r) }""")
    proto.graph.node[0].output[0] = ""
    module = normal(proto)
    assert [v.name for n in module.nodes() for v in n.outputs] == ["", "h"]


def test_renaming_does_not_reach_tensors_that_a_clone_shares() -> None:
    proto = graph("(float[2] x) => (float[2] y, float[2] w) <float[2] w = {1,2}> { y = Add(x, w) }")
    module = read(proto)
    assert proto.graph.initializer[0].name == "w"
    copy = module.clone()
    assert list(copy.graph.initializers) == ["w_1"]


def test_quantization_annotations_survive() -> None:
    proto = graph("(float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }")
    annotation = proto.graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    assert to_proto(normal(proto).model).graph.quantization_annotation == proto.graph.quantization_annotation


def test_normalized_models_are_left_alone() -> None:
    proto = graph("""(bool c, float[2] x) => (float[2] z) { q = Neg(x) z = If(c) <
      then_branch = t () => (float[2] a) { a = Relu(q) },
      else_branch = e () => (float[2] b) { k = Constant<value_floats=[1.0]>() b = Add(q, k) }> }""")
    once = to_proto(normal(proto).model)
    assert to_proto(normal(once).model) == once


def test_a_loop_keeps_the_two_operands_that_its_schema_counts() -> None:
    body = parser.parse_graph("""b (int64 i, bool c) => (bool d, float[2] e) { d = Identity(c) e = Cast<to = 1>(x) }""")
    proto = graph("(int64[2] x, int64 n) => (float[K,2] y) { y = Identity(x) }")
    loop = helper.make_node("Loop", ["n", ""], ["y"], body=body)
    proto.graph.node[0].CopyFrom(loop)
    module = normal(proto)
    assert [[v.name if v else None for v in n.inputs] for n in module.graph] == [["n", None]]


def test_the_type_of_a_zero_point_is_said_once() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    text = (
        "(float[2] x) => (int8[2] y, int8[2] z) <float s = {0.5}, int8 k = {0}> "
        "{ y = QuantizeLinear<output_dtype = 3>(x, s, k) z = QuantizeLinear<output_dtype = 3>(x, s) }"
    )
    first, second = read(graph(text, header)).graph
    assert "output_dtype" not in first.attributes
    assert second.attributes.get_int("output_dtype") == 3
