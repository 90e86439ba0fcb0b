"""Every adapter: the old model and the upgraded one agree in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import defs, helper, parser
from onnx_ir import to_proto

from fcc import ir
from fcc.frontend import read
from fcc.frontend.adapters import ADAPTERS
from fcc.frontend.compatible import incompatibility, versions_between

F = np.float32


def model(text: str, opset: int) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 6, opset_import: ["" : {opset}]> g {text}')


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return list(ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds))


def upgraded(proto: onnx.ModelProto, opset: int = 13) -> ir.Module:
    module = read(proto)
    assert module.notes == []
    assert module.opset() == opset
    ir.verify(module)
    onnx.checker.check_model(to_proto(module.model), full_check=True)
    return module


def x(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


CASES = {
    "relu-type-only": (7, "(float[2,3] x) => (float[2,3] y) { y = Relu(x) }", {"x": x(2, 3)}),
    "clip": (7, "(float[2,3] x) => (float[2,3] y) { y = Clip<min=-0.25, max=0.5>(x) }", {"x": x(2, 3)}),
    "clip-min": (10, "(float[2,3] x) => (float[2,3] y) { a = Neg(x) y = Clip<min=0.1>(a) }", {"x": x(2, 3)}),
    "clip-none": (9, "(float[2,3] x) => (float[2,3] y) { y = Clip(x) }", {"x": x(2, 3)}),
    "pad": (8, "(float[2,3] x) => (float[4,6] y) { y = Pad<pads=[1,1,1,2], value=1.5>(x) }", {"x": x(2, 3)}),
    "pad-zero": (8, "(float[2,3] x) => (float[4,6] y) { y = Pad<pads=[1,1,1,2]>(x) }", {"x": x(2, 3)}),
    "pad-reflect": (
        10,
        '(float[3,4] x) => (float[5,6] y) { y = Pad<mode="reflect", pads=[1,1,1,1]>(x) }',
        {"x": x(3, 4)},
    ),
    "pad-edge-crop": (
        7,
        '(float[3,4] x) => (float[2,5] y) { y = Pad<mode="edge", pads=[-1,0,0,1]>(x) }',
        {"x": x(3, 4)},
    ),
    "slice": (
        9,
        "(float[4,5] x) => (float[2,3] y) { y = Slice<starts=[1,-4], ends=[-1,-1], axes=[0,1]>(x) }",
        {"x": x(4, 5)},
    ),
    "slice-no-axes": (7, "(float[4,5] x) => (float[2,5] y) { y = Slice<starts=[1], ends=[3]>(x) }", {"x": x(4, 5)}),
    "slice-dynamic": (
        10,
        "(float[4,5] x, int64[1] s, int64[1] e) => (float[N,M] y) { y = Slice(x, s, e) }",
        {"x": x(4, 5), "s": np.array([1]), "e": np.array([3])},
    ),
    "split": (
        7,
        "(float[2,6] x) => (float[2,2] a, float[2,4] b) { a, b = Split<axis=1, split=[2,4]>(x) }",
        {"x": x(2, 6)},
    ),
    "split-equal": (11, "(float[2,6] x) => (float[2,3] a, float[2,3] b) { a, b = Split<axis=-1>(x) }", {"x": x(2, 6)}),
    "squeeze": (9, "(float[1,3,1] x) => (float[1,3] y) { y = Squeeze<axes=[2]>(x) }", {"x": x(1, 3, 1)}),
    "squeeze-all": (9, "(float[1,3,1] x) => (float[3] y) { y = Squeeze(x) }", {"x": x(1, 3, 1)}),
    "unsqueeze": (11, "(float[3] x) => (float[1,3,1] y) { y = Unsqueeze<axes=[0,-1]>(x) }", {"x": x(3)}),
    "reducesum": (11, "(float[2,3,4] x) => (float[2,1,1] y) { y = ReduceSum<axes=[1,-1]>(x) }", {"x": x(2, 3, 4)}),
    "reducesum-all": (8, "(float[2,3] x) => (float y) { y = ReduceSum<keepdims=0>(x) }", {"x": x(2, 3)}),
    "reducemean": (8, "(float[2,3] x) => (float[2] y) { y = ReduceMean<axes=[1], keepdims=0>(x) }", {"x": x(2, 3)}),
    "topk": (9, "(float[2,6] x) => (float[2,3] v, int64[2,3] i) { v, i = TopK<k=3, axis=1>(x) }", {"x": x(2, 6)}),
    "topk-default": (7, "(float[2,6] x) => (float[2,2] v, int64[2,2] i) { v, i = TopK<k=2>(x) }", {"x": x(2, 6)}),
    "dropout": (7, "(float[2,3] x) => (float[2,3] y) { y = Dropout<ratio=0.3>(x) }", {"x": x(2, 3)}),
    "dropout-10": (10, "(float[2,3] x) => (float[2,3] y) { y = Dropout(x) }", {"x": x(2, 3)}),
    "dropout-mask-unused": (10, "(float[2,3] x) => (float[2,3] y) { y, m = Dropout<ratio=0.9>(x) }", {"x": x(2, 3)}),
    "softmax-default": (9, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }", {"x": x(2, 3, 4)}),
    "softmax-0": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=0>(x) }", {"x": x(2, 3, 4)}),
    "softmax-last": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=-1>(x) }", {"x": x(2, 3, 4)}),
    "softmax-negative": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=-2>(x) }", {"x": x(2, 3, 4)}),
    "softmax-ones": (8, "(float[2,5,1,1] x) => (float[2,5,1,1] y) { y = Softmax<axis=1>(x) }", {"x": x(2, 5, 1, 1)}),
    "softmax-dynamic": (9, "(float[N,M,K] x) => (float[N,M,K] y) { y = Softmax<axis=1>(x) }", {"x": x(2, 3, 4)}),
    "logsoftmax": (7, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax<axis=1>(x) }", {"x": x(2, 3, 4)}),
    "hardmax": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=1>(x) }", {"x": x(2, 3, 4)}),
    "upsample-7": (
        7,
        '(float[1,1,2,3] x) => (float[1,1,4,9] y) { y = Upsample<mode="nearest", scales=[1.0,1.0,2.0,3.0]>(x) }',
        {"x": x(1, 1, 2, 3)},
    ),
    "upsample-7-fraction": (
        7,
        "(float[1,1,4,4] x) => (float[1,1,6,7] y) { y = Upsample<scales=[1.0,1.0,1.5,1.75]>(x) }",
        {"x": x(1, 1, 4, 4)},
    ),
    "upsample-9-linear": (
        9,
        '(float[1,2,3,4] x) => (float[1,2,6,10] y) <float[4] s = {1,1,2,2.5}> { y = Upsample<mode="linear">(x, s) }',
        {"x": x(1, 2, 3, 4)},
    ),
    "upsample-9-computed": (
        9,
        "(float[1,1,3,3] x, float[4] s) => (float[A,B,C,D] y) { y = Upsample(x, s) }",
        {"x": x(1, 1, 3, 3), "s": np.array([1, 1, 2, 2], F)},
    ),
    "resize-10-down": (
        10,
        "(float[1,1,7,9] x) => (float[1,1,4,3] y) <float[4] s = {1,1,0.6,0.35}> { y = Resize(x, s) }",
        {"x": x(1, 1, 7, 9)},
    ),
    "resize-10-up": (
        10,
        "(float[1,1,3,5] x) => (float[1,1,7,9] y) <float[4] s = {1,1,2.4,1.9}> { y = Resize(x, s) }",
        {"x": x(1, 1, 3, 5)},
    ),
    "resize-10-linear-down": (
        10,
        '(float[1,1,7,9] x) => (float[1,1,4,3] y) <float[4] s = {1,1,0.6,0.35}> { y = Resize<mode="linear">(x, s) }',
        {"x": x(1, 1, 7, 9)},
    ),
    "batchnorm": (
        8,
        """(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y)
        { y = BatchNormalization<epsilon=0.01, spatial=1>(x, s, b, m, v) }""",
        {"x": x(2, 3, 4), "s": x(3), "b": x(3, seed=1), "m": x(3, seed=2), "v": np.abs(x(3, seed=3))},
    ),
    "scatter": (
        9,
        """(float[3,3] x, int64[1,3] i, float[1,3] u) => (float[3,3] y) { y = Scatter<axis=0>(x, i, u) }""",
        {"x": x(3, 3), "i": np.array([[2, 0, 1]]), "u": x(1, 3)},
    ),
    "erf": (9, "(float[2,3] x) => (float[2,3] y) { y = Erf(x) }", {"x": x(2, 3)}),
    "maxpool": (
        8,
        """(float[1,1,5,5] x) => (float[1,1,3,3] y)
        { y = MaxPool<kernel_shape=[2,2], pads=[0,0,1,1], strides=[2,2]>(x) }""",
        {"x": x(1, 1, 5, 5)},
    ),
    "averagepool": (
        7,
        """(float[1,1,5,5] x) => (float[1,1,3,3] y)
        { y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x) }""",
        {"x": x(1, 1, 5, 5)},
    ),
    "averagepool-same": (
        10,
        """(float[1,1,4,4] x) => (float[1,1,2,2] y)
        { y = AveragePool<kernel_shape=[3,3], auto_pad="SAME_LOWER", strides=[2,2]>(x) }""",
        {"x": x(1, 1, 4, 4)},
    ),
    "convtranspose-same": (
        10,
        """(float[1,1,3,3] x, float[1,1,3,3] w) => (float[1,1,6,6] y)
        { y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2], kernel_shape=[3,3]>(x, w) }""",
        {"x": x(1, 1, 3, 3), "w": x(1, 1, 3, 3)},
    ),
    "depthtospace": (
        9,
        "(float[1,8,2,2] x) => (float[1,2,4,4] y) { y = DepthToSpace<blocksize=2>(x) }",
        {"x": x(1, 8, 2, 2)},
    ),
    "argmax": (9, "(float[2,3] x) => (int64[2,1] y) { y = ArgMax<axis=1>(x) }", {"x": x(2, 3)}),
    "gather": (
        9,
        "(float[4,3] x, int64[2] i) => (float[2,3] y) { y = Gather(x, i) }",
        {"x": x(4, 3), "i": np.array([3, 0])},
    ),
    "onehot": (
        9,
        "(int64[4] i, int64 d, float[2] v) => (float[N,M] y) { y = OneHot(i, d, v) }",
        {"i": np.array([0, 2, -1, 5]), "d": np.array(3), "v": np.array([0.5, 2], F)},
    ),
    "nonmaxsuppression": (
        10,
        """(float[1,3,4] b, float[1,1,3] s, int64 k, float t) => (int64[N,3] y)
        { y = NonMaxSuppression(b, s, k, t) }""",
        {
            "b": np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 5, 1, 6]]], F),
            "s": np.array([[[0.9, 0.8, 0.7]]], F),
            "k": np.array(3),
            "t": np.array(0.5, F),
        },
    ),
    "prelu-pow-gemm": (
        7,
        """(float[2,3] x, float[3] p, float[3,4] w, float[4] c) => (float[2,4] y)
        { a = PRelu(x, p) b = Pow(a, a) d = Abs(a) e = Gemm(d, w, c) y = Identity(e) }""",
        {"x": x(2, 3), "p": x(3), "w": x(3, 4), "c": x(4)},
    ),
    "cast": (8, "(float[2] x) => (int64[2] y) { y = Cast<to=7>(x) }", {"x": np.array([1.7, -2.2], F)}),
    "quantize": (
        10,
        """(float[3] x, float s, uint8 z) => (float[3] y)
        { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
        {"x": x(3), "s": np.array(0.02, F), "z": np.array(128, np.uint8)},
    ),
    "if": (
        9,
        """(bool c, float[2,3] x) => (float[2,3] y) {
        y = If(c) <then_branch = t () => (float[2,3] a) { a = Softmax<axis=0>(x) },
                   else_branch = e () => (float[2,3] b) { b = Clip<min=0.0>(x) }> }""",
        {"c": np.array(True), "x": x(2, 3)},
    ),
    "loop": (
        9,
        """(int64 n, bool c, float[2] x) => (float[2] y, float[N,2] z) {
        y, z = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] s2, float[2] o)
        { k2 = Identity(k) one = Constant<value = float[2] {0.5, 1.0}>() o = Add(s, one) s2 = Clip<max=1.5>(o) }> }""",
        {"n": np.array(3), "c": np.array(True), "x": x(2)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_upgraded_model_agrees(name: str) -> None:
    opset, text, feeds = CASES[name]
    old = model(text, opset)
    new = to_proto(upgraded(old).model)
    for want, got in zip(run(old, feeds), run(new, feeds), strict=True):
        assert want.dtype == got.dtype
        assert want.shape == got.shape
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def scan_8(**attributes: Any) -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["s2"]), helper.make_node("Clip", ["s2"], ["o"], min=0.0)],
        "body",
        [helper.make_tensor_value_info("s", 1, [2]), helper.make_tensor_value_info("e", 1, [2])],
        [helper.make_tensor_value_info("s2", 1, [2]), helper.make_tensor_value_info("o", 1, [2])],
    )
    lens = attributes.pop("lens", "")
    node = helper.make_node("Scan", [lens, "init", "x"], ["final", "out"], body=body, num_scan_inputs=1, **attributes)
    infos = {"init": [3, 2], "x": [3, 4, 2], "final": [3, 2], "out": [3, 4, 2]}
    value = {k: helper.make_tensor_value_info(k, 1, s) for k, s in infos.items()}
    inputs = [value["init"], value["x"]] + ([helper.make_tensor_value_info(lens, 7, [3])] if lens else [])
    graph = helper.make_graph([node], "g", inputs, [value["final"], value["out"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4)


@pytest.mark.parametrize("directions", [None, [1]])
def test_scan_8_becomes_a_scan_over_the_batch(directions: list[int] | None) -> None:
    old = scan_8(**({} if directions is None else {"directions": directions}))
    feeds = {"init": x(3, 2), "x": x(3, 4, 2, seed=1)}
    for want, got in zip(run(old, feeds), run(to_proto(upgraded(old).model), feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


REFUSED = {
    "mask is used": (7, "(float[2] x) => (float[2] y, float[2] m) { y, m = Dropout(x) }"),
    "not known": (9, "(float[2] x) => (float[2] y) { a = Custom.Op(x) y = Clip<min=0.0>(a) }"),
    "spatial=0": (
        7,
        """(float[2,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3] y)
        { y = BatchNormalization<spatial=0>(x, s, b, m, v) }""",
    ),
    "not constant": (10, "(float[1,1,3,3] x, float[4] s) => (float[A,B,C,D] y) { y = Resize(x, s) }"),
    "shrinks another": (
        10,
        "(float[1,1,4,4] x) => (float[1,1,8,2] y) <float[4] s = {1,1,2,0.5}> { y = Resize(x, s) }",
    ),
    "integers are not accepted": (9, "(int32[2] x) => (int32[2] y) { y = Erf(x) }"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_node_that_cannot_be_raised_keeps_the_opset(reason: str) -> None:
    opset, text = REFUSED[reason]
    proto = model(text, opset)
    if "Custom" in text:
        proto.opset_import.append(helper.make_opsetid("Custom", 1))
    module = read(proto)
    assert module.opset() == opset
    assert len(module.notes) == 1
    assert f"opset {opset} is kept" in module.notes[0]
    assert reason in module.notes[0]
    for node, old in zip(module.nodes(), proto.graph.node, strict=True):
        assert node.op_type == old.op_type
        assert set(node.attributes) == {a.name for a in old.attribute}


def test_scan_8_with_lengths_keeps_the_opset() -> None:
    module = read(scan_8(lens="lens"))
    assert module.opset() == 8
    assert "sequence_lens" in module.notes[0]


@pytest.mark.parametrize("opset", [13, 17, 22, 26])
def test_opset_from_13_on_is_kept(opset: int) -> None:
    module = read(model("(float[2,3] x) => (float[2,3] y) { y = Softmax<axis=0>(x) }", opset))
    assert module.opset() == opset
    assert [n.op_type for n in module.nodes()] == ["Softmax"]


def test_every_op_of_the_default_domain_can_be_raised_from_7_or_says_why() -> None:
    names = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    silent = []
    for name in names:
        for start in range(7, 13):
            for version in versions_between(name, start, 13):
                known = any(s.since == version for s in ADAPTERS.get(name, ()))
                if not known and incompatibility(name, version):
                    silent.append((name, version))
    assert silent == []


def test_a_changed_default_is_no_type_only_change() -> None:
    assert incompatibility("Softmax", 13) == "changed attribute axis"
    assert incompatibility("Upsample", 10) == "is deprecated"
    assert incompatibility("Relu", 13) is None
    assert incompatibility("Squeeze", 13) == "has no attribute axes"
    assert incompatibility("Pad", 11) is not None


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_bounds_take_the_element_type_of_the_input(name: str, dtype: type) -> None:
    text = f"({name}[2] x) => ({name}[2] y) {{ a = Neg(x) y = Clip<min=-1.0, max=100000.0>(a) }}"
    module = upgraded(model(text, 9))
    low, high = (ir.Module.constant(v) for v in module.graph.initializers.values())
    assert low is not None
    assert high is not None
    assert low.dtype == high.dtype == dtype
    assert high == min(100000.0, float(np.finfo(dtype).max))


def test_metadata_of_a_node_reaches_what_replaces_it() -> None:
    proto = model("(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }", 11)
    proto.graph.node[0].metadata_props.add(key="k", value="v")
    nodes = list(upgraded(proto).nodes())
    assert [n.op_type for n in nodes] == ["Shape", "Flatten", "Softmax", "Reshape"]
    assert all(dict(n.metadata_props) == {"k": "v"} for n in nodes)
