"""convert-fp16: what becomes float16, what stays, where the casts are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import fp16_pass, get_backend
from fcc.backends.fp16 import ConvertFp16
from fcc.backends.fp16_constants import to_half
from fcc.errors import TargetError
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

ort = pytest.importorskip("onnxruntime")


def convert(
    text: str, opset: int = 21, target: str = "cuda", **constants: Any
) -> tuple[onnx.ModelProto, ir.Module, Log]:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n' + text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    module = read(proto)
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    log = Log(strict=True)
    run_pass(fp16_pass(), module, PassContext(target=get_target(target), log=log))
    ir.verify(module)
    after = get_backend(get_target(target)).emit(module).proto()
    onnx.checker.check_model(after, full_check=True)
    assert [i.type for i in after.graph.input] == [i.type for i in before.graph.input]
    assert [o.type.tensor_type.elem_type for o in after.graph.output] == [
        o.type.tensor_type.elem_type for o in before.graph.output
    ]
    assert_no_cast_noise(module)
    return before, module, log


def assert_no_cast_noise(module: ir.Module) -> None:
    seen = set()
    for node in module.nodes():
        if node.op_type == "Cast":
            value = node.inputs[0]
            assert value is not None
            producer = value.producer()
            assert producer is None or producer.op_type != "Cast", f"Cast after Cast at {node.name}"
            assert value.dtype is None or int(value.dtype) != node.attributes.get_int("to", 0)
            key = (value, node.attributes.get_int("to", 0), node.graph)
            assert key not in seen, f"{value.name} is cast twice"
            seen.add(key)


def assert_close(before: onnx.ModelProto, module: ir.Module, limit: float = 4e-3, **feeds: Any) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    after = serde.serialize_model(module.model)
    rng = np.random.default_rng(0)
    for v in before.graph.input:
        size = [d.dim_value or 2 for d in v.type.tensor_type.shape.dim]
        feeds.setdefault(v.name, rng.standard_normal(size).astype(np.float32))
    old, new = (
        ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)
        for m in (before, after)
    )
    for a, b in zip(old, new, strict=True):
        assert a.dtype == b.dtype
        assert np.abs(a.astype(np.float64) - b).max() <= limit * max(1.0, np.abs(a).max())


def kinds(module: ir.Module) -> dict[str, str]:
    """Return output name -> element type of every node."""
    return {v.name or "": v.dtype.name for n in module.graph for v in n.outputs if v.dtype is not None}


W = np.random.default_rng(1).standard_normal((4, 4)) * 0.3


def test_a_chain_is_cast_at_its_ends_only() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
    before, module, log = convert(text, w=W)
    assert [n.op_type for n in module.graph] == ["Cast", "MatMul", "Relu", "MatMul", "Cast"]
    assert {v.dtype for v in module.graph.initializers.values()} == {ir.DataType.FLOAT16}
    assert len(module.graph.initializers) == 1
    assert log.notes[0] == "float16: 3 of 3 float nodes"
    assert_close(before, module)


def test_a_second_run_changes_nothing() -> None:
    _, module, _ = convert("g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) e = Exp(a) y = Relu(e) }", w=W)
    text = ir.text.to_text(module) if hasattr(ir, "text") else str(module.model)
    again = PassContext(target=get_target("cuda"), log=Log(strict=True))
    assert run_pass(fp16_pass(), module, again) == 0
    assert text == (ir.text.to_text(module) if hasattr(ir, "text") else str(module.model))


def test_cpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(TargetError, match="gains nothing on cpu") as error:
        convert("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", target="cpu")
    assert "int8" in error.value.hint
    assert error.value.exit_code == 4


def test_an_op_without_kernel_is_an_island() -> None:
    text = """g (float[1,1,4,4] x, float[1,2,2,2] grid) => (float[1,1,2,2] y) {
        a = Conv(x, k) b = GridSample(a, grid) y = Conv(b, k) }"""
    before, module, log = convert(text, opset=20, k=np.full((1, 1, 1, 1), 0.5))
    assert kinds(module)["b"] == "FLOAT"
    assert any("no float16 kernel" in n and "GridSample" in n for n in log.notes)
    assert_close(before, module)


def test_a_decomposed_normalization_stays_float_up_to_its_quotient() -> None:
    text = """g (float[N,8] x) => (float[N,4] y) {
        v = MatMul(x, u) p = Pow(v, two) m = ReduceMean(p, axes) e = Add(m, eps) s = Sqrt(e) n = Div(v, s)
        o = Mul(n, gamma) y = MatMul(o, w2) }"""
    text = text.replace("g (", "g (").replace("axes", "axes")
    proto = f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'
    model = onnx.parser.parse_model(proto)
    rng = np.random.default_rng(0)
    arrays = {
        "u": rng.standard_normal((8, 8)) * 300,
        "two": 2.0,
        "eps": 1e-12,
        "gamma": np.ones(8),
        "w2": np.ones((8, 4)),
    }
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"))
    module = read(model)
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    assert run_pass(fp16_pass(), module, PassContext(target=get_target("cuda"), log=Log(strict=True))) == 3
    found = kinds(module)
    assert [found[k] for k in "vpmesno"] == ["FLOAT16", "FLOAT", "FLOAT", "FLOAT", "FLOAT", "FLOAT", "FLOAT16"]
    assert_no_cast_noise(module)
    assert_close(before, module)


def test_ops_named_by_the_user_stay_float() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = Softmax(a) y = MatMul(b, w) }"
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(W.astype(np.float32), "w"))
    module = read(proto)
    shapes.infer(module)
    log = Log(strict=True)
    assert run_pass(ConvertFp16(keep="LSTM+Softmax"), module, PassContext(target=get_target("cuda"), log=log)) == 2
    assert "float32, it was asked for: 1 Softmax" in log.notes
    assert str(ConvertFp16(keep="LSTM+Softmax")) == "convert-fp16{keep=LSTM+Softmax}"


def test_masks_are_clipped_and_infinities_kept() -> None:
    found = to_half(np.array([-3.4e38, -np.inf, np.inf, 7e4, 1.0, np.nan], np.float32))
    assert found[:5].tolist() == [-32752.0, -np.inf, np.inf, 65504.0, 1.0]
    assert np.isnan(found[5])
    assert to_half(np.array([-3.4e38], np.float32), masking=False).tolist() == [-65504.0]


def test_a_mask_is_added_in_half() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = Add(a, mask) y = Softmax(b) }"
    before, module, _ = convert(text, w=W, mask=[0.0, -3.4e38, 0.0, -3.4e38])
    assert kinds(module)["b"] == "FLOAT16"
    assert_close(before, module)


def test_a_weight_out_of_range_keeps_its_node_float() -> None:
    before, module, log = convert(
        "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) y = MatMul(a, big) }", w=W, big=W * 1e6
    )
    assert kinds(module)["y"] == "FLOAT"
    assert any("a constant leaves the range" in n for n in log.notes)
    assert_close(before, module)


def test_weights_that_vanish_are_counted() -> None:
    tiny = W.copy()
    tiny[0, 0] = 1e-9
    _, _, log = convert("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", w=tiny)
    assert "float16: 1 weights below 6e-8 became 0" in log.notes


def test_fixed_float_operands_stay() -> None:
    text = "g (float[1,1,4,4] x) => (float[1,1,8,8] y) { a = Relu(x) y = Resize(a, , scales) }"
    before, module, _ = convert(text, scales=[1.0, 1.0, 2.0, 2.0])
    resize = next(n for n in module.graph if n.op_type == "Resize")
    assert [v.dtype.name if v is not None and v.dtype is not None else None for v in resize.inputs] == [
        "FLOAT16",
        None,
        "FLOAT",
    ]
    assert_close(before, module)


@pytest.mark.parametrize(("opset", "scale"), [(13, "FLOAT"), (21, "FLOAT16")])
def test_scales_of_quantization_follow_the_opset(opset: int, scale: str) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
        z = Constant<value = int8 {0}>() a = Relu(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Relu(d) }"""
    before, module, _ = convert(text, opset=opset, s=np.float32(0.05))
    node = next(n for n in module.graph if n.op_type == "DequantizeLinear")
    assert node.inputs[1] is not None
    assert node.inputs[1].dtype is not None
    assert node.inputs[1].dtype.name == scale
    if opset == 13:
        assert_close(before, module, limit=0.06)


def test_integers_and_comparisons_keep_their_precision() -> None:
    text = """g (int64[N] i, float[N] x) => (float[N] y, bool[N] less) {
        f = Cast<to=1>(i) less = Less(f, k) a = Relu(x) y = Add(a, f) }"""
    before, module, _ = convert(text, k=np.float32(70000.0))
    assert [n.op_type for n in module.graph].count("Cast") == 4
    assert kinds(module)["f"] == "FLOAT"
    less = next(n for n in module.graph if n.op_type == "Less")
    assert all(v is not None and v.dtype == ir.DataType.FLOAT for v in less.inputs)
    assert_close(before, module, i=np.array([1, 2]), limit=2e-3)


def test_nested_graphs_are_converted_inside() -> None:
    text = """g (bool c, float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, w)
        r = If (c) <then_branch = t () => (float[N,4] a) { p = MatMul(h, w) a = Relu(p) },
                    else_branch = e () => (float[N,4] b) { b = Identity(h) }>
        y = MatMul(r, w) }"""
    before, module, log = convert(text, w=W)
    inner = {n.op_type: n for g in module.graphs() if g is not module.graph for n in g}
    assert inner["MatMul"].outputs[0].dtype == ir.DataType.FLOAT16
    assert next(n for n in module.graph if n.op_type == "If").outputs[0].dtype == ir.DataType.FLOAT
    assert any("it holds a graph: 1 If" in n for n in log.notes)
    for c in (True, False):
        assert_close(before, module, c=np.array(c))


def test_sequences_keep_their_element_type() -> None:
    text = """g (float[N,4] x) => (float[a,b] y) {
        zero = Constant<value = int64 {0}>() a = MatMul(x, w) q = SequenceConstruct(a, a) b = SequenceAt(q, zero)
        y = MatMul(b, w) }"""
    before, module, log = convert(text, w=W)
    assert any("it handles sequences" in n for n in log.notes)
    assert_close(before, module)


def test_outputs_used_inside_and_inputs_passed_through_keep_names_and_types() -> None:
    text = "g (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = MatMul(x, w) z = Relu(y) }"
    before, module, _ = convert(text, w=W)
    assert [v.name for v in module.graph.outputs] == ["y", "z"]
    assert all(v.dtype == ir.DataType.FLOAT for v in module.graph.outputs)
    assert_close(before, module)


def test_existing_casts_to_half_melt_away() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) h = Cast<to=10>(a) f = Cast<to=1>(h) y = Relu(f) }"
    before, module, _ = convert(text, w=W)
    assert [n.op_type for n in module.graph] == ["Cast", "MatMul", "Relu", "Cast"]
    assert_close(before, module)


def test_constant_of_shape_is_filled_in_half() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
        s = Shape(x) z = ConstantOfShape<value = float[1] {1.5}>(s) a = MatMul(x, w) y = Mul(a, z) }"""
    before, module, _ = convert(text, w=W)
    assert "FLOAT" not in {k for n, k in kinds(module).items() if n != "y"}
    assert_close(before, module)


def test_overridable_weights_keep_their_type() -> None:
    text = "g (float[N,4] x, float[4,4] w) => (float[N,4] y) { y = MatMul(x, w) }"
    before, module, _ = convert(text, w=W)
    assert module.graph.inputs[1].dtype == ir.DataType.FLOAT
    assert module.graph.inputs[1].const_value is not None
    assert_close(before, module)
