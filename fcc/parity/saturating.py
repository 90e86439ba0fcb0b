"""The tensors that an output hides: what goes into a saturating operator in front of a graph output."""

from __future__ import annotations

from fcc.ir import Module, Value

SATURATING = frozenset(
    {"ArgMax", "ArgMin", "HardSigmoid", "Hardmax", "Sigmoid", "Sign", "Softmax", "Softsign", "Tanh", "TopK"}
)
_MOVES = frozenset(
    {"Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


def hidden_tensors(module: Module) -> list[str]:
    """Return the names of the tensors of the main graph that reach an output only through a saturating operator.

    softmax(z) of large z is 0 or 1 whatever z is: a broken z shows in z alone.
    """
    found: dict[str, None] = {}
    stack: list[Value | None] = list(module.graph.outputs)
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        node = value.producer() if value is not None else None
        if value is None or node is None or value in seen or node.graph is not module.graph or node.domain:
            continue
        seen.add(value)
        if node.op_type in SATURATING:
            inner = node.inputs[0]
            if inner is not None and inner.producer() is not None and not inner.is_graph_output() and inner.name:
                found[inner.name] = None
        elif node.op_type in _MOVES:
            stack.extend(node.inputs)
    return sorted(found)
