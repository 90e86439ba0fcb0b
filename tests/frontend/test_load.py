"""read(): every kind of argument, every kind of bad file."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper, parser
from onnx_ir import to_proto

from fcc import ir
from fcc.errors import LoadError, OptionError
from fcc.frontend import read

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,2] x) => (float[N,2] y) <float[2] w = {1,2}> { a = Add(x, w) y = Relu(a) }"""


def model(text: str = TEXT) -> onnx.ModelProto:
    return parser.parse_model(text)


def graph(body: str, header: str = '<ir_version: 8, opset_import: ["" : 17]>') -> onnx.ModelProto:
    return parser.parse_model(f"{header} g {body}")


def fails(argument: object, *words: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        read(argument)
    error = caught.value
    for word in words:
        assert word in str(error), str(error)
    assert error.exit_code == 3
    assert "\n" not in str(error)
    return error


def same_results(proto: onnx.ModelProto, module: ir.Module, feeds: dict[str, np.ndarray]) -> None:
    want = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)
    emitted = to_proto(module.model)
    got = ort.InferenceSession(emitted.SerializeToString()).run(None, feeds)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(a, b)


class TestKinds:
    def test_path_bytes_proto_and_ir_model_give_the_same_module(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "m.onnx"
        onnx.save(model(), path)
        arguments = (str(path), path, path.read_bytes(), model(), onnx_ir.from_proto(model()))
        protos = [to_proto(read(a).model).SerializeToString(deterministic=True) for a in arguments]
        assert len(set(protos)) == 1

    def test_source_knows_file_and_contract(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "m.onnx"
        onnx.save(model(), path)
        source = read(path).source
        assert source is not None
        assert source.path == source.load() == str(path)
        assert source.bytes_size == path.stat().st_size
        assert source.base_dir == str(tmp_path)
        assert [(s.name, s.dtype, s.dims) for s in source.inputs] == [("x", ir.DataType.FLOAT, ("N", 2))]
        assert [s.name for s in source.outputs] == ["y"]

    def test_source_of_memory_models_loads_bytes(self) -> None:
        for argument in (model(), model().SerializeToString(), onnx_ir.from_proto(model())):
            source = read(argument).source
            assert source is not None
            assert source.path is None
            data = source.load()
            assert isinstance(data, bytes)
            assert len(onnx.ModelProto.FromString(data).graph.node) == 2
            assert source.bytes_size > 0

    def test_clone_keeps_the_source(self) -> None:
        module = read(model())
        assert module.clone().source is module.source

    def test_the_argument_is_not_changed(self) -> None:
        proto = graph("(float[2] x) => (float[2] y, float[1] w) <float[1] w = {1}> { y = Add(x, w) }")
        before = proto.SerializeToString(deterministic=True)
        to_proto(read(proto).model)
        assert proto.SerializeToString(deterministic=True) == before
        given = onnx_ir.from_proto(proto)
        kept = to_proto(given).SerializeToString(deterministic=True)
        read(given)
        assert to_proto(given).SerializeToString(deterministic=True) == kept

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(OptionError, match="int"):
            read(3)


class TestBadFiles:
    def test_missing(self, tmp_path: pathlib.Path) -> None:
        fails(tmp_path / "no.onnx", "no.onnx", "does not exist")

    def test_folder(self, tmp_path: pathlib.Path) -> None:
        fails(tmp_path, "is a folder")

    def test_empty(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "e.onnx").touch()
        fails(tmp_path / "e.onnx", "is empty")
        fails(b"", "is empty")

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
    def test_truncated(self, share: float) -> None:
        data = model().SerializeToString()
        fails(data[: int(len(data) * share)])

    def test_every_prefix_is_refused_or_complete(self) -> None:
        data = model().SerializeToString()
        for end in range(len(data)):
            with pytest.raises(LoadError):
                read(data[:end])

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
            (b"PK\x03\x04" + bytes(64), "zip"),
            (b"hello, this is no model at all\n" * 20, "not an ONNX model"),
            (b"\x80\x02}q\x00.", "pickle"),
            (bytes(range(256)), "not an ONNX model"),
        ],
    )
    def test_not_onnx(self, data: bytes, what: str) -> None:
        fails(data, what)


class TestExternalData:
    def save(self, folder: pathlib.Path, location: str = "w.data") -> pathlib.Path:
        proto = graph("(float[2,64] x) => (float[2,32] y) { y = MatMul(x, w) }".replace("(x, w)", "(x, x)"))
        proto.graph.node[0].input[1] = "w"
        weight = numpy_helper.from_array(np.arange(2048, dtype=np.float32).reshape(64, 32), "w")
        proto.graph.initializer.append(weight)
        path = folder / "m.onnx"
        onnx.save(proto, path, save_as_external_data=True, location="w.data", size_threshold=0)
        if location != "w.data":
            again = onnx.load(path, load_external_data=False)
            tensor = again.graph.initializer[0]
            info = external_data_helper.ExternalDataInfo(tensor)
            del tensor.external_data[:]
            for key, value in (("location", location), ("offset", info.offset or 0), ("length", info.length)):
                tensor.external_data.add(key=key, value=str(value))
            path.write_bytes(again.SerializeToString())
        return path

    def test_is_mapped_and_counted(self, tmp_path: pathlib.Path) -> None:
        path = self.save(tmp_path)
        module = read(path)
        tensor = module.graph.initializers["w"].const_value
        assert isinstance(tensor, ir.ExternalTensor)
        assert tensor.raw is None  # nothing was read
        np.testing.assert_array_equal(tensor.numpy().ravel(), np.arange(2048, dtype=np.float32))
        assert module.source is not None
        assert module.source.bytes_size == path.stat().st_size + 8192

    def test_constant_nodes_may_be_external(self, tmp_path: pathlib.Path) -> None:
        proto = graph("(float[2] x) => (float[2] y) { w = Constant<value = float[2] {1,2}>() y = Add(x, w) }")
        tensor = proto.graph.node[0].attribute[0].t
        (tmp_path / "w.data").write_bytes(np.array([3, 4], np.float32).tobytes())
        tensor.ClearField("float_data")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.data")
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        module = read(tmp_path / "m.onnx")
        np.testing.assert_array_equal(ir.Module.constant(module.graph.initializers["w"]), [3, 4])

    def test_missing(self, tmp_path: pathlib.Path) -> None:
        path = self.save(tmp_path)
        (tmp_path / "w.data").unlink()
        fails(path, "w.data", "'w'", "does not exist")

    def test_too_short(self, tmp_path: pathlib.Path) -> None:
        path = self.save(tmp_path)
        data = tmp_path / "w.data"
        data.write_bytes(data.read_bytes()[:-1])
        fails(path, "too short", "'w'")

    @pytest.mark.parametrize("location", ["../w.data", "/etc/passwd", "a/../../w.data", "..\\w.data", "C:\\w.data"])
    def test_outside(self, tmp_path: pathlib.Path, location: str) -> None:
        (tmp_path / "in").mkdir()
        fails(self.save(tmp_path / "in", location), "outside the folder")

    def test_link_to_outside(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "in").mkdir()
        path = self.save(tmp_path / "in")
        os.rename(tmp_path / "in" / "w.data", tmp_path / "secret")
        (tmp_path / "in" / "w.data").symlink_to(tmp_path / "secret")
        fails(path, "links outside")

    def test_model_and_data_linked_from_one_store(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "blobs").mkdir()
        (tmp_path / "snapshot").mkdir()
        self.save(tmp_path / "blobs")
        for name in ("m.onnx", "w.data"):
            (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
        module = read(tmp_path / "snapshot" / "m.onnx")
        assert ir.Module.constant(module.graph.initializers["w"]) is not None

    def test_hard_links_are_read(self, tmp_path: pathlib.Path) -> None:
        path = self.save(tmp_path)
        os.link(tmp_path / "w.data", tmp_path / "other")
        assert ir.Module.constant(read(path).graph.initializers["w"]) is not None


class TestInvalidGraphs:
    def test_cycle(self) -> None:
        proto = graph("(float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }")
        fails(proto, "cycle", "Relu")

    def test_cycle_through_a_nested_graph(self) -> None:
        proto = graph("""(bool c) => (float[2] z) { z = If(c) <
            then_branch = t () => (float[2] a) { a = Relu(z) }, else_branch = e () => (float[2] b) { b = Neg(z) }> }""")
        fails(proto, "cycle")

    def test_unknown_op(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Rellu(x) }"), "Rellu", "opset 17", "did you mean 'Relu'?")

    def test_op_of_a_later_opset(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Gelu(x) }"), "Gelu", "opset 17", "came with opset 20")

    def test_op_that_was_replaced(self) -> None:
        fails(graph("(float[2] x, float[1] s) => (float[2] y) { y = Upsample(x, s) }"), "Upsample", "opset 17")

    def test_undefined_value(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Relu(xx) }"), "'xx'", "Relu", "did you mean 'x'?")

    def test_undefined_value_in_nested_graph(self) -> None:
        proto = graph("""(bool c) => (float[2] z) { z = If(c) <
            then_branch = t () => (float[2] a) { a = Relu(q) }, else_branch = e () => (float[2] b) { b = Neg(q) }> }""")
        fails(proto, "'q'", "nothing produces")

    def test_output_without_producer(self) -> None:
        fails(graph("(float[2] x) => (float[2] z) { y = Relu(x) }"), "'z'", "nothing produces")

    def test_value_defined_twice(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Relu(x) y = Neg(x) }"), "'y'", "twice")
        fails(graph("(float[2] x) => (float[2] x) { x = Relu(x) }"), "'x'", "twice")

    def test_input_listed_twice(self) -> None:
        proto = model()
        proto.graph.input.append(proto.graph.input[0])
        fails(proto, "'x'", "twice")

    @pytest.mark.parametrize("opset", [0, 29, 99])
    def test_opset_out_of_range(self, opset: int) -> None:
        header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
        fails(graph("(float[2] x) => (float[2] y) { y = Relu(x) }", header), f"opset {opset}", "1 to 28")

    def test_arity(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Add(x) }"), "Add", "1 inputs")
        fails(graph("(float[2] x) => (float[2] y) { y = Relu(x, x) }"), "Relu", "2 inputs")
        fails(graph("(float[2] x) => (float[2] y) { y, z = Relu(x) }"), "Relu", "2 outputs")

    def test_attributes(self) -> None:
        fails(graph("(float[2] x) => (float[2] y) { y = Relu<alpa=1>(x) }"), "Relu", "'alpa'")
        fails(graph("(float[2] x) => (int64[2] y) { y = Cast(x) }"), "Cast", "'to'")

    def test_undefined_inputs_of_an_ir_model(self) -> None:
        given = onnx_ir.from_proto(model())
        given.graph.node(0).replace_input_with(1, onnx_ir.Value(name="lost"))
        fails(given, "'lost'", "nothing produces")


class TestAccepted:
    def test_custom_domain_stays(self) -> None:
        header = '<ir_version: 8, opset_import: ["" : 17, "my.ops" : 3, "stray" : 1]>'
        module = read(graph("(float[2] x) => (float[2] y) { y = my.ops.Foo<k=3>(x, , x) }", header))
        (node,) = module.nodes()
        assert (node.domain, node.op_type, len(node.inputs)) == ("my.ops", "Foo", 3)
        assert module.model.opset_imports == {"": 17, "my.ops": 3}

    def test_alias_of_the_default_domain(self) -> None:
        proto = model()
        proto.opset_import[0].domain = "ai.onnx"
        proto.graph.node[0].domain = "ai.onnx"
        module = read(proto)
        assert module.model.opset_imports == {"": 17}
        assert {n.domain for n in module.nodes()} == {""}

    def test_sparse_initializer_becomes_dense(self) -> None:
        proto = graph("(float[2,3] x) => (float[2,3] y) { y = Add(x, x) }")
        proto.graph.node[0].input[1] = "w"
        values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
        indices = numpy_helper.from_array(np.array([[0, 2], [1, 0]]), "w_indices")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
        module = read(proto)
        np.testing.assert_array_equal(ir.Module.constant(module.graph.initializers["w"]), [[0, 0, 5], [7, 0, 0]])
        same_results(proto, module, {"x": np.ones((2, 3), np.float32)})

    def test_bad_sparse_initializer(self) -> None:
        proto = model()
        values = numpy_helper.from_array(np.array([5], np.float32), "s")
        indices = numpy_helper.from_array(np.array([9]), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
        fails(proto, "sparse", "'s'")

    def test_overridable_initializer_stays_an_input(self) -> None:
        proto = graph("(float[N,2] x, float[2] w = {1,2}) => (float[N,2] y) { y = Add(x, w) }")
        module = read(proto)
        assert [v.name for v in module.graph.inputs] == ["x", "w"]
        assert not module.is_constant(module.graph.initializers["w"])
        assert module.source is not None
        assert [(s.name, s.overridable) for s in module.source.inputs] == [("x", False), ("w", True)]

    def test_initializer_input_below_ir_version_4_is_constant(self) -> None:
        header = '<ir_version: 3, opset_import: ["" : 13]>'
        proto = graph("(float[N,2] x, float[2] w = {1,2}) => (float[N,2] y) { y = Add(x, w) }", header)
        module = read(proto)
        assert [v.name for v in module.graph.inputs] == ["x"]
        assert module.is_constant(module.graph.initializers["w"])
        assert module.model.ir_version is not None
        assert module.model.ir_version >= 4
        assert module.source is not None
        assert [s.name for s in module.source.inputs] == ["x"]

    def test_unknown_dimensions_are_declared_as_before(self) -> None:
        proto = graph("(float[0,2,N] x) => (float[0,2,N] y) { y = Relu(x) }")
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "?"
        module = read(proto)
        assert ir.dims_of(module.graph.inputs[0]) == (None, 2, None)
        assert module.source is not None
        assert module.source.inputs[0].dims == (None, 2, None)
        emitted = to_proto(module.model)
        module.source.declare(emitted)
        assert emitted.graph.input[0] == proto.graph.input[0]
        assert emitted.graph.output[0] == proto.graph.output[0]

    def test_map_types_survive(self) -> None:
        header = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'
        proto = graph(
            "(float[N,2] x) => (seq(map(int64, float)) y) { y = ai.onnx.ml.ZipMap<classlabels_int64s=[0,1]>(x) }",
            header,
        )
        module = read(proto)
        emitted = to_proto(module.model)
        assert module.source is not None
        module.source.declare(emitted)
        assert emitted.graph.output[0] == proto.graph.output[0]
        onnx.checker.check_model(emitted)

    @pytest.mark.parametrize("field", ["input", "initializer"])
    def test_values_without_a_name_are_refused(self, field: str) -> None:
        proto = graph("(float[N,2] x, float[2] z) => (float[N,2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
        getattr(proto.graph, field)[-1].name = ""
        for v in proto.graph.node[0].input[1:] if field == "initializer" else ():
            proto.graph.node[0].input.remove(v)
        with pytest.raises(LoadError, match="an initializer without a name"):
            read(proto)

    def test_a_model_without_outputs_is_refused(self) -> None:
        proto = graph("(float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
        del proto.graph.output[:]
        with pytest.raises(LoadError, match="has no outputs"):
            read(proto)

    def test_a_declaration_without_an_element_type_says_nothing(self) -> None:
        proto = graph("(float[N,2] x, bool c) => (float[N,2] y) { y = If(c) <then_branch = a () => (float[N,2] p) "
                      "{ p = Relu(x) }, else_branch = b () => (float[N,2] q) { q = Abs(x) }> }")  # fmt: skip
        branch = proto.graph.node[0].attribute[0].g
        for v in (proto.graph.input[0], branch.output[0]):
            v.type.tensor_type.elem_type = 0
        module = read(proto)
        assert module.graph.inputs[0].type is None
        assert [v.type for g in module.graphs() for v in g.outputs if v.name == branch.output[0].name] == [None]
        assert module.source is not None
        emitted = to_proto(module.model)
        module.source.declare(emitted)
        assert emitted.graph.input[0] == proto.graph.input[0]

    def test_metadata_and_doc_strings_survive(self) -> None:
        proto = model()
        proto.doc_string, proto.producer_name, proto.model_version, proto.domain = "m", "p", 3, "d"
        proto.metadata_props.add(key="a", value="1")
        proto.graph.doc_string = "g doc"
        proto.graph.metadata_props.add(key="b", value="2")
        proto.graph.node[0].doc_string = "n doc"
        proto.graph.node[0].metadata_props.add(key="c", value="3")
        proto.graph.input[0].doc_string = "v doc"
        proto.graph.input[0].metadata_props.add(key="d", value="4")
        emitted = to_proto(read(proto).model)
        for field in ("doc_string", "producer_name", "model_version", "domain", "metadata_props"):
            assert getattr(emitted, field) == getattr(proto, field)
        assert emitted.graph.doc_string == "g doc"
        assert emitted.graph.metadata_props == proto.graph.metadata_props
        assert emitted.graph.node[0].doc_string == "n doc"
        assert emitted.graph.node[0].metadata_props == proto.graph.node[0].metadata_props
        assert emitted.graph.input[0] == proto.graph.input[0]

    def test_too_new_ir_version_is_lowered_for_onnxruntime(self) -> None:
        proto = model()
        proto.ir_version = 14
        module = read(proto)
        assert module.model.ir_version == 13
        assert module.source is not None
        ort.InferenceSession(module.source.load())

    def test_runtime_ops_without_onnx_schema(self) -> None:
        text = "(float[2,3] x, float[3] s) => (float[2,3] y) { y = SimplifiedLayerNormalization(x, s) }"
        assert [n.op_type for n in read(graph(text)).nodes()] == ["SimplifiedLayerNormalization"]

    def test_missing_default_import_means_the_newest(self) -> None:
        proto = model()
        proto.opset_import[0].domain = "other"
        assert read(proto).opset() == 26


def test_unsorted_ir_model_is_read() -> None:
    given = onnx_ir.from_proto(graph("(float[2] x) => (float[2] y) { y = Relu(a) a = Neg(x) }"))
    assert [n.op_type for n in read(given).nodes()] == ["Neg", "Relu"]


def test_attribute_of_another_type_is_refused() -> None:
    fails(graph("(float[2] x) => (float[2] y) { y = LeakyRelu<alpha=1>(x) }"), "LeakyRelu", "'alpha'", "INT")


RICH = graph("""(bool c, float[N,2] x, float[2] w = {1,2}) => (float[N,2] z) <float[2] v = {1,2}> {
    k = Constant<value_floats=[1.0, 2.0]>() q = Add(x, v) z = If(c) <
      then_branch = t () => (float[N,2] a) { a = Add(q, k) },
      else_branch = e () => (float[N,2] b) { b = Softmax<axis=0>(q) }> }""").SerializeToString()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(RICH) - 1), st.integers(0, 255), st.integers(0, 3))
def test_a_damaged_file_is_read_or_refused_in_one_line(at: int, byte: int, cut: int) -> None:
    data = RICH[:at] + bytes([byte]) + RICH[at + 1 + cut :]
    try:
        module = read(data)
    except LoadError as error:
        text = str(error)
    else:
        ir.verify(module)
        text = ""
    assert "\n" not in text


@pytest.mark.parametrize("width", [4, 300])
def test_an_ir_model_is_as_large_as_its_file(width: int) -> None:
    weights = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    ends = [helper.make_tensor_value_info(n, 1, ["N", width]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = read(onnx_ir.from_proto(proto)).source
    assert found is not None
    assert abs(found.bytes_size - proto.ByteSize()) <= 32
