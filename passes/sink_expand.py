"""sink-expand: a layer of a repeated input -> the layer of it once, repeated by the sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis.linear import linear_of
from fcc.analysis.shape_rules import broadcast
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._concat_layer import ConcatLayer, concat_layer, without
from ._layers import rebuilt, row, weights

_PER_ROW = frozenset({"MatMul", "Conv"})


class SinkExpand(SitePass):
    """Apply a layer to the part of a joined input that is repeated before it is repeated.

    Concat(x, Expand(g)) W + b -> x W1 + (g W2 + b),  W = [W1; W2];  likewise a Conv of kernel 1 along its channels

    Shapes: x of rank 3 and above, g of the rank of x, with 1 where it is repeated (a global feature for every point, a
    class for every token). onnxruntime on CPU, 1.31.1: 0.05 to 0.99 of the time.
    Numerics: exact to rounding. Source: block products of matrices; Qi et al. 2017 (PointNet), fig. 2.
    """

    name: ClassVar[str] = "sink-expand"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            found = concat_layer(node) if node.graph is not None and node.op_type in _PER_ROW else None
            if found is not None:
                yield Site(node, module, ctx, found)

    def check(self, site: Site) -> str | None:
        found: ConcatLayer | str = site.data
        if isinstance(found, str):
            return found
        per_row = linear_of(site.anchor)
        if isinstance(per_row, str):
            return per_row
        at = _repeated(found)
        if at is None:
            return "no part is an Expand of what has fewer rows, which nobody else uses"
        values, _ = without(found, {at})
        small, large = _rows(_source(found, at), found.axis), _rows(found.layer.x, found.axis)
        assert small is not None
        others = [_rows(v, found.axis) for v in values]
        if _rows(found.parts[at].value, found.axis) != large or None in (large or (None,)):
            return "the rows of the Expand are not known"
        if any(d is None or broadcast(d, small) != large for d in others):
            return "the other parts are not known to have all rows"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: ConcatLayer = site.data
        at = _repeated(found)
        assert at is not None
        values, columns = without(found, {at})
        layer, part = found.layer, found.parts[at]
        weight = weights(layer)
        once = rebuilt(layer, _source(found, at), weight[:, part.start : part.stop], row(layer), rw)
        x = values[0] if len(values) == 1 else rw.like(found.concat, *values)
        rw.replace(layer.output, rw.op("Add", rebuilt(layer, x, weight[:, columns], None, rw), once))
        producer = part.value.producer()
        rw.erase(*reversed(layer.nodes), found.concat, *([] if producer is None else [producer]))


def _source(found: ConcatLayer, at: int) -> ir.Value:
    producer = found.parts[at].value.producer()
    value = None if producer is None else producer.inputs[0]
    assert value is not None
    return value


def _repeated(found: ConcatLayer) -> int | None:
    """Return the first part that is an Expand of a tensor of the same rank and features, with fewer rows."""
    for i, part in enumerate(found.parts):
        producer = part.value.producer()
        if producer is None or producer.op_type != "Expand" or producer.domain != "" or len(found.parts) < 2:
            continue
        dims, source = ir.dims_of(part.value), ir.dims_of(producer.inputs[0])
        if dims is None or source is None or len(dims) < 3 or len(source) != len(dims):
            continue
        fewer = any(s == 1 and d != 1 for s, d in zip(source, dims, strict=True))
        same = source[found.axis] == dims[found.axis]
        if fewer and same and ir.sole_user(part.value) is found.concat:
            return i
    return None


def _rows(value: ir.Value, axis: int) -> tuple[ir.Dim | int | None, ...] | None:
    """Return the sizes without that of the features."""
    dims = ir.dims_of(value)
    return None if dims is None else tuple(d for i, d in enumerate(dims) if i != axis % len(dims))
