"""The numbers of a mask, raised where they are made so that no finite one is below a floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np

from fcc import ir
from fcc.analysis.intervals import Intervals
from fcc.rewrite import Rewriter

from ._attention import producer
from ._operands import small_constant

_RAISED = "fcc.raised"  # on a constant: the value that took its place, so that all layers share one
_MOVES = frozenset({"Expand", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_INTEGRAL = frozenset({"Add", "Mul", "Neg", "Sub", *_MOVES})
_LARGEST_FACTOR = 1e6


@dataclass(frozen=True)
class Raiser:
    """Raises to ``floor``, a number beside which scores are nothing; in constants -inf stays."""

    floor: float
    rw: Rewriter

    def raised(self, value: ir.Value) -> ir.Value:
        """Return a tensor of floats without finite numbers below the floor."""
        if ir.Module.is_constant(value):
            return self._constant(value)
        if Intervals().of(value).least >= self.floor:
            return value
        node = producer(value, "Add", "Mul", "Where", *_MOVES)
        made: ir.Value
        if node is not None and node.op_type in ("Add", "Where"):
            made = self.rw.like(node, *(self.raised(v) if v and v.dtype == value.dtype else v for v in node.inputs))
        elif node is not None and node.op_type == "Mul" and any(_is_whole(v) for v in node.inputs):
            made = self.rw.like(node, *(v if v is None or _is_whole(v) else self.raised(v) for v in node.inputs))
        elif node is not None and node.op_type in _MOVES and node.inputs[0] is not None:
            made = self.rw.like(node, self.raised(node.inputs[0]), *node.inputs[1:])
        else:
            assert value.dtype is not None
            made = self.rw.op("Max", value, np.asarray(self.floor, value.dtype.numpy()))
        return made

    def _constant(self, value: ir.Value) -> ir.Value:
        array, tensor = ir.Module.constant(value), value.const_value
        if array is None or tensor is None or not ((array < self.floor) & (array != -inf)).any():
            return value
        before: object = value.meta.get(_RAISED)
        if isinstance(before, ir.Value) and before.graph is value.graph:
            return before
        low = np.asarray(self.floor, array.dtype)
        made = self.rw.lazy(lambda: np.where((a := tensor.numpy()) == -inf, a, np.maximum(a, low)), like=value)
        value.meta[_RAISED] = made
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


def keeps_apart(floor: float, values: Iterable[ir.Value], fills: Iterable[float] = ()) -> bool:
    """Return whether all finite numbers of masks below a floor, and ``fills``, are known to be one number.

    Raised, others would no longer differ, and a row that holds nothing else would be spread evenly.
    """
    found = {f for f in fills if f != -inf}
    for value in values:
        own = _low(value, floor)
        if own is None:
            return False
        found |= own
    return len(found) <= 1


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
