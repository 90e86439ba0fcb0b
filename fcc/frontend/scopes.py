"""Checks of names on the protobuf, before onnx_ir sees it: single definition, no undefined value. Linear."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import onnx

from fcc.errors import LoadError

_INVALID = "the model is not valid ONNX: run onnx.checker on it and export it again"


class _Budget:
    """The nodes that may still come."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise too_many(self.most)


def too_many(most: int) -> LoadError:
    """Return the error of a model with more nodes than allowed."""
    return LoadError(f"the model has more than {most} nodes", "raise --max-nodes (max_nodes= in Python) if it is yours")


def check_scopes(model: onnx.ModelProto, max_nodes: int) -> None:
    """Check that every name is defined once per graph and before-or-around its uses, in functions too.

    Order of nodes does not matter here (onnxruntime sorts them itself); an inner graph may hide an outer name.

    Raises:
        LoadError: the first broken rule, naming the node and the value; or more than ``max_nodes`` nodes.
    """
    budget = _Budget(max_nodes)
    _check_graph(model.graph, [], budget)
    names = {(f.domain, f.name, f.overload) for f in model.functions}
    if len(names) != len(model.functions):
        raise LoadError("the model lists a function twice", _INVALID)
    for function in model.functions:
        defined = set(function.input)
        if len(defined) != len(function.input):
            raise LoadError(f"function {function.name} lists an input twice", _INVALID)
        _check_nodes(function.node, defined, [], f"function {function.name}", budget)
        _check_outputs(function.output, [defined], f"function {function.name}")


def _check_graph(graph: onnx.GraphProto, outer: list[set[str]], budget: _Budget) -> None:
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
    _check_nodes(graph.node, defined, outer, where, budget)
    _check_outputs((v.name for v in graph.output), [*outer, defined] if outer else [defined], where)


def _check_nodes(
    nodes: Sequence[onnx.NodeProto], defined: set[str], outer: list[set[str]], where: str, budget: _Budget
) -> None:
    budget.take(len(nodes))
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
            _check_graph(graph, scopes, budget)


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
