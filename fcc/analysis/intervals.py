"""Intervals: between which two numbers a tensor lies on every run, as a whole or channel by channel.

One forward analysis from constants, element types, activations, normalizations and layers with constant weights; asked
value by value, remembered. A bound holds for every element that finite inputs make finite: a NaN, or an infinity that a
finite input overflows to, may lie outside. Sums are rounded outwards: a runtime adds monotonically, so what it computes
lies within the sum of the extreme terms and their rounding errors. Functions are taken at their mathematical range, and
what can only be one number at that number, which a runtime may miss by a rounding error.
"""

from __future__ import annotations

import numpy as np

from .. import ir
from .bounds import EVERYTHING, Array, Ask, Bounds, between, of_type, readable
from .interval_points import POINTWISE, with_points
from .interval_rules import RULES

DEPTH = 48


class Intervals:
    """The analysis: remembers what it found of every value, so it must not outlive a change of what values mean.

    ``thorough`` reads all weights of layers, also of outputs that no clamp behind them could be decided for.
    """

    def __init__(self, *, thorough: bool = False) -> None:
        self.thorough = thorough
        self._found: dict[ir.Value, Bounds] = {}
        self._depth = 0

    def of(self, value: ir.Value | None) -> Bounds:
        """Return bounds of a value: infinite where nothing is known."""
        if value is None:
            return EVERYTHING
        found = self._found.get(value)
        if found is None:
            if self._depth == DEPTH:
                return of_type(value.dtype)
            self._depth += 1
            found = self._compute(value)
            self._depth -= 1
            self._found[value] = found
        return found

    def _compute(self, value: ir.Value) -> Bounds:
        own = of_type(value.dtype)
        if value.dtype is None:
            return own
        if ir.Module.is_constant(value):
            return _of_constant(value) or own
        node = value.producer()
        rule = RULES.get((node.domain, node.op_type, value.index() or 0)) if node is not None else None
        if rule is None or node is None:
            return own
        with np.errstate(all="ignore"):
            found = rule(Ask(node, self.of, self.thorough))
            if node.op_type in POINTWISE:
                found = with_points(Ask(node, self.of), found)
        return _fitted(found, own, value)


def intervals_of(module: ir.Module) -> Intervals:
    """Return the analysis of a module, remembered until it changes."""
    found: Intervals = module.fact("intervals", lambda m: Intervals())
    return found


def _fitted(found: Bounds, own: Bounds, value: ir.Value) -> Bounds:
    """Return a result that is sound and well formed: integers that may wrap, and NaN, are bounded by the type alone."""
    if np.isnan(found.low).any() or np.isnan(found.high).any():
        return own
    if value.dtype is not None and value.dtype.is_integer():
        exact = found.least >= -(2.0**53) and found.greatest <= 2.0**53
        if not exact or found.least < own.least or found.greatest > own.greatest:
            return own
    if found.axis is None:
        return found
    dims = ir.dims_of(value)
    fits = dims is not None and -found.axis <= len(dims) and dims[found.axis] == found.low.size
    return found if fits and found.low.size > 1 else found.whole()


# -- constants ---------------------------------------------------------------------------------------------------------
def _of_constant(value: ir.Value) -> Bounds | None:
    """Bounds along the axis on which a constant varies; of several, axis 1 of a rank above 3, and the last one else."""
    array = readable(value)
    if array is None or array.size == 0 or np.isnan(array).any() or not _exact(array, value):
        return None
    long = [i for i, d in enumerate(array.shape) if d != 1]
    if not long:
        return between(float(array.reshape(())), float(array.reshape(())))
    axis = long[0] if len(long) == 1 else 1 if array.ndim > 3 else array.ndim - 1
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return Bounds(rows.min(axis=1), rows.max(axis=1), axis - array.ndim)


def _exact(array: Array, value: ir.Value) -> bool:
    """Return whether float64 holds integers as they are, which it does up to 2^53, and for the ends of the type."""
    if value.dtype is None or not value.dtype.is_integer() or np.all(np.abs(array) <= 2.0**53):
        return True
    assert value.const_value is not None
    large = value.const_value.numpy()
    ends = np.iinfo(large.dtype)
    return bool(np.all((np.abs(array) <= 2.0**53) | (large == ends.min) | (large == ends.max)))
