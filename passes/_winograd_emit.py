"""A convolution in tiles, as nodes: transform of the input, products, transform of the results."""

from __future__ import annotations

from functools import partial
from math import frexp, prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.toom_cook import UNIT, Matrix, toom_cook
from fcc.rewrite import Rewriter

from ._winograd import Tiling

Array = np.ndarray[Any, Any]
Column = tuple[float, Array]
_EAGER = 1 << 20
_DEFAULTS = {"pads": {0}, "strides": {1}, "dilations": {1}}
_NAME = "t"  # short, and not written for nodes: names are bytes of the file


class Emit:
    """Writes the nodes of one tiling.

    The transformed weights, which are larger than the weights, are computed from constants: once, when the model is
    loaded. A bias is added to the product at the point 1, which is a summand of every output.
    """

    def __init__(self, tiling: Tiling, rw: Rewriter, with_column: bool) -> None:
        self.tiling, self.rw, self.with_column = tiling, rw, with_column
        self.algorithm = toom_cook(tiling.outputs, tiling.taps)
        self.x, self.weight, self.bias = tiling.layer.operands()
        self._views = iter(tiling.views())

    def run(self) -> ir.Value:
        """Return the value that the convolution gave."""
        t = self.tiling
        column = self._column() if t.is_matmul and self.bias is not None and self.with_column else None
        tiles = self._gathered(self._viewed(self.x), column)
        made = self._multiplied(tiles, column) if t.is_matmul else self._convolved(tiles)
        kernel, crop = self._filters(self.algorithm.a), [*t.along(0, 0), *t.along(t.surplus, 0)]
        rows = self._op("ConvTranspose", made, kernel, strides=t.along(t.outputs, 1), pads=crop)
        if t.is_matmul and self.bias is not None and column is None:
            rows = self._op("Add", rows, self._spread(self.bias))
        return self._viewed(rows)

    def _spread(self, bias: ir.Value) -> Array:
        """Return a bias as an operand beside [N, 1, outputs, length]."""
        array = ir.Module.constant(bias)
        assert array is not None
        return array.reshape(-1, 1)

    def _gathered(self, x: ir.Value, column: Column | None) -> ir.Value:
        """Return B d of every tile [N, n, channels and axes in front, tiles, axes behind], padded as the Conv pads.

        With a column, one more channel: its scale at the point 1 (where it is added to every channel), 0 elsewhere.
        """
        t = self.tiling
        begin, end = t.along(t.layer.begin[t.axis], 0), t.along(t.layer.end[t.axis] + t.surplus, 0)
        operands: list[ir.Value | Array] = [x, self._filters(self.algorithm.b)]
        if column is not None:
            end[0] = 1
            shift = np.zeros(t.products, np.float32)
            shift[UNIT] = column[0]
            operands.append(shift)
        return self._op("Conv", *operands, strides=t.along(t.outputs, 1), pads=[*begin, *end])

    def _multiplied(self, tiles: ir.Value, column: Column | None) -> ir.Value:
        outputs, channels = self.tiling.layer.weight[:2]
        return self._op("MatMul", self._transformed((outputs, channels), column), tiles)

    def _convolved(self, tiles: ir.Value) -> ir.Value:
        """Return the products as a Conv over the other axes, one group for each."""
        t, layer = self.tiling, self.tiling.layer
        outputs, channels = layer.weight[:2]
        kernel = [1 if i == t.axis else k for i, k in enumerate(layer.kernel)]
        pads = [0 if i % len(kernel) == t.axis else p for i, p in enumerate((*layer.begin, *layer.end))]
        flat = self._transformed((outputs * channels, prod(kernel)))
        operands = [self._viewed(tiles), self._op("Reshape", flat, np.asarray([-1, channels, *kernel], np.int64))]
        if self.bias is not None:
            behind = (t.products - 1 - UNIT) * outputs
            operands.append(self._op("Pad", self.bias, np.asarray([UNIT * outputs, behind], np.int64)))
        windows = {"strides": list(layer.strides), "dilations": list(layer.dilations), "pads": pads}
        return self._viewed(self._op("Conv", *operands, group=t.products, **windows))

    def _transformed(self, shape: tuple[int, int], column: Column | None = None) -> ir.Value:
        """Return G w as [1, n, *shape], with one more column where there is one."""
        t, tensor = self.tiling, self.weight.const_value
        assert self.weight.type is not None
        compute = partial(_stored, tensor, 2 + t.axis, shape, None if column is None else column[1])
        whole = (1, t.taps, shape[0], shape[1] + (column is not None))
        if prod(whole) * 4 < _EAGER:
            stored = self.rw.const(compute(), _NAME)
        else:
            stored = self.rw.lazy(compute, ir.Value(type=self.weight.type, shape=ir.Shape(whole)), _NAME)
        return self._op("Conv", stored, _floats(self.algorithm.g)[:, :, None, None])

    def _column(self) -> Column:
        """Return a scale s and (b / s - sum of the weights at the point 1) / G: times s, plus s in every channel, b.

        The smaller s, the less is lost where it is added to the input; the sum of what it adds is no larger than b.
        """
        weight, bias = (np.asarray(ir.Module.constant(v), np.float64) for v in (self.weight, self.bias))
        g = np.asarray(self.algorithm.g[UNIT], np.float64)
        unit = np.tensordot(np.moveaxis(weight, 2 + self.tiling.axis, -1), g, 1).reshape(len(bias), -1)
        sums, largest = np.abs(unit).sum(1).max(), np.abs(bias).max()
        scale = 2.0 ** min(max(frexp(largest / sums)[1] - 1, -126), 100) if sums > 0 and largest > 0 else 1.0
        return scale, ((bias / scale - unit.sum(1)) / g[0]).astype(np.float32)

    def _filters(self, rows: Matrix) -> Array:
        array = _floats(rows)
        return array.reshape(len(array), 1, *self.tiling.along(array.shape[1], 1))

    def _viewed(self, x: ir.Value) -> ir.Value:
        view = next(self._views)
        kind = "Unsqueeze" if view.adds_axis else "Squeeze" if view.drops_axis else "Reshape"
        return self._op(kind, x, np.asarray(view.entries() if kind == "Reshape" else [1], np.int64))

    def _op(self, kind: str, *inputs: ir.Value | Array, **attributes: Any) -> ir.Value:
        values = [self.rw.const(i, _NAME) if isinstance(i, np.ndarray) else i for i in inputs]
        written = {k: v for k, v in attributes.items() if k not in _DEFAULTS or set(v) != _DEFAULTS[k]}
        made: ir.Value = self.rw.op(kind, *values, name=_NAME, **written)
        node = made.producer()
        assert node is not None
        node.meta[ir.GENERATED] = True
        return made


def _floats(rows: Matrix) -> Array:
    return np.asarray(rows, np.float64).astype(np.float32)


def _stored(tensor: Any, axis: int, shape: tuple[int, int], column: Array | None) -> Array:
    """Return a weight as [1, elements along the axis, *shape]; the column is that of the first element."""
    weight = np.moveaxis(np.asarray(tensor.numpy()), axis, 0)
    weight = weight.reshape(1, len(weight), *shape)
    if column is None:
        return np.ascontiguousarray(weight)
    widened = np.zeros((*weight.shape[:3], shape[1] + 1), np.float32)
    widened[..., :-1], widened[0, 0, :, -1] = weight, column
    return widened
