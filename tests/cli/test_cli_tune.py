"""fcc tune, --tune-seconds, --table, --plan and --from-plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Fcc = Callable[..., Any]

NET = """<ir_version: 9, opset_import: ["" : 17]>
net (float[1, 64, 128] x) => (float[1, 64, 128] y) <float[128] s, float[128] b>
{
    t = Sin(x)
    a = Add(x, t)
    y = LayerNormalization(a, s, b)
}"""


@pytest.fixture
def net(folder: Path, build: Callable[[str], onnx.ModelProto]) -> str:
    onnx.save(build(NET), folder / "net.onnx")
    return "net.onnx"


def test_tune_writes_a_table_and_later_compiles_use_it(fcc: Fcc, net: str, folder: Path) -> None:
    done = fcc("tune", net, "--seconds", "3", "--table", "t.jsonl")
    assert done.code == 0, done.err
    assert "1 measured, kept in t.jsonl" in done.out
    assert "convert-residual-adds" in done.out
    assert "(measured)" in done.out
    (row,) = map(json.loads, (folder / "t.jsonl").read_text().splitlines())
    assert row["pass_name"] == "convert-residual-adds"
    assert fcc(net, "--table", "t.jsonl", "-q").code == 0
    meta = {p.key: p.value for p in onnx.load("net.fcc.onnx").metadata_props}
    assert len(meta["fcc.table"]) == 12
    again = fcc("tune", net, "--seconds", "3", "--table", "t.jsonl")
    assert "0 measured" in again.out


def test_the_users_table_is_read_and_written(fcc: Fcc, net: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCC_TABLE", str(folder / "own" / "t.jsonl"))
    assert fcc(net, "--tune-seconds", "3", "-q").code == 0
    assert (folder / "own" / "t.jsonl").read_text().count("\n") == 1
    assert fcc(net, "-q").code == 0
    assert any(p.key == "fcc.table" for p in onnx.load("net.fcc.onnx").metadata_props)


def test_a_plan_is_written_and_replayed(fcc: Fcc, net: str, folder: Path) -> None:
    assert fcc(net, "-q", "--plan", "plan.json").code == 0
    plan = json.loads((folder / "plan.json").read_text())
    assert [c["pass_name"] for c in plan["choices"]] == ["convert-residual-adds"]
    assert "Sum" in [n.op_type for n in onnx.load("net.fcc.onnx").graph.node]
    plan["choices"][0]["taken"] = False
    (folder / "plan.json").write_text(json.dumps(plan))
    assert fcc(net, "-q", "--from-plan", "plan.json").code == 0
    assert "Sum" not in [n.op_type for n in onnx.load("net.fcc.onnx").graph.node]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--from-plan", "none.json"), 2, "plan none.json"),
        (("--table", "none.jsonl"), 4, "table none.jsonl"),
        (("--tune-seconds", "-1"), 2, "tune_seconds"),
        (("--plan", "net.onnx"), 2, "would overwrite a model"),
        (("--plan", "nowhere/plan.json"), 7, "does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], code: int, said: str, fcc: Fcc, net: str) -> None:
    before = Path(net).read_bytes()
    done = fcc(net, *words)
    assert done.code == code
    assert said in done.err
    assert len(done.errors) == 1
    assert not Path("net.fcc.onnx").exists()
    assert Path(net).read_bytes() == before


def test_a_table_that_is_none_is_named(fcc: Fcc, net: str, folder: Path) -> None:
    (folder / "t.jsonl").write_text("nonsense\n")
    done = fcc("tune", net, "--table", "t.jsonl", "--seconds", "1")
    assert done.code == 4
    assert "t.jsonl:1" in done.err
    assert (folder / "t.jsonl").read_text() == "nonsense\n"


def test_tuning_for_a_target_that_is_not_here(fcc: Fcc, net: str) -> None:
    done = fcc("tune", net, "--target", "cuda", "--table", "t.jsonl")
    assert done.code == 4
    assert "CUDAExecutionProvider" in done.err
    assert not Path("t.jsonl").exists()
