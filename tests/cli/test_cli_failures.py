"""Whatever is wrong: one clear line, the documented exit code, no traceback, and no file touched."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

Fcc = Callable[..., Any]
HEAD = '<ir_version: 9, opset_import: ["" : 17]>\n'


def refused(result: Any, code: int, *words: str) -> None:
    """Assert a failure of one line that holds the words, hint included."""
    assert result.code == code, result.err
    assert len(result.errors) == 1, result.err
    assert result.err.startswith("fcc: error: ")
    assert "Traceback" not in result.err
    assert result.out == ""
    for word in words:
        assert word in result.err


def external(location: str) -> bytes:
    """Return a model whose weight lies at ``location``."""
    model = onnx.parser.parse_model(HEAD + "g (float[2,4] x) => (float[2,3] y) { y = MatMul(x, w) }")
    weight = model.graph.initializer.add(name="w", data_type=1, dims=[4, 3], data_location=1)
    for key, value in (("location", location), ("offset", "0"), ("length", "48")):
        weight.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


def parsed(body: str) -> bytes:
    return bytes(onnx.parser.parse_model(HEAD + body).SerializeToString())


WEIGHT = onnx.numpy_helper.from_array(np.ones((100, 100), np.float32), "w")
WHOLE = onnx.helper.make_model(
    onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 100])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 100])],
        [WEIGHT],
    )
).SerializeToString()

BAD_MODELS = {
    "truncated": (WHOLE[:20000], "cut off"),
    "empty": (b"", "is empty"),
    "text": (b"hello world, this is no model", "not an ONNX model"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
    "data missing": (external("nothere.bin"), "nothere.bin"),
    "data outside": (external("../../../etc/passwd"), "outside"),
    "cycle": (parsed("g (float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }"), "cycle"),
    "unknown op": (parsed("g (float[2] x) => (float[2] y) { y = Blorp(x) }"), "Blorp"),
}


@pytest.mark.parametrize(("data", "word"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_bad_model_is_exit_3(fcc: Fcc, folder: Path, data: bytes, word: str) -> None:
    (folder / "bad.onnx").write_bytes(data)
    (folder / "bad.fcc.onnx").write_text("kept")
    refused(fcc("bad.onnx"), 3, word)
    assert (folder / "bad.fcc.onnx").read_text() == "kept"
    assert sorted(p.name for p in folder.iterdir()) == ["bad.fcc.onnx", "bad.onnx"]


def test_folder_is_exit_3(fcc: Fcc, folder: Path) -> None:
    (folder / "model").mkdir()
    refused(fcc("model"), 3, "folder")
    for name in ("", ".", "..", "/"):
        refused(fcc(name), 3)


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_missing_second_model_is_exit_3(fcc: Fcc, model: str, command: str) -> None:
    refused(fcc(command, model, "none.onnx"), 3, "none.onnx")


def test_missing_model_is_exit_3(fcc: Fcc, folder: Path) -> None:
    refused(fcc("none.onnx"), 3, "does not exist")
    refused(fcc("nowhere/none.onnx"), 3, "does not exist")


USAGE = {
    "no model": ([], "missing argument"),
    "two models": (["net.onnx", "more.onnx"], "extra argument"),
    "option": (["net.onnx", "--targt", "cpu"], "did you mean '--target'?"),
    "target": (["net.onnx", "--target", "cuad"], "did you mean 'cuda'?"),
    "precision": (["net.onnx", "--precision", "int9"], "did you mean 'int8'?"),
    "scheme": (["net.onnx", "--precision", "int8", "--scheme", "pow3"], "did you mean 'pow2'?"),
    "scheme alone": (["net.onnx", "--scheme", "pow2"], "--precision int8"),
    "disabled pass": (["net.onnx", "--disable", "fold-batchnrm"], "did you mean 'fold-batchnorm'?"),
    "pass list": (["net.onnx", "--passes", "fixpoint(fold-batchnrm)"], "did you mean 'fold-batchnorm'?"),
    "pass option": (["net.onnx", "--passes", "fold-batchnorm{max=1}"], "no option"),
    "explained pass": (["net.onnx", "--explain", "fold-batchnrm"], "did you mean 'fold-batchnorm'?"),
    "printed pass": (["net.onnx", "--print-after", "fold-batchnrm"], "did you mean 'fold-batchnorm'?"),
    "level": (["net.onnx", "-O4"], "-O takes 0, 1, 2 or 3"),
    "number": (["net.onnx", "--threads", "many"], "--threads"),
    "threads": (["net.onnx", "--threads", "0"], "at least 1"),
    "budget": (["net.onnx", "--budget", "much"], "budget"),
    "metric": (["net.onnx", "--metric", "agrement"], "did you mean 'agreement'?"),
    "low rank": (["net.onnx", "--low-rank", "ratio=2"], "low_rank"),
    "energy": (["net.onnx", "--low-rank", "energy=0"], "low_rank"),
    "prune": (["net.onnx", "--prune", "ratio=0"], "prune"),
    "shape": (["net.onnx", "--shape", "x=axb"], "--shape"),
    "opt-shape": (["net.onnx", "--opt-shape", "64"], "--opt-shape"),
    "unknown symbol": (["net.onnx", "--shape", "M=3"], "M"),
    "state": (["net.onnx", "--state", "out"], "--state is written out:in"),
    "state of no input": (["net.onnx", "--state", "y:z"], "no input 'z'"),
    "state of no output": (["net.onnx", "--state", "z:x"], "no output 'z'"),
    "opt-shape of no input": (["net.onnx", "--opt-shape", "M=3"], "no dimension or input 'M'"),
    "opt-shape that does not fit": (["net.onnx", "--opt-shape", "x=64x5"], "does not fit"),
    "max-shape of no input": (["net.onnx", "--max-shape", "M=3"], "--max-shape M"),
    "library": (["net.onnx", "--custom-ops", "none.so"], "none.so does not exist"),
    "plugin": (["net.onnx", "--plugin", "none.py"], "none.py"),
    "report": (["net.onnx", "--report", "r.txt"], ".json or .md"),
    "report over the model": (["net.onnx", "--report", "net.fcc.json", "-o", "net.fcc.json"], "overwrite"),
    "empty value": (["net.onnx", "--data", ""], "--data is given without a value"),
    "empty values": (["net.onnx", "--disable", "", "--opt-shape", "N=3"], "--disable is given without a value"),
    "two complaints": (["bisect", "net.onnx", "--crash", "--tolerance", "1"], "two complaints"),
    "script": (["bisect", "net.onnx", "--test", "none.py"], "none.py is no file"),
    "verify": (["net.onnx", "--verify", "ech"], "did you mean 'each'?"),
    "subcommand option": (["bench", "net.onnx", "--second", "1"], "did you mean '--seconds'?"),
    "pass of fcc passes": (["passes", "fold-batchnrm"], "did you mean 'fold-batchnorm'?"),
    "target of inspect": (["inspect", "net.onnx", "--target", "cuad"], "did you mean 'cuda'?"),
    "target of bench": (["bench", "net.onnx", "--target", "cuad"], "did you mean 'cuda'?"),
}


@pytest.mark.parametrize(("words", "expected"), USAGE.values(), ids=USAGE)
def test_wrong_option_is_exit_2(fcc: Fcc, model: str, folder: Path, words: list[str], expected: str) -> None:
    refused(fcc(*words), 2, expected)
    assert [p.name for p in folder.iterdir()] == ["net.onnx"]


BAD_DATA = {
    "wrong shape": {"x": np.zeros((8, 5), np.float32)},
    "wrong name": {"z": np.zeros((8, 4), np.float32)},
    "wrong type": {"x": np.full((8, 4), "a")},
    "no sample": {"x": np.zeros((0, 1, 4), np.float32)},
}


@pytest.mark.parametrize("arrays", BAD_DATA.values(), ids=BAD_DATA)
@pytest.mark.parametrize("option", [["--data"], ["--precision", "int8", "--calibration"]])
def test_bad_data_is_exit_4(fcc: Fcc, model: str, folder: Path, arrays: dict[str, Any], option: list[str]) -> None:
    np.savez("data.npz", **arrays)
    refused(fcc(model, *option, "data.npz"), 4, "data.npz")
    assert not (folder / "net.fcc.onnx").exists()


def test_missing_data_is_exit_4(fcc: Fcc, model: str) -> None:
    refused(fcc(model, "--data", "none.npz"), 4, "none.npz")
    refused(fcc(model, "--precision", "int8"), 4, "--calibration", "-O2")
    refused(fcc(model, "-O3"), 4, "--calibration", "-O2")


def test_output_that_cannot_be_written_is_exit_7(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / "sub").mkdir()
    refused(fcc(model, "-o", "none/out.onnx"), 7, "does not exist")
    refused(fcc(model, "-o", "sub"), 7, "is a folder")
    refused(fcc(model, "-o", "/dev/null"), 7, "no regular file")
    refused(fcc(model, "--report", "none/r.json"), 7, "does not exist")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_exit_7(fcc: Fcc, model: str, folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    refused(fcc(model, "-o", "locked/out.onnx"), 7, "permission")


def test_output_folder_is_checked_before_the_work(fcc: Fcc, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcc.api.compile", lambda *a, **k: pytest.fail("compiled"))
    refused(fcc(model, "-o", "none/out.onnx"), 7)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_output_equal_to_the_input_is_refused(fcc: Fcc, model: str, folder: Path, link: Any) -> None:
    before = (folder / model).read_bytes()
    link(folder / model, folder / "link.onnx")
    refused(fcc(model, "-o", model), 7, "the input itself")
    refused(fcc(model, "-o", "./link.onnx"), 7, "the input itself")
    refused(fcc("link.onnx", "-o", model), 7, "the input itself")
    assert (folder / model).read_bytes() == before


def test_output_over_the_external_data_of_the_input_is_refused(fcc: Fcc, model: str, folder: Path) -> None:
    onnx.save(onnx.load(model), "ext.onnx", save_as_external_data=True, location="ext.data", size_threshold=0)
    before = (folder / "ext.data").read_bytes()
    refused(fcc("ext.onnx", "-o", "ext.data"), 7, "weights of the input")
    assert (folder / "ext.data").read_bytes() == before


def test_failing_parity_is_exit_6_and_keeps_the_old_output(
    fcc: Fcc, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcc.errors import ParityError

    def moved(*args: object, **kwargs: object) -> None:
        raise ParityError("the outputs moved", "look")

    (folder / "net.fcc.onnx").write_text("kept")
    monkeypatch.setattr("fcc.api.compile", moved)
    refused(fcc(model), 6, "the outputs moved", "hint: look")
    assert (folder / "net.fcc.onnx").read_text() == "kept"


def test_unexpected_exception_is_exit_70(fcc: Fcc, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("fcc.api.compile", broken)
    refused(fcc(model), 70, "internal error: RuntimeError: two lines", "please report", "--debug")
    shown = fcc(model, "--debug")
    assert shown.code == 70
    assert "Traceback" in shown.err


def test_huge_constant_is_not_folded(fcc: Fcc, folder: Path) -> None:
    body = """g (int64[1] i) => (float[1] y) <int64[1] n = {70368744177664}>
    { c = ConstantOfShape<value = float[1] {1.0}>(n) y = Gather(c, i) }"""
    (folder / "huge.onnx").write_bytes(parsed(body))
    result = fcc("huge.onnx")
    assert (result.code, result.err) == (0, "")
    emitted = onnx.load(folder / "huge.fcc.onnx")
    assert [n.op_type for n in emitted.graph.node] == ["ConstantOfShape", "Gather"]
    assert "parity   not run" in result.out


def test_unsupported_op_is_exit_4_only_when_strict(fcc: Fcc, folder: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17, "my" : 1]>\ng (float[2] x) => (float[2] y) { y = my.Blorp(x) }'
    (folder / "own.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert "lint" in fcc("own.onnx").out
    refused(fcc("own.onnx", "--strict", "-o", "strict.onnx"), 4, "Blorp")
    assert not (folder / "strict.onnx").exists()
    refused(fcc("own.onnx", "--require-parity"), 6, "parity not run")


def test_without_a_runtime_models_compile_and_the_rest_says_why(
    fcc: Fcc, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = fcc(model)
    assert (done.code, done.err) == (0, "")
    assert "parity   not run: onnxruntime is not installed" in done.out
    assert "latency  not timed: it does not run here" in done.out
    assert fcc(model, "--verify", "off").code == 0
    assert "is not installed" in fcc("targets").out
    refused(fcc("compare", model, model), 4, "onnxruntime is not installed", "pip install")
    refused(fcc("bench", model), 4, "onnxruntime", "pip install")
    refused(fcc(model, "--require-parity"), 6, "onnxruntime is not installed")
    np.savez("data.npz", x=np.ones((8, 4), np.float32))
    refused(fcc(model, "--precision", "int8", "--calibration", "data.npz"), 4, "onnxruntime", "pip install")


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_static_integers_on_cuda_are_refused_in_one_line_with_what_it_runs(
    fcc: Fcc, model: str, precision: str
) -> None:
    shown = fcc(model, "--precision", precision, "--target", "cuda", "--calibration", "data.npz")
    assert shown.code == 4
    (line,) = shown.errors
    assert "static int8 is refused for cuda" in line
    assert "every Q and DQ runs around a float kernel" in line
    assert all(f"{word}" in shown.err for word in ("hint: ", "--precision fp16", "int4", "int8-weights"))
