"""Calibration over feeds, ragged shapes, graph inputs, sequences with state."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("onnxruntime")

from fcc.data.dataset import open_data
from fcc.data.spec import TensorSpec
from fcc.errors import CalibrationError, DataError
from fcc.runtime.calibrate import calibrate

TEXT = """<ir_version: 8, opset_import: ["": 17]>
f (float[N, 3] x) => (float[N, 3] y)
<float[3] w = {1, 2, 3}> { t = Mul(x, w) u = Relu(t) y = Sqrt(u) }"""
LOOP = """<ir_version: 8, opset_import: ["": 17]>
f (float[1] x, float[1] state) => (float[1] y, float[1] next) { next = Add(x, state) t = Neg(next) y = Abs(t) }"""
DEAD_END = """<ir_version: 8, opset_import: ["": 17]>
f (float[N] x) => (float[N] y) { t = Log(x) y = Relu(t) }"""


def model(text: str = TEXT) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_ranges_over_ragged_batches_inputs_and_outputs_included() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, 3)).astype(np.float32) for n in (1, 5, 0, 2)]
    stats = calibrate(model(), ["t", "x", "y", "t"], ({"x": a} for a in arrays))
    x = np.concatenate(arrays)
    t = x * np.array([1, 2, 3], np.float32)
    assert set(stats) == {"t", "x", "y"}
    assert stats.range("x") == (x.min(), x.max())
    assert stats.range("t") == (t.min(), t.max())
    assert stats.range("y")[1] == np.sqrt(t.max())
    assert stats["t"].count == 24
    assert stats["t"].mean == pytest.approx(t.mean(dtype=np.float64), rel=1e-6)


def test_from_a_file_with_external_weights(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    onnx.external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "model.onnx")
    stats = calibrate(tmp_path / "model.onnx", ["t"], [{"x": np.ones((1, 3), np.float32)}])
    assert stats.range("t") == (1, 3)


def test_sequences_run_in_a_closed_loop() -> None:
    specs = [TensorSpec(n, np.dtype(np.float32), (1,)) for n in ("x", "state")]
    sequences = [[{"x": np.array([v], np.float32)} for v in values] for values in ((1, 2, 3), (-4, -5))]
    data = open_data(sequences, specs, state={"next": "state"}, outputs=["y", "next"])
    seen: list[int] = []
    stats = calibrate(model(LOOP), ["t", "state"], data, progress=seen.append)
    assert stats.range("t") == (-6, 9)
    assert stats.range("state") == (-4, 3)
    assert seen == [1, 2, 3, 4, 5]


def test_nothing_to_calibrate_with() -> None:
    with pytest.raises(CalibrationError, match="no sample"):
        calibrate(model(), ["t"], [])


def test_unknown_tensor_names_the_nearest() -> None:
    with pytest.raises(CalibrationError, match=r"'tt'.*did you mean 't'"):
        calibrate(model(), ["tt"], [{"x": np.ones((1, 3), np.float32)}])


def test_misfit_is_a_data_error() -> None:
    with pytest.raises(DataError):
        calibrate(model(), ["t"], [{"x": np.ones((1, 3), np.float64)}])


def test_a_tensor_that_is_not_finite_is_remembered() -> None:
    stats = calibrate(model(DEAD_END), ["t"], [{"x": np.array([0.0, 1.0], np.float32)}])
    with pytest.raises(CalibrationError, match="1 NaN or infinite"):
        stats.range("t")


def test_gram_matrices_of_tensors_and_inputs() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    stats = calibrate(model(), [], [{"x": x[:1]}, {"x": x[1:]}], grams={"t": -1, "x": 1})
    t = x.astype(np.float64) * [1, 2, 3]
    assert np.allclose(stats.gram("t"), t.T @ t / 4)  # type: ignore[arg-type]
    assert np.allclose(stats.gram("x"), x.T @ x / 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_gives_the_same_statistics(kind: type[Executor]) -> None:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((2, 3)).astype(np.float32)} for _ in range(70)]
    seen: list[int] = []
    here = calibrate(model(), ["t"], feeds, grams={"x": -1})
    spawn = {"mp_context": get_context("spawn")} if kind is ProcessPoolExecutor else {}
    with kind(2, **spawn) as executor:  # type: ignore[call-arg]
        there = calibrate(model(), ["t"], feeds, grams={"x": -1}, executor=executor, progress=seen.append)
    assert dict(here) == dict(there)
    assert np.array_equal(here.gram("x"), there.gram("x"))  # type: ignore[arg-type]
    assert seen == [32, 64, 70]


def test_an_executor_leaves_sequences_with_state_here() -> None:
    specs = [TensorSpec(n, np.dtype(np.float32), (1,)) for n in ("x", "state")]
    data = open_data(
        [[{"x": np.array([v], np.float32)} for v in (1, 2, 3)]], specs, state={"next": "state"}, outputs=["y", "next"]
    )
    with ThreadPoolExecutor(2) as executor:
        assert calibrate(model(LOOP), ["t"], data, executor=executor).range("t") == (-6, -1)
