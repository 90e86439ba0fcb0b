"""Every architecture that fcc.models builds: compiled, it keeps its interface and its answers, and loses nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import fcc
from fcc.backends import size_of
from fcc.models import BUILDERS
from fcc.passes.fold_batchnorm import FoldBatchNorm

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"sizes": (20, 24, 16, 5), "batchnorm": True, "dropout": True},
    "cnn": {"image": (2, 12, 12), "channels": (8, 12), "batchnorm": True, "depthwise": True},
    "vgg": {"size": 16, "stages": ((8, 1), (12, 1)), "hidden": 16, "batchnorm": True},
    "resnet": {"size": 16, "stages": ((8, 1), (12, 1))},
    "rnn": {"steps": 5, "hidden": 8, "bidirectional": True},
    "lstm": {"steps": "T", "hidden": 8, "depth": 2},
    "gru": {"steps": 5, "hidden": 8},
    "self_attention": {"tokens": "T", "width": 16, "heads": 2, "causal": True},
    "transformer_block": {"tokens": 6, "width": 16, "heads": 2, "gelu": "tanh"},
    "bert": {"depth": 1},
    "gpt": {"depth": 1},
}
CLEANED = {"Identity", "Dropout", "Constant"}


def feeds_of(model: onnx.ModelProto, batch: int, tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for v in model.graph.input:
        kind = v.type.tensor_type
        shape = [{"N": batch, "T": tokens}[d.dim_param] if d.dim_param else d.dim_value for d in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.FLOAT:
            feeds[v.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            feeds[v.name] = rng.integers(0, 100 if v.name == "input_ids" else 2, shape)
    return feeds


def outputs(model: bytes, feeds: dict[str, np.ndarray], optimize: bool) -> list[np.ndarray]:
    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds))


def declared(model: onnx.ModelProto) -> list[bytes]:
    return [v.SerializeToString(deterministic=True) for v in (*model.graph.input, *model.graph.output)]


def assert_kept(source: onnx.ModelProto, compiled: fcc.CompiledModel) -> None:
    """The same interface and answers at several sizes, no more bytes, nothing guilty."""
    emitted = compiled.to_bytes()
    proto = onnx.ModelProto.FromString(emitted)
    onnx.checker.check_model(emitted, full_check=True)
    assert declared(proto) == declared(source)
    assert compiled.report.guilty == []
    assert not [n for n in compiled.report.notes if "failed" in n]
    assert compiled.emitted.size <= size_of(source)
    for batch, tokens in ((1, 1), (3, 6)):
        feeds = feeds_of(source, batch, tokens)
        expected = outputs(source.SerializeToString(), feeds, False)
        for optimize in (False, True):
            for a, b in zip(expected, outputs(emitted, feeds, optimize), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
@pytest.mark.parametrize("name", list(BUILDERS))
def test_every_architecture_at_o2(name: str, target: str) -> None:
    source = BUILDERS[name](**SMALL[name])
    compiled = fcc.compile(source, target=target)
    assert_kept(source, compiled)
    assert compiled.report.parity
    assert all(r.ok for r in compiled.report.parity)
    left = [n.op_type for n in compiled.proto().graph.node]
    assert not CLEANED & set(left)
    assert "BatchNormalization" not in left


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", list(BUILDERS))
def test_every_architecture_at_lower_levels(name: str, level: int) -> None:
    source = BUILDERS[name](**SMALL[name])
    compiled = fcc.compile(source, opt_level=level)
    assert_kept(source, compiled)
    assert compiled.report.opt_level == level


def test_threads_give_the_bytes_of_a_serial_run() -> None:
    sources = [BUILDERS[name](**SMALL[name]) for name in ("mlp", "cnn", "lstm", "self_attention")]
    serial = [fcc.compile(s).to_bytes() for s in sources]
    barrier = threading.Barrier(4)

    def start(source: onnx.ModelProto) -> bytes:
        barrier.wait()
        return fcc.compile(source).to_bytes()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            assert list(pool.map(start, sources)) == serial


def test_threads_may_share_one_source_and_one_pass() -> None:
    source, shared = BUILDERS["mlp"](**SMALL["mlp"]), FoldBatchNorm()
    before = source.SerializeToString(deterministic=True)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(fcc.compile, source, plugins=[shared], verify="each") for _ in range(4)]
        assert len({r.result().to_bytes() for r in runs}) == 1
    assert source.SerializeToString(deterministic=True) == before
