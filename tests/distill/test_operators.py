"""Every operator of the torch interpreter against onnxruntime, with attributes that are not the default."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from fcc.distill.call import NoForm
from fcc.distill.program import TABLE, Program, tensors
from fcc.frontend import read
from fcc.runtime import open_session

_RNG = np.random.default_rng(0)


def f(*shape: int) -> Any:
    return _RNG.standard_normal(shape).astype(np.float32)


def i(*values: int) -> Any:
    return np.array(values, np.int64)


def b(*shape: int) -> Any:
    return _RNG.standard_normal(shape) > 0


UNIT = np.tanh(f(3, 4))
NAN = np.array([1, np.nan, 3], np.float32)
X = f(2, 4, 6, 5)
INT = np.array([[-7, 7, 5], [3, -3, 2]], np.int64)
STEP, ZERO = np.array(0.02, np.float32), np.array(117, np.uint8)
STEPS = np.array([0.02, 0.03, 0.01], np.float32)
HIDDEN = 3


def cell(gates: int, directions: int = 1, peep: int = 0, states: int = 1) -> list[Any]:
    """Return x [5 steps, 2, 4], W, R, B and initial states of a recurrent layer."""
    n = gates * HIDDEN
    found = [f(5, 2, 4), f(directions, n, 4), f(directions, n, HIDDEN), f(directions, 2 * n), None]
    found += [f(directions, 2, HIDDEN) for _ in range(states)]
    return [*found, f(directions, peep * HIDDEN)] if peep else found


CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    *((op, {}, [UNIT]) for op in ("Abs", "Acos", "Asin", "Atan", "Cos", "Cosh", "Erf", "Exp", "Identity", "Neg", "Sign")),
    *((op, {}, [3 * UNIT]) for op in ("Ceil", "Floor", "HardSwish", "Mish", "Relu", "Sigmoid", "Sin", "Sinh", "Tan")),
    *((op, {}, [3 * UNIT]) for op in ("Softplus", "Softsign", "Tanh", "Reciprocal", "Gelu", "Elu", "Celu", "LeakyRelu")),
    *((op, {}, [3 * UNIT]) for op in ("Selu", "HardSigmoid", "ThresholdedRelu", "Softmax", "LogSoftmax", "Dropout")),
    *((op, {}, [np.abs(UNIT)]) for op in ("Log", "Sqrt")),
    ("Round", {}, [np.array([0.5, 1.5, -0.5, 2.4], np.float32)]),
    ("IsNaN", {}, [NAN]),
    ("Not", {}, [b(3)]),
    ("Celu", {"alpha": 0.5}, [UNIT]),
    ("Elu", {"alpha": 0.5}, [UNIT]),
    ("Gelu", {"approximate": "tanh"}, [3 * UNIT]),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, [3 * UNIT]),
    ("LeakyRelu", {"alpha": 0.3}, [UNIT]),
    ("Selu", {"alpha": 1.2, "gamma": 0.7}, [UNIT]),
    ("ThresholdedRelu", {"alpha": 0.2}, [UNIT]),
    ("Softmax", {"axis": 1}, [X]),
    ("LogSoftmax", {"axis": 2}, [X]),
    ("Swish", {"alpha": 0.5}, [UNIT]),
    ("PRelu", {}, [X, f(4, 1, 1)]),
    *((op, {}, [f(3, 4), f(4)]) for op in ("Add", "Div", "Mul", "Sub", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")),
    *((op, {}, [b(3, 4), b(4)]) for op in ("And", "Or", "Xor")),
    *((op, {}, [f(3, 4), f(4), f(3, 1)]) for op in ("Max", "Min", "Sum", "Mean")),
    ("Equal", {}, [INT, INT.T[:2, :1]]),
    ("Div", {}, [INT, i(2, 4, 3)]),
    ("Mod", {}, [INT, i(4, -4, 3)]),
    ("Mod", {"fmod": 1}, [f(3, 4), np.array(0.7, np.float32)]),
    ("Pow", {}, [np.abs(f(3, 4)), np.array(3, np.int64)]),
    ("Where", {}, [b(3, 1), f(3, 4), f(4)]),
    ("Clip", {}, [X, np.array(-0.5, np.float32), np.array(0.3, np.float32)]),
    ("Clip", {}, [X, None, np.array(0.3, np.float32)]),
    ("Clip", {}, [X, np.array(0.5, np.float32), np.array(-0.3, np.float32)]),
    ("Cast", {"to": onnx.TensorProto.INT32}, [3 * UNIT]),
    ("CastLike", {}, [INT, f(1)]),
    ("MatMul", {}, [f(2, 3, 4), f(4, 5)]),
    ("MatMul", {}, [f(4), f(2, 4, 5)]),
    ("Einsum", {"equation": "bij,jk->bki"}, [f(2, 3, 4), f(4, 5)]),
    ("Gemm", {"alpha": 0.5, "beta": 2.0, "transA": 1}, [f(4, 3), f(4, 5), f(5)]),
    ("Gemm", {"transB": 1}, [f(3, 4), f(5, 4)]),
    ("Conv", {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2], "group": 2}, [X, f(6, 2, 3, 2), f(6)]),
    ("Conv", {"pads": [1, 1, 1, 1]}, [X, f(6, 4, 3, 3)]),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [X, f(6, 4, 2, 3)]),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [X, f(6, 4, 2, 3)]),
    ("Conv", {"pads": [2, 1]}, [f(2, 4, 9), f(3, 4, 3), f(3)]),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}, [X, f(4, 3, 3, 2), f(3)]),
    ("ConvTranspose", {"group": 2, "dilations": [2, 1]}, [X, f(4, 3, 3, 2)]),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}, [X]),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "dilations": [1, 2]}, [X]),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}, [X]),
    ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}, [X]),
    ("AveragePool", {"kernel_shape": [2]}, [f(2, 3, 7)]),
    ("GlobalAveragePool", {}, [X]),
    ("GlobalMaxPool", {}, [X]),
    ("BatchNormalization", {"epsilon": 0.1}, [X, f(4), f(4), f(4), np.abs(f(4))]),
    ("InstanceNormalization", {"epsilon": 0.1}, [X, f(4), f(4)]),
    ("LayerNormalization", {"epsilon": 0.1, "axis": 2}, [X, f(6, 5), f(6, 5)]),
    ("LayerNormalization", {}, [X, f(5)]),
    ("GroupNormalization", {"num_groups": 2, "epsilon": 0.1}, [X, f(4), f(4)]),
    ("RMSNormalization", {"epsilon": 0.1, "axis": -2}, [X, f(6, 5)]),
    ("Reshape", {}, [X, i(0, -1, 10)]),
    ("Reshape", {"allowzero": 1}, [f(0, 4), i(0, 2, 2)]),
    ("Flatten", {"axis": 2}, [X]),
    ("Flatten", {"axis": -1}, [X]),
    ("Flatten", {"axis": 0}, [X]),
    ("Transpose", {"perm": [1, 0, 3, 2]}, [X]),
    ("Transpose", {}, [f(2, 3, 4)]),
    ("Squeeze", {}, [f(1, 3, 1, 2), i(-2)]),
    ("Squeeze", {}, [f(1, 3, 1)]),
    ("Unsqueeze", {}, [f(3, 2), i(0, -1)]),
    ("Concat", {"axis": 1}, [f(2, 3), f(2, 4)]),
    ("Slice", {}, [X, i(1, -1), i(100, -100), i(1, 2), i(2, -2)]),
    ("Slice", {}, [X, i(1, -3), i(2, 100)]),
    ("Slice", {}, [X, i(5), i(2), i(-1)]),
    ("Gather", {"axis": 1}, [X, np.array([[0, -1], [2, 1]])]),
    ("Gather", {}, [X, np.array(1)]),
    ("GatherElements", {"axis": 1}, [f(2, 3), np.array([[0, -1, 1, 1], [2, 0, 0, 1]])]),
    ("GatherND", {}, [f(2, 3, 4), np.array([[0, -1], [1, 2]])]),
    ("ScatterND", {}, [f(4, 3), np.array([[1], [-1]]), f(2, 3)]),
    ("ScatterElements", {"axis": 1}, [f(2, 5), np.array([[1, -1], [0, 2]]), f(2, 2)]),
    ("Expand", {}, [f(3, 1), i(2, 1, 4)]),
    ("Tile", {}, [f(3, 2), i(2, 3)]),
    ("Pad", {}, [X, i(0, 0, 1, -1, 0, 0, 2, 1), np.array(0.5, np.float32)]),
    ("Pad", {"mode": "reflect"}, [X, i(1, 2, 3, 1), None, i(2, -1)]),
    ("Pad", {"mode": "edge"}, [X, i(0, 0, 2, 1, 0, 0, 0, 3)]),
    ("Pad", {"mode": "wrap"}, [X, i(0, 0, 2, 1, 0, 0, 0, 3)]),
    ("Shape", {"start": 1, "end": -1}, [X]),
    ("Shape", {}, [X]),
    ("Size", {}, [X]),
    ("ConstantOfShape", {"value": onnx.numpy_helper.from_array(np.array([3], np.int32))}, [i(2, 3)]),
    ("ConstantOfShape", {}, [i(2, 3)]),
    ("Range", {}, [np.array(7), np.array(1), np.array(-2)]),
    ("Range", {}, [np.array(0, np.float32), np.array(1, np.float32), np.array(0.3, np.float32)]),
    ("DepthToSpace", {"blocksize": 2}, [f(2, 8, 2, 3)]),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [f(2, 8, 2, 3)]),
    ("SpaceToDepth", {"blocksize": 2}, [f(2, 3, 4, 6)]),
    ("Trilu", {"upper": 0}, [f(3, 4), np.array(1)]),
    ("Trilu", {}, [f(3, 4)]),
    ("OneHot", {"axis": 1}, [np.array([[0, -1], [2, 1]]), np.array(3), np.array([0.5, 2], np.float32)]),
    ("CumSum", {"exclusive": 1, "reverse": 1}, [f(3, 4), np.array(1)]),
    ("CumSum", {}, [f(3, 4), np.array(0)]),
    ("ArgMax", {"axis": 1, "keepdims": 0}, [X]),
    ("ArgMin", {}, [X]),
    *((f"Reduce{op}", {"keepdims": 0}, [X, i(1, -1)]) for op in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod")),
    *((f"Reduce{op}", {}, [np.abs(X), i(2)]) for op in ("LogSum", "Sum", "SumSquare")),
    ("ReduceSum", {}, [X]),
    ("ReduceSum", {"noop_with_empty_axes": 1}, [X]),
    ("ReduceMax", {"keepdims": 0}, [np.array(2, np.float32)]),
    ("Resize", {"mode": "nearest"}, [X, None, np.array([1, 1, 2, 1.5], np.float32)]),
    ("Resize", {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, [X, None, None, i(2, 4, 11, 3)]),
    ("Resize", {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"}, [X, None, None, i(2, 4, 11, 3)]),
    ("Resize", {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}, [X, None, None, i(2, 4, 3, 10)]),
    ("Resize", {"mode": "linear"}, [X, None, None, i(2, 4, 11, 3)]),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, [X, None, None, i(2, 4, 11, 3)]),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel", "axes": [3, 2]}, [X, None, None, i(1, 11)]),
    ("Resize", {"mode": "cubic"}, [X, None, np.array([1, 1, 2, 1.5], np.float32)]),
    ("Resize", {"mode": "cubic", "cubic_coeff_a": -0.5}, [X, None, None, i(2, 4, 11, 3)]),
    ("RNN", {"hidden_size": HIDDEN, "direction": "bidirectional"}, cell(1, 2)),
    ("RNN", {"hidden_size": HIDDEN}, cell(1)[:3]),
    ("GRU", {"hidden_size": HIDDEN, "direction": "bidirectional"}, cell(3, 2)),
    ("GRU", {"hidden_size": HIDDEN, "linear_before_reset": 1, "direction": "reverse"}, cell(3)),
    ("LSTM", {"hidden_size": HIDDEN, "direction": "bidirectional"}, cell(4, 2, 3, states=2)),
    ("LSTM", {"hidden_size": HIDDEN, "direction": "reverse"}, cell(4)[:4]),
    ("Attention", {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3}, [f(2, 5, 16), f(2, 7, 8), f(2, 7, 8), f(5, 7)]),
    ("Attention", {"is_causal": 1}, [f(2, 3, 5, 4), f(2, 3, 5, 4), f(2, 3, 5, 4)]),
    ("Attention", {}, [f(2, 3, 5, 4), f(2, 3, 6, 4), f(2, 3, 6, 4), np.eye(5, 8) + np.ones((5, 8)) > 1, f(2, 3, 2, 4), f(2, 3, 2, 4)]),
    ("QuantizeLinear", {}, [X, STEP, ZERO]),
    ("QuantizeLinear", {"axis": 0}, [f(3, 4), STEPS, np.array([3, 0, -5], np.int8)]),
    ("QuantizeLinear", {}, [X, STEP]),
    ("DequantizeLinear", {}, [np.arange(12, dtype=np.uint8).reshape(3, 4), STEP, ZERO]),
    ("DequantizeLinear", {"axis": 0}, [np.arange(12, dtype=np.int32).reshape(3, 4), STEPS]),
    ("DequantizeLinear", {"axis": 0, "block_size": 2}, [np.arange(12, dtype=np.int8).reshape(6, 2), f(3, 2)]),
]  # fmt: skip
MANY = {"Split", "TopK"}


def model(op: str, attributes: dict[str, Any], inputs: list[Any], outputs: int = 1, opset: int = 23) -> bytes:
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    node = onnx.helper.make_node(op, names, [f"y{k}" for k in range(outputs)], **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, inputs, strict=True)
        if a is not None
    ]
    empty = [onnx.helper.make_empty_tensor_value_info(o) for o in node.output]
    graph = onnx.helper.make_graph([node], "g", infos, empty)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=11)
    return bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())


def agree(op: str, attributes: dict[str, Any], inputs: list[Any], outputs: int = 1, opset: int = 23) -> None:
    data = model(op, attributes, inputs, outputs, opset)
    feeds = {f"i{k}": a for k, a in enumerate(inputs) if a is not None}
    expected = open_session(data).run(feeds)
    found = Program(read(data))(tensors(feeds))
    assert list(found) == list(expected)
    for name, y in expected.items():
        assert tuple(found[name].shape) == y.shape
        np.testing.assert_allclose(found[name].numpy(), y.astype(found[name].numpy().dtype), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=[f"{k}-{c[0]}" for k, c in enumerate(CASES)])
def test_operator(case: tuple[str, dict[str, Any], list[Any]]) -> None:
    op = case[0]
    agree(
        *case,
        outputs={"RNN": 2, "GRU": 2, "LSTM": 3}.get(op, 3 if op == "Attention" and len(case[2]) > 4 else 1),
        opset=24 if op == "Swish" else 23,
    )


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "outputs"),
    [
        ("Split", {"axis": 1}, [f(2, 7), i(2, 5)], 2),
        ("Split", {"axis": -1, "num_outputs": 3}, [f(2, 8)], 3),
        ("TopK", {"largest": 0, "axis": 0}, [f(5, 3), i(2)], 2),
        ("TopK", {}, [f(5, 3), i(2)], 2),
    ],
)
def test_operators_with_several_outputs(op: str, attributes: dict[str, Any], inputs: list[Any], outputs: int) -> None:
    agree(op, attributes, inputs, outputs)


def test_forms_of_opset_13() -> None:
    agree("ReduceMean", {"axes": [1, -1], "keepdims": 0}, [X], opset=13)
    agree("Split", {"axis": 1}, [f(2, 6)], 2, opset=13)


def test_every_operator_is_tested() -> None:
    assert {c[0] for c in CASES} | MANY == set(TABLE)


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "outputs", "why"),
    [
        ("Det", {}, [f(3, 3)], 1, "^Det$"),
        ("LSTM", {"hidden_size": HIDDEN, "clip": 0.5}, cell(4)[:4], 1, "LSTM with clip=0.5"),
        ("LSTM", {"hidden_size": HIDDEN, "activations": ["Relu", "Tanh", "Tanh"]}, cell(4)[:4], 1, "LSTM with activations"),
        ("GRU", {"hidden_size": HIDDEN}, [*cell(3)[:4], np.array([5, 3], np.int32)], 1, "GRU with sequence_lens"),
        ("MaxPool", {"kernel_shape": [2, 2]}, [X], 2, "MaxPool with indices"),
        ("MaxPool", {"kernel_shape": [2, 2], "ceil_mode": 1, "pads": [1, 1, 0, 0]}, [X], 1, "ceil_mode and pads"),
        ("AveragePool", {"kernel_shape": [2, 2], "ceil_mode": 1}, [X], 1, "AveragePool with ceil_mode=1"),
        ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 1]}, [X], 1, "AveragePool with dilations"),
        ("ConvTranspose", {"auto_pad": "SAME_UPPER"}, [X, f(4, 3, 3, 2)], 1, "auto_pad"),
        ("ConvTranspose", {"output_shape": [9, 7]}, [X, f(4, 3, 3, 2)], 1, "output_shape"),
        ("LayerNormalization", {}, [X, f(5)], 2, "LayerNormalization with its mean"),
        ("GatherND", {"batch_dims": 1}, [f(2, 3), np.array([[0], [1]])], 1, "batch_dims=1"),
        ("ScatterND", {"reduction": "add"}, [f(4, 3), np.array([[1]]), f(1, 3)], 1, "reduction='add'"),
        ("ScatterElements", {"reduction": "mul"}, [f(2, 5), np.array([[1]]), f(1, 1)], 1, "reduction='mul'"),
        ("Pad", {"mode": "edge"}, [X, i(0, 0, -1, 0, 0, 0, 0, 0)], 1, "negative"),
        ("ArgMax", {"select_last_index": 1}, [X], 1, "select_last_index=1"),
        ("Resize", {"mode": "linear", "antialias": 1}, [X, None, None, i(2, 4, 3, 3)], 1, "antialias=1"),
        ("Resize", {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}, [X, None, None, i(2, 4, 11, 3)], 1, "half_pixel_symmetric"),
        ("Attention", {"softcap": 2.0}, [f(2, 3, 5, 4)] * 3, 1, "softcap"),
        ("Attention", {}, [f(2, 3, 5, 4)] * 3, 4, "products of queries"),
        ("Attention", {"is_causal": 1}, [*[f(2, 3, 5, 4)] * 3, None, f(2, 3, 2, 4), f(2, 3, 2, 4)], 1, "causal over past"),
        ("QuantizeLinear", {"output_dtype": onnx.TensorProto.FLOAT8E4M3FN}, [X, STEP], 1, "QuantizeLinear to float8"),
        ("Cast", {"to": onnx.TensorProto.FLOAT8E5M2}, [X], 1, "Cast of float8e5m2"),
        ("Dropout", {}, [X], 2, "Dropout with 2 outputs"),
    ],
)  # fmt: skip
def test_what_has_no_form_is_named(
    op: str, attributes: dict[str, Any], inputs: list[Any], outputs: int, why: str
) -> None:
    data = model(op, attributes, inputs, outputs)
    with pytest.raises(NoForm, match=why):
        Program(read(data))(tensors({f"i{k}": a for k, a in enumerate(inputs) if a is not None}))


def test_custom_domains_and_old_opsets_are_named() -> None:
    node = onnx.helper.make_node("Odd", ["x"], ["y"], domain="my")
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [2]) for n in "xy")
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]),
        opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("my", 1)],
        ir_version=8,
    )
    with pytest.raises(NoForm, match=r"^my\.Odd$"):
        Program(read(proto.SerializeToString()))


def test_branches() -> None:
    from fcc.ir.text import parse

    module = parse(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (bool c, float[2] x) => (float[2] y) { y = If (c) <
            then_branch = t () => (float[2] a) { a = Neg(x) }, else_branch = e () => (float[2] b) { b = Abs(x) }> }"""
    )
    x = np.array([-1, 2], np.float32)
    program = Program(module)
    assert program(tensors({"c": np.array(True), "x": x}))["y"].tolist() == [1, -2]
    assert program(tensors({"c": np.array(False), "x": x}))["y"].tolist() == [1, 2]
