"""fcc.onnx_backend: ONNX's backend interface, and a sample of ONNX's own suite through it.

The whole suite: ``python benchmarks/onnx_suite.py``; in the standard way of ONNX, one unittest case per model:
``FCC_ONNX_SUITE=2,cuda python -m pytest tests/test_onnx_backend.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import fcc.onnx_backend as backend
from fcc.errors import FccError, LoadError
from fcc.testing import model_from
from fcc.testing.conformance import Case, conformance_cases, failure, sample

EXCLUDED: dict[str, Any] = json.loads((Path(__file__).parent / "onnx_suite_excluded.json").read_text())
MODEL = model_from("g (float[2,3] x, float[3] b) => (float[2,3] y, float[2,3] z) { y = Add(x, b) z = Neg(y) }", 21)
X, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)
SAMPLE, SEED = 240, 5

if chosen := os.environ.get("FCC_ONNX_SUITE"):
    from onnx.backend.test import BackendTest

    level, target = chosen.split(",")
    suite = BackendTest(backend.backend(level=int(level), target=target), __name__)
    for name in EXCLUDED["fails in onnxruntime"]:
        suite.exclude(f"^{name}$")
    globals().update(suite.test_cases)


@pytest.mark.parametrize("level", [None, 0, 2])
def test_prepare_and_run(level: int | None) -> None:
    rep = backend.prepare(MODEL, level=level)
    found = rep.run([X, B])
    np.testing.assert_array_equal(found[0], X + B)
    np.testing.assert_array_equal(found.z, -(X + B))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(rep.run({"b": B, "x": X})[0], X + B)
    assert (rep.compiled is None) == (level is None)


def test_options_reach_the_compiler() -> None:
    other = backend.backend(level=1, target="cuda")
    report = other.prepare(MODEL).compiled.report
    assert (report.opt_level, report.target) == (1, "cuda")
    assert other.prepare(MODEL, level=0).compiled.report.opt_level == 0
    assert backend.prepare(MODEL, shapes={"x": (2, 3)}).compiled.report.opt_level == 2
    np.testing.assert_array_equal(backend.run_model(MODEL, [X, B], level=0)[1], -(X + B))


def test_one_array_alone_is_the_first_input() -> None:
    rep = backend.prepare(model_from("g (float[2,3] x) => (float[2,3] y) { y = Neg(x) }", 21))
    np.testing.assert_array_equal(rep.run(X)[0], -X)


def test_inputs_with_a_default_come_last_and_may_be_none() -> None:
    text = "g (float[2,3] x, float[3] d = {1, 1, 1}, float[2,3] z) => (float[2,3] y) { t = Add(x, d) y = Sub(t, z) }"
    rep = backend.prepare(model_from(text, 21))
    assert rep.names == ("x", "z", "d")
    np.testing.assert_array_equal(rep.run([X, 2 * X])[0], B - X)
    np.testing.assert_array_equal(rep.run([X, 2 * X, None])[0], B - X)
    np.testing.assert_array_equal(rep.run([X, 2 * X, 3 * B])[0], 3 * B - X)


def test_devices() -> None:
    assert [backend.supports_device(d) for d in ("CPU", "CPU:0", "CUDA")] == [True, True, False]
    assert backend.is_compatible(MODEL)
    assert not backend.is_compatible(MODEL, "CUDA")
    assert not backend.is_compatible(helper.make_model(MODEL.graph, opset_imports=[helper.make_opsetid("", 99)]))
    with pytest.raises(ValueError, match="not on CUDA"):
        backend.prepare(MODEL, "CUDA")


def test_what_cannot_be_compiled_or_run_is_an_error() -> None:
    broken = onnx.ModelProto.FromString(MODEL.SerializeToString())
    broken.graph.node[0].op_type = "Ad"
    with pytest.raises(LoadError):
        backend.prepare(broken)
    with pytest.raises(FccError, match="cannot run"):
        backend.prepare(MODEL).run([X])


def test_run_node() -> None:
    node = helper.make_node("Add", ["x", "b"], ["y"])
    np.testing.assert_array_equal(backend.run_node(node, [X, B])[0], X + B)
    np.testing.assert_array_equal(backend.run_node(node, {"x": X, "b": B})[0], X + B)
    np.testing.assert_array_equal(backend.run_node(node, [X, B], level=None, opset_version=7)[0], X + B)
    info = [(np.dtype(np.float32), (2, 3))]
    np.testing.assert_array_equal(backend.run_node(node, [X, B], outputs_info=info)[0], X + B)
    half = helper.make_node("Neg", ["x"], ["y"])
    assert backend.run_node(half, [X.astype(np.float16)])[0].dtype == np.float16


def test_run_node_with_absent_operands_and_outputs() -> None:
    clip = helper.make_node("Clip", ["x", "", "high"], ["y"])
    high = np.array(2, np.float32)
    np.testing.assert_array_equal(backend.run_node(clip, [X, high])[0], np.minimum(X, 2))
    np.testing.assert_array_equal(backend.run_node(clip, [X, None, high])[0], np.minimum(X, 2))
    square = helper.make_node("Mul", ["x", "x"], ["y"])
    np.testing.assert_array_equal(backend.run_node(square, [X])[0], X * X)
    zero = np.zeros((1, 2, 3), np.float32)
    rnn = helper.make_node("RNN", ["x", "w", "r"], ["", "h"], hidden_size=2)
    found = backend.run_node(rnn, [X[None], zero, zero[..., :2]])
    assert [f.shape for f in found] == [(1, 2, 2)]


def test_run_node_of_sequences() -> None:
    node = helper.make_node("SequenceAt", ["s", "i"], ["y"])
    np.testing.assert_array_equal(backend.run_node(node, [[X, -X], np.array(1)])[0], -X)


def test_run_node_checks_the_node() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="Ad"):
        backend.run_node(helper.make_node("Ad", ["x"], ["y"]), [X])
    loop = helper.make_node("Reshape", ["x", "s"], ["y"])
    found = backend.run_node(loop, [X, np.array([3, 2])], outputs_info=[(np.float32, (3, 2))])
    assert found[0].shape == (3, 2)


def test_it_is_imported_on_demand_only() -> None:
    code = "import sys, fcc; fcc.compile; assert 'fcc.onnx_backend' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> list[str]:
    """Tests drawn from ONNX's suite that onnxruntime passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", str(folder))
        plain = conformance_cases(backend.backend(level=None))
        known = EXCLUDED["fails in onnxruntime"]
        if (EXCLUDED["onnx"], EXCLUDED["onnxruntime"]) == (version("onnx"), version("onnxruntime")):
            return sample(plain, SAMPLE, SEED, known)
        return [n for n in sample(plain, SAMPLE, SEED, known) if failure(plain[n]) is None]


def test_the_list_of_exclusions_is_what_onnxruntime_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (EXCLUDED["onnx"], EXCLUDED["onnxruntime"]) != (version("onnx"), version("onnxruntime")):
        pytest.skip("it was made with other versions: benchmarks/onnx_suite.py --exclude makes it anew")
    monkeypatch.setenv("ONNX_MODELS", str(folder))
    plain = conformance_cases(backend.backend(level=None))
    assert set(EXCLUDED["fails in onnxruntime"]) <= set(plain)
    assert [n for n in sample(EXCLUDED["fails in onnxruntime"], 40, SEED) if failure(plain[n]) is None] == []


@pytest.mark.parametrize(
    ("level", "target"), [(0, "cpu"), (1, "cpu"), (2, "cpu"), (2, "cuda"), (2, "tensorrt")], ids=str
)
def test_sample_of_the_suite(
    level: int, target: str, drawn: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way has its own fifth of the sample; all of them the whole: benchmarks/onnx_suite.py."""
    monkeypatch.setenv("ONNX_MODELS", str(folder))
    cases: dict[str, Case] = conformance_cases(backend.backend(level=level, target=target, verify="off"))
    ways = [(0, "cpu"), (1, "cpu"), (2, "cpu"), (2, "cuda"), (2, "tensorrt")]
    own = drawn[ways.index((level, target)) :: len(ways)]
    assert {name: why for name in own if (why := failure(cases[name]))} == {}


def test_failures_are_told_apart() -> None:
    def skips() -> None:
        raise pytest.importorskip("unittest").SkipTest("not for it")

    def fails() -> None:
        raise ValueError("two\nlines")

    assert failure(skips) == ("skipped", "not for it")
    assert failure(fails) == ("ValueError", "two lines")
    assert failure(lambda: None) is None


def test_samples_are_drawn_by_the_seed() -> None:
    names = [f"n{i}" for i in range(50)]
    assert sample(names, 10, 1) == sample(reversed(names), 10, 1) == sorted(sample(names, 10, 1))
    assert sample(names, 10, 1) != sample(names, 10, 2)
    assert sample(names, 100, 1, {"n3": ""}) == sorted(set(names) - {"n3"})


def test_exotic_types_pass_through() -> None:
    rep = backend.prepare(model_from("g (bfloat16[3] x) => (bfloat16[3] y) { y = Identity(x) }", 21))
    assert rep.run([np.ones(3, ml_dtypes.bfloat16)])[0].dtype == ml_dtypes.bfloat16
