"""bfloat16 on the CPU: what kernels of it would give, node by node."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

from fcc.runtime import open_session
from fcc.runtime.emulate import emulated

HEADER = '<ir_version: 10, opset_import: ["" : 22]>\n'
W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)


def model_of(text: str, **constants: Any) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEADER + text)
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def run(model: onnx.ModelProto, **feeds: Any) -> np.ndarray[Any, Any]:
    return np.asarray(open_session(emulated(model).SerializeToString(), optimize=False).run(feeds)["y"])


def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def test_every_result_is_rounded_once() -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { a = Cast<to=16>(x) b = MatMul(a, w) c = Mul(b, b) y = Cast<to=1>(c) }"
    y = run(model_of(text, w=W.astype(ml_dtypes.bfloat16)), x=X)
    b = rounded(rounded(X) @ rounded(W))
    assert np.allclose(y, rounded(b * b), rtol=2**-7)
    assert np.array_equal(y, rounded(y))


def test_a_model_without_bfloat16_is_itself() -> None:
    model = model_of("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }")
    assert emulated(model) is model


def test_nested_graphs_and_attributes() -> None:
    text = """g (float[2,4] x, bool k) => (float[2,4] y) { a = Cast<to=16>(x)
        b = If (k) <then_branch = t () => (bfloat16[2,4] p) { p = Relu(a) },
                    else_branch = e () => (bfloat16[2,4] q) { q = Neg(a) }> y = Cast<to=1>(b) }"""
    model = model_of(text)
    assert np.array_equal(run(model, x=X, k=np.array(True)), np.maximum(rounded(X), 0))
    assert np.array_equal(run(model, x=X, k=np.array(False)), -rounded(X))
    filled = model_of("g (int64[2] s) => (float[a,b] y) { c = ConstantOfShape(s) d = Neg(c) y = Cast<to=1>(d) }")
    value = onnx.helper.make_tensor("v", onnx.TensorProto.BFLOAT16, [1], [3.0])
    filled.graph.node[0].attribute.append(onnx.helper.make_attribute("value", value))
    assert run(filled, s=np.array([2, 3])).tolist() == [[-3.0] * 3] * 2


def test_types_pass_through_what_has_no_inference() -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { a = Cast<to=16>(x) b = com.microsoft.QuickGelu(a) y = Cast<to=1>(b) }"
    model = onnx.parser.parse_model(HEADER.replace("]>", ', "com.microsoft" : 1]>') + text)
    x = rounded(X)
    assert np.allclose(run(model, x=X), x / (1 + np.exp(-1.702 * x)), rtol=2**-7, atol=1e-3)
