"""Damaged files: every kind of damage, and the command line on a sample of them.

Long runs: python -m fcc.fuzz.hostile --count 200 MODEL ... (docs/fuzzing.md).
"""

import random
from pathlib import Path

import onnx
import pytest

from fcc.fuzz.child import Child, Ended, mortal
from fcc.fuzz.damage import DAMAGES, broken, damaged
from fcc.fuzz.hostile import ask, main
from fcc.testing import model_from

TEXT = (
    "g (float[N,1,4,4] x, bool c) => (float[N,2] y, float[N,1,4,4] z) <float[2,16] w, float[2] b> "
    "{ f = Flatten(x) h = Gemm<transB = 1>(f, w, b) y = Relu(h) z = If(c) <then_branch = a () => (float[N,1,4,4] p) "
    "{ p = Tanh(x) }, else_branch = d () => (float[N,1,4,4] q) { q = Abs(x) }> }"
)


@pytest.fixture(scope="module")
def model() -> bytes:
    return bytes(model_from(TEXT, 17).SerializeToString())


@pytest.mark.parametrize("name", DAMAGES)
def test_every_kind_changes_the_file_in_the_same_way_every_time(name: str, model: bytes) -> None:
    changed = 0
    for seed in range(12):
        made = [onnx.ModelProto.FromString(model) for _ in "ab"]
        for m in made:
            try:
                DAMAGES[name](m, random.Random(seed))
            except IndexError:
                continue
        assert made[0] == made[1]
        changed += made[0] != onnx.ModelProto.FromString(model)
    assert changed


def test_bytes_are_broken(model: bytes) -> None:
    assert all(broken(model, random.Random(seed)) != model for seed in range(20))


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_has_an_answer(seed: int, model: bytes, tmp_path: Path) -> None:
    kind, data = damaged(model, seed)
    answer = ask(data, seed % 3, ("cpu", "cuda", "tensorrt")[seed // 3 % 3], tmp_path)
    assert answer.problems == [], kind


def test_a_whole_file_is_compiled_and_compared(model: bytes, tmp_path: Path) -> None:
    answer = ask(model, 2, "cpu", tmp_path)
    assert (answer.code, answer.problems, answer.compared) == (0, [], True)


def test_the_command_counts_and_keeps(model: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model)
    assert main([str(path), "--count", "2", "--seed", "3", "--keep", str(tmp_path / "kept")]) == 0
    assert "2 damaged files" in capsys.readouterr().out
    assert not (tmp_path / "kept").exists()


def test_a_child_answers_dies_and_is_late() -> None:
    said: list[str] = []
    child = Child(mortal, 5)
    assert [child.ask(n, 60, said.append) for n in (1, 2)] == [2, 3]
    assert said == ["at 1", "at 2"]
    with pytest.raises(Ended, match="death: exit code -9, at 5"):
        child.ask(5, 60)
    child.close()
    child = Child(mortal, 5)
    assert child.ask(4, 60) == 5
    with pytest.raises(Ended, match="late: at 6"):
        child.ask(6, 4)
    child.close()
