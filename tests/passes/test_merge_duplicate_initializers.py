from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcc import ir
from fcc.frontend import read
from fcc.ir.text import parse
from fcc.passes.merge_duplicate_initializers import MergeDuplicateInitializers
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

P = MergeDuplicateInitializers()
HEAD = "g (float[N,4] x) => (float[N,4] y) <float[4] a, float[4] b>"


def run(module: ir.Module) -> int:
    applied = run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    ir.verify(module)
    return applied


def two(a: onnx.TensorProto, b: onnx.TensorProto) -> ir.Module:
    """Return a module whose outputs are two constants' Identity."""
    a.name, b.name = "a", "b"
    nodes = [helper.make_node("Identity", ["a"], ["p"]), helper.make_node("Identity", ["b"], ["q"])]
    outputs = [helper.make_tensor_value_info(n, t.data_type, t.dims) for n, t in (("p", a), ("q", b))]
    graph = helper.make_graph(nodes, "g", [], outputs, [a, b])
    return read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_equal_constants() -> None:
    module = check(
        P,
        before=HEAD + "{ t = Add(x, a) y = Mul(t, b) }",
        after="g (float[N,4] x) => (float[N,4] y) { t = Add(x, a) y = Mul(t, a) }",
        constants={"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]},
    )
    assert len(module.graph.initializers) == 1


def test_other_contents() -> None:
    check(P, before=HEAD + "{ t = Add(x, a) y = Mul(t, b) }", after=None, because="no two constants")


def test_other_shape() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,4] y) <float[4] a, float[1,4] b> { t = Add(x, a) y = Mul(t, b) }",
        after=None,
        constants={"a": 1, "b": 1},
    )


def test_zero_is_not_minus_zero() -> None:
    check(P, before=HEAD + "{ t = Div(x, a) y = Div(t, b) }", after=None, constants={"a": 0.0, "b": -0.0})


def test_only_the_middle_differs() -> None:
    a = np.zeros(1001, np.float32)
    b = a.copy()
    b[501] = 1
    assert run(two(numpy_helper.from_array(a), numpy_helper.from_array(b))) == 0


def test_nan_payload() -> None:
    a, b = (np.array([bits], np.uint32).view(np.float32) for bits in (0x7FC00000, 0x7FC00001))
    assert run(two(numpy_helper.from_array(a), numpy_helper.from_array(b))) == 0
    assert run(two(numpy_helper.from_array(a), numpy_helper.from_array(a))) == 1


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, bool])
def test_any_dtype(dtype: type) -> None:
    a: np.ndarray[Any, Any] = np.array([1, 0, 1]).astype(dtype)
    b: np.ndarray[Any, Any] = np.array([1, 0, 0]).astype(dtype)
    proto = numpy_helper.from_array
    assert run(two(proto(a), proto(a))) == 1
    assert run(two(proto(a), proto(b))) == 0


def test_two_spellings_of_the_same_data() -> None:
    a = helper.make_tensor("a", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    assert run(two(a, numpy_helper.from_array(np.array([1, 2, 3], np.float32)))) == 1


def test_strings() -> None:
    def text(*words: bytes) -> onnx.TensorProto:
        return TensorProto(data_type=TensorProto.STRING, dims=[len(words)], string_data=words)

    assert run(two(text(b"a", b"b"), text(b"a", b"b"))) == 1
    assert run(two(text(b"a", b"b"), text(b"a", b"b\0"))) == 0


def test_scalars_and_empty_tensors() -> None:
    for shape in ((), (0,), (2, 0)):
        a = np.zeros(shape, np.int64)
        assert run(two(numpy_helper.from_array(a), numpy_helper.from_array(a))) == 1


def test_overridable_initializer_stays() -> None:
    module = parse(
        "g (float[2] x, float[2] a) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}>"
        "{ t = Add(x, a) y = Mul(t, b) }"
    )
    assert run(module) == 0


def test_operands_of_quantizers_stay() -> None:
    module = parse(
        "g (float[2] x) => (float[2] y) <float s = {0.5}, float r = {0.5}>"
        "{ q = QuantizeLinear(x, s) y = DequantizeLinear(q, r) }"
    )
    assert run(module) == 0


SCOPES = """g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    z = If (c) <then_branch = t () => (float[2] p) <float[2] u = {1, 2}> { p = Add(x, u) },
                else_branch = e () => (float[2] q) <float[2] v = {1, 2}> { q = Mul(x, v) }>
    y = Add(z, w) }"""


def test_outer_constant_replaces_inner_ones() -> None:
    module = parse(SCOPES)
    assert run(module) == 2
    assert [sorted(g.initializers) for g in module.graphs()] == [["w"], [], []]


def test_constants_of_two_branches_do_not_see_each_other() -> None:
    module = parse(SCOPES.replace("<float[2] w = {1, 2}> {", "<float[2] w = {3, 4}> {"))
    assert run(module) == 0


def test_graph_output_keeps_its_name() -> None:
    module = parse(
        "g (float[2] x) => (float[2] y, float[2] b) <float[2] a = {1, 2}, float[2] b = {1, 2}> { y = Add(x, a) }"
    )
    assert run(module) == 1
    assert list(module.graph.initializers) == ["b"]
    assert [v.name for v in module.graph.outputs] == ["y", "b"]


def test_external_data(tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(np.arange(9000, dtype=np.float32), n) for n in "ab"]
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", 1, [9000])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    module = read(str(tmp_path / "m.onnx"))
    assert any(isinstance(v.const_value, ir.ExternalTensor) for v in module.graph.initializers.values())
    assert run(module) == 1


def test_weights_computed_at_save_are_not_computed() -> None:
    def fail() -> ir.TensorProtocol:
        raise AssertionError("computed")

    module = parse(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { t = Add(x, a) y = Mul(t, b) }"
    )
    for value in module.graph.initializers.values():
        value.const_value = ir.LazyTensor(fail, ir.DataType.FLOAT, ir.Shape([2]))
    assert run(module) == 0


@pytest.mark.parametrize("node", ["q = QuantizeLinear(x, s) r = QuantizeLinear(x, t)",
                                  "q = DequantizeLinear(c, s) r = DequantizeLinear(c, t)"])  # fmt: skip
def test_scales_of_the_same_operator_stay(node: str) -> None:
    head = "g (float[2] x, int8[2] c) => (float[2] q, float[2] r)".replace(
        "(float[2] q, float[2] r)", "(uint8[2] q, uint8[2] r)" if "= Quantize" in node else "(float[2] q, float[2] r)"
    )
    assert run(parse(f"{head} <float s = {{0.5}}, float t = {{0.5}}> {{ {node} }}")) == 0
