"""A small model and a way to run the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from fcc.__main__ import main

TEXT = """<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 3] y) <float[4, 5] w, float[5] s, float[5] b, float[5] m, float[5] v, float[5, 3] u>
{
    h = MatMul(x, w)
    n = BatchNormalization<epsilon = 0.001>(h, s, b, m, v)
    r = Relu(n)
    i = Identity(r)
    y = MatMul(i, u)
}"""


@dataclass
class Result:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that are no hints."""
        return [line for line in self.err.splitlines() if not line.startswith("hint: ")]


Fcc = Callable[..., Result]


def build(text: str, seed: int = 0) -> onnx.ModelProto:
    """Return the model that a text describes; declared values that no node produces are weights, drawn positive."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    produced = {name for node in model.graph.node for name in node.output}
    weights = [info for info in model.graph.value_info if info.name not in produced]
    for info in weights:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        array = rng.uniform(0.1, 1.0, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
        model.graph.value_info.remove(info)
    return model


@pytest.fixture(name="build")
def build_fixture() -> Callable[[str], onnx.ModelProto]:
    """Make a model from text."""
    return build


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> str:
    """The path of a model with something to improve."""
    onnx.save(build(TEXT), folder / "net.onnx")
    return "net.onnx"


@pytest.fixture
def fcc(capsys: pytest.CaptureFixture[str]) -> Fcc:
    """Run a command line."""

    def run(*words: str) -> Result:
        code = main([str(w) for w in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run
