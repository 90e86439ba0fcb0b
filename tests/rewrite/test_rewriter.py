"""A rewrite commits whole or not at all: what can be refused is refused before the graph changes."""

from collections.abc import Callable

import numpy as np
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.errors import VerifyError
from fcc.ir.text import parse, to_text
from fcc.rewrite import Rewriter

TEXT = "g (float[N,4] x) => (float[N,4] y, float[N,4] z) { a = Relu(x) b = Neg(a) y = Exp(b) z = Abs(a) }"


def start(text: str = TEXT) -> tuple[ir.Module, list[ir.Node]]:
    module = parse(text)
    shapes.infer(module)
    for i, node in enumerate(module.graph):
        node.name = f"n{i}"
    return module, list(module.graph)


def other_type(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.replace(nodes[0].outputs[0], rw.op("Cast", nodes[0].inputs[0], to=int(ir.DataType.DOUBLE)))


def other_rank(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.replace(nodes[0].outputs[0], rw.op("Unsqueeze", nodes[0].inputs[0], np.array([0])))


def other_size(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.replace(nodes[0].outputs[0], rw.op("Slice", nodes[0].inputs[0], *(np.array([v]) for v in (0, 2, 1))))


def right_then_wrong(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.replace(nodes[0].outputs[0], rw.op("Sin", nodes[0].inputs[0]))
    rw.set_input(nodes[3], 0, nodes[0].inputs[0])
    rw.erase(nodes[0])
    rw.replace(nodes[1].outputs[0], rw.op("Cast", nodes[0].inputs[0], to=int(ir.DataType.DOUBLE)))


def own_cycle(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.replace(nodes[0].outputs[0], rw.op("Sin", rw.op("Cos", nodes[0].outputs[0])))


def negative_input(rw: Rewriter, nodes: list[ir.Node]) -> None:
    rw.set_input(nodes[0], -1, nodes[0].inputs[0])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (other_type, "change the type"),
        (other_rank, "change the shape"),
        (other_size, "change the shape"),
        (right_then_wrong, "change the type"),
        (own_cycle, "what is computed from it"),
        (negative_input, "set input -1"),
    ],
)
def test_a_refused_commit_leaves_no_trace(wrong: Callable[[Rewriter, list[ir.Node]], None], why: str) -> None:
    module, nodes = start()
    before, uses = to_text(module), {v: set(v.uses()) for n in nodes for v in (*n.inputs, *n.outputs) if v is not None}
    rw = Rewriter(module, nodes[0], "wrong")
    wrong(rw, nodes)
    with pytest.raises(VerifyError, match=why):
        rw.commit()
    assert not rw.changing
    rw.abort()
    ir.verify(module)
    assert to_text(module) == before
    assert {v: set(v.uses()) for v in uses} == uses


def test_attributes_that_onnx_cannot_hold_are_refused_when_they_are_described() -> None:
    module, nodes = start()
    rw = Rewriter(module, nodes[0], "wrong")
    with pytest.raises(TypeError):
        rw.set_attributes(nodes[0], alpha=object())
    rw.abort()
    ir.verify(module)


def test_a_change_known_better_reaches_users_far_below_and_unchanged_ones_are_left_alone() -> None:
    module, nodes = start("g (float[N,4] x, float[K,4] k) => (y) { a = Relu(k) b = Neg(a) c = Exp(b) y = Abs(c) }")
    rw = Rewriter(module, nodes[0], "narrow")
    rw.replace(nodes[0].outputs[0], rw.op("Slice", nodes[0].inputs[0], *(np.array([v]) for v in (0, 4, 1))))
    rw.erase(nodes[0])
    rw.commit()
    assert ir.dims_of(nodes[3].outputs[0]) == (ir.Dim.symbol("K"), 4)
    rw = Rewriter(module, nodes[1], "fix")
    fixed = rw.op("Reshape", nodes[1].inputs[0], np.array([6, 4]))
    rw.replace(nodes[1].outputs[0], fixed)
    rw.commit()
    assert ir.dims_of(nodes[3].outputs[0]) == (6, 4)
    ir.verify(module)


def test_nested_scopes_end_with_their_graph() -> None:
    module = parse("""g (bool k, float[2] x) => (float[2] y) { y = If (k)
      <then_branch = t () => (float[2] u) { w = Exp(x) u = Neg(w) }, else_branch = e () => (float[2] v) { v = Abs(x) }> }""")
    ir.verify(module)
    (branch,) = [n for n in module.graph if n.op_type == "If"]
    then, other = ir.subgraphs_of(branch)
    inner = next(iter(then)).outputs[0]
    next(iter(other)).replace_input_with(0, inner)
    with pytest.raises(VerifyError, match="out of scope"):
        ir.verify(module)


def test_new_nodes_stand_where_they_were_placed() -> None:
    module, nodes = start()
    rw = Rewriter(module, nodes[3], "test")
    rw.after(nodes[0])
    first = rw.op("Sin", nodes[0].outputs[0])
    second = rw.op("Cos", first)
    rw.before(nodes[2])
    third = rw.op("Tan", second)
    rw.before(nodes[3])
    rw.set_input(nodes[2], 0, third)
    rw.set_input(nodes[3], 0, rw.op("Tanh", third))
    rw.erase(nodes[1])
    rw.commit()
    ir.verify(module)
    assert [n.op_type for n in module.graph] == ["Relu", "Sin", "Cos", "Tan", "Exp", "Tanh", "Abs"]


def test_absent_operands_at_the_end_are_left_out() -> None:
    """onnxruntime's fusion of LayerNormalization reads a bias that is named by the empty string."""
    module, nodes = start()
    rw = Rewriter(module, nodes[0], "test")
    x = nodes[0].inputs[0]
    normal = rw.op("LayerNormalization", x, np.ones(4, np.float32), None).producer()
    clip = rw.op("Clip", x, None, np.ones((), np.float32)).producer()
    assert [len(n.inputs) for n in (normal, clip)] == [2, 3]
