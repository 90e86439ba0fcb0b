"""Checks of names on the protobuf, before onnx_ir sees it: single definition, no undefined value. Linear."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

import onnx

from fcc.errors import LoadError

_INVALID = "the model is not valid ONNX: run onnx.checker on it and export it again"


def check_scopes(model: onnx.ModelProto) -> None:
    """Check that every name is defined once per graph and before-or-around its uses, in functions too.

    Order of nodes does not matter here (onnxruntime sorts them itself); an inner graph may hide an outer name.

    Raises:
        LoadError: the first broken rule, naming the node and the value.
    """
    _check_graph(model.graph, [])
    for function in model.functions:
        defined = set(function.input)
        if len(defined) != len(function.input):
            raise LoadError(f"function {function.name} lists an input twice", _INVALID)
        _check_nodes(function.node, defined, [], f"function {function.name}")
        _check_outputs(function.output, [defined], f"function {function.name}")


def _check_graph(graph: onnx.GraphProto, outer: list[set[str]]) -> None:
    where = f"graph {graph.name!r}"
    names = [v.name for v in graph.input]
    for name in (graph.name, *names, *(v.name for v in graph.output), *(t.name for t in graph.initializer)):
        if not isinstance(name, str):
            raise LoadError(f"{where} holds a name that is not UTF-8: {name!r}", _INVALID)
    if "" in names or any(not t.name for t in graph.initializer):
        raise LoadError(f"{where} has an input or an initializer without a name", _INVALID)
    defined = set(names)
    if len(defined) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise LoadError(f"{where} lists input {twice!r} twice", _INVALID)
    defined.update(t.name for t in graph.initializer)
    defined.update(t.values.name for t in graph.sparse_initializer)
    _check_nodes(graph.node, defined, outer, where)
    _check_outputs((v.name for v in graph.output), [*outer, defined] if outer else [defined], where)


def _check_nodes(nodes: Iterable[onnx.NodeProto], defined: set[str], outer: list[set[str]], where: str) -> None:
    for node in nodes:
        for name in (node.op_type, node.domain, node.name, *node.input, *node.output):
            if not isinstance(name, str):  # what protobuf returns for text that is not UTF-8
                raise LoadError(f"{where} holds a name that is not UTF-8: {name!r}", _INVALID)
        for name in node.output:
            if name and name in defined:
                raise LoadError(f"{where} defines {name!r} twice, again in {describe(node)}", _INVALID)
            defined.add(name)
    scopes = [*outer, defined]
    for node in nodes:
        for name in node.input:
            if name and name not in defined and not any(name in s for s in outer):
                known = {n for s in scopes for n in s}
                near = difflib.get_close_matches(name, known, n=1) if len(known) < 5000 else []
                hint = f"did you mean {near[0]!r}?" if near else _INVALID
                raise LoadError(f"{describe(node)} reads {name!r}, which nothing produces", hint)
        for graph in graphs_of(node):
            _check_graph(graph, scopes)


def _check_outputs(names: Iterable[str], scopes: list[set[str]], where: str) -> None:
    for name in names:
        if not name or not any(name in s for s in scopes):
            raise LoadError(f"{where} has output {name!r}, which nothing produces", _INVALID)


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs held by the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def describe(node: onnx.NodeProto) -> str:
    """Return words that identify a node: op type and name, else its first output."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name!r} ({node.op_type})"
