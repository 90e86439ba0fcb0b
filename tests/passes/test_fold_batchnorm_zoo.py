"""The family on real models, judged by onnxruntime without optimizations."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.convert_batchnorm import ConvertBatchNorm
from fcc.passes.eliminate_identity import EliminateIdentity
from fcc.passes.fold_affine import FoldAffine
from fcc.passes.fold_affine_forward import FoldAffineForward
from fcc.passes.fold_batchnorm import FoldBatchNorm
from fcc.passes.fold_batchnorm_forward import FoldBatchNormForward
from fcc.passes.fuse_matmul_add import FuseMatMulAdd
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

ZOO = Path(os.environ.get("FCC_ZOO", Path(__file__).parents[3] / "shared")) / "models"
FAMILY = (
    EliminateIdentity(),
    FoldBatchNorm(),
    FoldAffine(),
    FoldBatchNormForward(),
    FoldAffineForward(),
    FuseMatMulAdd(),
    ConvertBatchNorm(),
)
SHAPES = {
    "burn_mnist": {},
    "mlp_bn_ts": {},
    "mnist_cntk": {},
    "mobilenetv2_ts": {},
    "superres": {},
    "ultraface_rfb320": {},
    "magika_standard_v3_3": {},
    "silero_vad": {"input": (1, 512), "state": (2, 1, 128)},
    "silero_vad_16k_op15": {"input": (1, 512), "state": (2, 1, 128)},
}

pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not ZOO.is_dir(), reason="FCC_ZOO names no models")]


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _feeds(session: onnxruntime.InferenceSession, known: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = known.get(value.name, tuple(d if isinstance(d, int) else 1 for d in value.shape))
        if "int" in value.type:
            feeds[value.name] = np.full(shape, 16000 if value.name == "sr" else 7, value.type[7:-1])
        else:
            feeds[value.name] = rng.random(shape, dtype=np.float32)
    return feeds


@pytest.mark.parametrize("name", SHAPES)
def test_real_models(name: str) -> None:
    path = ZOO / f"{name}.onnx"
    module = read(path)
    shapes.infer(module)
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    while sum(run_pass(p, module, ctx) for p in FAMILY):
        pass
    ir.verify(module)
    assert "BatchNormalization" not in Counter(node.op_type for node in module.nodes())
    before, after = _session(path.read_bytes()), _session(serde.serialize_model(module.model).SerializeToString())
    feeds = _feeds(before, SHAPES[name])
    for a, b in zip(before.run(None, feeds), after.run(None, feeds), strict=True):
        assert np.abs(a - b).max() <= 1e-4 * max(np.abs(a).max(), 1e-30)
