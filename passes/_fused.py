"""Functions written in primitives that runtimes fuse when they load a model: normalizations, GELU."""

from __future__ import annotations

from fcc import ir

_STEPS = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal"})
_HEARTS = frozenset({"ReduceMean", "Erf", "Tanh"})


def in_fused_function(value: ir.Value, depth: int = 6) -> bool:
    """Whether ``value`` is an elementwise function, at most ``depth`` ops away, of a mean, an Erf or a Tanh."""
    node = value.producer()
    if node is None or depth == 0 or node.domain != "":
        return False
    if node.op_type in _HEARTS:
        return True
    return node.op_type in _STEPS and any(in_fused_function(v, depth - 1) for v in node.inputs if v is not None)
