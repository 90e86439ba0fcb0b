"""convert-winograd: convolutions with stride 1 by a Toom-Cook (Winograd) algorithm along one axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import frexp
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.toom_cook import UNIT, ToomCook, toom_cook
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._winograd import Layer, Tiling, layer_of, refusal, tilings
from ._winograd_cost import RATES, direct, tiled, work

Array = np.ndarray[Any, Any]
_EAGER = 1 << 20
_NAME = "winograd"


@dataclass(frozen=True)
class ConvertWinograd(SitePass):
    name: ClassVar[str] = "convert-winograd"
    min_gain: float = 0.25

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        nodes = [n for n in module.nodes() if n.op_type == "Conv" and n.domain == ""]
        for node in nodes:
            layer = layer_of(node)
            if isinstance(layer, str): continue
            ts=self.candidates(layer)
            if ts:
                yield Site(node, module, ctx, min(ts,key=lambda t: tiled(t,RATES['cpu'],ctx.shapes)))

    def candidates(self, layer): return tilings(layer)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        rw.replace(site.anchor.outputs[0], _Emit(site.data, rw).run())
        rw.erase(site.anchor)


class _Emit:
    """Writes one tiling."""

    def __init__(self, tiling: Tiling, rw: Rewriter) -> None:
        self.tiling, self.rw = tiling, rw
        self.node = tiling.layer.node
        self.algorithm = toom_cook(tiling.outputs, tiling.taps)
        self.shapes = iter(tiling.reshapes())
        self.weight = self.node.inputs[1]
        self.bias = self.node.inputs[2] if len(self.node.inputs) > 2 else None

    def run(self) -> ir.Value:
        t = self.tiling
        column = self._column() if t.is_matmul and self.bias is not None else None
        x = self._gathered(self._reshape(self.node.inputs[0]), column)
        made = self._matmul(x, column) if t.is_matmul else self._grouped(x)
        a = self._kernel(self.algorithm.a, t.outputs)
        crop = [*t.along(0, 0), *t.along(t.surplus, 0)]
        rows = self._op("ConvTranspose", made, a, strides=t.along(t.outputs, 1), pads=crop)
        return self._reshape(rows)

    def _op(self, kind: str, *inputs: ir.Value | Array | None, **attributes: Any) -> ir.Value:
        values = [self.rw.const(i, _NAME) if isinstance(i, np.ndarray) else i for i in inputs]
        made: ir.Value = self.rw.op(kind, *values, name=_NAME, **attributes)
        return made

    def _reshape(self, x: ir.Value) -> ir.Value:
        return self._op("Reshape", x, np.asarray(next(self.shapes), np.int64))

    def _kernel(self, rows, size: int) -> Array:
        array = np.asarray(rows, np.float64).astype(np.float32)
        return array.reshape(len(array), 1, *self.tiling.along(size, 1))

    def _gathered(self, x: ir.Value, column) -> ir.Value:
        t = self.tiling
        begin, end = t.along(t.layer.begin[t.axis], 0), t.along(t.layer.end[t.axis] + t.surplus, 0)
        bias = None
        if column is not None:
            end[0] = 1
            bias = np.zeros(t.products, np.float32); bias[UNIT] = column[0]
        kernel = self._kernel(self.algorithm.b, t.products)
        return self._op("Conv", x, kernel, *([] if bias is None else [bias]), strides=t.along(t.outputs, 1), pads=[*begin, *end])

    def _column(self):
        w = np.moveaxis(self.weight.const_value.numpy().astype(np.float64), 2 + self.tiling.axis, 0)
        w = w.reshape(self.tiling.taps, *w.shape[1:3])
        g = np.asarray(self.algorithm.g[UNIT], np.float64)
        unit = np.einsum("r,roc->oc", g, w)
        b = self.bias.const_value.numpy().astype(np.float64)
        most, size = np.abs(unit).sum(1).max(), np.abs(b).max()
        scale = 2.0 ** (frexp(size / most)[1] - 1) if most > 0 and size > 0 else 1.0
        return scale, ((b / scale - unit.sum(1)) / g[0]).astype(np.float32)

    def _transformed(self, shape, column=None) -> ir.Value:
        t = self.tiling
        w = self.weight.const_value.numpy()
        w = np.moveaxis(w, 2 + t.axis, 0).reshape(shape)
        if column is not None:
            w = np.concatenate([w, np.zeros((*w.shape[:3], 1), np.float32)], -1)
            w[0, 0, :, -1] = column[1]
        g = np.asarray(self.algorithm.g, np.float64).astype(np.float32)
        return self._op("Conv", w, g[:, :, None, None])

    def _matmul(self, x, column):
        o, c = self.tiling.layer.weight[:2]
        return self._op("MatMul", self._transformed((1, self.tiling.taps, o, c), column), x)

    def _grouped(self, x):
        t, layer = self.tiling, self.tiling.layer
        o, c = layer.weight[:2]
        n = t.products
        others = [k for i, k in enumerate(layer.kernel) if i != t.axis]
        kernel = list(layer.kernel); kernel[t.axis] = 1
        w = self._transformed((1, t.taps, o * c, int(np.prod(others))))
        w = self._op("Reshape", w, np.asarray([n * o, c, *kernel], np.int64))
        b = None if self.bias is None else self._op("Pad", self.bias, np.asarray([0, (n - 1) * o]))
        pads = [*layer.begin, *layer.end]
        pads[t.axis] = pads[t.axis + len(kernel)] = 0
        y = self._op("Conv", self._reshape(x), w, *([] if b is None else [b]), group=n, strides=list(layer.strides), dilations=list(layer.dilations), pads=pads)
        return self._reshape(y)
