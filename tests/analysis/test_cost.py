"""FLOPs, bytes, parameters and peak memory of small graphs, counted by hand."""

from __future__ import annotations

import onnx
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.cost import Cost, computed_at_load, module_cost, node_cost
from fcc.analysis.liveness import last_uses, peak_bytes
from fcc.frontend import read

HEAD = '<ir_version: 9, opset_import: ["" : 17]>\n'


def module(body: str) -> ir.Module:
    found = read(onnx.parser.parse_model(HEAD + body))
    shapes.infer(found)
    return found


DENSE = "g (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,1,2,3}> { y = MatMul(x, w) }"
# float weights behind DequantizeLinear, as int8 files have them
QDQ = """g (float[N, 2] x) => (float[N, 2] y) <int8[2, 2] q = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}>
{ w = DequantizeLinear(q, s, z) y = MatMul(x, w) }"""


@pytest.mark.parametrize(("n", "flops", "moved"), [(1, 24, 4 * (4 + 12 + 3)), (10, 240, 4 * (40 + 12 + 30))])
def test_matmul(n: int, flops: int, moved: int) -> None:
    assert module_cost(module(DENSE), {"N": n}) == Cost(flops, moved, 12)


@pytest.mark.parametrize(
    ("body", "flops"),
    [
        ("g (float[2,4] x, float[3,4] w, float[3] b) => (float[2,3] y) { y = Gemm<transB = 1>(x, w, b) }", 2 * 24 + 6),
        ("g (float[1,2,5,5] x, float[6,1,3,3] w) => (float[1,6,3,3] y) { y = Conv<group = 2>(x, w) }", 2 * 54 * 9),
        ("g (float[1,2,3,3] x, float[2,4,2,2] w) => (float[1,4,4,4] y) { y = ConvTranspose(x, w) }", 2 * 18 * 16),
        ("g (float[1,2,4,4] x) => (float[1,2,2,2] y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }", 32),
        ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", 0),
        ("g (float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape(x, s) }", 0),
        ("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", 30),
    ],
)
def test_flops_of_operators(body: str, flops: int) -> None:
    (node,) = module(body).graph
    assert node_cost(node).flops == flops


def test_branches_count() -> None:
    body = """g (bool c, float[8] x) => (float[8] y)
    { y = If (c) <then_branch = t () => (float[8] a) { a = Neg(x) }, else_branch = e () => (float[8] b) { b = Abs(x) }> }"""
    assert module_cost(module(body)).flops >= 16


def test_weights_that_the_runtime_computes_at_load_cost_nothing_in_a_run() -> None:
    found = module(QDQ)
    assert [n.op_type for n in computed_at_load(found.graph)] == ["DequantizeLinear"]
    assert module_cost(found, {"N": 3}).flops == 2 * 3 * 2 * 2
    assert peak_bytes(found.graph, {"N": 3}) == 4 * (6 + 6)


def test_what_depends_on_an_input_or_a_default_is_run() -> None:
    body = QDQ.replace("(float[N, 2] x)", "(float[N, 2] x, float s)").replace("float s = {0.5}, ", "")
    assert computed_at_load(module(body).graph) == set()
    assert computed_at_load(module("g () => (float[2] y) { y = RandomNormal<shape = [2]>() }").graph) == set()


def test_peak_memory_is_the_largest_sum_alive() -> None:
    found = module("g (float[8] x) => (float[1] y) { a = Relu(x) b = Add(a, x) y = ReduceSum(b) }")
    assert peak_bytes(found.graph) == 4 * (8 + 8 + 8)  # x, a, b
    last = last_uses(found.graph)
    assert [last[v] for v in (*found.graph.inputs, *(n.outputs[0] for n in found.graph))] == [1, 1, 2, 3]


def test_symbols_default_to_1() -> None:
    found = module("g (float[N, M] x) => (float[N, M] y) { y = Relu(x) }")
    assert [peak_bytes(found.graph, s) for s in (None, {"N": 3}, {"N": 3, "M": 5})] == [8, 24, 120]
