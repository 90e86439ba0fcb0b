"""fuse-rms-norm: x / sqrt(mean(x * x) + epsilon) * scale -> RMSNormalization(x, scale)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.normalization import Normalization
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._norms import basic_refusal, finish, is_suffix, normalized_dims, scale_operand, sites_of

OPSET = 23
_ONES = 1024  # elements of a scale of ones that cost no more bytes than the nodes that go
_FUSED_AT_LOAD = frozenset({"cpu", "cuda"})
_READ = ("Add", "Div", "Mul", "Pow", "ReduceMean", "Sqrt")


class FuseRmsNorm(SitePass):
    """Recover RMSNormalization from primitives, whatever the spelling.

    x / sqrt(mean(x * x) + epsilon) * scale -> RMSNormalization(x, scale)                                from opset 23
                                            -> Mul(Div(x, Sqrt(Add(ReduceMean(Pow(x, 2)), epsilon))), scale)   below

    The second form is the one that onnxruntime fuses to its own kernel when it loads a model, for cpu and cuda; with
    Mul(x, x) or Reciprocal it does not (0.55 of the time, measured). Spellings as in fuse-layer-norm.

    Shapes: x [..., *normalized], the last axes (the last one below opset 23); scale [*normalized], constant or of
    exactly that shape.
    Numerics: exact in real numbers; element types up to single precision. Epsilon must be above 0.
    Source: ONNX RMSNormalization-23; Zhang and Sennrich 2019, eq. 4.
    """

    name: ClassVar[str] = "fuse-rms-norm"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield from sites_of(module, ctx, False, partial(_refusal, module, ctx))

    def check(self, site: Site) -> str | None:
        return site.data if isinstance(site.data, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: Normalization = site.data
        sizes = normalized_dims(found)
        assert sizes is not None
        scale = scale_operand(found, found.of.axes, sizes)
        assert not isinstance(scale, str)
        if site.module.opset() >= OPSET:
            value = rw.op("RMSNormalization", found.of.x, scale, axis=-len(sizes), epsilon=found.epsilon)
        else:
            value = rw.op("Mul", _normalized(rw, site.module.opset(), found), scale)
        finish(rw, found, value)


def _normalized(rw: Rewriter, opset: int, found: Normalization) -> ir.Value:
    x = found.of.x
    assert x.dtype is not None
    kind = x.dtype.numpy()
    square = rw.op("Pow", x, np.array(2, kind))
    mean = rw.op("ReduceMean", square, np.array([-1])) if opset >= 18 else rw.op("ReduceMean", square, axes=[-1])
    deviation = rw.op("Sqrt", rw.op("Add", mean, np.array(found.epsilon, kind)))
    result: ir.Value = rw.op("Div", x, deviation)
    return result


def _refusal(module: ir.Module, ctx: PassContext, found: Normalization) -> str | None:
    reason = basic_refusal(found)
    if reason is not None:
        return reason
    sizes = normalized_dims(found)
    if found.bias is not None:
        return "there is an addend, which RMSNormalization does not have"
    if sizes is None or not is_suffix(found):
        return "the normalized axes are not the last ones, of known size"
    scale = scale_operand(found, found.of.axes, sizes)
    if isinstance(scale, str):
        return scale
    if module.opset() < OPSET:
        return _early_refusal(ctx, found)
    if not found.factors and prod(sizes) > _ONES:
        return f"a scale of {prod(sizes)} ones is larger than what goes"
    assert found.root.dtype is not None
    kind = found.root.dtype.name.lower()
    return ctx.target.refusal("RMSNormalization", "", module.opset(), {"T": kind, "V": kind})


def _early_refusal(ctx: PassContext, found: Normalization) -> str | None:
    """Return why the form that onnxruntime fuses at load is of no use."""
    if ctx.target.name not in _FUSED_AT_LOAD:
        return f"needs opset {OPSET}: {ctx.target.name} runs one spelling of the primitives like another"
    if not found.factors or len(found.of.axes) > 1:
        return f"needs opset {OPSET}: below, onnxruntime fuses it only with a scale, over one axis"
    if sorted(n.op_type for n in found.interior) == list(_READ):
        return f"needs opset {OPSET}: below, this is the form that onnxruntime fuses itself"
    return None
