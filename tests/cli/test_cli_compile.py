"""fcc MODEL: what is written, printed and reported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

Fcc = Callable[..., Any]

MODEL_OPS = ["MatMul", "BatchNormalization", "Relu", "Identity", "MatMul"]


def op_types(path: Path | str) -> list[str]:
    return [n.op_type for n in onnx.load(path).graph.node]


def test_writes_beside_the_model(fcc: Fcc, model: str, folder: Path) -> None:
    result = fcc(model)
    assert (result.code, result.err) == (0, "")
    assert sorted(p.name for p in folder.iterdir()) == ["net.fcc.onnx", "net.onnx"]
    assert op_types(folder / "net.fcc.onnx") == ["Gemm", "Relu", "MatMul"]
    assert op_types(folder / "net.onnx") == MODEL_OPS


def test_summary_shows_what_changed(fcc: Fcc, model: str) -> None:
    out = fcc(model).out
    assert out.startswith("net.onnx -> net.fcc.onnx\n")
    for pattern in (
        r"nodes +5 +3 +-40 %",
        r"parameters +55 +40 +-27 %",
        r"bytes +\d+ B +\d+ B",
        r"FLOPs +\d+ +\d+",
        r"latency +\S+ .?s +\S+ .?s",
        r"fold-batchnorm +1\n",
        r"eliminate-identity +1\n",
        r"parity +ok: exact, error \S+, limit 0.0001 \(output y\) on \d probes",
    ):
        assert re.search(pattern, out), pattern
    assert "fold-shapes" not in out, "passes that did nothing are not listed"


def test_summary_fits_80_plain_columns(fcc: Fcc, model: str) -> None:
    out = fcc(model, "-v", "--time-passes", "--explain", "fold-batchnorm").out
    assert max(map(len, out.splitlines())) <= 80
    assert out.isascii()
    assert "\x1b" not in out


def test_quiet_prints_nothing(fcc: Fcc, model: str, folder: Path) -> None:
    result = fcc(model, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (folder / "net.fcc.onnx").exists()


def test_output_is_replaced(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / "out.onnx").write_text("old")
    assert fcc(model, "-o", "out.onnx").code == 0
    assert op_types(folder / "out.onnx") == ["Gemm", "Relu", "MatMul"]
    assert not (folder / "net.fcc.onnx").exists()


def test_output_is_deterministic(fcc: Fcc, model: str, folder: Path) -> None:
    fcc(model, "-o", "a.onnx")
    fcc(model, "-o", "b.onnx", "-q")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


@pytest.mark.parametrize("level", [["-O0"], ["-O", "0"]])
def test_level_0_only_imports(fcc: Fcc, model: str, folder: Path, level: list[str]) -> None:
    result = fcc(model, *level)
    assert op_types(folder / "net.fcc.onnx") == MODEL_OPS
    assert "no pass found anything to improve" in result.out


def test_passes_and_disable(fcc: Fcc, model: str, folder: Path) -> None:
    fcc(model, "--passes", "eliminate-identity", "-o", "a.onnx")
    assert op_types("a.onnx") == ["MatMul", "BatchNormalization", "Relu", "MatMul"]
    fcc(model, "--disable", "eliminate-identity", "--disable", "fold-batchnorm", "-o", "b.onnx")
    assert {"Identity", "BatchNormalization"} <= set(op_types("b.onnx"))


def test_rewrite_limit(fcc: Fcc, model: str, folder: Path) -> None:
    fcc(model, "--rewrite-limit", "0")
    assert op_types(folder / "net.fcc.onnx") == MODEL_OPS


def test_dry_run_writes_nothing(fcc: Fcc, model: str, folder: Path) -> None:
    result = fcc(model, "--dry-run")
    assert result.code == 0
    assert "dry run, nothing written" in result.out
    assert "fold-batchnorm" in result.out
    assert [p.name for p in folder.iterdir()] == ["net.onnx"]


def test_shape_binds_dimensions(fcc: Fcc, model: str, folder: Path) -> None:
    fcc(model, "--shape", "N=3", "-q")
    dims = onnx.load(folder / "net.fcc.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [3, 4]


def test_opt_shape_leaves_the_model_alone(fcc: Fcc, model: str, folder: Path) -> None:
    small, large = fcc(model).out, fcc(model, "--opt-shape", "x=64x4").out
    dims = onnx.load(folder / "net.fcc.onnx").graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "N"
    flops = [int(re.search(r"FLOPs +(\d+)", text)[1]) for text in (small, large)]  # type: ignore[index]
    assert flops[1] == 64 * flops[0]


def test_data_is_used_for_parity(fcc: Fcc, model: str) -> None:
    np.savez("data.npz", x=np.ones((5, 1, 4), np.float32))
    out = fcc(model, "--data", "data.npz").out
    assert "on 5 samples" in " ".join(out.split())


def test_report_json(fcc: Fcc, model: str, folder: Path) -> None:
    assert fcc(model, "--report", "r.json").code == 0
    report = json.loads((folder / "r.json").read_text())
    assert report["schema"] == 1
    assert (report["source"], report["output"], report["target"]) == ("net.onnx", "net.fcc.onnx", "cpu")
    assert {p["name"]: p["applied"] for p in report["passes"] if p["applied"]} == {
        "eliminate-identity": 1,
        "fold-batchnorm": 1,
    }
    assert report["latency"]["provider"] == "CPUExecutionProvider"
    assert report["parity"][0]["ok"] is True


def test_report_markdown_quiet(fcc: Fcc, model: str, folder: Path) -> None:
    assert fcc(model, "-q", "--report", "r.md").code == 0
    text = (folder / "r.md").read_text()
    assert "| fold-batchnorm | 1 |" in text


def test_report_of_a_dry_run_is_written(fcc: Fcc, model: str, folder: Path) -> None:
    assert fcc(model, "--dry-run", "--report", "r.json").code == 0
    assert json.loads((folder / "r.json").read_text())["output"] == ""
    assert not (folder / "net.fcc.onnx").exists()


def test_explain(fcc: Fcc, model: str) -> None:
    out = fcc(model, "--explain", "fold-batchnorm").out
    assert re.search(r"fold-batchnorm: 1 rewrite, \d+ sites? left alone", out)
    assert re.search(r"applied +n: ", out)


@pytest.mark.parametrize("name", ["fold-batch-norm", "Fold_BatchNorm", "foldbatchnorm"])
def test_passes_are_known_by_other_spellings(fcc: Fcc, model: str, name: str) -> None:
    assert "fold-batchnorm: 1 rewrite" in fcc(model, "--explain", name).out
    assert "// after fold-batchnorm" in fcc(model, "--print-after", name).out


def test_explain_says_why_not(fcc: Fcc, folder: Path, build: Any) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    net (float[N, 4] x) => (float[N, 5] y, float[N, 5] h)
    <float[4, 5] w, float[5] s, float[5] b, float[5] m, float[5] v>
    { h = MatMul(x, w) y = BatchNormalization(h, s, b, m, v) }"""
    onnx.save(build(text), folder / "net.onnx")
    out = fcc("net.onnx", "--explain", "fold-batchnorm").out
    assert "fold-batchnorm: 0 rewrites, 1 site left alone" in out
    assert re.search(r"left +'h' is a graph output\n +at y\n", out)


def test_print_after(fcc: Fcc, model: str) -> None:
    out = fcc(model, "--print-after", "eliminate-identity").out
    assert "// after eliminate-identity" in out
    assert "BatchNormalization" in out.partition("// after eliminate-identity")[2]


def test_time_passes(fcc: Fcc, model: str) -> None:
    out = fcc(model, "--time-passes").out
    assert re.search(r"pass +rewrites +ms", out)
    assert re.search(r"fold-batchnorm +1 +\d+\.\d", out)
    assert re.search(r"load +\d+\.\d", out)


def test_verify_off_runs_no_model(fcc: Fcc, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcc.runtime.open_session", lambda *a, **k: pytest.fail("a model was run"))
    out = fcc(model, "--verify", "off").out
    assert "parity   not run: verification is off" in out
    assert "latency" not in out


def test_target_without_its_runtime_is_not_timed(fcc: Fcc, model: str) -> None:
    from fcc.runtime import available

    if "CUDAExecutionProvider" in available():
        pytest.skip("CUDA is here")
    assert "not timed: no CUDAExecutionProvider here" in fcc(model, "--target", "cuda").out


def test_plugin(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / "mine.py").write_text("def passes_nothing(graph):\n    return graph\npasses = [passes_nothing]\n")
    assert fcc(model, "--plugin", "mine.py").code == 0


def test_model_may_be_called_like_a_subcommand(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / model).rename(folder / "bench")
    assert fcc("./bench").code == 0
    assert (folder / "bench.fcc.onnx").exists()


WRONG = """
from dataclasses import dataclass
from typing import ClassVar
from fcc.rewrite import PatternPass, op, var
@dataclass(frozen=True)
class Wrong(PatternPass):
    name: ClassVar[str] = "wrong-relu"
    pattern: ClassVar = op.Relu(var("x"))
    def rewrite(self, m, rw):
        return rw.op("Neg", m["x"])
"""


def test_guilty_rewrite_is_named_and_left_out(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / "wrong.py").write_text(WRONG)
    shown = fcc(model, "--plugin", "wrong.py", "--report", "r.json")
    assert shown.code == 0
    assert "SKIPPED  wrong-relu at r was left out: it moved the outputs" in shown.out
    assert op_types(folder / "net.fcc.onnx") == ["Gemm", "Relu", "MatMul"]
    assert json.loads((folder / "r.json").read_text())["guilty"][0]["pass_name"] == "wrong-relu"
    quiet = fcc(model, "--plugin", "wrong.py", "-q")
    assert quiet.err == "fcc: warning: rewrite wrong-relu at r was left out: it moved the outputs\n"
    strict = fcc(model, "--plugin", "wrong.py", "--strict")
    assert strict.code == 5
    assert strict.err.startswith("fcc: error: ")


def test_int8_shows_both_judgements(fcc: Fcc, model: str) -> None:
    rng = np.random.default_rng(0)
    np.savez("data.npz", x=rng.standard_normal((32, 1, 4)).astype(np.float32))
    shown = fcc(model, "--precision", "int8", "--calibration", "data.npz", "--allow-growth", "--force")
    assert (shown.code, shown.err) == (0, "")
    assert re.search(r"parity +ok: exact", shown.out)
    assert re.search(r"parity +ok: lossy, rel \S+, no limit", shown.out)
    assert "insert-qdq" in shown.out


def test_int8_that_quantizes_nothing_says_so(fcc: Fcc, folder: Path, build: Any) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17]>\nnet (float[N, 4] x) => (float[N, 4] y) { y = Sigmoid(x) }'
    onnx.save(build(text), folder / "net.onnx")
    np.savez("data.npz", x=np.ones((8, 4), np.float32))
    shown = fcc("net.onnx", "--precision", "int8", "--calibration", "data.npz")
    assert shown.code == 0
    assert "int8: no layer was quantized" in shown.out
