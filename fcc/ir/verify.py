"""The verifier: what must hold for every graph between any two rewrites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx_ir import Graph, Node, Value

from ..errors import VerifyError
from .infer import schema_of
from .module import Module
from .uses import is_used, subgraphs_of


def verify(module: Module) -> None:
    """Check the whole module.

    Rules: every value is produced once, before its uses, in the graph of its user or one around it; names are
    present and unique; a value's use list and its users agree; initializers hold tensors; graph outputs exist; no
    operand is absent that the operator requires.

    Raises:
        VerifyError: the first broken rule, with the nodes around it.
    """
    names: dict[str, Value] = {}
    _check_graph(module.graph, set(), names)
    for node in module.nodes():
        if None in node.inputs:
            _check_absent(node, module.opset(node.domain))


def verify_nodes(nodes: Iterable[Node]) -> None:
    """Check the rules that can be seen from single nodes (used after each pass on what it touched).

    Raises:
        VerifyError: the first broken rule.
    """
    users: dict[Value, frozenset[tuple[Node, int]]] = {}
    for node in dict.fromkeys(nodes):
        if node.graph is None:
            continue
        for i, value in enumerate(node.inputs):
            if value is None:
                continue
            if value not in users:
                users[value] = frozenset(value.uses())
            if (node, i) not in users[value]:
                raise _broken(node, f"input {i} does not list the node as its user")
            producer = value.producer()
            if producer is not None and producer.graph is None:
                raise _broken(node, f"input {i} ({value.name}) comes from an erased node")
        for output in node.outputs:
            if not output.name and (output.name is None or is_used(output)):
                raise _broken(node, "an output has no name")


def _check_graph(graph: Graph, seen: set[Value], names: dict[str, Value]) -> None:
    """Check a graph; ``seen`` holds what is in scope, and does again afterwards."""
    own: list[Value] = []
    for value in _sources(graph):
        _check_name(value, names)
        own.append(value)
    seen.update(own)
    for name, value in graph.initializers.items():
        if value.const_value is None:
            raise VerifyError(f"initializer {name!r} holds no tensor")
    for node in graph:
        for used in node.inputs:
            if used is not None and used not in seen:
                raise _broken(node, f"input {used.name!r} is used before it is produced, or out of scope")
        for value in node.outputs:
            _check_name(value, names, node)
        for nested in subgraphs_of(node):
            _check_graph(nested, seen, names)
        seen.update(node.outputs)
        own.extend(node.outputs)
    for value in graph.outputs:
        if value not in seen:
            raise VerifyError(f"graph output {value.name!r} is not produced")
    verify_nodes(graph)
    seen.difference_update(own)


def _check_absent(node: Node, opset: int) -> None:
    schema = schema_of(node.op_type, node.domain, opset)
    formals = [] if schema is None else schema.inputs[: schema.min_input]
    for formal, value in zip(formals, node.inputs, strict=False):
        if value is None and formal.option == type(formal.option).Single:
            raise _broken(node, f"{node.op_type} lacks its operand {formal.name}")


def _sources(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    inputs = set(graph.inputs)
    yield from (v for v in graph.initializers.values() if v not in inputs)


def _check_name(value: Value, names: dict[str, Value], node: Node | None = None) -> None:
    if value.name is None or (value.name == "" and node is None):
        raise VerifyError("a value has no name")
    if value.name == "":
        return
    if names.setdefault(value.name, value) is not value:
        raise _broken(node, f"name {value.name!r} is given to two values")


def _broken(node: Node | None, why: str) -> VerifyError:
    if node is None or node.graph is None:
        return VerifyError(why)
    nodes = list(node.graph)
    at = nodes.index(node)
    around = "; ".join(_line(n) for n in nodes[max(0, at - 1) : at + 2])
    return VerifyError(f"{why} at node {node.name!r} [{around}]")


def _line(node: Node) -> str:
    ins = ", ".join(v.name or "" if v is not None else "" for v in node.inputs)
    return f"{', '.join(v.name or '' for v in node.outputs)} = {node.op_type}({ins})"
