"""Every real model: read, verify, write, and compute the same."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_ir import to_proto

from fcc import ir
from fcc.frontend import read

ZOO = pathlib.Path(os.environ.get("FCC_ZOO", pathlib.Path(__file__).parents[3] / "shared")) / "models"
MODELS = sorted(ZOO.glob("*.onnx"))

pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not MODELS, reason="FCC_ZOO names no models")]


def feeds(session: ort.InferenceSession, name: str) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for info in session.get_inputs():
        free = 16 if "int" in info.type else 1
        shape = [d if isinstance(d, int) and d > 0 else free for d in info.shape]
        if info.name == "sr":
            found[info.name] = np.array(16000, np.int64)
        elif "int" in info.type:
            dtype = np.int64 if "64" in info.type else np.int32
            found[info.name] = rng.integers(0, 2 if info.name == "mask" else 90, shape).astype(dtype)
        else:
            shape = [1, 512] if name.startswith("silero") and info.name == "input" else shape
            found[info.name] = rng.standard_normal(shape).astype(np.float32)
    return found


def session(model: str | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_read_model_computes_the_same(path: pathlib.Path) -> None:
    module = read(path)
    ir.verify(module)
    assert module.opset() >= 13
    assert all(n.op_type != "Constant" for n in module.nodes())
    assert module.source is not None
    emitted = to_proto(module.model)
    module.source.declare(emitted)
    onnx.checker.check_model(emitted)
    old, new = session(str(path)), session(emitted.SerializeToString())
    for a, b in zip((*old.get_inputs(), *old.get_outputs()), (*new.get_inputs(), *new.get_outputs()), strict=True):
        assert (a.name, a.type, a.shape) == (b.name, b.type, b.shape)
    given = feeds(old, path.stem)
    for want, got in zip(old.run(None, given), new.run(None, given), strict=True):
        assert np.abs(want - got).max() <= 1e-5 * np.abs(want).max()
