"""Bounds of tensors and their arithmetic: what the rules of the interval analysis see and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from .. import ir

Array = np.ndarray[Any, Any]
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


def of_type(dtype: ir.DataType | None) -> Bounds:
    """Return the range of an element type; all numbers for floats and what is not known."""
    if dtype == ir.DataType.BOOL:
        return between(0.0, 1.0)
    if dtype is None or not dtype.is_integer():
        return EVERYTHING
    bits = dtype.numpy()
    info: Any = np.iinfo(bits) if bits.kind in "iu" else ml_dtypes.iinfo(bits)  # type: ignore[no-untyped-call]
    return between(float(info.min), float(info.max))


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
