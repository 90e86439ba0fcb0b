"""The real models through every backend: contract, size, domains, declared values."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import fp16_pass, get_backend, size_of
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

ZOO = Path(os.environ.get("FCC_ZOO", Path(__file__).parents[3] / "shared")) / "models"
MODELS = sorted(ZOO.glob("*.onnx")) if ZOO.is_dir() else []
pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not MODELS, reason="the real models are not here")]


def prepared(path: Path) -> ir.Module:
    module = read(str(path))
    shapes.infer(module)
    return module


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_every_backend_keeps_the_contract(path: Path, target: str) -> None:
    module = prepared(path)
    backend = get_backend(get_target(target))
    backend.legalize(module, PassContext(target=backend.target, log=Log(strict=True)))
    emitted = backend.emit(module)
    assert module.source is not None
    assert emitted.size <= size_of(module.source)
    proto = emitted.proto()
    onnx.checker.check_model(proto)
    source = onnx.load(path, load_external_data=False)
    constants = {t.name for t in source.graph.initializer} if source.ir_version < 4 else set()
    assert [i.SerializeToString() for i in proto.graph.input] == [
        i.SerializeToString() for i in source.graph.input if i.name not in constants
    ]
    assert [o.SerializeToString() for o in proto.graph.output] == [o.SerializeToString() for o in source.graph.output]
    if target == "tensorrt":
        assert all(not n.domain and not n.op_type.startswith("QLinear") for n in proto.graph.node)
        declared = {v.name for v in proto.graph.value_info} | {o.name for o in proto.graph.output}
        assert declared >= {o for n in proto.graph.node for o in n.output if o}


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_half_precision_keeps_inputs_and_outputs(path: Path) -> None:
    module = prepared(path)
    backend = get_backend(get_target("cuda"))
    ctx = PassContext(target=backend.target, log=Log(strict=True))
    assert run_pass(fp16_pass(), module, ctx) > 0
    backend.legalize(module, ctx)
    ir.verify(module)
    proto = backend.emit(module).proto()
    onnx.checker.check_model(proto)
    source = onnx.load(path, load_external_data=False)
    assert [o.SerializeToString() for o in proto.graph.output] == [o.SerializeToString() for o in source.graph.output]
    assert not [r for r in backend.lint(module) if "float16" in r.reason]
