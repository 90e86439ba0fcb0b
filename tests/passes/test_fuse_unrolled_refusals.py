"""fuse-unrolled-recurrent: what starts and ends a chain of steps, and what keeps it as it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.models.recurrent_cells import GATES, Cell, Writer, finished, layer, step
from fcc.passes.fold_constants import FoldConstants
from fcc.passes.fuse_unrolled_recurrent import FuseUnrolledRecurrent
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

Executed = Callable[..., ir.Module]
X = {"x": [4, 2, 3], "h0": [2, 4], "c0": [2, 4]}


def refusal(model: onnx.ModelProto, p: FuseUnrolledRecurrent | None = None, target: str = "cpu", opset: int = 0) -> str:
    """The reasons for which a model stays as it is."""
    module = read(model)
    shapes.infer(module)
    if opset:
        module.model.opset_imports[""] = opset
    before = serde.serialize_model(module.model).SerializeToString(deterministic=True)
    log = Log(strict=True)
    assert run_pass(p or FuseUnrolledRecurrent(), module, PassContext(get_target(target), log)) == 0
    assert serde.serialize_model(module.model).SerializeToString(deterministic=True) == before
    return "; ".join(dict.fromkeys(r.reason for r in log.refused))


def steps_of(
    cell: Cell | None = None,
    count: int = 4,
    element: Callable[[Writer, int], str] | None = None,
    outputs: Callable[[Writer, list[list[str]]], dict[str, list[Any]]] | None = None,
    inputs: dict[str, list[Any]] | None = None,
    cells: list[Cell] | None = None,
    between: Callable[[Writer, list[str]], list[str]] = lambda w, states: states,
) -> onnx.ModelProto:
    """Steps of a cell, or of one each; ``between`` changes the states behind each step."""
    cell = cell or Cell()
    w, found = Writer(), [["h0", "c0"][: cell.states]]
    for t in range(count):
        x = element(w, t) if element else w("Gather", "x", w.number(t), axis=0)
        found.append(between(w, step(cells[t] if cells else cell, w, x, found[-1])))
    shape = [2, cell.units]
    results = outputs(w, found[1:]) if outputs else {w.name(found[-1][0], "y"): shape}
    return finished(w, X if inputs is None else inputs, results, dtype=cell.dtype)


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    module = read(model)
    shapes.infer(module)
    run_pass(FoldConstants(), module, PassContext(get_target("cpu")))
    return serde.serialize_model(module.model)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("product", ["joined", "concat"])
def test_a_first_step_folded_for_zeros_takes_part(
    kind: str, reset_after: bool, product: str, executed: Executed
) -> None:
    cell = Cell(kind, reset_after=reset_after, product=product)
    model = folded(layer(cell, form="unrolled", given=False))
    module = executed(FuseUnrolledRecurrent(), model)
    (node,) = [n for n in module.graph if n.op_type in GATES]
    assert node.inputs[0] is module.graph.inputs[0]
    assert product == "concat" or all(v is None for v in node.inputs[5:])


@pytest.mark.parametrize("kind", GATES)
def test_a_first_step_of_another_form_gives_the_initial_state(kind: str, executed: Executed) -> None:
    """As if the first state were a constant that an exporter folded in; the layer starts behind that step."""
    cell = Cell(kind)
    other = replace(cell, seed=5, biases="")
    module = executed(FuseUnrolledRecurrent(), steps_of(cell, cells=[other, cell, cell, cell]))
    (node,) = [n for n in module.graph if n.op_type in GATES]
    (cut,) = [n for n in module.graph if n.op_type == "Slice"]
    assert [ir.Module.constant(v).tolist() for v in cut.inputs[1:]] == [[1], [4], [0]]  # type: ignore[union-attr]
    assert node.inputs[5] is not None


def test_a_step_of_other_weights_ends_the_layer(executed: Executed) -> None:
    cell = Cell("GRU")
    module = executed(
        FuseUnrolledRecurrent(), steps_of(cell, cells=[cell, cell, replace(cell, seed=3), cell]), applications=1
    )
    (node,) = [n for n in module.graph if n.op_type == "GRU"]
    assert ir.dims_of(node.outputs[0]) == (2, 1, 2, 4)


def gate(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
    inner = next(n.output[0] for n in w.nodes if n.op_type == "Sigmoid" and n.output[0] > "Sigmoid_2")
    return {w.name(states[-1][0], "y"): [2, 4], w("Neg", inner): [2, 4]}


def one_cell_state(w: Writer, states: list[list[str]]) -> dict[str, list[Any]]:
    return {w.name(states[-1][0], "y"): [2, 4], w("Neg", states[1][1]): [2, 4]}


def several(w: Writer, t: int) -> str:
    return w("Gather", "x" if t else "v", w.number(t), axis=0)


def unordered(w: Writer, t: int) -> str:
    return w("Gather", "x", w.number((0, 2, 1, 3)[t]), axis=0)


def beyond(w: Writer, t: int) -> str:
    return w("Gather", "x", w.number(t + 1), axis=0)


def before_the_first(w: Writer, t: int) -> str:
    return w("Gather", "x", w.number(t - 5), axis=0)


def repeated(w: Writer, t: int) -> str:
    return w("Gather", "x", w.number(0), axis=0)


def computed(w: Writer, t: int) -> str:
    return w("Gather", "x", "at", axis=0)


def both_ways(w: Writer, t: int) -> str:
    return w("Concat", w("Gather", "x", w.number(t), axis=0), w("Gather", "x", w.number(3 - t), axis=0), axis=-1)


def whole(w: Writer, t: int) -> str:
    return w("ReduceSum", "x", w.ints(0), keepdims=0)


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a gate is used": (lambda: steps_of(outputs=gate), "is used outside of the cell"),
    "a cell state is used": (lambda: steps_of(outputs=one_cell_state), "is used outside of the cell"),
    "beyond the last element": (lambda: steps_of(element=beyond), "no element of a sequence"),
    "before the first element": (lambda: steps_of(element=before_the_first), "no element of a sequence"),
    "several sequences": (lambda: steps_of(element=several, inputs=X | {"v": [4, 2, 3]}), "several sequences"),
    "another order": (lambda: steps_of(element=unordered), "not in the order of the sequence"),
    "the same element": (lambda: steps_of(element=repeated), "not in the order of the sequence"),
    "both directions": (lambda: steps_of(Cell(inputs=6), element=both_ways), "in both directions"),
    "no element": (lambda: steps_of(element=whole), "no element of a sequence"),
    "fewer rows": (lambda: steps_of(inputs=X | {"h0": [1, 4]}), "the initial state has the shape [1,4]"),
    "unknown rows": (lambda: steps_of(inputs=X | {"h0": ["N", 4]}), "the initial state has the shape [N,4]"),
    "more axes": (
        lambda: steps_of(inputs={"x": [4, 5, 2, 3], "h0": [5, 2, 4], "c0": [5, 2, 4]}, outputs=lambda w, s: {w.name(s[-1][0], "y"): [5, 2, 4]}),
        "no sequence of rows",
    ),
    "half precision on cpu": (lambda: steps_of(Cell(dtype=np.float16)), "float16"),
    "clipped states": (
        lambda: steps_of(Cell("GRU"), between=lambda w, s: [w("Clip", s[0], w.weight("low", np.full((), -0.5, np.float32)))]),
        "no recurrent cell",
    ),
    "states that are activated again": (lambda: steps_of(Cell("GRU"), between=lambda w, s: [w("Tanh", s[0])]), "no recurrent cell"),
    "scaled states": (
        lambda: steps_of(Cell("GRU"), between=lambda w, s: [w("Mul", s[0], w.weight("two", np.full((), 2, np.float32)))]),
        "no recurrent cell",
    ),
    "a chain of layers": (
        lambda: steps_of(Cell("RNN", inner="Erf")),
        "no recurrent cell",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_stays(case: str) -> None:
    model, because = CASES[case]
    assert because in refusal(model())


def test_an_index_that_is_not_known() -> None:
    w, states = Writer(), ["h0", "c0"]
    for _ in range(3):
        states = step(Cell(), w, w("Gather", "x", w("Cast", "at", to=7), axis=0), states)
    assert "no element of a sequence" in refusal(finished(w, X | {"at": []}, {states[0]: [2, 4]}))


@pytest.mark.parametrize(
    ("cell", "because"),
    [
        (Cell("GRU", reset_after=False), "linear_before_reset must be 1"),
        (Cell("LSTM", peepholes=True), "peepholes are not supported"),
        (Cell("RNN", inner="Relu"), "activations must be the default ones"),
        (Cell("LSTM", hard="op"), "activation"),
    ],
)
def test_targets_that_lack_the_form(cell: Cell, because: str) -> None:
    assert because in refusal(layer(cell, form="unrolled"), target="cuda")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets(target: str, executed: Executed) -> None:
    module = executed(FuseUnrolledRecurrent(), layer(Cell("GRU"), form="unrolled"), target=target)
    assert [n.op_type for n in module.graph if n.op_type in GATES] == ["GRU"]


def test_weights_that_stay_may_not_make_the_file_grow() -> None:
    cell = Cell("RNN", inputs=40, units=40, gemm=True)
    model = steps_of(cell, inputs={"x": [4, 2, 40], "h0": [2, 40]}, outputs=lambda w, s: {
        w("MatMul", "h0", "wt_h_h_0"): [2, 40], w("MatMul", "h0", "wt_x_h_0"): [2, 40], w.name(s[-1][0], "y"): [2, 40]
    })  # fmt: skip
    assert "would be freed" in refusal(model)


def test_where_the_kernel_is_slow() -> None:
    sizes = {"x": [4, 64, 3], "h0": [64, 4]}
    model = steps_of(Cell("RNN"), inputs=sizes, outputs=lambda w, s: {w.name(s[-1][0], "y"): [64, 4]})
    assert "RNN over 64 rows of 4 units is slower than its nodes on cpu" in refusal(model)


def test_older_opsets() -> None:
    assert "before opset 13" in refusal(steps_of(), opset=12)


def test_weights_that_a_caller_may_override() -> None:
    model = steps_of(Cell("RNN"))
    for tensor in model.graph.initializer:
        if tensor.name.startswith("w_"):
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert refusal(model) == ""


def test_a_chain_in_a_branch(executed: Executed) -> None:
    inner = steps_of(Cell("GRU")).graph
    weights = list(inner.initializer)
    del inner.initializer[:], inner.input[:]
    other = Writer()
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["h0"], ["z"])], "other", [], [onnx.ValueInfoProto(name="z")]
    )
    inner.output[0].name = "inner_y"
    inner.node[-1].output[0] = "inner_y"
    other.nodes.append(onnx.helper.make_node("Greater", ["flag", "h_sum"], ["c"]))
    other.nodes.insert(0, onnx.helper.make_node("ReduceSum", ["h0"], ["h_sum"], keepdims=0))
    other.nodes.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=branch))
    model = finished(other, {"x": [4, 2, 3], "h0": [2, 4], "flag": []}, {"y": [2, 4]})
    model.graph.initializer.extend(weights)
    module = executed(FuseUnrolledRecurrent(), model)
    (node,) = [n for n in module.nodes() if n.op_type == "GRU"]
    assert node.graph is not module.graph
