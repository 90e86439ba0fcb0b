"""Lint of Q and DQ for tensorrt: one row per rule of the parser and of placement, and what passes them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.backends import LintRow, get_backend
from fcc.frontend import read
from fcc.ir import Module
from fcc.target import get_target

HEADER = '<ir_version: 10, opset_import: ["" : {opset}]>\n'
S, Z = np.float32(0.1), np.int8(0)
W = np.ones((16, 16, 3, 3), np.int8)
SW, ZW = np.full(16, 0.1, np.float32), np.zeros(16, np.int8)
M, SM, ZM = np.ones((16, 24), np.int8), np.full(24, 0.1, np.float32), np.zeros(24, np.int8)
X = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
IMAGE = "g (float[1,16,8,8] x) => (float[1,16,8,8] y)"
CONV = f"{IMAGE} {{ {X} v = DequantizeLinear<axis=0>(w, sw, zw) y = Conv<pads=[1,1,1,1]>(d, v) }}"
PRODUCT = f"g (float[2,16] x) => (float[2,24] y) {{ {X} v = DequantizeLinear<axis=1>(m, sm, zm) y = MatMul(d, v) }}"


def module_of(text: str, opset: int = 21, **constants: Any) -> Module:
    proto = onnx.parser.parse_model(HEADER.format(opset=opset) + text)
    known = {"s": S, "z": Z, "w": W, "sw": SW, "zw": ZW, "m": M, "sm": SM, "zm": ZM} | constants
    for name, array in known.items():
        tensor = array if isinstance(array, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(array), name)
        proto.graph.initializer.append(tensor)
    module = read(proto)
    shapes.infer(module)
    return module


def rows(text: str, opset: int = 21, **constants: Any) -> list[LintRow]:
    return get_backend(get_target("tensorrt")).lint(module_of(text, opset, **constants))


def said(found: list[LintRow], severity: str) -> list[str]:
    return [r.reason for r in found if r.severity == severity]


@pytest.mark.parametrize("text", [CONV, PRODUCT])
def test_what_follows_the_rules_has_no_rows(text: str) -> None:
    assert rows(text) == []


INT4 = onnx.helper.make_tensor("w4", onnx.TensorProto.INT4, (16, 3), np.ones((16, 3), np.int8).ravel().tolist())
Z4 = onnx.helper.make_tensor("z4", onnx.TensorProto.INT4, (), [0])


@pytest.mark.parametrize(
    ("text", "constants", "because"),
    [
        (PRODUCT, {"z": np.int16(0)}, "QuantizeLinear: int16 is no type"),
        (CONV, {"zw": np.zeros(16, np.int32), "w": W.astype(np.int32)}, "int32"),
        (PRODUCT.replace("(x, s, z)", "(x, s)").replace("(q, s, z)", "(q, s)"), {}, "without a zero point its type"),
        (CONV, {"zw": np.zeros(8, np.int8)}, "8 zero points for 16 scales"),
        (PRODUCT.replace("QuantizeLinear(x", "QuantizeLinear<axis=0>(x"), {"s": np.float16(0.1)}, "float16 and the data"),
        (PRODUCT.replace("QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)",
                         "QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx)"),
         {"sx": np.full(16, 0.1, np.float32), "zx": np.zeros(16, np.int8)}, "16 scales for an activation"),
        (CONV.replace("axis=0", "axis=2"), {}, "16 scales for 3 channels"),
        (CONV.replace("axis=0", "axis=4"), {}, "axis 4 is outside"),
        (CONV.replace("axis=0", "axis=1"), {}, "output channels of Conv lie along axis 0"),
        (PRODUCT.replace("axis=1", "axis=0"), {"sm": SW, "zm": ZW}, "output channels of MatMul lie along axis 1"),
        (PRODUCT.replace("MatMul(d, v)", "Gemm<transB=1>(d, v)").replace("[2,24]", "[2,16]"),
         {"m": np.ones((16, 16), np.int8), "sm": SW, "zm": ZW}, "output channels of Gemm lie along axis 0"),
        (PRODUCT.replace("axis=1", "axis=0").replace("MatMul", "Gemm"), {"sm": SW, "zm": ZW}, "Gemm lie along axis 1"),
        (f"{IMAGE} {{ {X} v = DequantizeLinear<axis=0>(w, sw, zw) y = ConvTranspose<pads=[1,1,1,1]>(d, v) }}", {},
         "output channels of ConvTranspose lie along axis 1"),
        ("g (float[2,16] x) => (float[2,3] y) { v = DequantizeLinear(w4, s, z4) y = MatMul(x, v) }",
         {"w4": INT4, "z4": Z4}, "int4 must be even"),
        ("g (float[2,16] x) => (float[2,24] y) { v = DequantizeLinear<axis=0,block_size=8>(m, sb, zb) y = MatMul(x, v) }",
         {"sb": np.ones(24, np.float32), "zb": ZM}, "as many dimensions"),
        (f"{IMAGE} {{ v = DequantizeLinear<axis=0,block_size=8>(w, sb, zb) y = Conv<pads=[1,1,1,1]>(x, v) }}",
         {"sb": np.ones((2, 16, 3, 3), np.float32), "zb": np.zeros((2, 16, 3, 3), np.int8)}, "second to last axis"),
        (PRODUCT, {"z": np.int8(3)}, "the zero point must be 0"),
        (PRODUCT, {"s": np.float32(-1.0)}, "scales must be positive"),
        ("g (float[2,16] x, float k) => (float[2,16] y) { q = QuantizeLinear(x, k, z) y = DequantizeLinear(q, k, z) }",
         {}, "the scale must be a constant"),
        ("g (float[2,16] x, int8 k) => (float[2,16] y) { q = QuantizeLinear(x, s, k) y = DequantizeLinear(q, s, k) }",
         {}, "the zero point must be a constant"),
        ("g (float x) => (float y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }", {}, "not be a scalar"),
        ("g (float[2,16] x) => (float[2,16] y) { q, t, u = DynamicQuantizeLinear(x) y = DequantizeLinear(q, t, u) }",
         {}, "TensorRT has no DynamicQuantizeLinear"),
    ],
)  # fmt: skip
def test_what_the_parser_rejects_is_an_error(text: str, constants: dict[str, Any], because: str) -> None:
    found = said(rows(text, **constants), "error")
    assert any(because in r for r in found), found


TWO = CONV.replace("y = Conv", "t = Conv").replace(" }", " REST }")


@pytest.mark.parametrize(
    ("text", "constants", "because"),
    [
        (CONV.replace("y = Conv<pads=[1,1,1,1]>(d, v)", "y = Conv<pads=[1,1,1,1]>(d, f)"),
         {"f": W.astype(np.float32)}, "Conv: only its data is quantized"),
        ("g (float[2,16] x, float[16,24] k) => (float[2,24] y) {"
         " q = QuantizeLinear(k, s, z) d = DequantizeLinear(q, s, z) y = MatMul(x, d) }", {},
         "MatMul: only its weight is quantized"),
        (PRODUCT.replace("[2,", "[1,"), {}, "MatMul: a product with a vector"),
        (PRODUCT.replace("MatMul", "Gemm").replace("[2,", "[1,"), {}, "Gemm: a product with a vector"),
        (PRODUCT.replace("24]", "1]"), {"m": M[:, :1], "sm": S, "zm": Z}, "MatMul: a product with a vector"),
        (f"g (float[1,3,8,8] x) => (float[1,9,8,8] y) {{ {X} v = DequantizeLinear(w, s, z) y = Conv<pads=[1,1,1,1]>(d, v) }}",
         {"w": np.ones((9, 3, 3, 3), np.int8)}, "3 channels in and 9 out"),
        (TWO.replace("REST", "u = QuantizeLinear(t, s, z) a = DequantizeLinear(u, s, z) y = Add(a, d)"), {},
         "Add: the result of the Conv is quantized before the sum"),
        (f"{IMAGE} {{ {X} y = MaxPool<kernel_shape=[1,1]>(d) }}", {}, "MaxPool: it reads int8 and writes float"),
        (f"{IMAGE} {{ {X} y = AveragePool<kernel_shape=[1,1]>(d) }}", {}, "AveragePool: it reads int8 and writes float"),
        (f"{IMAGE} {{ {X} y = Mul(d, x) }}", {}, "Mul: it reads int8 and writes float"),
        (f"{IMAGE} {{ {X} y = Softmax(d) }}", {}, "Softmax: it is fused in float"),
        (f"{IMAGE} {{ {X} y = Gelu(d) }}", {}, "Gelu: it is fused in float"),
        (f"""g (float[1,16,8,8] x) => (float[1,32,8,8] y) {{ {X} a = QuantizeLinear(x, s2, z) b = DequantizeLinear(a, s2, z)
             c = Concat<axis=1>(d, b) e = QuantizeLinear(c, s, z) y = DequantizeLinear(e, s, z) }}""",
         {"s2": np.float32(0.3)}, "Concat: its operands and its result have different scales"),
        (f"""g (float[1,16,8,8] x) => (float[1,16,8,8] y) {{ {X} a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z)
             y = Sub(d, b) }}""", {}, "x is quantized 2 times"),
    ],
)  # fmt: skip
def test_what_costs_more_than_it_saves_is_a_warning(text: str, constants: dict[str, Any], because: str) -> None:
    found = rows(text, opset=20 if "Gelu" in text else 21, **constants)
    assert any(because in r for r in said(found, "warning")), found
    assert not said(found, "error")


@pytest.mark.parametrize(
    "text",
    [
        TWO.replace("REST", "y = Add(t, d)"),
        f"{IMAGE} {{ {X} p = MaxPool<kernel_shape=[1,1]>(d) a = QuantizeLinear(p, s, z) y = DequantizeLinear(a, s, z) }}",
        f"""g (float[1,16,8,8] x) => (float[1,32,8,8] y) {{ {X} a = Relu(x) b = QuantizeLinear(a, s, z)
            e = DequantizeLinear(b, s, z) c = Concat<axis=1>(d, e) h = QuantizeLinear(c, s, z)
            y = DequantizeLinear(h, s, z) }}""",
        "g (float[1,16] x) => (float[1,24] y) { v = DequantizeLinear<axis=1>(m, sm, zm) y = MatMul(x, v) }",
        "g (float[2,16] x, float[16,24] k) => (float[2,24] y) { y = MatMul(x, k) }",
        f"{IMAGE} {{ {X} y = Transpose<perm=[0,1,3,2]>(d) }}",
    ],
    ids=["residual", "both sides", "one scale", "weights alone", "float", "moves"],
)
def test_what_is_placed_well_has_no_rows(text: str) -> None:
    assert rows(text) == []


def test_bodies_of_functions_that_stay_are_looked_into() -> None:
    nodes = [onnx.helper.make_node("Det", ["x"], ["t"]), onnx.helper.make_node("Add", ["t", "t"], ["y"])]
    opsets = [onnx.helper.make_opsetid("", 21)]
    inner = onnx.helper.make_function("their", "Twice", ["x"], ["y"], nodes, opsets)
    module = module_of("g (float[4,4] x) => (float y) { y = Det(x) }")
    assert [r.node for r in rows("g (float[4,4] x) => (float y) { y = Det(x) }")] == ["Det_y"]
    function = serde.deserialize_function(inner)
    module.model.functions[function.identifier()] = function
    found = get_backend(get_target("tensorrt")).lint(module)
    assert [r.node for r in found if r.severity == "error"] == ["Det_y", "Twice/t"]
    assert "Det" in found[1].reason
