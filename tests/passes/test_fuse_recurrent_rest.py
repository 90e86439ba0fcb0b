"""fuse-recurrent: what else a loop does, and what keeps it as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.models.recurrent_cells import GATES, Cell, Writer, layer, step
from fcc.passes.eliminate_dead_code import EliminateDeadCode
from fcc.passes.eliminate_loop_values import EliminateLoopValues
from fcc.passes.fuse_recurrent import FuseRecurrent
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

Executed = Callable[..., ir.Module]
FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def refusal(model: onnx.ModelProto, p: FuseRecurrent | None = None, target: str = "cpu", opset: int = 0) -> str:
    """The reasons for which a model stays as it is."""
    module = read(model)
    shapes.infer(module)
    if opset:
        module.model.opset_imports[""] = opset
    before = serde.serialize_model(module.model).SerializeToString(deterministic=True)
    log = Log(strict=True)
    assert run_pass(p or FuseRecurrent(), module, PassContext(get_target(target), log)) == 0
    assert serde.serialize_model(module.model).SerializeToString(deterministic=True) == before
    return "; ".join(r.reason for r in log.refused)


class Loop:
    """A Loop over x [4, 2, 3] (and what ``inputs`` adds) whose body a test writes with ``self.w``."""

    def __init__(self, trips: int = 4, **inputs: list[Any]) -> None:
        self.outer, self.trips = Writer(), trips
        self.w = Writer(self.outer.weights, prefix="in_")
        self.inputs = {"x": [4, 2, 3], "h0": [2, 4], "c0": [2, 4]} | inputs
        self.carried: list[tuple[str, str, str]] = []
        self.stacked: list[str] = []

    def element(self, name: str = "x", axis: int = 0) -> str:
        return self.w("Gather", name, "i", axis=axis)

    def carry(self, init: str, inner: str, given: str) -> None:
        self.carried.append((init, inner, given))

    def model(self, *used: str, opset: int = 18) -> onnx.ModelProto:
        """``used`` names results: r0, r1... what is carried, s0, s1... what is stacked."""
        inner, outer = self.w, self.outer
        given = [inner.name(g, f"next_{k}") for k, (_, _, g) in enumerate(self.carried)]
        given += [inner.name(s, f"row_{k}") for k, s in enumerate(self.stacked)]
        cond = inner.name("go", "goes_on")
        infos = [helper.make_tensor_value_info("i", INT, []), helper.make_tensor_value_info("go", BOOL, [])]
        infos += [onnx.ValueInfoProto(name=n) for _, n, _ in self.carried]
        for info in infos[2:]:
            info.type.tensor_type.elem_type = FLOAT
        outs = [helper.make_tensor_value_info(cond, BOOL, [])] + [
            helper.make_tensor_value_info(g, FLOAT, None) for g in given
        ]
        body = helper.make_graph(inner.nodes, "body", infos, outs)
        count = outer.weight("count", np.array(self.trips, np.int64))
        names = [f"r{k}" for k in range(len(self.carried))] + [f"s{k}" for k in range(len(self.stacked))]
        fed = [count, outer.weight("yes", np.array(True)), *(i for i, _, _ in self.carried)]
        outer.nodes.append(helper.make_node("Loop", fed, names, body=body))
        constants = {n for node in [*outer.nodes, *inner.nodes] for n in node.input}
        weights = [numpy_helper.from_array(a, n) for n, a in outer.weights.items() if n in constants]
        ins = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in self.inputs.items()]
        results = [helper.make_tensor_value_info(n, FLOAT, None) for n in used]
        graph = helper.make_graph(outer.nodes, "g", ins, results, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def gru(loop: Loop, x: str | None = None, cell: Cell | None = None, h: str = "h") -> str:
    (after,) = step(cell or Cell("GRU"), loop.w, x or loop.element(), [h])
    return after


def cleaned(module: ir.Module) -> list[str]:
    """What is left when values that nobody needs are gone."""
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    for _ in range(2):
        run_pass(EliminateLoopValues(), module, ctx)
        run_pass(EliminateDeadCode(), module, ctx)
    ir.verify(module)
    return [n.op_type for n in module.nodes()]


def test_a_loop_that_computes_more_reads_the_hidden_states(executed: Executed) -> None:
    loop = Loop()
    h = gru(loop)
    loop.carry("h0", "h", h)
    loop.carry("c0", "sum", loop.w("Add", "sum", loop.w("Exp", h)))
    module = executed(FuseRecurrent(), loop.model("r0", "r1"))
    left = cleaned(module)
    assert left.count("GRU") == left.count("Loop") == left.count("Gather") == 1
    assert not {"Sigmoid", "Tanh", "MatMul"} & set(left)


def test_backwards_the_rest_reads_from_the_end(executed: Executed) -> None:
    loop = Loop()
    at = loop.w("Sub", loop.w.number(3), "i")
    h = gru(loop, loop.w("Gather", "x", at, axis=0))
    loop.carry("h0", "h", h)
    loop.stacked = [loop.w("Exp", h)]
    module = executed(FuseRecurrent(), loop.model("r0", "s0"))
    left = cleaned(module)
    assert left.count("Sub") == left.count("Loop") == 1
    assert "Sigmoid" not in left


def test_two_cells_in_one_loop_one_on_the_other(executed: Executed) -> None:
    loop = Loop()
    h = gru(loop)
    g = gru(loop, h, Cell("GRU", inputs=4, seed=7), "g")
    loop.carry("h0", "h", h)
    loop.carry("c0", "g", g)
    loop.stacked = [g]
    module = executed(FuseRecurrent(), loop.model("r1", "s0"), applications=2)
    left = cleaned(module)
    assert left.count("GRU") == 2
    assert "Loop" not in left


def test_a_counter_beside_the_cell(executed: Executed) -> None:
    loop = Loop()
    loop.carry("h0", "h", gru(loop))
    loop.carry("t0", "t", loop.w("Add", "t", loop.w.weight("step", np.full((), 0.5, np.float32))))
    loop.inputs["t0"] = []
    module = executed(FuseRecurrent(), loop.model("r0", "r1"))
    assert "Sigmoid" not in cleaned(module)


def test_nothing_is_computed_twice() -> None:
    """What only the loop itself needs is left to eliminate-loop-values."""
    loop = Loop()
    loop.carry("h0", "h", gru(loop))
    loop.carry("c0", "s", loop.w("Exp", "s"))
    assert refusal(loop.model("r1")) == "nothing uses the layer"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sequences_along_any_axis(axis: int, executed: Executed) -> None:
    shape: list[Any] = [2, 3]
    shape.insert(axis, 4)
    loop = Loop(x=shape)
    loop.carry("h0", "h", gru(loop, loop.element(axis=axis)))
    module = executed(FuseRecurrent(), loop.model("r0"))
    assert [n.op_type for n in module.graph][: 1 + (axis > 0)] == ["Transpose", "Unsqueeze"][axis == 0 :]


def test_part_of_a_sequence(executed: Executed) -> None:
    loop = Loop(x=[9, 2, 3])
    at = loop.w("Add", "i", loop.w.number(3))
    loop.carry("h0", "h", gru(loop, loop.w("Gather", "x", at, axis=0)))
    module = executed(FuseRecurrent(), loop.model("r0"))
    (cut,) = [n for n in module.graph if n.op_type == "Slice"]
    assert [ir.Module.constant(v).tolist() for v in cut.inputs[1:]] == [[3], [7], [0]]  # type: ignore[union-attr]


def test_an_element_taken_by_slice(executed: Executed) -> None:
    loop, w = Loop(), None
    w = loop.w
    start = w("Unsqueeze", "i", w.ints(0))
    row = w("Slice", "x", start, w("Add", start, w.ints(1)), w.ints(0))
    loop.carry("h0", "h", gru(loop, w("Squeeze", row, w.ints(0))))
    executed(FuseRecurrent(), loop.model("r0"))


def test_a_projection_of_the_whole_sequence(executed: Executed) -> None:
    loop = Loop()
    p = loop.outer.weight("p", np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32))
    b = loop.outer.weight("pb", np.random.default_rng(1).standard_normal(5).astype(np.float32))
    xp = loop.outer("Add", loop.outer("MatMul", "x", p), b)
    loop.carry("h0", "h", gru(loop, loop.element(xp), Cell("GRU", inputs=5)))
    module = executed(FuseRecurrent(), loop.model("r0"))
    (node,) = [n for n in module.graph if n.op_type == "GRU"]
    assert node.inputs[0] is module.graph.inputs[0]


def test_a_forget_gate_that_is_what_the_input_gate_leaves(executed: Executed) -> None:
    module = executed(FuseRecurrent(), layer(Cell(coupled=True), form="Loop"))
    (node,) = [n for n in module.graph if n.op_type == "LSTM"]
    assert node.attributes.get_int("input_forget", 0) == 1


def state_before(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop))
    loop.stacked = [loop.w("Exp", "h")]


def state_given_before(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop))
    loop.stacked = ["h"]


def gate_used(loop: Loop) -> None:
    h = gru(loop)
    loop.carry("h0", "h", h)
    gate = next(n.output[0] for n in loop.w.nodes if n.op_type == "Sigmoid")
    loop.stacked = [loop.w("Neg", gate)]


def gate_given(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop))
    loop.stacked = [next(n.output[0] for n in loop.w.nodes if n.op_type == "Sigmoid")]


def cell_state_given(loop: Loop) -> None:
    h, c = step(Cell(), loop.w, loop.element(), ["h", "c"])
    loop.carry("h0", "h", h)
    loop.carry("c0", "c", c)
    loop.stacked = [c]


def same_row(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop, loop.w("Gather", "x", loop.w.number(0), axis=0)))


def two_steps_at_once(loop: Loop) -> None:
    at = loop.w("Mul", "i", loop.w.number(2))
    loop.carry("h0", "h", gru(loop, loop.w("Gather", "x", at, axis=0)))


def outside(loop: Loop) -> None:
    at = loop.w("Add", "i", loop.w.number(2))
    loop.carry("h0", "h", gru(loop, loop.w("Gather", "x", at, axis=0)))


def of_the_body(loop: Loop) -> None:
    rows = loop.w("Mul", "x", loop.w("Cast", "i", to=FLOAT))
    loop.carry("h0", "h", gru(loop, loop.w("Gather", rows, "i", axis=0)))


def feedback(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop, loop.w("Exp", "h"), Cell("GRU", inputs=4)))


def computed_input(loop: Loop) -> None:
    loop.carry("h0", "h", gru(loop, loop.w("Exp", loop.element())))


def both_ways(loop: Loop) -> None:
    back = loop.w("Gather", "x", loop.w("Sub", loop.w.number(3), "i"), axis=0)
    loop.carry("h0", "h", gru(loop, loop.w("Concat", loop.element(), back, axis=-1), Cell("GRU", inputs=6)))


def clipped(loop: Loop) -> None:
    loop.carry("h0", "h", loop.w("Clip", gru(loop), loop.w.weight("low", np.full((), -0.5, np.float32))))


def crossed(loop: Loop) -> None:
    h = gru(loop)
    loop.carry("h0", "h", "g")
    loop.carry("c0", "g", h)


CASES: dict[str, tuple[Callable[[Loop], None], tuple[str, ...], str]] = {
    "the state before a step is used": (state_before, ("r0", "s0"), "'in_h' is used outside"),
    "the state before a step is given": (state_given_before, ("r0", "s0"), "gives another value of the cell"),
    "a gate is used": (gate_used, ("r0", "s0"), "is used outside of the cell"),
    "a gate is given": (gate_given, ("r0", "s0"), "gives another value of the cell"),
    "cell states are given": (cell_state_given, ("r0", "s0"), "gives another value of the cell"),
    "the same element every time": (same_row, ("r0",), "no element of a sequence"),
    "every other element": (two_steps_at_once, ("r0",), "no element of a sequence"),
    "beyond the end": (outside, ("r0",), "not known to stay within the sequence"),
    "a sequence of the body": (of_the_body, ("r0",), "no element of a sequence"),
    "an input made of the state": (feedback, ("r0",), "no element of a sequence"),
    "an input that is computed": (computed_input, ("r0",), "no element of a sequence"),
    "both directions": (both_ways, ("r0",), "in both directions"),
    "clipped states": (clipped, ("r0",), "no carried value"),
    "states that change places": (crossed, ("r0",), "no carried value"),
}


@pytest.mark.parametrize("case", CASES)
def test_stays(case: str) -> None:
    write, used, because = CASES[case]
    loop = Loop()
    write(loop)
    assert because.replace("'in_h'", "'h'") in refusal(loop.model(*used))


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ({"cell": Cell("GRU", reset_after=False), "target": "cuda"}, "linear_before_reset must be 1"),
        ({"cell": Cell(peepholes=True), "target": "cuda"}, "peepholes are not supported"),
        ({"cell": Cell("RNN", inner="Erf")}, "no carried value"),
        ({"cell": Cell("RNN", inner="Exp")}, "Exp is no activation of RNN"),
        ({"cell": Cell(dtype=np.float16)}, "float16"),
        ({"cell": Cell("GRU"), "opset": 12}, "before opset 13"),
        ({"cell": Cell("GRU"), "p": FuseRecurrent(nonempty=False), "steps": "T"}, "the sequence may be empty"),
        ({"cell": Cell(dtype=np.float64)}, "double precision"),
        ({"cell": Cell("RNN"), "batch": 700}, "slower than its nodes on cpu"),
    ],
)
def test_conditions_of_the_layer(how: dict[str, Any], because: str) -> None:
    options = {k: how[k] for k in ("target", "opset", "p") if k in how}
    sizes = {k: how[k] for k in ("steps", "batch") if k in how}
    assert because in refusal(layer(how["cell"], form="Loop", **sizes), **options)


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
@pytest.mark.parametrize("kind", GATES)
def test_other_targets(target: str, kind: str, executed: Executed) -> None:
    executed(FuseRecurrent(), layer(Cell(kind), form="Loop", batch=700), target=target)


def test_rows_that_are_declared_but_not_given() -> None:
    loop = Loop(h0=[1, 4])
    loop.carry("h0", "h", gru(loop))
    model = loop.model("r0")
    body = next(a.g for n in model.graph.node if n.op_type == "Loop" for a in n.attribute if a.name == "body")
    body.input[2].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("h", FLOAT, [2, 4]).type.tensor_type.shape
    )
    assert "the initial state has the shape [1,4], not [2, 4]" in refusal(model)


def test_a_state_of_another_rank_than_it_is_declared_in_the_body() -> None:
    loop = Loop(h0=[1, 2, 4])
    loop.carry("h0", "h", gru(loop))
    model = loop.model("r0")
    body = next(a.g for n in model.graph.node if n.op_type == "Loop" for a in n.attribute if a.name == "body")
    body.input[2].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("h", FLOAT, [2, 4]).type.tensor_type.shape
    )
    assert "takes a value of another rank" in refusal(model)


def test_rows_that_a_broadcast_pairs_with_others() -> None:
    loop = Loop()
    w = loop.w
    r = w.weight("r", np.eye(4, dtype=np.float32))
    rows = w("Add", w("Unsqueeze", w("MatMul", "h", r), w.ints(1)), w("Unsqueeze", "h", w.ints(0)))
    after = w("Tanh", w("Add", rows, w("MatMul", loop.element(), w.weight("k", np.ones((3, 4), np.float32)))))
    loop.carry("h0", "h", w("ReduceMax", after, axes=[0], keepdims=0))
    loop.carry("u0", "u", w("Tanh", w("Add", w("Add", "u", "v"), w("MatMul", "u", r))))
    loop.carry("v0", "v", w("Neg", "v"))
    loop.inputs |= {"u0": [3, 1, 4], "v0": [1, 3, 4]}
    assert "no carried value" in refusal(loop.model("r0", opset=17))


def test_no_trip() -> None:
    loop = Loop(trips=0)
    loop.carry("h0", "h", gru(loop))
    assert "the sequence may be empty" in refusal(loop.model("r0"))


def test_how_often_must_be_known() -> None:
    model = layer(Cell("GRU"), form="Loop", steps=4)
    (loop,) = [n for n in model.graph.node if n.op_type == "Loop"]
    model.graph.input.append(helper.make_tensor_value_info("count", INT, []))
    loop.input[0] = "count"
    assert refusal(model) == "how often it runs is not known"


def test_a_bound_that_is_another_symbol() -> None:
    """As often as another sequence is long."""
    model = layer(Cell("GRU"), form="Loop", steps="T")
    model.graph.input.append(helper.make_tensor_value_info("v", FLOAT, ["S", 2]))
    next(n for n in model.graph.node if n.op_type == "Shape").input[0] = "v"
    assert "not known to stay within" in refusal(model)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_that_computes_more_scans_the_hidden_states(backwards: bool, axis: int, executed: Executed) -> None:
    model = layer(Cell("GRU"), form="Scan", backwards=backwards, axis=axis)
    body = next(a.g for n in model.graph.node if n.op_type == "Scan" for a in n.attribute if a.name == "body")
    (last,) = [n for n in body.node if n.output[0] == "row"]
    last.op_type = "Exp"
    module = executed(FuseRecurrent(), model)
    left = cleaned(module)
    assert left.count("GRU") == left.count("Scan") == left.count("Exp") == 1
    assert "Sigmoid" not in left


def test_a_counter_of_rank_one() -> None:
    loop = Loop()
    x = loop.w("Squeeze", loop.element(), loop.w.ints(0))
    h = gru(loop, x)
    loop.carry("h0", "h", h)
    loop.stacked = [loop.w("Exp", h)]
    model = loop.model("r0", "s0")
    body = next(a.g for n in model.graph.node if n.op_type == "Loop" for a in n.attribute if a.name == "body")
    body.input[0].type.tensor_type.shape.dim.add(dim_value=1)
    assert "no scalar counter" in refusal(model)


def test_weights_that_stay_may_not_make_the_file_grow() -> None:
    model = layer(Cell("RNN", inputs=40, units=40), form="Loop")
    for name in ("w_x_h_0", "w_h_h_0"):
        model.graph.node.append(helper.make_node("Identity", [name], [f"{name}_out"]))
        model.graph.output.append(helper.make_tensor_value_info(f"{name}_out", FLOAT, [40, 40]))
    assert "would be freed" in refusal(model)
