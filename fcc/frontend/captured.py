"""Outputs of nested graphs that name an outer value get an Identity, on the protobuf: onnx_ir cannot bind them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .scopes import graphs_of


def own_captured_outputs(model: onnx.ModelProto) -> None:
    """then_branch () => (x of outside) -> then_branch () => (x_captured) { x_captured = Identity(x) }, in place."""
    taken: set[str] = set()
    for graph in _nested(model):
        defined = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        defined.update(name for node in graph.node for name in node.output)
        for output in graph.output:
            if output.name not in defined:
                taken = taken or set(_names(model))
                name = f"{output.name}_captured"
                while name in taken:
                    name += "_"
                taken.add(name)
                graph.node.add(op_type="Identity", input=[output.name], output=[name])
                output.name = name


def _nested(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    for nodes in (model.graph.node, *(f.node for f in model.functions)):
        for node in nodes:
            for graph in graphs_of(node):
                yield from _all(graph)


def _all(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in graphs_of(node):
            yield from _all(inner)


def _names(model: onnx.ModelProto) -> Iterator[str]:
    for graph in (model.graph, *_nested(model)):
        yield from (v.name for v in (*graph.input, *graph.output, *graph.value_info))
        yield from (t.name for t in graph.initializer)
        for node in graph.node:
            yield from node.input
            yield from node.output
