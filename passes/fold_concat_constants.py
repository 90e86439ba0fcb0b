"""fold-concat-constants: the constant part of a joined input -> the bias of the layer behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.interval_moves import is_padded
from fcc.analysis.intervals import Intervals, intervals_of
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import Array, limits
from ._concat_layer import ConcatLayer, concat_layer, without
from ._layers import rebuilt, row, weights

_REPEATING = frozenset({"ConstantOfShape", "Expand", "Tile"})


class FoldConcatConstants(SitePass):
    """Fold the operands of a Concat that hold one number per feature into the layer behind it.

    Concat(x, c) W + b -> x W1 + (c W2 + b),  W = [W1; W2];  likewise Gemm, and Conv along its channels

    Constant are constants with equal rows, and what Expand, Tile and ConstantOfShape make of them; in front of a Conv
    that pads only 0. The Concat has no other user, and a part stays.
    Shapes: x of any rank >= 2, the Concat along the features. Numerics: in float64, rounded once; exact to rounding.
    Source: block products of matrices.
    """

    name: ClassVar[str] = "fold-concat-constants"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        intervals = intervals_of(module)
        for node in module.nodes():
            found = concat_layer(node) if node.graph is not None else None
            if found is not None:
                yield Site(
                    node, module, ctx, found if isinstance(found, str) else (found, _constants(found, intervals))
                )

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        found, constants = site.data
        dtype = found.layer.weight.dtype
        if not constants or len(constants) == len(found.parts):
            return "no part of the Concat is constant, or all are"
        if found.layer.kind == "Conv" and is_padded(found.layer.nodes[0]) and any(c.any() for c in constants.values()):
            return "the convolution pads with zeros, not with the constant"
        bias = _bias(found, constants)
        if bias is not None and not np.all(np.abs(bias) <= limits(dtype)[1]):
            return f"the bias leaves the range of {dtype}"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found, constants = site.data
        values, columns = without(found, set(constants))
        x = values[0] if len(values) == 1 else rw.like(found.concat, *values)
        rw.replace(
            found.layer.output, rebuilt(found.layer, x, weights(found.layer)[:, columns], _bias(found, constants), rw)
        )
        rw.erase(*reversed(found.layer.nodes), found.concat)


def _constants(found: ConcatLayer, intervals: Intervals) -> dict[int, Array]:
    """Return, per constant part, one number per feature."""
    constants: dict[int, Array] = {}
    rank = len(ir.known_dims(found.layer.x))
    for i, part in enumerate(found.parts):
        producer = part.value.producer()
        if producer is not None and producer.op_type not in _REPEATING:
            continue
        bounds = intervals.of(part.value)
        along = bounds.axis is None or bounds.axis == (1 if found.layer.kind == "Conv" else rank - 1) - rank
        if along and np.array_equal(bounds.low, bounds.high):
            constants[i] = np.broadcast_to(bounds.low, (part.stop - part.start,))
    return constants


def _bias(found: ConcatLayer, constants: dict[int, Array]) -> Array | None:
    """Return the bias with what the constants contribute, None when it stays absent."""
    weight, bias = weights(found.layer), row(found.layer)
    for i, numbers in constants.items():
        part = found.parts[i]
        columns = weight[:, part.start : part.stop].reshape(len(weight), part.stop - part.start, -1).sum(axis=2)
        added = columns @ numbers
        bias = added if bias is None else bias + added
    return bias if bias is not None and bias.any() else None
