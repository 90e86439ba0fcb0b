"""Raising on demand from 13 to 17, 18, 20, 21 and 23: same answers in onnxruntime, or a reason and no change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import defs, parser
from onnx_ir import to_proto

from fcc import ir
from fcc.frontend import read
from fcc.frontend.adapters import ADAPTERS
from fcc.frontend.compatible import incompatibility, versions_between
from fcc.frontend.upgrade import raise_to

F = np.float32
GOALS = (17, 18, 20, 21, 23)


def model(text: str, opset: int = 13) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 7, opset_import: ["" : {opset}]> g {text}')


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return list(ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds))


def x(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (
            f"(float[2,3,4] x) => (float[A,B] y, float[1,1,1] z) {{"
            f" y = {name}<axes=[-1], keepdims=0>(x) z = {name}(x) }}",
            {"x": x(2, 3, 4)},
        )
        for name in REDUCTIONS
    },
    "split": ("(float[2,6] x) => (float[2,3] a, float[2,3] b) { a, b = Split<axis=-1>(x) }", {"x": x(2, 6)}),
    "split-sizes": (
        "(float[2,6] x) => (float[2,2] a, float[2,4] b) <int64[2] s = {2, 4}> { a, b = Split<axis=1>(x, s) }",
        {"x": x(2, 6)},
    ),
    "batchnorm": (
        """(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y)
        { y = BatchNormalization<epsilon=0.1>(x, s, b, m, v) }""",
        {"x": x(2, 3, 4), "s": x(3), "b": x(3, seed=1), "m": x(3, seed=2), "v": np.abs(x(3, seed=3))},
    ),
    "resize-scales": (
        """(float[1,1,3,5] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2.5,1.6}, float[0] r = {}>
        { y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, r, s) }""",
        {"x": x(1, 1, 3, 5)},
    ),
    "resize-sizes": (
        """(float[1,1,3,5] x) => (float[A,B,C,D] y) <int64[4] s = {1,1,2,9}>
        { y = Resize<mode="nearest", nearest_mode="ceil">(x, , , s) }""",
        {"x": x(1, 1, 3, 5)},
    ),
    "resize-cubic": (
        """(float[1,1,3,5] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2,2}>
        { y = Resize<mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1>(x, , s) }""",
        {"x": x(1, 1, 3, 5)},
    ),
    "pad": (
        "(float[2,3] x, float v) => (float[A,B] y) <int64[4] p = {1,0,1,2}> { y = Pad(x, p, v) }",
        {"x": x(2, 3), "v": np.array(0.5, F)},
    ),
    "pad-reflect": (
        '(float[3,4] x) => (float[A,B] y) <int64[4] p = {1,1,0,-1}> { y = Pad<mode="reflect">(x, p) }',
        {"x": x(3, 4)},
    ),
    "scatter": (
        """(float[4,2] x, int64[1,1] i, float[1,2] u) => (float[4,2] y, float[4,2] z) {
        y = ScatterND(x, i, u) j = Concat<axis=1>(i, i) z = ScatterElements<axis=0>(x, j, u) }""",
        {"x": x(4, 2), "i": np.array([[2]]), "u": x(1, 2, seed=1)},
    ),
    "roi-align": (
        """(float[1,2,6,6] x, float[1,4] r, int64[1] b) => (float[1,2,3,3] y)
        { y = RoiAlign<output_height=3, output_width=3, spatial_scale=0.5, sampling_ratio=2>(x, r, b) }""",
        {"x": x(1, 2, 6, 6), "r": np.array([[0.5, 1, 7, 9]], F), "b": np.array([0])},
    ),
    "average-pool": (
        "(float[1,2,7,8] x) => (float[A,B,C,D] y) { y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x) }",
        {"x": x(1, 2, 7, 8)},
    ),
    "lstm": (
        """(float[3,2,4] x, float[1,20,4] w, float[1,20,5] r) => (float[A,B,C,D] y)
        { y, h, c = LSTM<hidden_size=5>(x, w, r) }""",
        {"x": x(3, 2, 4), "w": x(1, 20, 4, seed=1), "r": x(1, 20, 5, seed=2)},
    ),
    "if": (
        """(bool c, float[2,3] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] a) { a = ReduceMax<axes=[1], keepdims=0>(x) },
                   else_branch = e () => (float[2] b) { b = ReduceMean<axes=[1], keepdims=0>(x) }> }""",
        {"c": np.array(True), "x": x(2, 3)},
    ),
    "arithmetic": (
        """(float[2,3] x, float[3] p) => (bool[2,3] y, float[2,3] z, float[6] r, int64[2] s) <int64[1] m = {-1}> {
        a = Add(x, p) b = Mul(a, x) c = Relu(b) e = LeakyRelu(c) f = PRelu(e, p) g = Pow(f, f)
        y = GreaterOrEqual(g, x) z = Where(y, g, x) r = Reshape(z, m) s = Shape(z) }""",
        {"x": x(2, 3), "p": x(3)},
    ),
    "cast-quantize": (
        """(float[3] x, float s, uint8 z) => (float[3] y)
        { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) i = Cast<to=6>(d) y = CastLike(i, x) }""",
        {"x": x(3), "s": np.array(0.02, F), "z": np.array(128, np.uint8)},
    ),
}


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("name", CASES)
def test_raised_model_agrees(name: str, goal: int) -> None:
    text, feeds = CASES[name]
    opset = 15 if "CastLike" in text else 13
    old = model(text, opset)
    module = read(old)
    assert raise_to(module, goal) is None
    assert module.opset() == goal
    ir.verify(module)
    assert not any(n.op_type == "Constant" for n in module.nodes())
    new = to_proto(module.model)
    onnx.checker.check_model(new, full_check=True)
    if "RoiAlign" in text and goal > 21:
        return  # onnxruntime has no CPU kernel for RoiAlign-22
    for want, got in zip(run(old, feeds), run(new, feeds), strict=True):
        assert want.dtype == got.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_modes_are_renamed(mode: str) -> None:
    old = model(
        f'(float[1,1,4,4] x, float[1,2,3,2] g) => (float[A,B,C,D] y) {{ y = GridSample<mode="{mode}">(x, g) }}', 16
    )
    module = read(old)
    assert raise_to(module, 20) is None
    feeds = {"x": x(1, 1, 4, 4), "g": np.clip(x(1, 2, 3, 2, seed=1), -1, 1)}
    np.testing.assert_array_equal(run(to_proto(module.model), feeds)[0], run(old, feeds)[0])


@pytest.mark.parametrize("goal", GOALS)
def test_ir_version_fits_the_opset(goal: int) -> None:
    module = read(model("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"))
    assert raise_to(module, goal) is None
    needed = {row[2]: row[1] for row in reversed(onnx.helper.VERSION_TABLE)}[goal]
    assert module.model.ir_version >= needed


def test_a_node_that_refuses_keeps_everything() -> None:
    module = read(
        model(
            """(float[1,4,3,3] x, float[2] s, float[2] b, float[1,2,2,2] g) => (float[A,B,C,D] z)
            { z = GridSample<mode="bilinear">(y, g) y = GroupNormalization<num_groups=2>(x, s, b) }""",
            18,
        ),
    )
    before = [(n.op_type, sorted(n.attributes)) for n in module.nodes()]
    assert "per group" in (raise_to(module, 21) or "")
    assert module.opset() == 18
    assert [(n.op_type, sorted(n.attributes)) for n in module.nodes()] == before


def test_never_above_23_and_never_down() -> None:
    module = read(model("(float[2,3] x) => (float[2,3] y) { y = Relu(x) }", 15))
    assert raise_to(module, 24) == "opset 24 is above 23"
    assert raise_to(module, 14) is None
    assert raise_to(module, 15) is None
    assert module.opset() == 15


def test_every_op_can_be_raised_to_23_or_says_why() -> None:
    """Every version from 14 to 23 is known to the table, or differs in what an older node cannot use."""
    silent = []
    for name in {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}:
        for version in versions_between(name, 13, 23):
            known = any(s.since == version for s in ADAPTERS.get(name, ()))
            if not known and incompatibility(name, version):
                silent.append((name, version))
    assert silent == []
