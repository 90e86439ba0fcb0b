"""Taps and kernel counts."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir

from fcc.runtime import kernels, open_session, tap, tensor_names

TEXT = """<ir_version: 8, opset_import: ["": 17]>
f (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y)
<float[1, 1, 1, 1] w = {2}> { t = Conv(x, w) u = Relu(t) y = Sigmoid(u) }"""


def proto() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def test_tap_adds_outputs_after_the_models_own() -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 4)).astype(np.float32)
    session = open_session(tap(proto(), ["t", "u", "y", "nothing", "t"]))
    found = session.run({"x": x})
    assert list(found) == ["y", "t", "u"]
    assert np.array_equal(found["t"], 2 * x)
    assert np.array_equal(found["u"], np.maximum(2 * x, 0))


def test_tap_leaves_its_argument_alone() -> None:
    model = proto()
    before = model.SerializeToString()
    tap(model, ["t"])
    assert model.SerializeToString() == before


def test_tap_takes_an_ir_model_and_bytes() -> None:
    for model in (onnx_ir.from_proto(proto()), proto().SerializeToString()):
        assert [o.name for o in open_session(tap(model, ["u"])).outputs] == ["y", "u"]


def test_tensor_names_in_order() -> None:
    assert tensor_names(proto()) == ["t", "u", "y"]


def test_kernels_show_the_runtimes_fusion() -> None:
    assert kernels(proto().SerializeToString()) == {"FusedConv": 1, "Sigmoid": 1}


def test_kernels_count_nested_graphs() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    f (bool c, float[2] x) => (float[2] y) { y = If(c) <
      then_branch = g () => (float[2] a) { a = Sin(x) }, else_branch = h () => (float[2] b) { b = Cos(x) }> }"""
    assert kernels(onnx.parser.parse_model(text).SerializeToString()) == {"If": 1, "Sin": 1, "Cos": 1}
