"""The numpy table agrees with onnx's reference evaluator, dtype and shape included."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.evaluate import RULES, evaluate, symbolic
from fcc.ir.text import parse

CASES = [
    ("Add", "int64[2,3] a, int64[3] b", "int64"),
    ("Sub", "float[2,3] a, float[1] b", "float"),
    ("Mul", "int32[2,3] a, int32[2,1] b", "int32"),
    ("Neg", "float[4] a", "float"),
    ("Not", "bool[4] a", "bool"),
    ("And", "bool[4] a, bool[1] b", "bool"),
    ("Or", "bool[2,2] a, bool[2] b", "bool"),
    ("Equal", "int64[3] a, int64[3] b", "bool"),
    ("Max", "int64[3] a, int64[3] b, int64[1] c", "int64"),
    ("Min", "float[3] a, float[3] b", "float"),
    ("Concat<axis=-1>", "int64[2,3] a, int64[2,1] b", "int64"),
    ("Transpose<perm=[1,0]>", "float[2,3] a", "float"),
    ("Transpose", "float[2,3,4] a", "float"),
    ("Where", "bool[2,1] a, float[3] b, float[2,3] c", "float"),
    ("Gather<axis=1>", "float[2,5] a, int64[2,2] i", "float"),
    ("Shape<start=1>", "float[2,3,4] a", "int64"),
    ("Size", "float[2,3] a", "int64"),
    ("Identity", "float16[2] a", "float16"),
    ("Cast<to=1>", "int64[3] a", "float"),
    ("Cast<to=9>", "float[3] a", "bool"),
    ("Cast<to=7>", "float[3] a", "int64"),
    ("Cast<to=10>", "float[3] a", "float16"),
]


def build(op: str, inputs: str, out: str) -> ir.Module:
    names = ", ".join(part.split()[-1] for part in inputs.split(", "))
    module = parse(f"g ({inputs}) => ({out}[] y) {{ y = {op}({names}) }}".replace(f"({out}[] y)", f"({out} y)"))
    module.graph.outputs[0].shape = None
    shapes.infer(module)
    return module


@pytest.mark.parametrize(("op", "inputs", "out"), CASES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_agrees_with_the_reference(op: str, inputs: str, out: str, seed: int) -> None:
    module = build(op, inputs, out)
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in module.graph.inputs:
        assert value.dtype is not None
        shape = [d for d in ir.dims_of(value) or () if isinstance(d, int)]
        feeds[value.name] = np.asarray(
            rng.integers(0, 2 if value.dtype.name == "BOOL" or value.name == "i" else 5, shape)
        ).astype(value.dtype.numpy())
    node = next(iter(module.graph))
    results = evaluate(node, list(feeds.values()), module.opset())
    assert results is not None
    (found,) = results
    (expected,) = ReferenceEvaluator(_proto(module)).run(None, feeds)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert tuple(ir.dims_of(node.outputs[0]) or ()) == found.shape


def _proto(module: ir.Module) -> onnx.ModelProto:
    from onnx_ir import serde

    return serde.serialize_model(module.model)


@pytest.mark.parametrize(("a", "b"), [(7, 2), (-7, 2), (7, -2), (-7, -2), (0, 3)])
def test_integer_division_truncates(a: int, b: int) -> None:
    module = build("Div", "int64[1] a, int64[1] b", "int64")
    node = next(iter(module.graph))
    results = evaluate(node, [np.array([a]), np.array([b])], 21)
    assert results is not None
    (found,) = results
    (expected,) = ReferenceEvaluator(_proto(module)).run(None, {"a": np.array([a]), "b": np.array([b])})
    assert found.tolist() == [int(a / b)]
    np.testing.assert_array_equal(found, expected)


@given(st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127).filter(bool)), min_size=1, max_size=9))
def test_integer_division_truncates_down_to_the_smallest_integer(pairs: list[tuple[int, int]]) -> None:
    node = next(iter(build("Div", "int8[1] a, int8[1] b", "int8").graph))
    a, b = np.array(pairs, np.int8).T
    found = symbolic(node, [a, b])
    if (-128, -1) in pairs:
        assert found is None
    else:
        assert found is not None
        assert found.tolist() == [int(p / q) for p, q in pairs]


def test_division_by_zero_is_not_evaluated_by_the_table() -> None:
    module = build("Div", "int64[1] a, int64[1] b", "int64")
    assert symbolic(next(iter(module.graph)), [np.array([1]), np.array([0])]) is None


def test_a_float_out_of_integer_range_is_not_cast() -> None:
    module = build("Cast<to=6>", "float[1] a", "int32")
    assert symbolic(next(iter(module.graph)), [np.array([np.inf], np.float32)]) is None


def test_symbols_pass_through_shape_arithmetic() -> None:
    module = parse(
        """g (float[batch,4,8] x) => (int64[3] y) <int64[1] i = {0}, int64[1] c = {2}, int64[1] m = {-1}>
        { s = Shape(x) n = Gather(s, i) t = Mul(n, c) y = Concat<axis=0>(t, c, m) }"""
    )
    shapes.infer(module)
    found = shapes.elements(module.graph.outputs[0])
    assert found is not None
    assert [str(x) for x in found] == ["2*batch", "2", "-1"]


def test_every_rule_names_a_standard_operator() -> None:
    assert all(ir.schema_of(op, "", 21) is not None for op in RULES)


def test_a_slice_backwards_to_the_largest_integer_is_left_to_the_runtime() -> None:
    text = "g (int64[3] x) => (int64[N] y) <int64[1] s, int64[1] e, int64[1] a> { y = Slice(x, s, e, a, t) }"
    node = next(iter(parse('<ir_version: 10, opset_import: ["" : 21]>\n' + text.replace("a>", "a, int64[1] t>")).graph))
    inputs = [np.arange(3), *(np.array([v]) for v in (2, 2**31 - 1, 0, -1))]
    with pytest.raises(ValueError, match="largest integer"):
        evaluate(node, inputs, 21)
