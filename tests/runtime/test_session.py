"""Sessions: what they show, what they return, and how they fail."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from fcc.errors import DataError, LoadError, TargetError, TargetUnavailable
from fcc.runtime import RunError, available, open_session, require_provider

HEAD = '<ir_version: 8, opset_import: ["": 17]> f '
ADD = HEAD + "(float[N, 3] x, int64 k) => (float[N, 3] y) { c = Cast<to=1>(k) y = Add(x, c) }"
GATHER = HEAD + "(float[n] x, int64[m] i) => (float[m] y) { y = Gather(x, i) }"


def model(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_specs_and_run() -> None:
    session = open_session(model(ADD))
    x, k = session.inputs
    assert (x.name, x.dtype, x.dims, x.optional) == ("x", np.dtype(np.float32), ("N", 3), False)
    assert (k.dtype, k.dims) == (np.dtype(np.int64), ())
    y = session.run({"x": np.ones((2, 3), np.float32), "k": np.array(2)})["y"]
    assert np.array_equal(y, np.full((2, 3), 3, np.float32))


def test_overridable_initializer_is_optional() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> f (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Mul(x, w) }'
    )
    session = open_session(proto.SerializeToString())
    assert [(s.name, s.optional) for s in session.inputs] == [("x", False), ("w", True)]
    x = np.ones(2, np.float32)
    assert session.run({"x": x})["y"].tolist() == [1, 2]
    assert session.run({"x": x, "w": x})["y"].tolist() == [1, 1]


def test_sequence_output_is_a_list() -> None:
    text = "(float[4] x) => (seq(float[2]) y) <int64 s = {2}> { y = SplitToSequence<axis=0>(x, s) }"
    session = open_session(model(HEAD + text))
    assert session.outputs[0].kind == "sequence"
    y = session.run({"x": np.arange(4, dtype=np.float32)})["y"]
    assert [a.tolist() for a in y] == [[0, 1], [2, 3]]


def test_bfloat16_goes_in_and_comes_out() -> None:
    session = open_session(
        model('<ir_version: 10, opset_import: ["": 18]> f (bfloat16[n] x) => (bfloat16[n] y) { y = Identity(x) }')
    )
    x = np.array([1.5, -2, 0], ml_dtypes.bfloat16)
    y = session.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert np.array_equal(y, x)


@pytest.mark.parametrize(
    ("feeds", "error"),
    [
        ({"x": np.ones((2, 3), np.float64), "k": np.array(2)}, DataError),
        ({"x": np.ones((2, 4), np.float32), "k": np.array(2)}, DataError),
        ({"x": np.ones((2, 3), np.float32)}, DataError),
        ({"x": np.ones((2, 3), np.float32), "k": np.array(2), "z": np.array(2)}, DataError),
    ],
)
def test_feeds_that_do_not_fit(feeds: Mapping[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        open_session(model(ADD)).run(feeds)
    assert "\n" not in str(caught.value)


def test_run_failure_is_one_quiet_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="Gather") as caught:
        open_session(model(GATHER)).run({"x": np.zeros(3, np.float32), "i": np.array([7])})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_not_a_model(content: bytes) -> None:
    with pytest.raises(LoadError):
        open_session(content)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="nothing"):
        open_session(tmp_path / "nothing.onnx")


def test_missing_kernel_is_the_targets_fault() -> None:
    text = '<ir_version: 8, opset_import: ["": 18]> f (bfloat16[n] x) => (bfloat16[n] y) { y = Abs(x) }'
    with pytest.raises(TargetError):
        open_session(model(text))


def test_external_data_beside_bytes(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> f (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }'
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    x = np.ones(2, np.float32)
    assert open_session(path).run({"x": x})["y"].tolist() == [1, 2]
    assert open_session(path.read_bytes(), folder=tmp_path).run({"x": x})["y"].tolist() == [1, 2]


def test_unknown_provider_is_named() -> None:
    with pytest.raises(TargetUnavailable, match="did you mean 'CPUExecutionProvider'"):
        open_session(model(ADD), provider="CPUExecutionProvder")


def test_gpu_provider_says_what_to_install() -> None:
    if "CUDAExecutionProvider" in available():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(TargetUnavailable, match=r"fcc\[gpu\]"):
        require_provider("CUDAExecutionProvider")


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("onnxruntime"):
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TargetUnavailable, match=r"fcc\[cpu\]"):
        open_session(model(ADD))
    assert available() == ()


@pytest.mark.parametrize("modules", [["fcc.runtime"], ["fcc.data.dataset", "fcc.data.probes"], ["fcc.parity"]])
def test_import_does_not_load_onnxruntime(modules: Sequence[str]) -> None:
    code = f"import sys, {', '.join(modules)}; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
