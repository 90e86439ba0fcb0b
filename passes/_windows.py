"""The windows of an image as an axis of a matrix product: kernel, strides and dilations of the convolution it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcc import ir

from ._axes import Factors, Layout, Size, layouts
from ._blocks import index_of
from ._rearrange import Rearrangement, rearrangement
from ._views import full_dims

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows of ``x``; entry j of the axis is channel, row, column ``index[:, j]`` of one.

    ``result`` brings what the convolution gives to where the product has it.
    """

    x: ir.Value
    channels: int
    kernel: Pair
    strides: Pair
    dilations: Pair
    index: tuple[Array, Array, Array]
    result: Rearrangement

    def spread(self, matrix: Array) -> Array:
        """Return a matrix [outputs, entries of the axis] as the weight of the convolution."""
        weight = np.zeros((matrix.shape[0], self.channels, *self.kernel), matrix.dtype)
        weight[:, self.index[0], self.index[1], self.index[2]] = matrix
        return weight


@dataclass(frozen=True)
class _Axis:
    """One axis of an image: factors along its windows, and inside of one."""

    windows: Factors
    inside: Factors
    size: int
    stride: int
    dilation: int


def windows_of(value: ir.Value, axis: int, outputs: int) -> Windows | str:
    """Return the windows that lie along one axis of a value, or why there are none."""
    reason = "its input holds no windows of an image"
    for source, layout, _ in layouts(value):
        found = _windows(source, layout, axis, outputs) if len(layout.source) == 4 and len(layout.axes) > 1 else None
        if isinstance(found, Windows):
            return found
        reason = found or reason
    return reason


def _windows(source: ir.Value, layout: Layout, axis: int, outputs: int) -> Windows | str | None:
    inside, dims = layout.axes[axis], full_dims(source)
    batch, channels = layout.source[:2]
    if layout.fixed or layout.scale != 1.0 or dims is None or not isinstance(dims[1], int) or set(batch) & set(inside):
        return None
    rows, columns = (_axis(layout, i, inside, dims[i]) for i in (2, 3))
    if isinstance(rows, str):
        return rows
    if isinstance(columns, str):
        return columns
    if rows is None or columns is None or rows.size * columns.size == 1:
        return None
    if any(a.size > 1 and not a.windows for a in (rows, columns)):
        return "there is one window along an axis: a matrix product"
    if sorted((*channels, *rows.inside, *columns.inside)) != sorted(inside):
        return "the windows do not hold all channels"
    index = [index_of(layout, p, inside) for p in (channels, rows.inside, columns.inside)]
    result = _result(source, layout, axis, outputs, (batch, rows.windows, columns.windows))
    if result is None or index[0] is None or index[1] is None or index[2] is None:
        return "the result cannot be laid out in constant numbers"
    return Windows(
        source,
        dims[1],
        (rows.size, columns.size),
        (rows.stride, columns.stride),
        (rows.dilation, columns.dilation),
        (index[0], index[1], index[2]),
        result,
    )


def _axis(layout: Layout, axis: int, inside: Factors, size: Size) -> _Axis | str | None:
    factors = layout.source[axis]
    own = tuple(f for f in factors if f in inside)
    rest = tuple(f for f in factors if f not in inside)
    kernel = layout.size(own)
    if not isinstance(kernel, int):
        return None
    if not any(f in layout.steps for f in factors):
        return _Axis(rest, own, kernel, kernel, 1) if factors == (*rest, *own) else None
    if len(own) != 1 or len(rest) != 1 or not isinstance(size, int):
        return None
    stride, dilation, count = layout.steps[rest[0]], layout.steps[own[0]], layout.sizes[rest[0]]
    if (size - dilation * (kernel - 1) - 1) // stride + 1 != count:
        return "there are other windows than those of a convolution"
    return _Axis(rest, own, kernel, stride, dilation)


def _result(
    source: ir.Value, layout: Layout, axis: int, outputs: int, others: tuple[Factors, Factors, Factors]
) -> Rearrangement | None:
    """Return how to bring [batch, outputs, rows, columns] to the axes of the product."""
    name = max(layout.sizes, default=-1) + 1
    own: Factors = () if outputs == 1 else (name,)
    axes = list(layout.axes)
    axes[axis] = own
    made = replace(
        layout, sizes={**layout.sizes, name: outputs}, source=(others[0], own, *others[1:]), axes=tuple(axes), steps={}
    )
    return rearrangement(source, made, made.axes)
