"""The mutants of benchmarks/mutation.py, and that those reviewed as equivalent are still there."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
REVIEWED = ROOT / "benchmarks" / "equivalent_mutants.txt"
TEXT = """
def f(x, axis):
    if axis < 0 and x:
        return [x + 1, -axis]
    raise ValueError(axis + 1)
"""


@pytest.fixture(scope="module")
def mutation() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("mutation")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_a_change_of_everything_that_computes(mutation: Any) -> None:
    file = mutation.File("f.py", TEXT)
    changes = {m.change for m in file.mutants}
    assert changes >= {
        "axis < 0  ->  axis <= 0",
        "axis < 0  ->  axis >= 0",
        "axis < 0 and x  ->  axis < 0 or x",
        "axis < 0 and x  ->  without x",
        "x + 1  ->  x - 1",
        "-axis  ->  axis",
        "[x + 1, -axis]  ->  without -axis",
        "return [x + 1, -axis]  ->  return None",
    }
    assert not any("axis + 1" in c for c in changes), "messages of errors compute nothing"


def test_every_mutant_is_code_of_its_own_and_leaves_the_file_as_it_was(mutation: Any) -> None:
    file = mutation.File("f.py", TEXT)
    before = ast.dump(file.tree)
    plain = compile(TEXT, "f.py", "exec").co_consts[0]
    for mutant in file.mutants:
        assert file.code(mutant, "f.py").co_consts[0] != plain, mutant.key
        assert ast.dump(file.tree) == before, mutant.key


def test_a_diff_shows_the_change_alone(mutation: Any) -> None:
    file = mutation.File("f.py", TEXT)
    (mutant,) = (m for m in file.mutants if m.change == "x + 1  ->  x - 1")
    rows = [line for line in file.diff(mutant).splitlines() if line[:1] in "+-"]
    assert [r.replace(" ", "") for r in rows] == ["-return[x+1,-axis]", "+return[x-1,-axis]"]


def test_equivalent_mutants_are_still_there_and_have_a_reason(mutation: Any) -> None:
    rows = [line for line in REVIEWED.read_text().splitlines() if line and not line.startswith("#")]
    keys = {row.split(" || ")[0].strip() for row in rows}
    paths = {key.split(" | ")[0] for key in keys}
    known = {m.key for p in paths for m in mutation.File(p, (ROOT / p).read_text()).mutants}
    assert keys <= known, f"stale: {sorted(keys - known)}"
    assert len(keys) == len(rows)
    assert all(len(row.split(" || ")[1].strip()) > 5 for row in rows)
