"""fuse-layer-norm: (x - mean) / sqrt(var + epsilon) * scale + bias -> LayerNormalization(x, scale, bias)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.normalization import Normalization
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._norms import (
    basic_refusal,
    bias_operand,
    finish,
    inner_axis_refusal,
    is_suffix,
    normalized_dims,
    scale_operand,
    sites_of,
)

OPSET = 17
_ONES = 1024  # elements of a scale of ones that cost no more bytes than the nodes that go


@dataclass(frozen=True)
class FuseLayerNorm(SitePass):
    """Recover LayerNormalization from primitives, whatever the spelling.

    (x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias -> LayerNormalization(x, scale, bias)

    The mean: ReduceMean, or ReduceSum times 1/n or divided by n. The variance: mean of (x - mean)^2, or
    mean(x^2) - mean(x)^2, also clamped at 0, which only removes rounding errors. The deviation: Sqrt, its Reciprocal,
    Sqrt of a Reciprocal, Pow; divided by or multiplied. Scale and bias: absent, in any order, multiplied to the
    deviation first, or as x * s + (bias - mean * s). Reshape, Squeeze, Unsqueeze and Expand between are looked through.

    Shapes: x [..., *normalized], scale and bias [*normalized], constant or of exactly that shape. Normalized axes that
    are not the last ones go there and back by Transpose (``transpose``) where that pays, with constant scale and bias.
    Numerics: exact in real numbers; the element types are those up to single precision, which the kernel computes in
    single precision. Epsilon must be above 0.
    Source: ONNX LayerNormalization-17; Ba, Kiros and Hinton 2016, eq. 4.
    """

    name: ClassVar[str] = "fuse-layer-norm"
    measured: ClassVar[bool] = True
    transpose: bool = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield from sites_of(module, ctx, True, partial(self._refusal, module, ctx))

    def check(self, site: Site) -> str | None:
        return site.data if isinstance(site.data, str) else None

    def pays(self, site: Site) -> str | None:
        found: Normalization = site.data
        return None if is_suffix(found) else inner_axis_refusal(site.ctx, found.of.x, found.of.axes)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: Normalization = site.data
        axes, sizes = found.of.axes, normalized_dims(found)
        assert sizes is not None
        scale, bias = scale_operand(found, axes, sizes), bias_operand(found, axes, sizes)
        assert not isinstance(scale, str)
        assert not isinstance(bias, str)
        x, rank = found.of.x, len(ir.known_dims(found.of.x))
        order = [*(i for i in range(rank) if i not in axes), *axes]
        if not is_suffix(found):
            x = rw.op("Transpose", x, perm=order)
        operands = (scale,) if bias is None else (scale, bias)
        value = rw.op("LayerNormalization", x, *operands, axis=-len(axes), epsilon=found.epsilon)
        if not is_suffix(found):
            value = rw.op("Transpose", value, perm=np.argsort(order).tolist())
        finish(rw, found, value)

    def _refusal(self, module: ir.Module, ctx: PassContext, found: Normalization) -> str | None:
        reason = basic_refusal(found)
        if reason is not None:
            return reason
        sizes = normalized_dims(found)
        if sizes is None:
            return "the size of the normalized axes is not known"
        if not self.transpose and not is_suffix(found):
            return "the normalized axes are not the last ones"
        for operand in (scale_operand(found, found.of.axes, sizes), bias_operand(found, found.of.axes, sizes)):
            if isinstance(operand, str):
                return operand
        if not found.factors and prod(sizes) > _ONES:
            return f"a scale of {prod(sizes)} ones is larger than what goes"
        if module.opset() < OPSET:
            return f"needs opset {OPSET}"
        assert found.root.dtype is not None
        kind = found.root.dtype.name.lower()
        return ctx.target.refusal("LayerNormalization", "", module.opset(), {"T": kind, "U": "float"})
