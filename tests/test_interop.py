"""GraphSurgeon in and out."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser
from onnx_ir import to_proto

from fcc import ir
from fcc.errors import LoadError, OptionError
from fcc.frontend import read
from fcc.interop import from_graphsurgeon, to_graphsurgeon

gs = pytest.importorskip("onnx_graphsurgeon")

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,2] x, float[2] w = {1,2}) => (float[N,2] y) <float[2] b = {3,4}>
{ a = Add(x, w) c = Mul(a, b) y = Relu(c) }"""

BRANCHES = """<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] z) <float[2] w = {1,2}> { z = If(c) <
  then_branch = t () => (float[2] a) { a = Add(x, w) },
  else_branch = e () => (float[2] b) { b = Sub(x, w) }> }"""


def module_of(text: str = TEXT) -> ir.Module:
    proto = parser.parse_model(text)
    proto.producer_name, proto.doc_string = "p", "doc"
    proto.metadata_props.add(key="m", value="1")
    proto.graph.metadata_props.add(key="g", value="2")
    proto.graph.node[0].name, proto.graph.node[0].doc_string = "first", "n doc"
    proto.graph.node[0].metadata_props.add(key="n", value="3")
    proto.graph.value_info.add(name=proto.graph.node[0].output[0]).doc_string = "v doc"
    return read(proto)


def run(module: ir.Module, feeds: dict[str, Any]) -> list[Any]:
    return list(ort.InferenceSession(to_proto(module.model).SerializeToString()).run(None, feeds))


def test_round_trip_restores_everything() -> None:
    module = module_of()
    back = from_graphsurgeon(to_graphsurgeon(module), like=module)
    ir.verify(back)
    assert to_proto(back.model) == to_proto(module.model)
    assert back.source is module.source


def test_round_trip_without_origin_keeps_the_graph() -> None:
    module = module_of(BRANCHES)
    back = from_graphsurgeon(to_graphsurgeon(module))
    ir.verify(back)
    assert [n.op_type for n in back.nodes()] == ["If", "Add", "Sub"]
    assert back.source is not None
    assert [s.name for s in back.source.inputs] == ["c", "x"]


def test_the_module_is_left_alone() -> None:
    module = module_of()
    before = to_proto(module.model).SerializeToString(deterministic=True)
    graph = to_graphsurgeon(module)
    graph.nodes[0].op = "Sub"
    graph.tensors()["b"].values = np.zeros(2, np.float32)
    assert to_proto(module.model).SerializeToString(deterministic=True) == before


def test_an_edit_arrives() -> None:
    module = module_of()
    graph = to_graphsurgeon(module)
    relu = next(n for n in graph.nodes if n.op == "Relu")
    relu.op = "Neg"
    back = from_graphsurgeon(graph, like=module)
    x = np.array([[1, -9]], np.float32)
    np.testing.assert_array_equal(
        run(back, {"x": x})[0], -((x + np.array([1, 2], np.float32)) * np.array([3, 4], np.float32))
    )


def test_weights_that_branches_capture_are_kept_once() -> None:
    module = module_of(BRANCHES)
    back = from_graphsurgeon(to_graphsurgeon(module), like=module)
    assert [list(g.initializers) for g in back.graphs()] == [["w"], [], []]
    for c in (True, False):
        feeds = {"c": np.array(c), "x": np.array([5, 6], np.float32)}
        np.testing.assert_array_equal(run(back, feeds)[0], run(module, feeds)[0])


def test_read_takes_a_graph() -> None:
    graph = gs.import_onnx(parser.parse_model(TEXT.replace(" = {1,2}", "")))
    module = read(graph)
    assert [n.op_type for n in module.nodes()] == ["Add", "Mul", "Relu"]
    assert module.source is not None
    assert isinstance(module.source.load(), bytes)


def test_broken_graph_is_one_clear_error() -> None:
    graph = to_graphsurgeon(module_of())
    graph.nodes[0].outputs.clear()
    with pytest.raises(LoadError):
        from_graphsurgeon(graph)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of()
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(OptionError, match="not installed"):
        to_graphsurgeon(module)


def test_bfloat16_weights_survive() -> None:
    proto = parser.parse_model(TEXT)
    weight = onnx.helper.make_tensor("b", onnx.TensorProto.BFLOAT16, [2], [3.0, 4.0])
    proto.graph.initializer[1].CopyFrom(weight)
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", ["b"], ["bf"], to=1))
    proto.graph.node[2].input[1] = "bf"
    module = read(proto)
    back = from_graphsurgeon(to_graphsurgeon(module), like=module)
    assert back.graph.initializers["b"].dtype == ir.DataType.BFLOAT16
    assert back.graph.initializers["b"].const_value is not None
    np.testing.assert_array_equal(back.graph.initializers["b"].const_value.numpy().astype(np.float32), [3, 4])
