"""fuse-recurrent: loops over the cell of an RNN, GRU or LSTM."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.models.recurrent_cells import FORMS, GATES, Cell, layer
from fcc.passes.fuse_recurrent import FuseRecurrent

Executed = Callable[..., ir.Module]
LOOPS = [f for f in FORMS if f != "unrolled"]


def node_of(module: ir.Module) -> ir.Node:
    """The only recurrent node; no loop is left."""
    kinds = [n.op_type for n in module.nodes()]
    assert not {"Loop", "Scan"} & set(kinds)
    (node,) = [n for n in module.nodes() if n.op_type in GATES]
    return node


def attributes(node: ir.Node) -> dict[str, Any]:
    return {k: a.value for k, a in node.attributes.items()}


@pytest.mark.parametrize("form", LOOPS)
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backwards", [False, True])
def test_forms(form: str, kind: str, axis: int, backwards: bool, executed: Executed) -> None:
    model = layer(Cell(kind), form=form, axis=axis, backwards=backwards, steps="T", batch="B")
    node = node_of(executed(FuseRecurrent(), model, sizes={"T": 4, "B": 3}))
    after = {"linear_before_reset": 1} if kind == "GRU" else {}
    assert attributes(node) == {"hidden_size": 4, **after, **({"direction": "reverse"} if backwards else {})}
    assert len(node.inputs) == (7 if kind == "LSTM" else 6)
    assert node.inputs[4] is None


@st.composite
def spelled(draw: st.DrawFn) -> Cell:
    kind = draw(st.sampled_from(list(GATES)))
    product = draw(st.sampled_from(["joined", "gates", "concat"]))
    return Cell(
        kind,
        inputs=draw(st.integers(1, 5)),
        units=draw(st.integers(1, 5)),
        product=product,
        gemm=draw(st.booleans()),
        biases=draw(st.sampled_from(["", "x", "h", "xh"])),
        cut=draw(st.sampled_from(["Split", "Slice"])),
        cut_behind=kind == "GRU" and product != "gates" and draw(st.booleans()),
        swapped=draw(st.booleans()),
        written=draw(st.booleans()),
        order=tuple(draw(st.permutations(range(len(GATES[kind]))))),
        turned=draw(st.booleans()),
        reset_after=draw(st.booleans()),
        peepholes=draw(st.booleans()),
        hard=draw(st.sampled_from(["", "", "op", "clip"])),
        inner=draw(st.sampled_from(["Tanh", "Tanh", "Relu", "Sigmoid", "Softsign"])),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=150)
@given(spelled(), st.sampled_from(LOOPS), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_spellings(executed: Executed, cell: Cell, form: str, steps: int, batch: int, backwards: bool) -> None:
    model = layer(cell, form=form, steps=steps, batch=batch, backwards=backwards)
    node = node_of(executed(FuseRecurrent(), model))
    found = attributes(node)
    assert node.op_type == cell.kind
    assert found.get("linear_before_reset", 0) == (cell.kind == "GRU" and cell.reset_after and cell.product != "concat")
    assert len(node.inputs) == {"RNN": 6, "GRU": 6, "LSTM": 8 if cell.peepholes else 7}[cell.kind]
