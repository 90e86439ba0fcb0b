"""What the numbers of a float tensor lie between, by the operators that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isnan

import numpy as np

from fcc import ir

from ._domains import bounds as integer_bounds
from ._operands import small_constant

Bounds = tuple[float, float]
ANY: Bounds = (-inf, inf)
_DEPTH = 16


def float_bounds(value: ir.Value | None, depth: int = 0) -> Bounds:
    """Return (lowest, highest) number that a tensor of floats can hold, NaN left aside; infinite where nothing says."""
    if ir.Module.is_constant(value):
        array = small_constant(value)
        if array is None or array.size == 0 or array.dtype.kind not in "fV":
            return ANY
        wide = array.astype(np.float64)
        return ANY if np.isnan(wide).any() else (float(wide.min()), float(wide.max()))
    node = None if value is None else value.producer()
    rule = None if node is None or node.domain != "" or depth > _DEPTH else _RULES.get(node.op_type)
    return ANY if node is None or rule is None else rule(node, depth + 1)


def _same(node: ir.Node, depth: int) -> Bounds:
    return float_bounds(node.inputs[0], depth)


def _cast(node: ir.Node, depth: int) -> Bounds:
    x = node.inputs[0]
    if x is None or x.dtype is None or x.dtype.is_floating_point():
        return float_bounds(x, depth)
    found = integer_bounds(x)
    return (-(2.0**63), 2.0**64) if found is None else (float(found[0]), float(found[1]))


def _add(node: ir.Node, depth: int) -> Bounds:
    (a, b), (c, d) = (float_bounds(v, depth) for v in node.inputs)
    return a + c, b + d


def _sub(node: ir.Node, depth: int) -> Bounds:
    (a, b), (c, d) = (float_bounds(v, depth) for v in node.inputs)
    return a - d, b - c


def _mul(node: ir.Node, depth: int) -> Bounds:
    (a, b), (c, d) = (float_bounds(v, depth) for v in node.inputs)
    products = [0.0 if 0.0 in (x, y) else x * y for x in (a, b) for y in (c, d)]
    return (min(products), max(products)) if not any(map(isnan, products)) else ANY


def _where(node: ir.Node, depth: int) -> Bounds:
    (a, b), (c, d) = (float_bounds(v, depth) for v in node.inputs[1:])
    return min(a, c), max(b, d)


def _neg(node: ir.Node, depth: int) -> Bounds:
    a, b = float_bounds(node.inputs[0], depth)
    return -b, -a


_RULES: Mapping[str, Callable[[ir.Node, int], Bounds]] = {
    **dict.fromkeys(("Expand", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"), _same),
    **dict.fromkeys(("Sigmoid", "Softmax"), lambda node, depth: (0.0, 1.0)),
    **dict.fromkeys(("Cos", "Sin", "Tanh"), lambda node, depth: (-1.0, 1.0)),
    "Add": _add,
    "Cast": _cast,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": _sub,
    "Where": _where,
}
