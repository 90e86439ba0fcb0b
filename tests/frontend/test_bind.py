"""Binding dimensions at import."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser
from onnx_ir import to_proto

from fcc import ir
from fcc.errors import OptionError
from fcc.frontend import read
from fcc.frontend.bind import substitute

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch,3,h,w] x, float[batch,K] z, float q) => (float[batch,3,h,w] y, float[b2,K] u)
<float[batch,3,h,w] a> { a = Relu(x) y = Neg(a) u = Relu(z) }"""


def model() -> onnx.ModelProto:
    return parser.parse_model(TEXT)


def dims(module: ir.Module) -> dict[str, Any]:
    values = [*module.graph.inputs, *(v for n in module.nodes() for v in n.outputs)]
    return {v.name or "": ir.dims_of(v) for v in values}


def test_symbol_is_bound_everywhere() -> None:
    module = read(model(), shapes={"batch": 4})
    found = dims(module)
    assert [d[0] for d in (found["x"], found["z"], found["a"], found["y"])] == [4, 4, 4, 4]
    assert str(found["u"][0]) == "b2"
    emitted = to_proto(module.model)
    assert module.source is not None
    module.source.declare(emitted)
    assert emitted.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert emitted.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert module.source.inputs[0].dims == (4, 3, "h", "w")


def test_input_shape_binds_its_symbols() -> None:
    found = dims(read(model(), shapes={"x": (2, 3, 8, 9)}))
    assert found["x"] == found["a"] == found["y"] == (2, 3, 8, 9)
    assert found["z"][0] == 2


def test_unknown_dimensions_of_an_input_are_bound() -> None:
    proto = model()
    for dim in proto.graph.input[1].type.tensor_type.shape.dim:
        dim.Clear()
    module = read(proto, shapes={"z": (5, 6)})
    assert dims(module)["z"] == (5, 6)
    assert module.source is not None
    assert module.source.inputs[1].dims == (5, 6)


def test_input_without_shape_is_bound() -> None:
    proto = model()
    proto.graph.input[1].type.tensor_type.ClearField("shape")
    assert dims(read(proto, shapes={"z": (5, 6)}))["z"] == (5, 6)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"xx": (1, 3, 8, 8)}, "did you mean 'x'?"),
        ({"bath": 3}, "did you mean 'batch'?"),
        ({"x": (1, 4, 8, 8)}, "contradicts the fixed 3"),
        ({"x": (1, 3, 8)}, "4"),
        ({"x": (1, 3, 8, 8), "batch": 2}, "'batch' would be"),
        ({"x": (1, 3, 8, 8), "z": (2, 2)}, "'batch' would be"),
        ({"batch": 0}, "no positive size"),
        ({"batch": "two"}, "no positive size"),
        ({"x": (1, 3, -1, 8)}, "no positive size"),
        ({"batch": True}, "no positive size"),
        ({"q": (1,)}, "has 0"),
    ],
)
def test_refused(shapes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(model(), shapes=shapes)
    assert words in str(caught.value)


def test_symbols_of_nested_graphs_are_bound() -> None:
    proto = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (bool c, float[N] x) => (float[N] z) { z = If(c) <
      then_branch = t () => (float[N] a) { a = Relu(x) }, else_branch = e () => (float[N] b) { b = Neg(x) }> }""")
    found = dims(read(proto, shapes={"N": 7}))
    assert found["a"] == found["b"] == found["z"] == (7,)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-4, 4), st.integers(0, 4))
def test_substitute_is_evaluation(n: int, m: int, c: int, k: int) -> None:
    a, b = ir.Dim.symbol("n"), ir.Dim.symbol("m")
    poly = a * b * c + a * k + b + 3
    assert substitute(poly, {"n": n, "m": m}) == n * m * c + n * k + m + 3
    partly = substitute(poly, {"n": n})
    assert substitute(partly, {"m": m}) == n * m * c + n * k + m + 3
