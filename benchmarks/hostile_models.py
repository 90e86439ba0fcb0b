"""Hostile models: what they declare is huge, deep, endless or twisted; the files themselves are small or quickly made.

Each function writes ``m.onnx`` (and what belongs to it) into a folder and returns further words of the command line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Build = Callable[[Path], Sequence[str]]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
PETA = 1 << 50
info, node = helper.make_tensor_value_info, helper.make_node


def model(
    nodes: Sequence[Any], inits: Sequence[Any] = (), x: Any = (2, 2), y: Any = None, **more: Any
) -> onnx.ModelProto:
    """Return a model from x to y with these nodes and initializers."""
    elem = more.pop("elem", FLOAT)
    graph = helper.make_graph(
        nodes, more.pop("name", "g"), [info("x", FLOAT, x)], [info("y", elem, y)], [*inits], **more
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def ints(name: str, *values: int) -> TensorProto:
    """Return an int64 vector."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    """Return a scalar."""
    return numpy_helper.from_array(np.array(value, dtype), name)


def writes(make: Callable[[], onnx.ModelProto]) -> Build:
    """Return a builder that writes a model."""

    def build(folder: Path) -> Sequence[str]:
        (folder / "m.onnx").write_bytes(make().SerializeToString())
        return ()

    return build


# ---- sizes that are declared, or that constants unfold into


def petabytes_declared() -> onnx.ModelProto:
    """An initializer of 10^15 floats that holds none of them."""
    return model([node("Add", ["x", "w"], ["y"])], [TensorProto(name="w", data_type=FLOAT, dims=[PETA])])


def overflowing_dims() -> onnx.ModelProto:
    """Sizes whose product passes 2^64 and comes back to 0 in 64 bits."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1 << 32, 1 << 32], raw_data=b"")
    return model([node("Add", ["x", "w"], ["y"])], [tensor])


def petabyte_input() -> onnx.ModelProto:
    """An input of a petabyte: nothing to unfold, but nothing that could be run either."""
    return model([node("Relu", ["x"], ["y"])], x=(PETA,))


def unfolds(op: str, *inits: Any, inputs: Sequence[str] | None = None, tail: bool = True, **attributes: Any) -> Build:
    """Return a builder of a constant operator that writes terabytes, reduced and added to the input."""

    def make() -> onnx.ModelProto:
        names = [t.name for t in inits] if inputs is None else list(inputs)
        elem = FLOAT
        nodes = [node(op, names, ["big"], **attributes)]
        if tail:
            nodes += [node("Cast", ["big"], ["f"], to=FLOAT), node("ReduceMax", ["f"], ["r"], keepdims=0)]
            nodes.append(node("Add", ["x", "r"], ["y"]))
        else:
            nodes = [node(op, names, ["y"], **attributes)]
        return model(nodes, inits, elem=elem)

    return writes(make)


def expand_chain(levels: int = 40) -> onnx.ModelProto:
    """Concat(t, t) forty times: 2^40 elements from one."""
    nodes = [node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=0) for i in range(levels)]
    nodes += [node("ReduceMax", [f"t{levels}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
    return model(nodes, [numpy_helper.from_array(np.ones(1, np.float32), "t0")])


def nested_expands(levels: int = 12) -> onnx.ModelProto:
    """Each Expand adds an axis of 10: 10^12 elements."""
    nodes = [node("Expand", [f"t{i}", f"s{i}"], [f"t{i + 1}"]) for i in range(levels)]
    nodes += [node("ReduceMax", [f"t{levels}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
    sizes = [ints(f"s{i}", 10, *([1] * i)) for i in range(levels)]
    return model(nodes, [scalar("t0", 1.0), *sizes])


def outer_sums(levels: int = 5) -> onnx.ModelProto:
    """Broadcasting Adds of 1000-vectors along new axes: 10^15 elements."""
    inits = [numpy_helper.from_array(np.ones((1000, *([1] * i)), np.float32), f"v{i}") for i in range(levels)]
    nodes = [node("Add", ["v0" if i == 1 else f"t{i - 1}", f"v{i}"], [f"t{i}"]) for i in range(1, levels)]
    nodes += [node("ReduceMax", [f"t{levels - 1}"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])]
    return model(nodes, inits)


def outer_product() -> onnx.ModelProto:
    """MatMul of a constant column and a constant row of 2^17 each: 64 GB."""
    col, row = np.ones((1 << 17, 1), np.float32), np.ones((1, 1 << 17), np.float32)
    nodes = [
        node("MatMul", ["a", "b"], ["big"]),
        node("ReduceMax", ["big"], ["r"], keepdims=0),
        node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, [numpy_helper.from_array(col, "a"), numpy_helper.from_array(row, "b")])


def large_string() -> onnx.ModelProto:
    """A Constant of one string of 64 MB, tiled a million times."""
    text = helper.make_tensor("s", TensorProto.STRING, [1], [b"a" * (1 << 26)])
    nodes = [
        node("Tile", ["s", "n"], ["big"]),
        node("Shape", ["big"], ["h"]),
        node("Cast", ["h"], ["f"], to=FLOAT),
        node("Add", ["x", "f"], ["y"]),
    ]
    return model(nodes, [text, ints("n", 1 << 20)], x=(1,))


def runtime_unfolds() -> onnx.ModelProto:
    """The same from an input: a terabyte at run time, for any input."""
    nodes = [node("Expand", ["x", "s"], ["big"]), node("ReduceMax", ["big"], ["y"], keepdims=0)]
    return model(nodes, [ints("s", 1 << 38, 2, 2)])


def overridable_size() -> onnx.ModelProto:
    """Sizes that are inputs with a default of 2^40."""
    nodes = [
        node("ConstantOfShape", ["n"], ["z"]),
        node("ReduceMax", ["z"], ["r"], keepdims=0),
        node("Add", ["x", "r"], ["y"]),
    ]
    built = model(nodes, [ints("n", 1 << 40)])
    built.graph.input.append(info("n", INT64, [1]))
    return built


def _sparse(name: str, size: int) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.ones(1, np.float32), name)
    return onnx.SparseTensorProto(values=values, indices=ints("", 0), dims=[size])


def sparse_gigabytes() -> onnx.ModelProto:
    """One value of half a billion."""
    return model([node("Add", ["x", "w"], ["y"])], sparse_initializer=[_sparse("w", 1 << 29)])


def many_sparse() -> onnx.ModelProto:
    """A hundred of them."""
    return model([node("Relu", ["x"], ["y"])], sparse_initializer=[_sparse(f"w{i}", 50_000_000) for i in range(100)])


# ---- loops


def _loop(trips: int, body_nodes: Sequence[Any], carried: str = "c", **more: Any) -> onnx.ModelProto:
    body = helper.make_graph(
        [*body_nodes, node("Identity", ["go"], ["go_"])],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("c", FLOAT, None)],
        [info("go_", BOOL, []), info("c_", FLOAT, None)],
    )
    nodes = [node("Loop", ["n", "", more.pop("start", "x")], ["y"], body=body)]
    return model(nodes, [scalar("n", trips, np.int64), scalar("one", 1.0)], **more)


def endless_loop() -> onnx.ModelProto:
    """10^18 trips that add one to the input."""
    return _loop(10**18, [node("Add", ["c", "one"], ["c_"])])


def endless_constant_loop() -> onnx.ModelProto:
    """10^18 trips over a constant."""
    built = _loop(10**18, [node("Add", ["c", "one"], ["c_"])], start="one")
    built.graph.node[0].output[0] = "l"
    built.graph.node.append(node("Add", ["x", "l"], ["y"]))
    return built


def doubling_loop() -> onnx.ModelProto:
    """60 trips that each double the carried tensor."""
    return _loop(60, [node("Concat", ["c", "c"], ["c_"], axis=0)])


def while_loop() -> onnx.ModelProto:
    """A Loop without bound whose condition never ends."""
    built = _loop(1, [node("Add", ["c", "one"], ["c_"])])
    built.graph.node[0].input[0] = ""
    return built


# ---- depth


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def deep(depth: int) -> Build:
    """Return a builder of If nodes nested ``depth`` levels deep, as raw protobuf."""
    leaf = helper.make_graph([node("Identity", ["x"], ["b"])], "g", [], [info("b", FLOAT, None)]).SerializeToString()
    other = _field(5, helper.make_attribute("else_branch", onnx.GraphProto.FromString(leaf)).SerializeToString())
    rest = _field(1, b"c") + _field(2, b"b") + _field(4, b"If") + other
    tail = _field(12, info("b", FLOAT, None).SerializeToString()) + _field(2, b"g")

    def build(folder: Path) -> Sequence[str]:
        heads: list[bytes] = []
        size = len(leaf)
        for _ in range(depth):
            head = _field(1, b"then_branch") + b"\xa0\x01\x05" + _varint(6 << 3 | 2) + _varint(size)
            head = rest + _varint(5 << 3 | 2) + _varint(len(head) + size) + head
            head = _varint(1 << 3 | 2) + _varint(len(head) + size) + head
            heads.append(head)
            size += len(head) + len(tail)
        main = b"".join(reversed(heads)) + leaf + tail * depth
        main += _field(11, info("x", FLOAT, [2]).SerializeToString()) + _field(
            11, info("c", BOOL, []).SerializeToString()
        )
        opset = helper.make_opsetid("", 17).SerializeToString()
        (folder / "m.onnx").write_bytes(b"\x08\x09" + _field(7, main) + _field(8, opset))
        return ()

    return build


def deep_functions(count: int = 2000) -> onnx.ModelProto:
    """Functions that call each other in a row."""
    built = model([node("f0", ["x"], ["y"], domain="d")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    for k in range(count):
        inner = node(f"f{k + 1}", ["a"], ["b"], domain="d") if k + 1 < count else node("Relu", ["a"], ["b"])
        built.functions.append(helper.make_function("d", f"f{k}", ["a"], ["b"], [inner], opsets))
    built.opset_import.append(helper.make_opsetid("d", 1))
    return built


def billion_laughs(levels: int = 40) -> onnx.ModelProto:
    """Functions that each call the next twice: 2^40 nodes when inlined."""
    built = deep_functions(levels)
    for k, function in enumerate(built.functions[:-1]):
        del function.node[:]
        calls = [node(f"f{k + 1}", ["a"], ["t"], domain="d"), node(f"f{k + 1}", ["t"], ["b"], domain="d")]
        function.node.extend(calls)
    return built


def calls_in_circle() -> onnx.ModelProto:
    """Two functions that call each other."""
    built = deep_functions(2)
    built.functions[1].node[0].CopyFrom(node("f0", ["a"], ["b"], domain="d"))
    return built


def calls_itself() -> onnx.ModelProto:
    """A function that calls itself."""
    built = deep_functions(1)
    built.functions[0].node[0].CopyFrom(node("f0", ["a"], ["b"], domain="d"))
    return built


def nodes_in_circle() -> onnx.ModelProto:
    """Nodes that read each other."""
    return model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Add", ["a", "b"], ["y"])])


def deep_type(depth: int) -> Build:
    """Return a builder of an input whose type is sequence(sequence(...)), ``depth`` levels."""

    def build(folder: Path) -> Sequence[str]:
        kind = helper.make_tensor_type_proto(FLOAT, [2]).SerializeToString()
        for _ in range(depth):
            kind = _field(4, _field(1, kind))
        built = model([node("Relu", ["x"], ["y"])])
        graph = built.graph.SerializeToString() + _field(11, _field(1, b"s") + _field(2, kind))
        (folder / "m.onnx").write_bytes(
            b"\x08\x09" + _field(7, graph) + _field(8, helper.make_opsetid("", 17).SerializeToString())
        )
        return ()

    return build


# ---- amounts


def many(count: int) -> Build:
    """Return a builder of a chain of ``count`` nodes, written without building it."""

    def build(folder: Path) -> Sequence[str]:
        with open(folder / "m.onnx", "wb") as file:
            names = [b"x", *(b"n%d" % i for i in range(count - 1)), b"y"]
            parts = []
            for a, b in itertools.pairwise(names):
                parts.append(_field(1, _field(1, a) + _field(2, b) + _field(4, b"Relu")))
            body = b"".join(parts) + _field(2, b"g")
            body += _field(11, info("x", FLOAT, [2]).SerializeToString()) + _field(
                12, info("y", FLOAT, [2]).SerializeToString()
            )
            file.write(b"\x08\x09" + _field(7, body) + _field(8, helper.make_opsetid("", 17).SerializeToString()))
        return ()

    return build


def many_in_branches(count: int) -> Build:
    """Return a builder of a model whose nodes hide in the branches of an If."""

    def build(folder: Path) -> Sequence[str]:
        branch = helper.make_graph([node("Identity", ["x"], ["b"])], "b", [], [info("b", FLOAT, None)])
        big = (
            b"".join(_field(1, node("Relu", ["x"], [f"q{i}"]).SerializeToString()) for i in range(count))
            + branch.SerializeToString()
        )
        attributes = _field(5, _field(1, b"then_branch") + b"\xa0\x01\x05" + _field(6, big))
        attributes += _field(5, helper.make_attribute("else_branch", branch).SerializeToString())
        built = model([])
        built.graph.input.append(info("c", BOOL, []))
        graph = (
            _field(1, _field(1, b"c") + _field(2, b"y") + _field(4, b"If") + attributes)
            + built.graph.SerializeToString()
        )
        (folder / "m.onnx").write_bytes(
            b"\x08\x09" + _field(7, graph) + _field(8, helper.make_opsetid("", 17).SerializeToString())
        )
        return ()

    return build


def many_initializers(count: int = 200_000) -> onnx.ModelProto:
    """Initializers that nothing reads."""
    return model(
        [node("Relu", ["x"], ["y"])], [TensorProto(name=f"w{i}", data_type=FLOAT, dims=[0]) for i in range(count)]
    )


def many_inputs(count: int = 100_000) -> onnx.ModelProto:
    """One node with this many operands."""
    return model([node("Sum", ["x"] * count, ["y"])])


def many_outputs(count: int = 20_000) -> onnx.ModelProto:
    """A model with this many outputs."""
    built = model([node("Relu", ["x"], ["y"]), *(node("Relu", ["x"], [f"y{i}"]) for i in range(count))])
    built.graph.output.extend(info(f"y{i}", FLOAT, (2, 2)) for i in range(count))
    return built


def rank_million() -> onnx.ModelProto:
    """A tensor with a million axes of size 1."""
    return model(
        [node("Add", ["x", "w"], ["y"])], [TensorProto(name="w", data_type=FLOAT, dims=[1] * 10**6, raw_data=bytes(4))]
    )


def many_sizes() -> onnx.ModelProto:
    """A declared input with a hundred thousand axes."""
    return model([node("Relu", ["x"], ["y"])], x=[1] * 100_000)
