"""Finishing passes in a compile: after what is lossy, first to go where the file would grow, and once is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import fcc
from fcc import testing
from fcc.driver import Driver
from fcc.options import Options

LONG = "a_name_as_long_as_exporters_write_them/" * 40
LAYER = "Conv<pads = [1,1,1,1]>"


def source(name: str = LONG) -> onnx.ModelProto:
    """Three convolutions of 64 channels; names that are dropped pay for the nodes of the tiles."""
    found = testing._model(
        f"""g (float[1,64,48,48] x) => (float[1,64,48,48] y) <float[64,64,3,3] u, float[64,64,3,3] v, float[64,64,3,3] w,
            float[64] b> {{ p = {LAYER}(x, u, b) q = Relu(p) r = {LAYER}(q, v, b) s = Tanh(r) y = {LAYER}(s, w, b) }}""",
        21, {k: 0.1 * np.random.default_rng(i).standard_normal((64, 64, 3, 3)) for i, k in enumerate("uvw")}, 0,
    )  # fmt: skip
    for node in found.graph.node:
        node.name = f"{name}{node.output[0]}" if node.op_type == "Conv" else ""
    return found


def kinds(compiled: Any) -> list[str]:
    return [n.op_type for n in onnx.load_from_string(compiled.to_bytes()).graph.node]


def size(compiled: Any) -> int:
    assert compiled.report.after is not None
    return int(compiled.report.after.bytes)


def test_compiling_again_changes_nothing() -> None:
    once = fcc.compile(source())
    assert kinds(once).count("ConvTranspose") == 3
    nodes = onnx.load_from_string(once.to_bytes()).graph.node
    assert all(n.name == "" for n in nodes)  # neither new ones nor those that had none
    assert once.report.worst is not None
    assert once.report.worst.error <= 1e-5
    again = fcc.compile(once.to_bytes())
    assert kinds(again) == kinds(once)
    assert again.report.rewrites == []
    assert size(again) == size(once)


def test_the_file_must_not_grow() -> None:
    short = source("c")
    plain = fcc.compile(short)
    report = plain.report
    assert any("the model without convert-winograd was used" in n for n in report.notes)
    assert report.before is not None
    assert size(plain) <= report.before.bytes
    assert report.opt_level == 2
    assert "ConvTranspose" not in kinds(plain)
    allowed = fcc.compile(short, allow_growth=True)
    assert kinds(allowed).count("ConvTranspose") == 3


def test_a_bias_takes_no_weights_where_the_file_would_grow_by_them() -> None:
    text = """g (float[1,128,200] x) => (float[1,128,200] y) <float[128,128,5] w, float[128] b>
        { y = Conv<pads = [2,2]>(x, w, b) }"""
    found = testing._model(text, 21, {}, 0)
    found.graph.node[0].name = LONG
    lean = fcc.compile(found)
    assert any("the model by convert-winograd{column=False} was used" in n for n in lean.report.notes)
    assert kinds(lean) == ["Reshape", "Conv", "Conv", "MatMul", "ConvTranspose", "Add", "Reshape"]
    assert kinds(fcc.compile(lean.to_bytes())) == kinds(lean)
    assert kinds(fcc.compile(found, allow_growth=True)).count("Add") == 0


def test_lossy_steps_see_plain_layers_and_the_rest_is_finished() -> None:
    driver, seen = Driver(Options(), source()), list[str]()
    product = driver.replay(lossy=lambda module, ctx, manager: seen.extend(n.op_type for n in module.graph)).product
    assert seen == ["Conv", "Relu", "Conv", "Tanh", "Conv"]
    assert [n.op_type for n in product.module.graph].count("ConvTranspose") == 3
    assert product.log.counts()["convert-winograd"] == 3


def test_int8_takes_the_layers_before() -> None:
    data = {"x": np.random.default_rng(0).standard_normal((6, 64, 48, 48)).astype(np.float32)}
    found = kinds(fcc.compile(source(), precision="int8", calibration=data, budget=0.5))
    assert found.count("Conv") == 3
    assert "QuantizeLinear" in found
    assert "ConvTranspose" not in found


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets_keep_their_convolutions(target: str) -> None:
    assert kinds(fcc.compile(source(), target=target)).count("Conv") == 3
