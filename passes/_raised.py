"""The lowest numbers of a mask, raised: an operator reads the lowest of all as masked, or overflows on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.intervals import Intervals
from fcc.rewrite import Rewriter

from ._attention import producer
from ._operands import small_constant

_MOVES = frozenset({"Expand", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_INTEGRAL = frozenset({"Add", "Mul", "Neg", "Sub", *_MOVES})
_LARGEST_FACTOR = 1e6


_KNEE = -1e38
"""Below it numbers are drawn together by half: the lowest becomes -2.2e38, and log2(e) times that is finite."""


@dataclass(frozen=True)
class Raiser:
    """Raises the numbers of masks, beside which scores are nothing; -inf stays.

    To ``floor``, where they are known to be one number below it (``apart`` is false). Else to Max(m, m / 2 - 5e37),
    which keeps their order, and apart what is: all but neighbouring floats below -1e38.
    """

    floor: float
    apart: bool
    rw: Rewriter

    def raised(self, value: ir.Value) -> ir.Value:
        """Return a tensor of floats without finite numbers near the lowest."""
        if ir.Module.is_constant(value):
            return self._constant(value)
        if Intervals().of(value).least >= (_KNEE if self.apart else self.floor):
            return value
        node = producer(value, "Add", "Mul", "Where", *_MOVES)
        if node is not None and node.op_type in _MOVES and node.inputs[0] is not None:
            moved: ir.Value = self.rw.like(node, self.raised(node.inputs[0]), *node.inputs[1:])
            return moved
        if self.apart:
            assert value.dtype is not None
            half, shift = (np.asarray(n, value.dtype.numpy()) for n in (0.5, 0.5 * _KNEE))
            together: ir.Value = self.rw.op("Max", value, self.rw.op("Add", self.rw.op("Mul", value, half), shift))
            return together
        assert node is not None
        own = [v is not None and v.dtype == value.dtype and not _is_whole(v) for v in node.inputs]
        made: ir.Value = self.rw.like(
            node, *(self.raised(v) if v and mine else v for v, mine in zip(node.inputs, own, strict=True))
        )
        return made

    def number(self, value: float) -> float:
        """Return what becomes of one number."""
        return float(self._raised(np.asarray(value)))

    def _raised(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        floor = 0.5 * array + 0.5 * _KNEE if self.apart else np.asarray(self.floor, array.dtype)
        return np.asarray(np.where(array == -inf, array, np.maximum(array, floor)), array.dtype)

    def _constant(self, value: ir.Value) -> ir.Value:
        array, tensor, key = ir.Module.constant(value), value.const_value, f"fcc.raised.{self.apart}"
        low = _KNEE if self.apart else self.floor
        if array is None or tensor is None or not ((array < low) & (array != -inf)).any():
            return value
        before: object = value.meta.get(key)  # so that all layers share one
        if isinstance(before, ir.Value) and before.graph is value.graph:
            return before
        made = self.rw.lazy(lambda: self._raised(tensor.numpy()), like=value)
        value.meta[key] = made
        return made


def _is_whole(value: ir.Value | None, depth: int = 0) -> bool:
    """Return whether a tensor of floats holds whole numbers: times a number that masks they mask, or are 0."""
    if value is None or depth > 8:
        return False
    array = small_constant(value)
    if array is not None:
        wide = array.astype(np.float64)
        return bool((np.abs(wide) < _LARGEST_FACTOR).all() and (wide % 1 == 0).all())
    node = producer(value, "Cast", *_INTEGRAL)
    if node is None:
        return False
    if node.op_type == "Cast":
        dtype = None if node.inputs[0] is None else node.inputs[0].dtype
        return dtype is not None and (dtype.is_integer() or dtype == ir.DataType.BOOL)
    return all(_is_whole(v, depth + 1) for v in (node.inputs[:1] if node.op_type in _MOVES else node.inputs))


def several(floor: float, values: Iterable[ir.Value], fills: Iterable[float] = ()) -> bool:
    """Return whether masks, and ``fills``, may hold different finite numbers below a floor.

    Raised to it they would be one, and a row that holds nothing else would be spread evenly.
    """
    found = {f for f in fills if f != -inf}
    for value in values:
        own = _low(value, floor)
        if own is None:
            return True
        found |= own
    return len(found) > 1


def _low(value: ir.Value, floor: float) -> set[float] | None:
    """Return the finite numbers below a floor that a tensor is made of, None when they are not known."""
    if ir.Module.is_constant(value):
        array = ir.Module.constant(value)
        return None if array is None else {float(x) for x in np.unique(array) if -inf < x < floor}
    if Intervals().of(value).least >= floor:
        return set()
    node = producer(value, "Add", "Mul", "Where", *_MOVES)
    if node is None or (node.op_type == "Mul" and not any(_is_whole(v) for v in node.inputs)):
        return None
    operands = node.inputs[:1] if node.op_type in _MOVES else node.inputs
    found: set[float] = set()
    for operand in operands:
        if operand is not None and operand.dtype == value.dtype and not _is_whole(operand):
            own = _low(operand, floor)
            if own is None:
                return None
            found |= own
    return found
