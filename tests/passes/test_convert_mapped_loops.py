"""convert-mapped-loops: what every trip computes from its own elements is computed for all of them at once."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.convert_mapped_loops import ConvertMappedLoops
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

Executed = Callable[..., ir.Module]
TEXT = """g (float[{t},2,3] x, float[2,{t},3] v, float[{t}] r{inputs}) => ({outputs})
    <float[3,4] w, float[4] b, float[4,3] m, float[2,3] k, bool go = {{1}}, int64 zero = {{0}}, int64[1] one = {{1}},
     int64[1] none = {{0}}, int64[1] two = {{2}}, int64[1] back = {{-1}}, int64[2] flat = {{-1, 6}}, int64 last = {{2}}> {{
    sh = Shape(x) n = Gather(sh, zero) {before}
    {results} = Loop(n, go{init}) <body = q (int64 i, bool c{enters}) => (bool d, {gives}) {{ d = Identity(c) {body} }}> {after} }}"""


def text(
    body: str,
    *,
    t: object = 4,
    outputs: str = "float[] y",
    results: str = "y",
    gives: str = "float[] e",
    inputs: str = "",
    before: str = "",
    after: str = "",
    init: str = "",
    enters: str = "",
) -> str:
    return TEXT.format(**locals())


def ops(module: ir.Module) -> list[str]:
    return [n.op_type for n in module.graph if n.op_type not in ("Shape", "Gather") or "Loop" in n.op_type]


def lifted(body: str, executed: Executed, **how: Any) -> list[str]:
    """The operators of a converted loop, which gives the same as before."""
    module = executed(ConvertMappedLoops(), text(body, **how), sizes={"T": 5})
    return [n.op_type for n in module.graph if n.op_type not in ("Shape", "Gather")]


@pytest.mark.parametrize("t", [4, "T"])
def test_a_layer_of_every_element(t: object, executed: Executed) -> None:
    body = "a = Gather<axis = 0>(x, i) f = MatMul(a, w) h = Add(f, b) e = Tanh(h)"
    assert lifted(body, executed, t=t) == ["MatMul", "Add", "Tanh"]


@pytest.mark.parametrize(("opset", "applied"), [(12, 0), (13, 1)])
def test_older_opsets_are_left_alone(opset: int, applied: int) -> None:
    module = read(testing.model_from(text("a = Gather<axis = 0>(x, i) e = Neg(a)"), 21, {}, 0))
    shapes.infer(module)
    module.model.opset_imports[""] = opset
    log = Log(strict=True)
    assert run_pass(ConvertMappedLoops(), module, PassContext(get_target("cpu"), log)) == applied
    assert all("before opset 13" in r.reason for r in log.refused)


BODIES = {
    "another axis": ("a = Gather<axis = 1>(v, i) e = Neg(a)", ["Transpose", "Neg"]),
    "fewer axes": ("a = Gather<axis = 0>(x, i) s = Gather<axis = 0>(r, i) e = Mul(a, s)", ["Unsqueeze", "Mul"]),
    "a constant with more axes": ("s = Gather<axis = 0>(r, i) e = Mul(s, k)", ["Unsqueeze", "Mul"]),
    "two sequences": ("a = Gather<axis = 0>(x, i) f = Gather<axis = 1>(v, i) e = Sub(a, f)", ["Transpose", "Sub"]),
    "a captured operand": ("a = Gather<axis = 0>(x, i) e = Max(a, k)", ["Max"]),
    "a constant of the body": (
        "a = Gather<axis = 0>(x, i) o = Constant<value = float[3] {1.0, 2.0, 3.0}>() e = Div(a, o)", ["Div"]),
    "Gemm": ("a = Gather<axis = 0>(x, i) e = Gemm<transB = 1>(a, m, b)", ["Transpose", "MatMul", "Add"]),
    "Gemm without a bias": ("a = Gather<axis = 0>(x, i) e = Gemm(a, w)", ["MatMul"]),
    "a matrix by an element": ("a = Gather<axis = 0>(x, i) e = MatMul(m, p) p = Transpose(a)", []),
    "elements by elements": (
        "a = Gather<axis = 0>(x, i) f = Gather<axis = 1>(v, i) h = Transpose<perm = [1, 0]>(f) e = MatMul(a, h)",
        ["Transpose", "Transpose", "MatMul"]),
    "Softmax": ("a = Gather<axis = 0>(x, i) e = Softmax<axis = 0>(a)", ["Softmax"]),
    "Softmax from the end": ("a = Gather<axis = 0>(x, i) e = Softmax(a)", ["Softmax"]),
    "LayerNormalization": ("a = Gather<axis = 0>(x, i) g0 = Exp(k) e = LayerNormalization<axis = 0>(a, k)", []),
    "a reduction": ("a = Gather<axis = 0>(x, i) f = ReduceSum<keepdims = 0>(a, none) e = Neg(f)", ["ReduceSum", "Neg"]),
    "ArgMax": ("a = Gather<axis = 0>(x, i) f = ArgMax<axis = 1>(a) e = Cast<to = 1>(f)", ["ArgMax", "Cast"]),
    "a change of shape": ("a = Gather<axis = 0>(x, i) e = Reshape(a, flat)", ["Reshape"]),
    "axes that come and go": (
        "a = Gather<axis = 0>(x, i) f = Unsqueeze(a, two) h = Neg(f) e = Squeeze(h, two)",
        ["Unsqueeze", "Neg", "Squeeze"]),
    "Concat": ("a = Gather<axis = 0>(x, i) f = Gather<axis = 1>(v, i) e = Concat<axis = 1>(a, f)", ["Transpose", "Concat"]),
    "Concat of rows": ("a = Gather<axis = 0>(x, i) f = Gather<axis = 1>(v, i) e = Concat<axis = 0>(a, f)", ["Transpose", "Concat"]),
    "Concat from the end": ("a = Gather<axis = 0>(x, i) e = Concat<axis = -1>(a, a)", ["Concat"]),
    "Split": ("a = Gather<axis = 0>(x, i) f, h = Split<axis = 0, num_outputs = 2>(a) e = Add(f, h)", ["Split", "Add"]),
    "Slice": ("a = Gather<axis = 0>(x, i) e = Slice(a, none, one, one)", ["Slice"]),
    "Slice of rows": ("a = Gather<axis = 0>(x, i) e = Slice(a, none, one, none)", ["Slice"]),
    "Slice from the end": ("a = Gather<axis = 0>(x, i) e = Slice(a, one, two, back)", ["Slice"]),
    "PRelu": ("a = Gather<axis = 0>(x, i) e = PRelu(a, k)", ["PRelu"]),
    "Clip": ("a = Gather<axis = 0>(x, i) e = Clip(a, zf)", ["Clip"]),
    "one index of an element": ("a = Gather<axis = 0>(x, i) h = Gather<axis = 1>(a, last) e = Neg(h)", ["Neg"]),
    "one row of an element": ("a = Gather<axis = 0>(x, i) h = Gather<axis = 0>(a, zero) e = Neg(h)", ["Neg"]),
    "rows of a table": (
        "a = Gather<axis = 0>(x, i) f = ArgMax<axis = 1, keepdims = 0>(a) e = Gather<axis = 0>(m, f)", ["ArgMax"]),
    "an element as it is": ("e = Gather<axis = 0>(x, i)", ["Identity"]),
    "an element that keeps its axis": (
        """s = Unsqueeze(i, none) t = Add(s, one) a = Slice(x, s, t, none) e = Neg(a)""", ["Unsqueeze", "Neg"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_bodies(case: str, executed: Executed) -> None:
    body, after = BODIES[case]
    if case == "a matrix by an element":
        body, after = "a = Gather<axis = 0>(x, i) p = Transpose(a) e = MatMul(m, p)", ["Transpose", "MatMul"]
    if case == "LayerNormalization":
        body, after = "a = Gather<axis = 0>(x, i) e = LayerNormalization<axis = 0>(a, k)", ["LayerNormalization"]
    inputs = ", float zf" if case == "Clip" else ""
    assert lifted(body, executed, inputs=inputs) == after


def test_attributes_name_axes_too(executed: Executed) -> None:
    body = "a = Gather<axis = 0>(x, i) f = ReduceMax<axes = [0], keepdims = 0>(a) e = Neg(f)"
    module = executed(ConvertMappedLoops(), text(body), opset=17)
    (reduced,) = [n for n in module.graph if n.op_type == "ReduceMax"]
    assert reduced.attributes.get_ints("axes", ()) == (1,)


@pytest.mark.parametrize("turned", ["", "Scan"])
def test_backwards(turned: str, executed: Executed) -> None:
    body = "o = Sub(n, one0) p = Sub(o, i) a = Gather<axis = 0>(x, p) e = Neg(a)"
    before = "one0 = Constant<value_int = 1>()"
    assert lifted(body, executed, before=before) == ["Neg", "Slice"]


SCAN = """g (float[3,4] x) => (float[] y) <float[3] w> {{ y = Scan(x) <num_scan_inputs = 1, scan_input_axes = [{axis}],
    scan_input_directions = [{into}], scan_output_axes = [{out}], scan_output_directions = [{onto}],
    body = b (float[{size}] e) => (float[{size}] f) {{ f = Neg(e) }}> }}"""


@settings(max_examples=32)
@given(st.integers(-2, 1), st.integers(-2, 1), st.booleans(), st.booleans())
def test_scans_along_any_axes_in_any_direction(executed: Executed, axis: int, out: int, into: bool, onto: bool) -> None:
    size = 4 if axis in (0, -2) else 3
    module = executed(
        ConvertMappedLoops(), SCAN.format(axis=axis, out=out, into=int(into), onto=int(onto), size=size), tolerance=0
    )
    found = [n.op_type for n in module.graph]
    turns = (axis in (1, -1)) + (out in (1, -1))
    assert found.count("Transpose") == turns
    assert found.count("Slice") == (into != onto)


def test_several_results_and_a_counter(executed: Executed) -> None:
    found = lifted(
        "a = Gather<axis = 0>(x, j) e = Neg(a) f = Exp(e) u = Add(j, one0)",
        executed,
        before="one0 = Constant<value_int = 1>()",
        results="u0, y, z",
        outputs="float[] y, float[] z",
        gives="int64 u, float[] e, float[] f",
        init=", zero",
        enters=", int64 j",
    )
    assert found == ["Neg", "Exp"]


def test_what_nobody_uses_is_not_converted(executed: Executed) -> None:
    found = lifted(
        "a = Gather<axis = 0>(x, i) e = Neg(a) f = CumSum(a, zero)",
        executed,
        results="y, z",
        gives="float[] e, float[] f",
    )
    assert found == ["Neg"]


STAYS = {
    "a carried value": (
        {"body": "a = Gather<axis = 0>(x, i) u = Add(s, a) e = Neg(u)", "results": "u0, y", "gives": "float[2,3] u, float[] e",
         "init": ", k", "enters": ", float[2,3] s"}, "depends on the one before"),
    "a counter that is used": (
        {"body": "a = Gather<axis = 0>(x, j) e = Neg(a) u = Add(j, one0)", "before": "one0 = Constant<value_int = 1>()",
         "results": "z, y", "outputs": "float[] y, int64 z", "gives": "int64 u, float[] e", "init": ", zero",
         "enters": ", int64 j"}, "depends on the one before"),
    "another operator": ({"body": "a = Gather<axis = 0>(x, i) e = CumSum(a, zero)"}, "CumSum is not known"),
    "the counter": ({"body": "f = Cast<to = 1>(i) e = Mul(k, f)"}, "'i' differs by element in another way"),
    "nothing of an element": ({"body": "e = Exp(k)"}, "the same for every element"),
    "a captured value": ({"body": "e = Identity(k)"}, "gives the same in every trip"),
    "a part that is the same": ({"body": "a = Gather<axis = 0>(x, i) f = Exp(k) e = Mul(a, f)"}, "the same for every element"),
    "both directions": (
        {"body": "a = Gather<axis = 0>(x, i) o = Sub(three, i) f = Gather<axis = 0>(x, o) e = Add(a, f)",
         "before": "three = Constant<value_int = 3>()"}, "both directions"),
    "a computed shape": ({"body": "a = Gather<axis = 0>(x, i) e = Reshape(a, j)", "inputs": ", int64[2] j"}, "not constant"),
    "a shape that copies nothing": (
        {"body": "a = Gather<axis = 0>(x, i) e = Reshape<allowzero = 1>(a, flat)"}, "not constant"),
    "an open shape": (
        {"body": "a = Gather<axis = 0>(p, i) e = Reshape(a, flat)", "inputs": ", float[4,N,3] p"}, "a size of the target"),
    "computed axes": ({"body": "a = Gather<axis = 0>(x, i) e = Unsqueeze(a, j)", "inputs": ", int64[1] j"}, "axes are not known"),
    "all axes": ({"body": "a = Gather<axis = 0>(x, i) e = ReduceSum<keepdims = 0>(a)"}, "axes are not known"),
    "a slope by element": ({"body": "a = Gather<axis = 0>(x, i) e = PRelu(k, a)"}, "only the slope"),
    "bounds by element": ({"body": "a = Gather<axis = 0>(r, i) e = Clip(k, a)"}, "behind the first one"),
    "a scale by element": ({"body": "a = Gather<axis = 0>(x, i) e = LayerNormalization(k, a)"}, "behind the first one"),
    "Concat with the same": ({"body": "a = Gather<axis = 0>(x, i) e = Concat<axis = 0>(a, k)"}, "the same for all elements"),
    "a scaled Gemm": ({"body": "a = Gather<axis = 0>(x, i) e = Gemm<alpha = 2.0>(a, w)"}, "more than a product"),
    "a turned Gemm": ({"body": "a = Gather<axis = 0>(x, i) e = Gemm<transA = 1>(a, k)"}, "more than a product"),
    "a Gemm of elements": (
        {"body": "a = Gather<axis = 0>(x, i) f = Transpose(a) e = Gemm(a, f)"}, "more than a product"),
    "a vector": ({"body": "a = Gather<axis = 0>(p, i) e = MatMul(w, a)", "inputs": ", float[4,4] p"}, "multiplies vectors"),
    "a vector by a matrix": (
        {"body": "a = Gather<axis = 0>(p, i) f = Gather<axis = 0>(q, i) e = MatMul(a, f)",
         "inputs": ", float[4,3] p, float[4,3,2] q"}, "multiplies vectors"),
    "stacks of another rank": (
        {"body": "a = Gather<axis = 0>(x, i) e = MatMul(p, a)", "inputs": ", float[5,6,2] p"}, "of another rank"),
    "indices of an element": (
        {"body": "a = Gather<axis = 0>(x, i) f = ArgMax<axis = 1, keepdims = 0>(a) e = Gather<axis = 0>(a, f)"}, "both operands"),
    "columns of a table": (
        {"body": "a = Gather<axis = 0>(x, i) f = ArgMax<axis = 1, keepdims = 0>(a) e = Gather<axis = 1>(m, f)"}, "both operands"),
    "open axes of a slice": (
        {"body": "a = Gather<axis = 0>(x, i) e = Slice(a, none, one, j)", "inputs": ", int64[1] j"}, "axes are not known"),
}  # fmt: skip


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    how, because = STAYS[case]
    check(ConvertMappedLoops(), text(**how), None, because=because)


def test_how_often_must_be_known() -> None:
    before = text("a = Gather<axis = 0>(x, i) e = Neg(a)").replace("Loop(n, go", "Loop(often, go")
    check(ConvertMappedLoops(), before.replace("float[4] r)", "float[4] r, int64 often)"), None, because="how often")


def test_results_that_would_be_too_large() -> None:
    body = "a = Gather<axis = 0>(p, i) e = Neg(a)"
    check(ConvertMappedLoops(), text(body, inputs=", float[4,2048,2049] p"), None, because="too large")
