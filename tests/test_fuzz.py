"""Random graphs, compiled for every target: right answers, same declarations and bytes, nothing grows.

Long runs: python -m fcc.fuzz --minutes 60 (docs/fuzzing.md).
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from fcc.fuzz import store
from fcc.fuzz.__main__ import main
from fcc.fuzz.judge import TARGETS, How, contract, differences, judge, kind
from fcc.fuzz.run import Ways, examine, model_of
from fcc.fuzz.shrink import shrink, size
from fcc.fuzz.source import Run, runs
from fcc.testing import model_from

KEPT = Path(__file__).parent / "fuzz"


@pytest.mark.parametrize("path", list(store.files(KEPT)), ids=lambda p: p.stem)
def test_what_failed_once(path: Path) -> None:
    kept = store.read(path)
    answers = runs(kept.model)
    assert answers
    assert judge(kept.model, kept.how, answers).problems == []


@pytest.mark.parametrize("seed", range(90))
def test_seeded_graph(seed: int) -> None:
    model = model_of(seed)
    answers = runs(model)
    if not answers:
        pytest.skip("onnxruntime does not run the source")
    assert judge(model, How(2, TARGETS[seed % 3]), answers).problems == []


def test_the_generator_is_deterministic() -> None:
    for seed in range(20):
        first, second = (model_of(seed).SerializeToString(deterministic=True) for _ in "ab")
        assert first == second


def models() -> Iterator[tuple[onnx.ModelProto, list[Run]]]:
    for seed in range(100):
        model = model_of(seed)
        if answers := runs(model):
            yield model, answers


def test_most_models_run() -> None:
    assert sum(1 for _ in models()) > 70


def test_the_judge_sees_what_is_wrong() -> None:
    relu, other = (model_from(f"g (float[N,2] x) => (float[N,2] y) {{ y = {op}(x) }}", 17) for op in ("Relu", "Abs"))
    answers = runs(relu)
    right, wrong = (m.SerializeToString() for m in (relu, other))
    assert list(differences(relu, right, answers)) == []
    assert [kind(w) for w in differences(relu, wrong, answers)] == ["answer", "answer"]
    del other.graph.node[:]
    assert [kind(w) for w in differences(relu, other.SerializeToString(), answers)] == ["load", "load"]
    other.CopyFrom(relu)
    other.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    assert [kind(w) for w in contract(relu, other.SerializeToString())] == ["checker", "declarations"]


def test_a_failure_is_made_small_kept_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model "fails" where it holds a Softmax: all else goes, in the same way every time."""
    model = next(m for m, _ in models() if any(n.op_type == "Softmax" for n in m.graph.node) and len(m.graph.node) > 8)

    def fails(m: onnx.ModelProto) -> bool:
        return any(n.op_type == "Softmax" for n in m.graph.node)

    small, again = (shrink(model, fails, 60) for _ in "ab")
    assert small == again
    assert [n.op_type for n in small.graph.node] == ["Softmax"]
    assert size(small) < size(model)
    path = store.write(tmp_path, small, How(1, "cuda"), "said", "answer")
    kept = store.read(path)
    assert kept.how == How(1, "cuda")
    assert kept.said == "said"
    assert store.bare_bytes(kept.model) == store.bare_bytes(small)
    assert main(["--replay", str(path)]) == 0
    assert "right" in capsys.readouterr().out


def test_a_binary_model_is_kept_exactly(tmp_path: Path) -> None:
    model, _ = next(models())
    path = store.write(tmp_path, model, How(), "said", "answer")
    assert store.bare_bytes(store.read(path).model) == store.bare_bytes(model)


def test_examine_says_what_it_does() -> None:
    said: list[str] = []
    tally = examine(next(s for s in range(9) if runs(model_of(s))), Ways((1,), ("cpu",), lossy=False), said.append)
    assert tally.draws == 1
    assert tally.idle == 0
    assert said[0].endswith("source")
    assert said[1].endswith("-O1 --target cpu")


def test_the_command_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "fcc.fuzz", "--count", "2", "--seed", "8", "--keep", str(tmp_path)]
    done = subprocess.run([*command, "--levels", "0"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "problems: none" in done.stdout
    assert "passes of the default pipeline that fired" in done.stdout
