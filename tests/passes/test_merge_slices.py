"""merge-slices and merge-slices-to-split: two ranges in a row are one, ranges side by side are a Split."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.merge_slices import MergeSlices, MergeSlicesToSplit
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

BOUNDS = "<int64[1] a, int64[1] b, int64[1] c, int64[1] d, int64[1] ax, int64[1] ay>"
TWO = "{ t = Slice(x, a, b, ax) y = Slice(t, c, d, ay) }"
START = {"a": 1, "b": 9, "c": 2, "d": 4, "ax": 1, "ay": 1}


def bounds_of(module: ir.Module) -> list[list[int]]:
    """The integer operands of the last node."""
    arrays = (ir.Module.constant(v) for v in list(module.graph)[-1].inputs[1:])
    return [a.tolist() for a in arrays if a is not None]


def test_two_ranges_of_one_axis() -> None:
    module = check(
        MergeSlices(),
        f"g (float[N,10] x) => (float[N,2] y) {BOUNDS} {TWO}",
        "g (float[N,10] x) => (float[N,2] y) { y = Slice(x, a, b, ax) }",
        constants=START,
    )
    assert bounds_of(module) == [[3], [5], [1]]


def test_ranges_of_two_axes_are_taken_together() -> None:
    module = check(
        MergeSlices(),
        f"g (float[6,10] x) => (float[2,8] y) {BOUNDS} {TWO}",
        "g (float[6,10] x) => (float[2,8] y) { y = Slice(x, a, b, ax) }",
        constants={**START, "ay": 0},
    )
    assert bounds_of(module) == [[2, 1], [4, 9], [0, 1]]


def test_an_axis_of_unknown_size_goes_forward_only() -> None:
    text = f"g (float[N,M] x) => (float[N,K] y) {BOUNDS} {TWO}"
    after = "g (float[N,M] x) => (float[N,K] y) { y = Slice(x, a, b, ax) }"
    module = check(MergeSlices(), text, after, constants=START)
    assert bounds_of(module) == [[3], [5], [1]]
    check(MergeSlices(), text, None, because="from the end", constants={**START, "d": -1})


@pytest.mark.parametrize("end", [2**31 - 1, 2**63 - 1])
def test_an_end_beyond_any_axis_is_the_end(end: int) -> None:
    text = f"g (float[N,M] x) => (float[N,K] y) {BOUNDS} {TWO}"
    for first, second, stop in ((end, end, 2**63 - 1), (100, end, 100), (end, 4, 5)):
        module = check(
            MergeSlices(),
            text,
            "g (float[N,M] x) => (float[N,K] y) { y = Slice(x, a, b, ax) }",
            constants={**START, "b": first, "d": second},
            sizes={"M": 12},
        )
        assert bounds_of(module) == [[3], [stop], [1]]


REFUSED = {
    "it goes backwards": "g (float[6,9] x) => (float[6,K] y) <int64[1] a, int64[1] b, int64[1] ax, int64[1] s> "
    "{ t = Slice(x, a, b, ax) y = Slice(t, b, a, ax, s) }",
    "is a graph output": f"g (float[6,9] x) => (float[6,K] y, float[6,8] t) {BOUNDS} {TWO}",
    "not known": "g (float[6,9] x, int64[1] b) => (float[6,K] y) <int64[1] a, int64[1] ax> "
    "{ t = Slice(x, a, b, ax) y = Slice(t, a, b, ax) }",
}


@pytest.mark.parametrize("because", REFUSED)
def test_two_stay(because: str) -> None:
    check(MergeSlices(), REFUSED[because], None, because=because, constants={**START, "s": -1})


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_the_input_does_not_have(axis: int) -> None:
    text = f"g (float[6,9] x) => (float[A,B] y) {BOUNDS} {TWO}"
    check(MergeSlices(), text, None, because="an axis is none of the input", constants={**START, "ay": axis})
    check(MergeSlicesToSplit(), text, None, constants={**START, "ay": axis})


SPLIT = (
    "g (float[N,10] x) => (float[N,3] y, float[N,7] z) <int64[1] a, int64[1] b, int64[1] c, int64[1] ax> "
    "{ z = Slice(x, b, c, ax) y = Slice(x, a, b, ax) }"
)
HALVES = {"a": 0, "b": 3, "c": 2**31 - 1, "ax": 1}


def test_ranges_that_cover_an_axis_are_a_split() -> None:
    module = check(
        MergeSlicesToSplit(),
        SPLIT,
        "g (float[N,10] x) => (float[N,3] y, float[N,7] z) { y, z = Split<axis=1>(x, s) }",
        constants=HALVES,
    )
    assert bounds_of(module) == [[3, 7]]


def test_a_split_stands_behind_what_makes_its_input() -> None:
    check(
        MergeSlicesToSplit(),
        SPLIT.replace("{", "{ r = Relu(x) w = Neg(r)")
        .replace("Slice(x", "Slice(r")
        .replace("z)", "z, float[N,10] w)", 1),
        "g (float[N,10] x) => (float[N,3] y, float[N,7] z, float[N,10] w) "
        "{ r = Relu(x) y, z = Split<axis=1>(r, s) w = Neg(r) }",
        constants=HALVES,
    )


@pytest.mark.parametrize(
    "change",
    [{"a": 1}, {"c": 9}, {"b": 10}, {"b": 0}],
    ids=["a gap in front", "a gap behind", "an empty range behind", "an empty range in front"],
)
def test_ranges_that_leave_something_stay(change: dict[str, int]) -> None:
    text = SPLIT.replace("N,3", "N,K").replace("N,7", "N,L")
    check(MergeSlicesToSplit(), text, None, because="cover", constants={**HALVES, **change})


def test_ranges_in_a_subgraph_stay() -> None:
    text = """g (bool q, float[N,10] x) => (float[N,3] y, float[N,7] z)
        <int64[1] a, int64[1] b, int64[1] c, int64[1] ax> { y = Slice(x, a, b, ax)
        z = If (q) <then_branch = t () => (float[N,7] p) { p = Slice(x, b, c, ax) },
                    else_branch = e () => (float[N,7] r) { r = Slice(x, b, c, ax) }> }"""
    check(MergeSlicesToSplit(), text, None, because="cover", constants=HALVES)


@st.composite
def chains(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, int]]:
    dims = draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))
    symbolic = [draw(st.booleans()) for _ in dims]
    nodes, constants = [], []
    entry = st.one_of(st.integers(-8, 8), st.sampled_from([2**31 - 1, 2**63 - 1, -(2**31)]))
    for k in range(2):
        axes = sorted(draw(st.sets(st.integers(0, len(dims) - 1), min_size=1)))
        columns = [[draw(entry) for _ in axes] for _ in range(2)]
        steps = [draw(st.sampled_from([1, 1, 2, 3, -1])) for _ in axes]
        names = []
        for j, row in enumerate((*columns, axes, steps)):
            names.append(f"c{k}{j}")
            constants.append(numpy_helper.from_array(np.array(row, np.int64), names[-1]))
        nodes.append(helper.make_node("Slice", [f"t{k}", *names], [f"t{k + 1}"]))
    declared = [f"d{i}" if s else d for i, (d, s) in enumerate(zip(dims, symbolic, strict=True))]
    info = [
        helper.make_tensor_value_info("t0", TensorProto.FLOAT, declared),
        helper.make_tensor_value_info("t2", TensorProto.FLOAT, [None] * len(dims)),
    ]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model, {f"d{i}": d for i, d in enumerate(dims)}


@settings(max_examples=150, deadline=None)
@given(chains())
def test_generated_chains(case: tuple[onnx.ModelProto, dict[str, int]]) -> None:
    model, sizes = case
    module = read(model)
    shapes.infer(module)
    reference = serde.serialize_model(module.clone().model)
    applied = run_pass(MergeSlices(), module, PassContext(get_target("cpu"), Log(strict=True)))
    event(f"applied: {applied > 0}")
    ir.verify(module)
    same_outputs(reference, serde.serialize_model(module.model), sizes=sizes)


@pytest.mark.parametrize("name", ["a", "b", "ax"])
def test_bounds_that_are_not_as_many_as_the_axes_stay(name: str) -> None:
    """No such Slice runs, and none is read past the end of its operands."""
    text = f"g (float[N,10] x) => (float[N,K] y) {BOUNDS} {TWO}".replace(f"int64[1] {name},", f"int64[2] {name},")
    check(MergeSlices(), text, None, because="not as many bounds", constants=START)


def test_a_step_beyond_the_range_of_integers_stays() -> None:
    text = f"g (float[M] x) => (float[K] y) {BOUNDS[:-1]}, int64[1] k> {TWO.replace('ax)', 'ax, k)').replace('ay)', 'ay, k)')}"
    constants = {"a": 0, "b": 9, "c": 0, "d": 9, "ax": 0, "ay": 0, "k": 2**40}
    check(MergeSlices(), text, None, because="leaves the range", constants=constants)


def test_each_branch_gets_its_split_in_one_run() -> None:
    inside = "float[N,3] {0}, float[N,7] {1}) {{ {0} = Slice(x, a, b, ax) {1} = Slice(x, b, c, ax) }}"
    head = f"g (bool q, float[N,10] x) => (float[N,3] y, float[N,7] z) {BOUNDS}"
    text = (
        f"{head} {{ y, z = If (q) <then_branch = t () => ({inside.format('p', 'r')}, "
        f"else_branch = e () => ({inside.format('v', 'w')}> }}"
    )
    module = read(model_from(text, constants={**HALVES, "d": 0, "ay": 0}))
    shapes.infer(module)
    assert run_pass(MergeSlicesToSplit(), module, PassContext(get_target("cpu"), Log(strict=True))) == 2
    assert [n.op_type for n in module.nodes()] == ["If", "Split", "Split"]


def test_ranges_with_steps_are_no_parts_of_a_split() -> None:
    text = (
        SPLIT.replace("ax> {", "ax, int64[1] k> {").replace("ax)", "ax, k)").replace("N,3", "N,K").replace("N,7", "N,L")
    )
    check(MergeSlicesToSplit(), text, None, constants={**HALVES, "k": 2})


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_bound_that_is_a_symbol_stays(name: str) -> None:
    text = (
        f"g (float[N,10] x, float[M] z) => (float[N,K] y) {BOUNDS} {{ s = Shape(z) t = Slice(x, a, b, ax) y = Slice(t, c, d, ay) }}"
    ).replace(f"Slice(x, {'a' if name == 'a' else 'a, b'}", f"Slice(x, {'s' if name == 'a' else 'a, s'}")
    check(MergeSlices(), text, None, because="depends on a symbol", constants=START, sizes={"M": 1})
