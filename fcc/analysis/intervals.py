"""Intervals: between which two numbers a tensor lies on every run, as a whole or channel by channel.

One forward analysis from constants, element types, activations, normalizations and layers with constant weights; asked
value by value, remembered. A bound holds for every element that finite inputs make finite: a NaN, or an infinity that a
finite input overflows to, may lie outside. Sums are rounded outwards: a runtime adds monotonically, so what it computes
lies within the sum of the extreme terms and their rounding errors. Functions are taken at their mathematical range, and
what can only be one number at that number, which a runtime may miss by a rounding error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from .. import ir

Array = np.ndarray[Any, Any]
DEPTH = 48
READABLE = 1 << 22  # elements of a constant that are looked at


@dataclass(frozen=True, slots=True)
class Bounds:
    """low <= x <= high in float64: of the whole tensor, or one entry per index of ``axis`` (< 0: from the end)."""

    low: Array
    high: Array
    axis: int | None = None

    def whole(self) -> Bounds:
        """Return the bounds of all channels together."""
        return self if self.axis is None else Bounds(np.min(self.low), np.max(self.high))

    @property
    def least(self) -> float:
        """The lowest bound of any channel."""
        return float(np.min(self.low))

    @property
    def greatest(self) -> float:
        """The highest bound of any channel."""
        return float(np.max(self.high))

    @property
    def is_open(self) -> bool:
        """Whether nothing bounds any channel, on either side."""
        return bool(np.all(np.isneginf(self.low)) and np.all(np.isposinf(self.high)))


def between(low: float, high: float) -> Bounds:
    """Return the bounds of a tensor as a whole."""
    return Bounds(np.asarray(low, np.float64), np.asarray(high, np.float64))


EVERYTHING = between(-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Ask:
    """A node and what is known of its inputs: what a rule of the analysis sees."""

    node: ir.Node
    of: Callable[[ir.Value | None], Bounds]
    thorough: bool = False

    def input(self, index: int) -> Bounds:
        """Return the bounds of an input; of an absent one nothing is known."""
        return self.of(self.value(index))

    def value(self, index: int) -> ir.Value | None:
        """Return an input, None when it is absent."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def constant(self, index: int) -> Array | None:
        """Return a constant input that is not too large to look at, in float64."""
        value = self.value(index)
        return None if value is None else readable(value)

    @property
    def rank(self) -> int | None:
        """Rank of input 0, None where it is not known."""
        dims = ir.dims_of(self.value(0))
        return None if dims is None else len(dims)


Rule = Callable[[Ask], Bounds]


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
        from .interval_points import POINTWISE, with_points
        from .interval_rules import RULES

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


def of_type(dtype: ir.DataType | None) -> Bounds:
    """Return the range of an element type; all numbers for floats and what is not known."""
    if dtype == ir.DataType.BOOL:
        return between(0.0, 1.0)
    if dtype is None or not dtype.is_integer():
        return EVERYTHING
    bits = dtype.numpy()
    info: Any = np.iinfo(bits) if bits.kind in "iu" else ml_dtypes.iinfo(bits)  # type: ignore[no-untyped-call]
    return between(float(info.min), float(info.max))


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
def readable(value: ir.Value) -> Array | None:
    """Return a constant in float64, None when it is none, too large to look at, or computed only at save."""
    if not ir.Module.is_constant(value) or isinstance(value.const_value, ir.LazyTensor):
        return None
    dims = ir.dims_of(value) or ()
    if value.dtype is None or value.dtype == ir.DataType.STRING or value.const_value is None:
        return None
    if not all(isinstance(d, int) for d in dims) or value.const_value.size > READABLE:
        return None
    array = value.const_value.numpy()
    return array.astype(np.float64) if array.dtype.kind != "c" else None


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


# -- arithmetic --------------------------------------------------------------------------------------------------------
def aligned(*several: Bounds) -> list[Bounds]:
    """Return bounds whose channels lie on one axis: the first that has any; channels of another axis go together."""
    axis = next((b.axis for b in several if b.axis is not None), None)
    sizes = {b.low.size for b in several if b.axis == axis and axis is not None}
    if len(sizes) > 1:
        return [b.whole() for b in several]
    return [b if b.axis == axis else b.whole() for b in several]


def combined(low: Array, high: Array, *sources: Bounds) -> Bounds:
    """Return bounds along the axis of aligned sources."""
    axis = next((b.axis for b in sources if b.axis is not None), None)
    return Bounds(np.asarray(low, np.float64), np.asarray(high, np.float64), axis)


def hull(*several: Bounds) -> Bounds:
    """Return bounds that hold for a choice among tensors of one shape, or that broadcast to one."""
    parts = aligned(*several)
    low, high = parts[0].low, parts[0].high
    for part in parts[1:]:
        low, high = np.minimum(low, part.low), np.maximum(high, part.high)
    return combined(low, high, *parts)


def epsilon(dtype: ir.DataType | None) -> float:
    """Return the spacing of the floats of a type at 1, 0 for integers."""
    if dtype is None or not dtype.is_floating_point():
        return 0.0
    return float(ml_dtypes.finfo(dtype.numpy()).eps)  # type: ignore[no-untyped-call]


def rounded(low: Array, high: Array, low_size: Array, high_size: Array, relative: float) -> tuple[Array, Array]:
    """Return bounds moved outwards by ``relative`` times the size of what was added up.

    Infinite bounds stay, and what can be one number only: it is that number up to rounding, wherever it is used.
    """
    still = low == high
    ends = [
        np.where(still | ~np.isfinite(end), end, end + sign * relative * np.where(np.isfinite(size), size, np.abs(end)))
        for end, size, sign in ((low, low_size, -1), (high, high_size, 1))
    ]
    return ends[0], ends[1]


def times(a: Array, b: Array) -> Array:
    """Return the product where 0 times infinity is 0: a finite number times zero."""
    product = np.asarray(a * b)
    return np.where((a == 0) | (b == 0), 0.0, product)
