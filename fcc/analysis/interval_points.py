"""Channels that hold one number: what an elementwise operator makes of it, computed as a runtime computes it."""

from __future__ import annotations

from functools import reduce

import numpy as np

from .. import ir
from .bounds import Array, Ask, Bounds, aligned
from .evaluate import evaluate

OPSET = 21
POINTWISE = frozenset(
    {"Abs", "Add", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"}
    | {"HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu"}
    | {"Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh"}
    | {"ThresholdedRelu"}
)


def with_points(ask: Ask, found: Bounds) -> Bounds:
    """Return bounds in which channels that are computed from one number per operand hold one number, in their dtype.

    What no evaluator knows, and what is not finite, stays as it is.
    """
    values = [v for v in ask.node.inputs if v is not None]
    parts = aligned(*(ask.of(v) for v in values))
    known = np.asarray(reduce(np.logical_and, (p.low == p.high for p in parts)))
    if not known.any() or "min" in ask.node.attributes or "max" in ask.node.attributes:
        return found
    axis = next((p.axis for p in parts if p.axis is not None), None)
    if axis not in (found.axis, None) and found.axis is not None:
        return found
    result = _evaluated(ask.node, [p.low for p in parts], known.size)
    if result is None:
        return found
    mask = known & np.isfinite(result)
    return Bounds(np.where(mask, result, found.low), np.where(mask, result, found.high), axis or found.axis)


def _evaluated(node: ir.Node, numbers: list[Array], size: int) -> Array | None:
    """Return the result of an elementwise node on one number, or one vector of numbers, per present operand."""
    present = iter(numbers)
    arrays: list[Array | None] = []
    for value in node.inputs:
        if value is None:
            arrays.append(None)
            continue
        number, dtype = next(present), value.dtype
        if dtype is None:
            return None
        plain = number if number.ndim == 0 or ir.dims_of(value) != () else number[:1].reshape(())
        arrays.append(np.asarray(plain).astype(dtype.numpy()))
    try:
        results = evaluate(node, arrays, OPSET)
    except (ValueError, TypeError, RuntimeError, NotImplementedError):
        return None
    if results is None or results[0] is None:
        return None
    found = np.asarray(results[0]).astype(np.float64)
    return found if found.size == size else None
