"""Arithmetic, comparison and order of integers that may hold symbols: an answer only where it holds for every size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from .. import ir

Array = np.ndarray[Any, Any]
Rule = Callable[[ir.Node, Sequence[Array | None]], Array]


def need(a: Array | None) -> Array:
    """Return an operand that must be there."""
    if a is None:
        raise NotImplementedError("absent operand")
    return a


def _elementwise(f: Callable[[Any, Any], Any]) -> Callable[[Array, Array], Array]:
    """Return ``f`` over the elements of two broadcast arrays that may hold symbols."""

    def apply(a: Array, b: Array) -> Array:
        left, right = np.broadcast_arrays(a, b)
        out = np.empty(left.shape, dtype=object)
        for i in np.ndindex(left.shape):
            out[i] = f(_plain(left[i]), _plain(right[i]))
        return out

    return apply


def _plain(x: Any) -> Any:
    return x if isinstance(x, ir.Dim) else int(x)


def _truncated(p: Any, q: Any) -> Any:
    if isinstance(p, int) and isinstance(q, int):
        return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)
    if not (ir.at_least(p, 0) and ir.at_least(q, 1)):
        raise NotImplementedError("the sign of a symbol decides")
    return p // q


def _remainder(p: Any, q: Any) -> Any:
    if not (isinstance(p, int) and isinstance(q, int)) and not (ir.at_least(p, 0) and ir.at_least(q, 1)):
        raise NotImplementedError("the sign of a symbol decides")
    return p % q


def modulo(node: ir.Node, x: Sequence[Array | None]) -> Array:
    """Mod-13 of integers: the sign of the divisor."""
    a, b = need(x[0]), need(x[1])
    if node.attributes.get_int("fmod", 0) or "f" in (a.dtype.kind, b.dtype.kind):
        raise NotImplementedError("fmod")
    return _elementwise(_remainder)(a, b)


def divide(a: Array, b: Array) -> Array:
    """Div-14: integers truncate toward zero."""
    if a.dtype == object or b.dtype == object:
        return _elementwise(_truncated)(a, b)
    if a.dtype.kind in "iu":
        if (b == 0).any() or (a.dtype.kind == "i" and ((a == np.iinfo(a.dtype).min) & (b == -1)).any()):
            raise ValueError("division by zero, or beyond the range of the type")
        floor: Array = a // b
        truncated: Array = (floor + ((floor * b != a) & ((a < 0) != (b < 0)))).astype(a.dtype)
        return truncated
    return np.divide(a, b)


def compare(f: Callable[[Array, Array], Array], symbols: Callable[[Any], bool | None]) -> Rule:
    """Return a comparison; ``symbols`` decides it from the difference of two symbolic elements, None when it cannot."""

    def decide(p: Any, q: Any) -> bool:
        found = symbols(p - q)
        if found is None:
            raise NotImplementedError("the values of symbols decide")
        return found

    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        a, b = need(x[0]), need(x[1])
        if a.dtype != object and b.dtype != object:
            return f(a, b)
        return _elementwise(decide)(a, b).astype(bool)

    return rule


def is_zero(d: Any) -> bool | None:
    """Return whether a difference is zero, None when that depends on symbols."""
    if isinstance(d, int):
        return d == 0
    return False if ir.at_least(d, 1) or ir.at_least(-d, 1) else None


def is_at_least(bound: int) -> Callable[[Any], bool | None]:
    """Return the question whether a difference is at least ``bound``."""

    def decide(d: Any) -> bool | None:
        if ir.at_least(d, bound):
            return True
        return False if ir.at_least(-d, 1 - bound) else None

    return decide


def negated(decide: Callable[[Any], bool | None]) -> Callable[[Any], bool | None]:
    """Return the opposite question."""

    def negated(d: Any) -> bool | None:
        found = decide(d)
        return None if found is None else not found

    return negated


def extreme(f: Callable[[Array, Array], Array], sign: int) -> Rule:
    """Return Max (sign 1) or Min (sign -1)."""

    def pick(p: Any, q: Any) -> Any:
        if ir.at_least((p - q) * sign, 0):
            return p
        if ir.at_least((q - p) * sign, 0):
            return q
        raise NotImplementedError("the order of symbols decides")

    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        arrays = [need(a) for a in x]
        if any(a.dtype == object for a in arrays):
            return reduce(_elementwise(pick), arrays)
        return reduce(f, arrays)

    return rule
