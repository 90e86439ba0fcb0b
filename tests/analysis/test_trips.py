"""How often a Loop or Scan runs, from its bound, its condition and the length of its sequences."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.loops import Looped, looped
from fcc.analysis.trips import TRIP, Counters, trips
from fcc.ir.text import parse

LOOP = """g (float[T,2] x, int64 a, int64 b, bool f{inputs}) => (float[2] y, int64 z)
    <float[2] h = {{0, 0}}, int64 k0 = {{{first}}}, int64 one = {{1}}, int64 two = {{2}}, int64 five = {{5}}, int64 zero = {{0}},
     int64 huge = {{9223372036854775807}}, bool yes = {{1}}, bool no = {{0}}> {{
    sh = Shape(x) n = Gather(sh, zero) {before}
    y, z = Loop({most}, {start}, h, k0) <body = q (int64 i, bool c, float[2] s, int64 k) => (bool d, float[2] t, int64 m) {{
        t = Neg(s) {body} }}> }}"""


def loop_of(
    body: str, most: str = "", start: str = "yes", before: str = "", first: int = 0, inputs: str = ""
) -> Looped:
    module = parse(LOOP.format(**locals()))
    for graph in module.graphs():
        graph.opset_imports.update(module.model.opset_imports)
    shapes.infer(module)
    found = looped(next(n for n in module.nodes() if n.op_type == "Loop"))
    assert isinstance(found, Looped)
    return found


STEP = "m = Add(k, one) "


@pytest.mark.parametrize(
    ("how", "count"),
    [
        ({"body": STEP + "d = Identity(c)", "most": "five"}, 5),
        ({"body": STEP + "d = Identity(yes)", "most": "five"}, 5),
        ({"body": STEP + "d = Identity(no)", "most": "five"}, 1),
        ({"body": STEP + "d = Identity(no)", "most": "zero"}, 0),
        ({"body": STEP + "d = Identity(c)", "most": "five", "start": "no"}, 0),
        ({"body": STEP + "d = Identity(c)", "most": "five", "start": ""}, 5),
        ({"body": STEP + "d = Identity(c)", "most": "n"}, "T"),
        ({"body": STEP + "d = Identity(c)", "most": "huge"}, None),
        ({"body": STEP + "d = Identity(c)"}, None),
        ({"body": STEP + "d = Identity(c)", "most": "a"}, None),
        ({"body": STEP + "d = Identity(c)", "most": "five", "start": "f"}, None),
        ({"body": STEP + "d = Identity(f)", "most": "five"}, None),
        ({"body": STEP + "d = And(c, f)", "most": "five"}, None),
        # a counter that is compared: trip k is followed by another one while the comparison holds
        ({"body": STEP + "d = Less(m, five)"}, 5),
        ({"body": STEP + "d = Less(k, five)"}, 6),
        ({"body": STEP + "d = LessOrEqual(m, five)"}, 6),
        ({"body": STEP + "d = Greater(five, m)"}, 5),
        ({"body": STEP + "d = GreaterOrEqual(five, m)"}, 6),
        ({"body": STEP + "d = Less(m, five)", "most": "two"}, 2),
        ({"body": STEP + "d = Less(m, five)", "most": "huge"}, 5),
        ({"body": STEP + "d = Less(m, five)", "first": 7}, 1),
        ({"body": "m = Add(two, k) d = Less(m, five)"}, 3),
        ({"body": "m = Add(k, two) d = Less(m, five)", "first": 1}, 2),
        ({"body": "m = Sub(k, two) d = Greater(m, zero)", "first": 7}, 4),
        ({"body": "m = Sub(two, k) d = Less(m, five)"}, None),
        ({"body": "m = Mul(k, two) d = Less(m, five)"}, None),
        ({"body": "m = Add(k, a) d = Less(m, five)"}, None),
        ({"body": STEP + "d = Less(m, a)"}, None),
        ({"body": STEP + "d = Greater(m, five)"}, None),
        ({"body": "m = Add(k, one) u = Add(i, one) d = Less(u, five)"}, 5),
        ({"body": "m = Add(k, one) u = Mul(i, two) d = LessOrEqual(u, five)"}, 4),
        # of a length that is a symbol
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = Less(k0, n)"}, "T"),
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = Greater(n, k0)"}, "T"),
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = Less(k0, n)", "most": "n"}, "T"),
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = Less(k0, n)", "most": "five"}, None),
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = LessOrEqual(k0, n)"}, None),
        ({"body": STEP + "d = Less(m, n)", "start": "go", "before": "go = Less(one, n)"}, None),
        ({"body": STEP + "d = Less(m, n)"}, None),
        ({"body": STEP + "d = LessOrEqual(m, n)"}, "T + 1"),
        ({"body": "m = Add(k, two) d = Less(m, n)", "start": "go", "before": "go = Less(k0, n)"}, None),
        # two conditions
        ({"body": STEP + "u = Less(m, five) v = Less(i, two) d = And(u, v)"}, 3),
        ({"body": STEP + "u = Less(m, five) d = And(c, u)"}, 5),
        ({"body": STEP + "u = Less(m, five) d = And(u, f)"}, None),
        (
            {
                "body": STEP + "j = Add(i, one) u = Less(m, n) v = Less(j, n) d = And(u, v)",
                "start": "go",
                "before": "p = Less(k0, n) q = Less(zero, n) go = And(p, q)",
            },
            "T",
        ),
        (
            {
                "body": STEP + "j = Add(i, one) u = Less(m, n) v = Less(j, n) d = And(u, v)",
                "start": "go",
                "before": "p = Less(k0, n) q = Less(one, n) go = And(p, q)",
            },
            None,
        ),
        (
            {"body": STEP + "u = Less(m, n) d = And(c, u)", "start": "go", "before": "p = Less(k0, n) go = And(f, p)"},
            None,
        ),
        (
            {
                "body": STEP + "u = Less(m, n) d = And(c, u)",
                "start": "go",
                "before": "p = Less(k0, n) go = And(yes, p)",
            },
            "T",
        ),
        ({"body": STEP + "u = Less(m, n) d = Or(c, u)", "start": "go", "before": "go = Less(k0, n)"}, None),
    ],
)
def test_trips(how: dict[str, str], count: int | str | None) -> None:
    found = trips(loop_of(**how))  # type: ignore[arg-type]
    assert found == count if isinstance(count, int) or count is None else str(found) == count


@pytest.mark.parametrize("first", range(-2, 9))
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("order", ["Less", "LessOrEqual"])
def test_as_often_as_the_reference_runs(first: int, step: int, order: str) -> None:
    body = f"u = Mul(k, one) m = Add(k, {['one', 'two', 'three'][step - 1]}) d = {order}(m, five)"
    text = LOOP.format(body=body, most="", start="go", before=f"go = {order}(k0, five)", first=first, inputs="")
    text = text.replace("int64 five", "int64 three = {3}, int64 five")
    module = parse(text)
    shapes.infer(module)
    loop = looped(next(n for n in module.nodes() if n.op_type == "Loop"))
    assert isinstance(loop, Looped)
    count = trips(loop)
    fed = {"x": np.zeros((1, 2), np.float32), "a": np.int64(0), "b": np.int64(0), "f": np.bool_(True)}
    _, z = ReferenceEvaluator(serde.serialize_model(module.model)).run(None, fed)
    assert isinstance(count, int)
    assert first + step * count == z


def test_counters_are_polynomials_of_the_trip() -> None:
    loop = loop_of("m = Add(k, two) p = Sub(n, i) d = Identity(c)", most="five", first=3)
    names = {v.name: v for node in loop.body for v in node.outputs} | {v.name: v for v in loop.body.inputs}
    counters = Counters(loop)
    assert counters.number(names["i"]) == TRIP
    assert counters.number(names["k"]) == 3 + 2 * TRIP
    assert counters.number(names["m"]) == 5 + 2 * TRIP
    assert counters.number(names["p"]) == ir.Dim.symbol("T") - TRIP
    assert counters.number(names["t"]) is None
    assert counters.number(None) is None


@pytest.mark.parametrize(("axis", "count"), [(0, 3), (1, 4), (-1, 4)])
def test_a_scan_runs_as_often_as_its_sequences_are_long(axis: int, count: int) -> None:
    module = parse(
        f"""g (float[T,4] v, float[3,4] x) => (float[4,2] y) {{
        y = Scan(v, x) <num_scan_inputs = 2, scan_input_axes = [{1 if count == 4 else 0}, {axis}],
            body = b (float[2] e, float[2] f) => (float[2] o) {{ o = Add(e, f) }}> }}"""
    )
    loop = looped(next(n for n in module.nodes() if n.op_type == "Scan"))
    assert isinstance(loop, Looped)
    assert trips(loop) == count


@pytest.mark.parametrize("drop", ["inputs", "outputs"])
def test_what_does_not_fit_its_body_has_no_view(drop: str) -> None:
    node = loop_of(STEP + "d = Identity(c)", most="five").node
    body = node.attributes["body"].as_graph()
    del getattr(body, drop)[-1]
    assert "another number" in str(looped(node))
