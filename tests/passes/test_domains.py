from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from fcc import testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._domains import bounds

CONSTANTS = {
    "low": -2,
    "high": 3,
    "zero": 0,
    "five": 5,
    "table": [[4, -1], [2, 7]],
    "k": [1, 0],
    "shape": [-1],
    "n": -4,
}
DECLARED = (
    "int64[] low, int64[] high, int64[] zero, int64[] five, int64[2,2] table, int64[2] k, int64[1] shape, int64[] n"
)
CASES = [
    ("y = Identity(i)", None),
    ("y = Clip(i, low, high)", (-2, 3)),
    ("y = Clip(i, high, low)", (-2, -2)),
    ("y = Clip(i, low)", None),
    ("y = Clip(i, , high)", None),
    ("c = Clip(i, low, high) y = Clip(c, zero)", (0, 3)),
    ("c = Clip(i, low, high) y = Clip(c, , zero)", (-2, 0)),
    ("c = Clip(i, low, high) d = Reshape(c, shape) y = Unsqueeze(d, shape)", (-2, 3)),
    ("y = Mod(i, five)", (0, 4)),
    ("y = Mod<fmod = 1>(i, five)", None),
    ("y = Mod(i, n)", None),
    ("y = Gather(table, k)", (-1, 7)),
    ("y = Where(b, high, zero)", (0, 3)),
    ("y = Where(b, i, zero)", None),
    ("y = ArgMax<axis = 1>(x)", (0, 4)),
    ("y = ArgMin<axis = -1, keepdims = 0>(x)", (0, 4)),
    ("y = ArgMax(x)", None),
    ("y = Cast<to = 7>(b)", (0, 1)),
    ("c = Cast<to = 2>(i) y = Cast<to = 7>(c)", (0, 255)),
    ("c = Cast<to = 3>(i) y = Cast<to = 7>(c)", (-128, 127)),
    ("c = Clip(i, low, high) d = Cast<to = 3>(c) y = Cast<to = 7>(d)", (-2, 3)),
    ("c = Clip(i, low, high) d = Cast<to = 2>(c) y = Cast<to = 7>(d)", (0, 255)),
    ("c = Cast<to = 1>(i) y = Cast<to = 7>(c)", None),
    ("y = Add(i, five)", None),
]


@pytest.mark.parametrize(("body", "expected"), CASES)
def test_bounds_hold_and_are_as_narrow_as_the_operators_tell(body: str, expected: tuple[int, int] | None) -> None:
    text = f"g (int64[6] i, bool[6] b, float[N,5] x) => (int64 y) <{DECLARED}> {{ {body} }}"
    source = testing.model_from(text, 21, CONSTANTS, 0)
    module = read(source)
    shapes.infer(module)
    found = bounds(module.graph.outputs[0])
    assert found == expected
    fed = {
        "i": np.array([-300, -3, 0, 2, 9, 500]),
        "b": np.array([True, False] * 3),
        "x": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32),
    }
    result = np.asarray(ReferenceEvaluator(source).run(None, fed)[0])
    if found is not None:
        assert found[0] <= result.min()
        assert result.max() <= found[1]


def test_what_is_no_integer_has_no_bounds() -> None:
    module = read(testing.model_from("g (float[6] i) => (float[6] y) { y = Relu(i) }", 21, {}, 0))
    assert bounds(module.graph.outputs[0]) is None
    assert bounds(None) is None


def test_an_overridable_constant_bounds_nothing() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[2] i, int64 high = {3}) => (int64[2] y) '
        "<int64 low = {0}> { y = Clip(i, low, high) }"
    )
    module = read(testing.model_from(text, 17, {}, 0))
    shapes.infer(module)
    assert bounds(module.graph.outputs[0]) is None


@pytest.mark.parametrize(("kind", "expected"), [("int64", (2, 7)), ("bool", None), ("float", None), ("double", None)])
def test_constants(kind: str, expected: tuple[int, int] | None) -> None:
    module = read(
        testing.model_from(f"g (float x) => ({kind}[2] y) <{kind}[2] c> {{ y = Identity(c) }}", 21, {"c": [2, 7]})
    )
    value = next(iter(module.graph)).inputs[0]
    assert bounds(value) == ((1, 1) if kind == "bool" else expected)


def test_an_empty_constant_bounds_nothing_beyond_its_type() -> None:
    module = read(testing.model_from("g (float x) => (int8[0] y) <int8[0] c> { y = Identity(c) }", 21, {}))
    assert bounds(next(iter(module.graph)).inputs[0]) in (None, (-128, 127))
