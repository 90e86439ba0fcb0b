"""Models with names that are odd, or stand for two things: what benchmarks/hostile_cases.py compiles."""

from __future__ import annotations

import onnx
from hostile_models import FLOAT, deep_functions, info, model, node, scalar
from onnx import helper

TERMINAL = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\nfcc: error: \x9b0m\u202egnp.exe\u2028"


def _named(name: str) -> onnx.ModelProto:
    built = model([node("Relu", ["x"], [name], name=name), node("Identity", [name], ["y"])], name=name)
    built.doc_string = built.producer_name = name
    return built


def terminal_names() -> onnx.ModelProto:
    """Names that clear the screen, change the title, reverse the text and forge a line."""
    return _named(TERMINAL)


def terminal_interface() -> onnx.ModelProto:
    """The same in the names of the input, the output and an operator the runtime lacks."""
    built = model([node("Foo\x1b[2J", ["x"], ["y"], domain="d\x1b[31m\n", name=TERMINAL)])
    built.opset_import.append(helper.make_opsetid("d\x1b[31m\n", 1))
    return built


def path_names() -> onnx.ModelProto:
    """Names that are paths."""
    return _named("../../../../tmp/owned\0/etc/passwd")


def megabyte_name() -> onnx.ModelProto:
    """A name of a megabyte."""
    return _named("n" * 10**6)


def megabyte_name_missing() -> onnx.ModelProto:
    """A name of a megabyte that nothing produces."""
    return model([node("Add", ["x", "n" * 10**6], ["y"])])


def near_names() -> onnx.ModelProto:
    """A missing name beside 4000 long similar ones, for who looks for the nearest."""
    nodes = [node("Relu", ["x"], ["a" * 500 + str(i)]) for i in range(4000)]
    return model([*nodes, node("Relu", ["a" * 499 + "b"], ["y"])])


def duplicate_values() -> onnx.ModelProto:
    """Two nodes that define one name."""
    return model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])])


def duplicate_initializers() -> onnx.ModelProto:
    """Two initializers of one name and other contents."""
    return model([node("Add", ["x", "w"], ["y"])], [scalar("w", 1.0), scalar("w", 2.0)])


def duplicate_inputs() -> onnx.ModelProto:
    """An input listed twice."""
    built = model([node("Relu", ["x"], ["y"])])
    built.graph.input.append(info("x", FLOAT, (2, 2)))
    return built


def duplicate_outputs() -> onnx.ModelProto:
    """An output listed twice."""
    built = model([node("Relu", ["x"], ["y"])])
    built.graph.output.append(info("y", FLOAT, (2, 2)))
    return built


def duplicate_attributes() -> onnx.ModelProto:
    """An attribute given twice."""
    twice = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    twice.attribute.append(helper.make_attribute("alpha", 0.2))
    return model([twice])


def duplicate_functions() -> onnx.ModelProto:
    """Two functions of one name."""
    built = deep_functions(1)
    built.functions.append(built.functions[0])
    built.functions[1].node[0].op_type = "Neg"
    return built


def duplicate_imports() -> onnx.ModelProto:
    """Two opsets of one domain."""
    built = model([node("Relu", ["x"], ["y"])])
    built.opset_import.append(helper.make_opsetid("", 13))
    return built


def duplicate_node_names() -> onnx.ModelProto:
    """Nodes of one name, and value infos that contradict each other."""
    built = model([node("Relu", ["x"], ["t"], name="n"), node("Relu", ["t"], ["y"], name="n")])
    built.graph.value_info.extend([info("t", FLOAT, (2, 2)), info("t", FLOAT, (3, 3))])
    return built


def shadowed_by_initializer() -> onnx.ModelProto:
    """A node that defines the name of an initializer."""
    return model([node("Relu", ["x"], ["w"]), node("Add", ["x", "w"], ["y"])], [scalar("w", 1.0)])
