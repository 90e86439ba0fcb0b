"""insert-qdq on the shipped digit models: kernels, accuracy, and the certificate that no pair of products saturates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from fcc import ir, passes
from fcc.analysis import shapes
from fcc.backends import get_backend
from fcc.compress.quantize import is_pair_safe
from fcc.data.dataset import open_data
from fcc.data.spec import inputs_of
from fcc.frontend import read
from fcc.models import path
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.rewrite.manager import Manager
from fcc.runtime import kernels, open_session
from fcc.runtime.calibrate import calibrate
from fcc.target import get_target

LAYERS = {"digits_mlp": {"QGemm"}, "digits_cnn": {"QLinearConv", "QGemm"}}


def quantized(name: str) -> tuple[bytes, ir.Module, PassContext]:
    module = read(path(name).read_bytes())
    shapes.infer(module)
    target = get_target("cpu")
    ctx, p = PassContext(target, Log(strict=True)), InsertQdq()
    Manager().run(passes.pipeline(2), module, ctx)

    def emit() -> bytes:
        return get_backend(target).emit(module, meta={}, opt_shapes=None, min_shapes=None, max_shapes=None).to_bytes()

    data = open_data(path("digits_calibration.npz"), inputs_of(module))
    stats = calibrate(emit(), p.tensors(module, ctx), data)
    run_pass(p, module, replace(ctx, stats=stats))
    ir.verify(module)
    return emit(), module, ctx


def logits(model: bytes, optimize: bool = True) -> np.ndarray[Any, Any]:
    x = np.load(path("digits_test.npz"))["x"][:, 0]
    found = open_session(model, optimize=optimize).run({"x": x})["logits"]
    return np.asarray(found)


@pytest.mark.parametrize("name", LAYERS)
def test_digits(name: str) -> None:
    source = path(name).read_bytes()
    model, module, ctx = quantized(name)
    found = kernels(model)
    assert sum(found[k] for k in LAYERS[name]) == len(ctx.log.layers) >= 3
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"} & set(found)
    labels = np.load(path("digits_labels.npy"))
    exact, on, off = logits(source), logits(model), logits(model, optimize=False)
    assert np.mean(on.argmax(1) == labels) >= np.mean(exact.argmax(1) == labels) - 0.005
    error = np.linalg.norm(on - exact)
    assert error < 0.03 * np.linalg.norm(exact)
    assert error == pytest.approx(np.linalg.norm(off - exact), rel=0.05)
    weights = [n for n in module.nodes() if n.op_type == "DequantizeLinear" and n.inputs[0] in weights_of(module)]
    assert len(weights) == len(ctx.log.layers)
    for node in weights:
        array = ir.Module.constant(node.inputs[0])
        assert array is not None
        assert is_pair_safe(array, node.attributes.get_int("axis")).all()


def weights_of(module: ir.Module) -> list[ir.Value]:
    return [v for v in module.graph.initializers.values() if v.dtype == ir.DataType.INT8 and len(v.shape or ()) > 1]
