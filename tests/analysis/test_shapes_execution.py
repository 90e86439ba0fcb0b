"""Inferred shapes and contents against execution: what inference claims holds at every size, zero included."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fcc import ir
from fcc.analysis import shapes
from fcc.errors import FccError
from fcc.frontend import read
from fcc.runtime import open_session

SIZES = st.fixed_dictionaries({s: st.sampled_from([0, 1, 2, 3, 5]) for s in ("N", "M")})
BOUNDS = st.sampled_from([-(2**31), -100, -4, -2, -1, 0, 1, 2, 3, 7, 100, 2**31 - 1, 2**63 - 1])
STEPS = st.sampled_from([1, 1, 1, 2, -1, -2])


def build(nodes: list[onnx.NodeProto], constants: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a model of x [N, M], z [M], r [N] and w [2, 3] that gives the last value of ``nodes``."""
    declared = {"x": ["N", "M"], "z": ["M"], "r": ["N"], "w": [2, 3]}
    inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, d) for k, d in declared.items()]
    outputs = [onnx.ValueInfoProto(name=nodes[-1].output[0])]
    tensors = [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def at(d: ir.Dim | int | None, sizes: dict[str, int]) -> int | None:
    """Return a dimension at the given sizes; None when it has a symbol beyond them."""
    if not isinstance(d, ir.Dim):
        return d
    if not d.symbols() <= set(sizes):
        return None
    return sum(c * int(np.prod([sizes[s] for s in m], dtype=object)) for m, c in d.terms.items())


def assert_holds(model: onnx.ModelProto, sizes: dict[str, int]) -> None:
    """Run the model at the given sizes; the inferred shapes and contents of every value must be what it computes."""
    module = read(model)
    shapes.infer(module)
    feeds = {"x": (sizes["N"], sizes["M"]), "z": (sizes["M"],), "r": (sizes["N"],), "w": (2, 3)}
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    names = [o for n in model.graph.node for o in n.output]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = open_session(tapped.SerializeToString(), optimize=False)
        results = session.run({k: np.ones(s, np.float32) for k, s in feeds.items()})
        found = [results[name] for name in names]
    except FccError:  # sizes that the model does not take
        assume(False)
        return
    values = {v.name: v for n in module.graph for v in n.outputs}
    known = dict(sizes)
    for name, array in zip(names, found, strict=True):
        value = values.get(name)
        if value is None:
            continue
        dims = ir.dims_of(value)
        actual = np.shape(array)
        assert dims is None or len(dims) == len(actual), f"{name}: inferred {dims}, found {actual}"
        for d, n in zip(dims or (), actual, strict=False):
            if isinstance(d, ir.Dim) and len(d.terms) == 1 and str(d) in d.symbols():
                known.setdefault(str(d), n)  # an opaque symbol means one size everywhere
            assert at(d, known) in (n, None), f"{name}: inferred {dims}, found {actual} at {known}"
        contents = value.meta.get(shapes.ELEMENTS)
        if contents is not None:
            assert contents.shape == actual
            for e, n in zip(contents.reshape(-1), np.asarray(array).reshape(-1), strict=True):
                assert at(e, known) in (int(n), None), f"{name}: inferred {contents}, found {array} at {known}"


quick = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@given(SIZES, BOUNDS, BOUNDS, STEPS, st.sampled_from([0, 1, -1]), st.sampled_from(["x", "w"]))
@quick
def test_slice(sizes: dict[str, int], start: int, end: int, step: int, axis: int, source: str) -> None:
    assume(step > 0 or end < 2**31 - 1)  # onnxruntime takes all there, the specification nothing
    node = helper.make_node("Slice", [source, "s", "e", "a", "t"], ["y"])
    assert_holds(build([node], {"s": [start], "e": [end], "a": [axis], "t": [step]}), sizes)


@given(SIZES, st.sampled_from([0, 1]), st.sampled_from([0, 1]), BOUNDS, STEPS)
@quick
def test_slice_up_to_a_size(sizes: dict[str, int], axis: int, of: int, shift: int, step: int) -> None:
    assume(abs(shift) < 2**31)
    nodes = [
        helper.make_node("Shape", ["x"], ["sh"], start=of, end=of + 1),
        helper.make_node("Add", ["sh", "k"], ["e"]),
        helper.make_node("Slice", ["w", "o", "e", "a", "t"], ["p"]),
        helper.make_node("Slice", ["x", "o", "e", "a", "t"], ["y"]),
    ]
    assert_holds(build(nodes, {"k": [shift], "o": [0], "a": [axis], "t": [step]}), sizes)


@given(SIZES, st.lists(st.sampled_from([-1, 0, 1, 2, 3, 6]), min_size=1, max_size=3), st.sampled_from("xzrw"))
@quick
def test_reshape(sizes: dict[str, int], target: list[int], source: str) -> None:
    assume(target.count(-1) <= 1)
    assert_holds(build([helper.make_node("Reshape", [source, "t"], ["y"])], {"t": target}), sizes)


@given(SIZES, st.sampled_from(["x", "z", "r", "w"]), st.sampled_from(["x", "z", "r", "w"]))
@quick
def test_broadcast_and_expand(sizes: dict[str, int], a: str, b: str) -> None:
    nodes = [
        helper.make_node("Add", [a, b], ["s"]),
        helper.make_node("Shape", [b], ["sh"]),
        helper.make_node("Expand", [a, "sh"], ["e"]),
        helper.make_node("Where", ["c", "e", b], ["y"]),
    ]
    nodes.insert(0, helper.make_node("Cast", [a], ["c"], to=TensorProto.BOOL))
    assert_holds(build(nodes, {}), sizes)


@given(
    SIZES, st.integers(0, 3), st.sampled_from([2, 3, -2]), st.sampled_from(["Mul", "Div", "Sub", "Mod", "Max", "Min"])
)
@quick
def test_arithmetic_of_sizes(sizes: dict[str, int], shift: int, factor: int, op: str) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sh"]),
        helper.make_node("Gather", ["sh", "i"], ["n"]),
        helper.make_node("Add", ["n", "k"], ["p"]),
        helper.make_node(op, ["p", "f"], ["q"]),
        helper.make_node("ConstantOfShape", ["q"], ["filled"]),
        helper.make_node("Squeeze", ["q", "i"], ["limit"]),
        helper.make_node("Range", ["zero", "limit", "one"], ["y"]),
    ]
    constants = {"i": [0], "k": [shift - 2], "f": [factor], "zero": 0, "one": 1}
    assert_holds(build(nodes, constants), sizes)


@given(SIZES, st.integers(-2, 3))
@quick
def test_positions_after_a_past(sizes: dict[str, int], shift: int) -> None:
    nodes = [
        helper.make_node("Size", ["z"], ["start"]),
        helper.make_node("Size", ["r"], ["new"]),
        helper.make_node("Add", ["start", "new"], ["end"]),
        helper.make_node("Add", ["end", "k"], ["limit"]),
        helper.make_node("Range", ["start", "limit", "one"], ["y"]),
    ]
    assert_holds(build(nodes, {"k": shift, "one": 1}), sizes)


@given(SIZES, st.integers(-2, 2), st.integers(0, 2), st.integers(0, 2), st.sampled_from([-2, -1, 0, 1, 2]))
@quick
def test_pad_tile_concat_flatten(sizes: dict[str, int], before: int, after: int, times: int, axis: int) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["padded"]),
        helper.make_node("Tile", ["padded", "t"], ["tiled"]),
        helper.make_node("Concat", ["tiled", "tiled"], ["both"], axis=axis % 2),
        helper.make_node("Flatten", ["both"], ["y"], axis=axis),
    ]
    assert_holds(build(nodes, {"p": [before, 0, 0, after], "t": [times, 1]}), sizes)


@given(SIZES)
@quick
def test_a_batch_that_a_reshape_merges_and_splits(sizes: dict[str, int]) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["u"]),
        helper.make_node("Tile", ["u", "t"], ["six"]),
        helper.make_node("Shape", ["x"], ["sh"]),
        helper.make_node("Gather", ["sh", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["six", "target"], ["split"]),
        helper.make_node("Reshape", ["split", "flat"], ["y"]),
    ]
    constants = {"last": [2], "t": [1, 1, 6], "zero": [0], "rest": [-1, 3], "flat": [-1]}
    assert_holds(build(nodes, constants), sizes)


def test_a_loop_body_gives_carried_values_dims_of_their_own() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[N] x, int64 n, bool k) => (float[L] y) { y = Loop (n, k, x) <body =
      b (int64 i, bool c, float[N] v) => (bool d, float[M] o) { d = Identity(c) o = Concat<axis = 0>(v, x) }> }"""
    module = ir.Module(read(onnx.parser.parse_model(text)).model)
    shapes.infer(module)
    (node,) = [n for n in module.graph if n.op_type == "Loop"]
    (body,) = ir.subgraphs_of(node)
    carried, outer = ir.dims_of(body.inputs[2]), ir.dims_of(module.graph.inputs[0])
    assert carried is not None
    assert carried != outer
    (concat,) = [n for n in body if n.op_type == "Concat"]
    n, v = ir.Dim.symbol("N"), carried[0]
    assert isinstance(v, ir.Dim)
    assert ir.dims_of(concat.outputs[0]) == (v + n,)


@pytest.mark.parametrize("name", ["a + b", "2*a", "a-b", "12", "x//2"])
def test_names_of_tensors_do_not_leak_into_arithmetic(name: str) -> None:
    node = helper.make_node("Compress", ["x", "c"], [name], axis=0)
    twice = helper.make_node("Concat", [name, name], ["y"], axis=0)
    model = build([helper.make_node("Cast", ["r"], ["c"], to=TensorProto.BOOL), node, twice], {})
    module = read(model)
    shapes.infer(module)
    values = {v.name: ir.dims_of(v) for n in module.graph for v in n.outputs}
    one, two = values[name], values["y"]
    assert one is not None
    assert two is not None
    assert isinstance(one[0], ir.Dim)
    assert len(one[0].symbols()) == 1
    assert two[0] == one[0] * 2
