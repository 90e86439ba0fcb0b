"""What is written: contract of inputs and outputs, metadata, value_info, size, determinism."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import Emitted, get_backend, size_of
from fcc.errors import TargetError, VerifyError
from fcc.frontend import read
from fcc.target import TargetSpec, get_target


def model(opset: int = 17, nodes: int = 3) -> onnx.ModelProto:
    """A chain of MatMul and Relu with odd but legal metadata."""
    parts, weights, last = [], [], "x"
    for i in range(nodes):
        weights.append(numpy_helper.from_array(np.full((4, 4), i + 0.5, np.float32), f"w{i}"))
        parts += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"mm{i}", doc_string=f"layer {i}"),
            helper.make_node("Relu", [f"m{i}"], ["y" if i == nodes - 1 else f"r{i}"]),
        ]
        last = f"r{i}"
    graph = helper.make_graph(
        parts,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])],
        weights,
        doc_string="about the graph",
        value_info=[helper.make_tensor_value_info("m1", TensorProto.FLOAT, ["batch", 4])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    proto.producer_name, proto.producer_version, proto.domain, proto.model_version = "them", "1.2", "org.them", 7
    proto.metadata_props.add(key="author", value="somebody")
    parts_meta = proto.graph.node[0].metadata_props.add()
    parts_meta.key, parts_meta.value = "stage", "one"
    return proto


def emitted(proto: onnx.ModelProto, target: str = "cpu", **options: object) -> Emitted:
    module = read(proto)
    shapes.infer(module)
    return get_backend(get_target(target)).emit(module, **options)  # type: ignore[arg-type]


def test_an_untouched_model_comes_out_as_it_went_in() -> None:
    source = model()
    out = emitted(source).proto()
    onnx.checker.check_model(out)
    del out.metadata_props[1:]
    assert out.ir_version == source.ir_version
    assert {f: getattr(out, f) for f in ("producer_name", "producer_version", "domain", "model_version")} == {
        "producer_name": "them",
        "producer_version": "1.2",
        "domain": "org.them",
        "model_version": 7,
    }
    assert [n.SerializeToString() for n in out.graph.node] == [n.SerializeToString() for n in source.graph.node]
    assert list(out.graph.input) == list(source.graph.input)
    assert list(out.graph.output) == list(source.graph.output)
    assert [v.name for v in out.graph.value_info] == ["m1"]
    assert out.graph.doc_string == "about the graph"
    assert [(p.key, p.value) for p in out.metadata_props] == [("author", "somebody")]


def test_size_counts_neither_own_metadata_nor_value_info() -> None:
    source = model()
    stripped = model()
    del stripped.graph.value_info[:]
    assert size_of(source) == stripped.ByteSize()
    for target in ("cpu", "tensorrt"):
        out = emitted(source, target, meta={"fcc.level": "2", "fcc.pipeline": "x" * 500})
        assert out.size == size_of(out.to_bytes())
        assert size_of(source) - 2 <= out.size <= size_of(source)
        assert len(out.to_bytes()) > out.size


def test_size_counts_no_value_info_of_nested_graphs() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[n] x) => (float[n] y) {
        y = If (c) <then_branch = t () => (float[n] a) { p = Neg(x) q = Exp(p) a = Neg(q) },
                    else_branch = e () => (float[n] b) { b = Neg(x) }> }"""
    proto = onnx.parser.parse_model(text)
    assert emitted(proto, "tensorrt").size == emitted(proto, "cpu").size
    assert len(emitted(proto, "tensorrt").to_bytes()) > len(emitted(proto, "cpu").to_bytes()) + 100


def test_size_sees_through_metadata_of_nodes() -> None:
    module = read(model())
    before = get_backend(get_target("cpu")).emit(module).size
    next(iter(module.graph)).metadata_props["fcc.origin"] = "some-pass(mm0)"
    after = get_backend(get_target("cpu")).emit(module)
    assert after.size <= before
    assert "fcc.origin" in {p.key for p in after.proto().graph.node[0].metadata_props}


def test_streamed_bytes_are_the_model() -> None:
    out = emitted(model())
    parsed = onnx.load_model_from_string(out.to_bytes())
    assert parsed.SerializeToString(deterministic=True) == out.proto().SerializeToString(deterministic=True)


def test_output_is_deterministic() -> None:
    assert emitted(model()).to_bytes() == emitted(model()).to_bytes()
    assert emitted(model()).digest != emitted(model(nodes=2)).digest


def test_metadata_names_target_options_and_what_the_caller_adds() -> None:
    out = emitted(model(), "tensorrt", meta={"fcc.level": "2"}, opt_shapes={"x": (8, 4)})
    found = {p.key: p.value for p in out.proto().metadata_props}
    assert found["fcc.target"] == "tensorrt"
    assert found["fcc.level"] == "2"
    assert json.loads(found["fcc.session_options"]) == {}
    providers = dict(json.loads(found["fcc.provider_options"]))
    assert list(providers) == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers["TensorrtExecutionProvider"]["trt_profile_opt_shapes"] == "x:8x4"
    assert dict(out.provider_options["TensorrtExecutionProvider"]) == providers["TensorrtExecutionProvider"]


def test_metadata_of_an_earlier_compile_is_replaced() -> None:
    first = emitted(model(), meta={"fcc.plan": "old"}).proto()
    again = {p.key: p.value for p in emitted(first, "cuda").proto().metadata_props}
    assert again["fcc.target"] == "cuda"
    assert "fcc.plan" not in again
    assert again["author"] == "somebody"


def test_quantization_annotations_survive() -> None:
    source = model()
    annotation = source.graph.quantization_annotation.add(tensor_name="m0")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w0")
    assert list(emitted(source).proto().graph.quantization_annotation) == [annotation]


def test_the_instruction_set_is_said_when_it_matters() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) {
        s = Constant<value = float {0.5}>() z = Constant<value = uint8 {0}>()
        q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
    assert {p.key: p.value for p in emitted(onnx.parser.parse_model(text)).proto().metadata_props}["fcc.isa"] == "avx2"
    assert "fcc.isa" not in {p.key for p in emitted(model()).proto().metadata_props}


def test_with_metadata_adds_and_sorts() -> None:
    out = emitted(model()).with_metadata({"fcc.a": "1", "note": "n"}).proto()
    assert [p.key for p in out.metadata_props][:3] == ["author", "note", "fcc.a"]


def test_tensorrt_output_declares_every_value() -> None:
    out = emitted(model(), "tensorrt").proto()
    produced = {o for n in out.graph.node for o in n.output} - {"y"}
    assert {v.name for v in out.graph.value_info} == produced
    assert all(v.type.tensor_type.HasField("shape") for v in out.graph.value_info)


def test_symbols_that_are_no_identifiers_become_unknown() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[n,4] x) => (float[m] y) { a = NonZero(x) b = Cast<to=1>(a)'
    )
    proto = onnx.parser.parse_model(
        text + " c = Concat<axis=1>(b, b) s = ReduceSum<keepdims=0>(c) d = Flatten(c) y = Squeeze(d) }"
    )
    out = emitted(proto, "tensorrt").proto()
    symbols = {d.dim_param for v in out.graph.value_info for d in v.type.tensor_type.shape.dim if d.dim_param}
    assert all(s.isidentifier() for s in symbols), symbols


def test_a_lost_output_is_our_bug() -> None:
    module = read(model())
    module.graph.outputs[0].name = "renamed"
    with pytest.raises(VerifyError, match="outputs became"):
        get_backend(get_target("cpu")).emit(module)


def test_opset_imports_are_those_in_use() -> None:
    module = read(model())
    module.model.opset_imports["unused.domain"] = 3
    relu = next(n for n in module.graph if n.op_type == "Relu")
    gelu = ir.Node("com.microsoft", "QuickGelu", [relu.inputs[0]], num_outputs=1, name="q")
    gelu.outputs[0].name = "q_out"
    module.graph.insert_before(relu, [gelu])
    relu.replace_input_with(0, gelu.outputs[0])
    out = get_backend(get_target("cpu")).emit(module).proto()
    assert {(o.domain, o.version) for o in out.opset_import} == {("", 17), ("com.microsoft", 1)}


def test_typed_fields_strings_and_overridable_initializers_survive() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x, float[2] k) => (float[2] y) { y = Add(x, k) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(helper.make_tensor("k", TensorProto.FLOAT, [2], [1.0, 2.0]))
    out = emitted(proto)
    assert out.size <= size_of(proto)
    assert list(out.proto().graph.initializer[0].float_data) == [1.0, 2.0]
    assert [i.name for i in out.proto().graph.input] == ["x", "k"]


def test_recommended_options_follow_facts_of_the_model() -> None:
    assert "cudnn_conv_algo_search" in emitted(model(), "cuda").provider_options["CUDAExecutionProvider"]
    fixed = model()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert emitted(fixed, "cuda").provider_options["CUDAExecutionProvider"] == {"enable_cuda_graph": "1"}
    assert emitted(fixed, "tensorrt").facts == {"graph-capture"}
    tiny = model()
    tiny.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 4), 1e-42, np.float32), "w0"))
    assert emitted(tiny).session_options == {"session.set_denormal_as_zero": "1"}
    assert emitted(model()).session_options == {}


def test_an_unknown_target_is_named() -> None:
    spec = get_target("cpu")
    other = TargetSpec(**{**{k: getattr(spec, k) for k in spec.__dataclass_fields__}, "name": "cudaa"})
    with pytest.raises(TargetError, match="cudaa"):
        get_backend(other)


def test_metadata_of_a_node_that_became_several_can_be_kept_once() -> None:
    proto = model()
    origin = {"fcc.origin": "split(mm0)"}
    tags: list[dict[str, str]] = [{"stage": "one"}, {}, {"stage": "one"}, {}, {"stage": "two"}, {"stage": "one"}]
    for node, tag, made in zip(proto.graph.node, tags, (True, True, True, False, True, False), strict=True):
        del node.metadata_props[:]
        node.doc_string = "a layer" if tag else ""
        for key, text in {**(origin if made else {}), **tag}.items():
            node.metadata_props.add(key=key, value=text)
    full = emitted(proto)
    lean = full.without_repeats()
    found = [({p.key: p.value for p in n.metadata_props}, n.doc_string) for n in lean.proto().graph.node]
    assert found == [
        (origin, ""),
        (origin, ""),
        (origin, ""),
        ({}, ""),
        ({**origin, "stage": "two"}, "a layer"),
        ({"stage": "one"}, "a layer"),
    ]
    assert lean.size < full.size
    assert full.proto().graph.node[0].metadata_props[-1].value == "one"
