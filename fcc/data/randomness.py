"""Which outputs of a model differ from run to run, and why."""

from __future__ import annotations

from fcc.ir import Module, Node, Value, subgraphs_of

_RANDOM = frozenset(
    {
        ("", "RandomNormal"),
        ("", "RandomNormalLike"),
        ("", "RandomUniform"),
        ("", "RandomUniformLike"),
        ("", "Multinomial"),
        ("", "Bernoulli"),
        ("com.microsoft", "Sampling"),
        ("com.microsoft", "RandomUniform"),
    }
)
_DROPOUT = frozenset({("", "Dropout"), ("com.microsoft", "BiasDropout"), ("com.microsoft", "BitmaskDropout")})
_MODE_INPUT = {"Dropout": 2, "BitmaskDropout": 2, "BiasDropout": 4}


def random_outputs(module: Module) -> dict[str, str]:
    """Return {graph output: reason} for the outputs that depend on a random node, nested ones included.  O(nodes).

    A seed attribute does not help: it fixes the first run of a session, not the second.
    """
    tainted: dict[Value, str] = {}
    functions = {
        key
        for key, function in module.model.functions.items()
        if any(_is_random(node) for node in function.all_nodes())
    }
    for node in module.graph:
        reason = _reason(node, functions) or next((tainted[v] for v in _reads(node) if v in tainted), None)
        if reason:
            tainted.update((v, reason) for v in node.outputs)
    return {v.name or "": tainted[v] for v in module.graph.outputs if v in tainted}


def _reason(node: Node, functions: set[tuple[str, str, str]]) -> str | None:
    if _is_random(node) or node.op_identifier() in functions:
        return f"{node.op_type} at node {node.name or (node.outputs[0].name if node.outputs else '')!r}"
    for graph in subgraphs_of(node):
        for inner in graph:
            found = _reason(inner, functions)
            if found:
                return found
    return None


def _reads(node: Node) -> list[Value]:
    """Return the values a node reads, those its nested graphs capture included."""
    values = [v for v in node.inputs if v is not None]
    for graph in subgraphs_of(node):
        for inner in graph:
            values.extend(_reads(inner))
    return values


def _is_random(node: Node) -> bool:
    key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
    return key in _RANDOM or (key in _DROPOUT and _trains(node))


def _trains(node: Node) -> bool:
    """Return whether a Dropout may drop: its training_mode input is there and not a constant False."""
    at = _MODE_INPUT[node.op_type]
    mode = node.inputs[at] if len(node.inputs) > at else None
    if mode is None:
        return False
    if mode.is_graph_input() or mode.const_value is None:
        return mode.producer() is not None or mode.is_graph_input()
    return bool(mode.const_value.numpy().any())
