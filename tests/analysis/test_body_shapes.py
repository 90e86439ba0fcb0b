"""Shapes through Loop and Scan."""

from typing import Any

import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import parse

LOOP = """g (float[N,3] x, int64 n, bool c0, float[3,4] w{inputs}) => (float[] y, float[] z) {{
    y, z = Loop(n, c0, {init}) <body = b (int64 i, bool c, float{inner} s) => (bool d, float[] t, float[] e) {{
        d = Identity(c) {body} }}> }}"""


def loop(body: str, init: str = "x", inner: str = "[]", inputs: str = "") -> dict[str, tuple[Any, ...] | None]:
    module = parse(LOOP.format(**locals()))
    assert shapes.infer(module) == []
    values = [*module.graph.inputs]
    for graph in module.graphs():
        values += [*graph.inputs, *(v for n in graph for v in n.outputs)]
    return {v.name or "": ir.dims_of(v) for v in values}


N = ir.Dim.symbol("N")


def test_what_a_trip_keeps_is_known_inside_and_behind() -> None:
    dims = loop("t = Mul(s, s) m = MatMul(s, w) e = Exp(m)")
    assert dims["s"] == dims["t"] == dims["y"] == (N, 3)
    assert dims["m"] == (N, 4)
    assert dims["z"] is not None
    assert dims["z"][2] == 4
    assert len(dims["z"]) == 3
    assert dims["z"][1] != N


def test_what_changes_with_a_trip_is_not_assumed() -> None:
    dims = loop("t = Concat<axis = 0>(s, s) e = Exp(s)")
    assert dims["s"] is None
    assert dims["t"] is None
    assert dims["y"] is None
    assert dims["e"] is None


def test_a_wrong_assumption_leaves_nothing_behind() -> None:
    """Two carried values, one of which keeps its shape; the other one's is found out in the first round."""
    module = parse(
        """g (float[2,3] x, int64 n, bool c0) => (float[] y, float[] z) {
        y, z = Loop(n, c0, x, x) <body = b (int64 i, bool c, float[] s, float[] r) => (bool d, float[] t, float[] u) {
            d = Identity(c) t = Neg(s) u = Concat<axis = 0>(r, x) q = Add(r, r) }> }"""
    )
    shapes.infer(module)
    values = {v.name: ir.dims_of(v) for g in module.graphs() for v in [*g.inputs, *(o for n in g for o in n.outputs)]}
    assert values["s"] == values["t"] == values["y"] == (2, 3)
    assert values["r"] is None
    assert values["q"] is None
    assert values["z"] is None


def test_values_that_depend_on_each_other_fall_together() -> None:
    module = parse(
        """g (float[2,3] x, float[4,3] v, int64 n, bool c0) => (float[] y, float[] z) {
        y, z = Loop(n, c0, x, v) <body = b (int64 i, bool c, float[] s, float[] r) => (bool d, float[] t, float[] u) {
            d = Identity(c) t = Neg(r) u = Neg(s) }> }"""
    )
    shapes.infer(module)
    values = {v.name: ir.dims_of(v) for g in module.graphs() for v in [*g.inputs, *(o for n in g for o in n.outputs)]}
    assert [values[k] for k in "srtuyz"] == [None] * 6


def test_numbers_that_are_declared_stand() -> None:
    dims = loop("t = Neg(s) e = Exp(s)", inner="[5,3]")
    assert dims["s"] == (5, 3)
    assert dims["y"] is None


def test_a_declared_number_and_an_open_axis() -> None:
    dims = loop("t = Neg(s) e = Exp(s)", inner="[M,3]")
    assert dims["s"] == dims["t"] == dims["y"] == (N, 3)


def test_another_rank_is_declared() -> None:
    dims = loop("t = Neg(s) e = Exp(s)", inner="[3]")
    assert dims["s"] == (3,)
    assert dims["y"] is None


def test_a_start_of_unknown_shape() -> None:
    assert loop("t = Neg(s) e = Exp(s)", init="u", inputs=", float[] u")["s"] is None


def test_a_loop_that_carries_nothing() -> None:
    module = parse("""g (float[N,3] x, int64 n, bool c0) => (float[] z) {
        z = Loop(n, c0) <body = b (int64 i, bool c) => (bool d, float[] e) {
            d = Identity(c) a = Gather<axis = 0>(x, i) e = Exp(a) }> }""")
    shapes.infer(module)
    (_, body) = module.graphs()
    assert ir.dims_of(body.outputs[1]) == (3,)


def test_inputs_of_a_body_that_declare_nothing() -> None:
    """A model may leave out the types of what enters a body."""
    module = parse(LOOP.format(inputs="", init="x", inner="[]", body="u = Cast<to = 1>(i) t = Add(s, u) e = Exp(s)"))
    (_, body) = module.graphs()
    for value in body.inputs:
        value.type, value.shape = None, None
    shapes.infer(module)
    assert [v.dtype for v in body.inputs] == [ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.FLOAT]
    assert [ir.dims_of(v) for v in body.inputs] == [(), (), (N, 3)]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_knows_its_elements_and_its_length(axis: int) -> None:
    module = parse(
        f"""g (float[T,4] x, float[B] h) => (float[] y, float[] z) {{
        y, z = Scan(h, x) <num_scan_inputs = 1, scan_input_axes = [{axis}], scan_output_axes = [{axis}],
            body = b (float[] s, float[] e) => (float[] t, float[] o) {{ m = ReduceMax<keepdims = 0>(e) t = Add(s, m) o = Neg(e) }}> }}"""
    )
    shapes.infer(module)
    values = {v.name: ir.dims_of(v) for g in module.graphs() for v in [*g.inputs, *(o for n in g for o in n.outputs)]}
    t, b = ir.Dim.symbol("T"), ir.Dim.symbol("B")
    assert values["e"] == ((4,) if axis == 0 else (t,))
    assert values["s"] == values["y"] == (b,)
    stacked = values["z"]
    assert stacked is not None
    assert stacked[axis] == (t if axis == 0 else 4)
    assert axis != 0 or stacked[1] == 4


def test_inference_again_takes_nothing_back() -> None:
    module = parse(LOOP.format(inputs="", init="x", inner="[]", body="t = Mul(s, s) e = MatMul(s, w)"))
    shapes.infer(module)
    first = {v.name: ir.dims_of(v) for g in module.graphs() for n in g for v in n.outputs}
    shapes.infer(module)
    assert first == {v.name: ir.dims_of(v) for g in module.graphs() for n in g for v in n.outputs}


def test_a_node_that_stops_inference_is_told_once() -> None:
    module = parse(LOOP.format(inputs="", init="x", inner="[]", body="t = Concat<axis = 0>(s, s) e = MatMul(w, w)"))
    assert [node.op_type for node, _ in shapes.infer(module)] == ["MatMul"]


def test_a_declared_size_of_a_body_stays_where_inference_finds_none() -> None:
    """A Loop that runs no trip gives an empty tensor of what its body declares."""
    text = """g (float[A,3] x, bool[A] m, int64 n, bool go) => (float[T,1,3] y) {
        c = Compress<axis=0>(x, m)
        y = Loop(n, go) <body = b (int64 i, bool k) => (bool d, float[1,3] e) { d = Identity(k) e = Neg(c) }> }"""
    module = parse(text)
    shapes.infer(module)
    body = next(g for g in module.graphs() if g is not module.graph)
    assert ir.dims_of(body.outputs[1]) == (1, 3)
