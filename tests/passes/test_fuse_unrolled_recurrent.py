"""fuse-unrolled-recurrent: steps of a recurrent layer written out one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.models.recurrent_cells import GATES, Cell, Writer, finished, layer, step
from fcc.passes.eliminate_dead_code import EliminateDeadCode
from fcc.passes.fuse_unrolled_recurrent import FuseUnrolledRecurrent
from fcc.rewrite import PassContext, run_pass
from fcc.target import get_target

Executed = Callable[..., ir.Module]
STEPS = {"Add", "Mul", "Sigmoid", "Tanh", "Gemm", "MatMul"}


def node_of(module: ir.Module) -> ir.Node:
    """The only recurrent node; no step is left."""
    assert not STEPS & {n.op_type for n in module.nodes()}
    (node,) = [n for n in module.nodes() if n.op_type in GATES]
    return node


def kinds(module: ir.Module) -> list[str]:
    return [n.op_type for n in module.graph]


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("given_states", [False, True])
def test_forms(kind: str, axis: int, backwards: bool, given_states: bool, executed: Executed) -> None:
    model = layer(Cell(kind), form="unrolled", axis=axis, backwards=backwards, given=given_states)
    node = node_of(executed(FuseUnrolledRecurrent(), model))
    assert node.attributes.get_string("direction", "forward") == ("reverse" if backwards else "forward")
    assert len(node.inputs) == (7 if kind == "LSTM" else 6)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("outputs", ["y", "h", "yh"])
def test_only_what_is_used_is_read(kind: str, outputs: str, executed: Executed) -> None:
    module = executed(FuseUnrolledRecurrent(), layer(Cell(kind), form="unrolled", outputs=outputs))
    read = kinds(module)[kinds(module).index(kind) + 1 :]
    assert [k for k in read if k != "Identity"] == ["Squeeze"] * len(outputs)


@st.composite
def spelled(draw: st.DrawFn) -> Cell:
    kind = draw(st.sampled_from(list(GATES)))
    return Cell(
        kind,
        inputs=draw(st.integers(1, 4)),
        units=draw(st.integers(1, 4)),
        product=draw(st.sampled_from(["joined", "gates", "concat"])),
        gemm=draw(st.booleans()),
        biases=draw(st.sampled_from(["", "x", "h", "xh"])),
        cut=draw(st.sampled_from(["Split", "Slice"])),
        swapped=draw(st.booleans()),
        written=draw(st.booleans()),
        turned=draw(st.booleans()),
        reset_after=draw(st.booleans()),
        peepholes=draw(st.booleans()),
        hard=draw(st.sampled_from(["", "", "op", "clip"])),
        inner=draw(st.sampled_from(["Tanh", "Tanh", "Relu", "Sigmoid"])),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=120)
@given(spelled(), st.integers(2, 5), st.integers(1, 3), st.booleans(), st.booleans())
def test_spellings(executed: Executed, cell: Cell, steps: int, batch: int, backwards: bool, given_states: bool) -> None:
    model = layer(cell, form="unrolled", steps=steps, batch=batch, backwards=backwards, given=given_states)
    assert node_of(executed(FuseUnrolledRecurrent(), model)).op_type == cell.kind


# -- what surrounds the steps ------------------------------------------------------------------------------------------
X = {"x": [4, 2, 3], "h0": [2, 4], "c0": [2, 4]}
Write = Callable[[Writer, list[list[str]]], dict[str, list[Any]]]


def written(
    write: Write,
    cell: Cell | None = None,
    *,
    steps: int = 4,
    element: Callable[[Writer, int], str] | None = None,
    states: list[str] | None = None,
    inputs: dict[str, list[Any]] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """The steps of a cell on ``element(w, t)``; ``write`` makes outputs (name -> shape) of the states of every step."""
    cell, w = cell or Cell(), Writer()
    found = [states or ["h0", "c0"][: cell.states]]
    for t in range(steps):
        x = element(w, t) if element else w("Gather", "x", w.number(t), axis=0)
        found.append(step(cell, w, x, found[-1]))
    outputs = write(w, found[1:])
    return finished(w, X if inputs is None else inputs, outputs, opset=opset, dtype=cell.dtype)


def last(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
    return {w.name(states[-1][0], "y"): [2, 4]}


def test_single_states_are_gathered(executed: Executed) -> None:
    def two(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
        return {w("Neg", states[1][0]): [2, 4], w.name(states[2][0], "y"): [2, 4], w.name(states[3][1], "z"): [2, 4]}

    module = executed(FuseUnrolledRecurrent(), written(two))
    node_of(module)
    gathers = [n for n in module.graph if n.op_type == "Gather"]
    assert [int(ir.Module.constant(g.inputs[1]) or 0) for g in gathers] == [1, 2]


def test_all_states_are_split(executed: Executed) -> None:
    def each(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
        return {w("Neg", s[0]): [2, 4] for s in states}

    module = executed(FuseUnrolledRecurrent(), written(each))
    node_of(module)
    assert kinds(module).count("Split") == 1
    assert kinds(module).count("Squeeze") == 5


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stacks_in_both_orders_along_any_axis(turned: bool, axis: int, executed: Executed) -> None:
    def stack(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
        order = states[::-1] if turned else states
        y = w("Concat", *(w("Unsqueeze", s[0], w.ints(axis)) for s in order), axis=axis)
        return {y: {0: [4, 2, 4], 1: [2, 4, 4], -1: [2, 4, 4]}[axis]}

    module = executed(FuseUnrolledRecurrent(), written(stack))
    node_of(module)
    behind = kinds(module)[kinds(module).index("LSTM") + 1 :]
    assert behind == ["Squeeze", *(["Slice"] if turned else []), *(["Transpose"] if axis else [])]


def test_what_is_no_stack_of_all_states(executed: Executed) -> None:
    def some(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
        rows = [w("Unsqueeze", s[0], w.ints(0)) for s in states]
        mixed = w("Concat", rows[0], rows[2], rows[1], rows[3], axis=0)
        return {w("Concat", *rows[:3], axis=0): [3, 2, 4], mixed: [4, 2, 4], w("Concat", *rows, axis=1): [1, 8, 4]}

    module = executed(FuseUnrolledRecurrent(), written(some))
    node_of(module)
    assert kinds(module).count("Concat") == 3


def by_slice(w: Writer, t: int) -> str:
    return w("Squeeze", w("Slice", "x", w.ints(t), w.ints(t + 1), w.ints(0)), w.ints(0))


def by_split(w: Writer, t: int) -> str:
    pieces = w.op("Split", "x", w.ints(1, 1, 1, 1), outputs=4, axis=0)
    return w("Squeeze", pieces[t], w.ints(0))


def from_the_end(w: Writer, t: int) -> str:
    return w("Gather", "x", w.number(t - 4), axis=0)


def by_reshape(w: Writer, t: int) -> str:
    return w("Reshape", w("Gather", "x", w.ints(t), axis=0), w.ints(2, 3))


@pytest.mark.parametrize("element", [by_slice, by_split, from_the_end, by_reshape])
def test_ways_to_take_an_element(element: Callable[[Writer, int], str], executed: Executed) -> None:
    assert kinds(executed(FuseUnrolledRecurrent(), written(last, element=element)))[:1] == ["Unsqueeze"]


def test_part_of_a_sequence(executed: Executed) -> None:
    inputs = X | {"x": [2, 9, 3]}
    module = executed(
        FuseUnrolledRecurrent(),
        written(last, element=lambda w, t: w("Gather", "x", w.number(6 - t), axis=1), inputs=inputs),
    )
    node = node_of(module)
    assert node.attributes.get_string("direction", "") == "reverse"
    (cut,) = [n for n in module.graph if n.op_type == "Slice"]
    assert [ir.Module.constant(v).tolist() for v in cut.inputs[1:]] == [[3], [7], [1]]  # type: ignore[union-attr]


def test_two_sequences_side_by_side(executed: Executed) -> None:
    def both(w: Writer, t: int) -> str:
        return w("Concat", w("Gather", "v", w.number(t + 1), axis=0), w("Gather", "x", w.number(t), axis=1), axis=-1)

    inputs = X | {"x": [2, 4, 1], "v": [5, 2, 2]}
    node = node_of(executed(FuseUnrolledRecurrent(), written(last, element=both, inputs=inputs)))
    assert node.inputs[0].producer().op_type == "Concat"  # type: ignore[union-attr]


def test_a_projection_of_the_whole_sequence_joins_the_weights(executed: Executed) -> None:
    """x W + b for all steps at once, as torch and Keras write it; the cell adds h R to its elements."""

    def cell(w: Writer, h: str, xp: str) -> str:
        r = w.weight("r", np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32))
        return w("Tanh", w("Add", xp, w("MatMul", h, r)))

    w, rng = Writer(), np.random.default_rng(0)
    project = w.weight("p", rng.standard_normal((3, 4)).astype(np.float32))
    xp = w("Add", w("MatMul", "x", project), w.weight("b", rng.standard_normal(4).astype(np.float32)))
    h = "h0"
    for t in range(4):
        h = cell(w, h, w("Gather", xp, w.number(t), axis=0))
    module = executed(FuseUnrolledRecurrent(), finished(w, X, {h: [2, 4]}))
    run_pass(EliminateDeadCode(), module, PassContext(get_target("cpu")))
    node = node_of(module)
    assert node.inputs[0] is module.graph.inputs[0]
    assert [ir.dims_of(v) for v in node.inputs[1:3]] == [(1, 4, 3), (1, 4, 4)]


def test_an_input_that_goes_to_the_gates_as_it_is(executed: Executed) -> None:
    w = Writer()
    r = w.weight("r", np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32))
    h = "h0"
    for t in range(4):
        h = w("Tanh", w("Add", w("Gather", "x", w.number(t), axis=0), w("MatMul", h, r)))
    module = executed(FuseUnrolledRecurrent(), finished(w, X | {"x": [4, 2, 4]}, {h: [2, 4]}))
    found = ir.Module.constant(node_of(module).inputs[1])
    assert found is not None
    assert found.tolist() == [np.eye(4).tolist()]


@pytest.mark.parametrize("shape", [[4], [1, 2, 4]])
def test_states_of_other_ranks(shape: list[int], executed: Executed) -> None:
    inputs = {"x": [4, 3] if len(shape) == 1 else [4, 2, 3], "h0": shape, "c0": shape}

    def outputs(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
        stack = w("Concat", *(w("Unsqueeze", s[0], w.ints(0)) for s in states), axis=0)
        return {
            w("Neg", states[1][0]): shape,
            w.name(states[-1][0], "y"): shape,
            w.name(states[-1][1], "z"): shape,
            stack: [4, *shape],
        }

    node_of(executed(FuseUnrolledRecurrent(), written(outputs, inputs=inputs)))


def test_two_layers_one_on_the_other(executed: Executed) -> None:
    w, lower, upper = Writer(), Cell("GRU", seed=1), Cell("GRU", inputs=4, seed=2)
    h, g = "h0", "c0"
    for t in range(4):
        (h,) = step(lower, w, w("Gather", "x", w.number(t), axis=0), [h])
        (g,) = step(upper, w, h, [g])
    module = executed(FuseUnrolledRecurrent(), finished(w, X, {g: [2, 4]}), applications=2)
    assert [k for k in kinds(module) if k in GATES] == ["GRU", "GRU"]


@pytest.mark.parametrize(("inputs", "joined"), [(3, True), (30, False)])
def test_a_narrow_projection_stays_in_front_of_the_layer(inputs: int, joined: bool, executed: Executed) -> None:
    """Two columns made of thirty: with the projection inside, the layer would multiply by more numbers."""
    w, rng = Writer(), np.random.default_rng(0)
    p, k, r = (w.weight(n, rng.standard_normal(s).astype(np.float32)) for n, s in
               (("p", (inputs, 2)), ("k", (2, 4)), ("r", (4, 4))))  # fmt: skip
    xp, h = w("MatMul", "x", p), "h0"
    for t in range(4):
        row = w("Gather", xp, w.number(t), axis=0)
        h = w("Tanh", w("Add", w("MatMul", row, k), w("MatMul", h, r)))
    module = executed(FuseUnrolledRecurrent(), finished(w, X | {"x": [4, 2, inputs]}, {h: [2, 4]}))
    run_pass(EliminateDeadCode(), module, PassContext(get_target("cpu")))
    assert ("MatMul" in kinds(module)) is not joined
