"""The table that ships: every line is about a choice that a pass still makes, and can be measured again."""

import onnx
import pytest

from fcc.ir.text import model_of
from fcc.passes import BY_NAME
from fcc.tune.machine import ANSWERS
from fcc.tune.table import Row, shipped, structure

ROWS = tuple(shipped("cpu").rows.values())
CLASSES = {c for classes in ANSWERS.values() for c in classes}
MEASURED = {name for name, p in BY_NAME.items() if p.measured}


def test_rows_are_of_passes_that_ask() -> None:
    assert {row.pass_name for row in ROWS} == MEASURED - {"fuse-recurrent"}
    assert {row.cpu for row in ROWS} <= CLASSES
    assert {row.target for row in ROWS} == {"cpu"}
    assert all(0 < row.ratio < 10 and row.before_us > 0 for row in ROWS)


@pytest.mark.parametrize("name", sorted({row.pass_name for row in ROWS}))
def test_both_fragments_take_and_give_the_same(name: str) -> None:
    """One row of each structure: both texts are models, with equal inputs and outputs."""
    for row in {structure(r.before): r for r in ROWS if r.pass_name == name}.values():
        before, after = (onnx.load_from_string(model_of(text, row.opset)).graph for text in (row.before, row.after))
        assert [(v.name, v.type) for v in before.input] == [(v.name, v.type) for v in after.input]
        assert [(v.name, v.type) for v in before.output] == [(v.name, v.type) for v in after.output]
        assert len(before.node) != 0 != len(after.node)


def test_there_is_no_table_for_another_target() -> None:
    assert shipped("tensorrt").rows == {}
    assert shipped("tensorrt").digest == ""


def test_a_row_answers_for_itself() -> None:
    row: Row = ROWS[0]
    assert shipped("cpu").exact("cpu", ANSWERS["vnni"], row.before, row.after) == row
