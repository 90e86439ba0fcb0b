"""Real models, compiled at O2 for every target: interface kept, outputs within their limit, nothing left to clean up."""

import os
from pathlib import Path

import onnx
import pytest

import fcc
from fcc import ir
from fcc.analysis import shapes

ZOO = Path(os.environ.get("FCC_ZOO", Path(__file__).parent.parent.parent / "shared")) / "models"
MODELS = sorted(ZOO.glob("*.onnx")) if ZOO.is_dir() else []
pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not MODELS, reason=f"no models in {ZOO} (set FCC_ZOO)")]

SHAPE_OPS = {"Shape", "Size", "ConstantOfShape", "Range"}


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_compiles_within_the_limits(path: Path, target: str) -> None:
    pytest.importorskip("onnxruntime")
    compiled = fcc.compile(path, target=target, require_parity=True)
    report = compiled.report
    assert report.before is not None
    assert report.after is not None
    assert not report.guilty
    assert all(row.ok for row in report.parity)
    assert report.after.bytes <= report.before.bytes
    assert report.after.nodes <= report.before.nodes
    proto = compiled.proto()
    onnx.checker.check_model(proto)
    source = onnx.load(str(path), load_external_data=False)
    constant = {t.name for t in source.graph.initializer} if source.ir_version < 4 else set()
    assert list(proto.graph.input) == [i for i in source.graph.input if i.name not in constant]
    assert list(proto.graph.output) == list(source.graph.output)


@pytest.mark.parametrize("name", ["magika_standard_v3_3", "mlp_bn_ts"])
def test_nothing_is_left_to_clean_up(name: str) -> None:
    module = fcc.optimize(ZOO / f"{name}.onnx")
    left = {n.op_type for n in module.nodes()}
    assert not left & {"BatchNormalization", "Dropout", "Identity"}
    for node in module.nodes():
        found = shapes.elements(node.outputs[0])
        assert found is None or sum(isinstance(x, ir.Dim) for x in found.reshape(-1).tolist()) > 1, node
    assert not left & SHAPE_OPS
