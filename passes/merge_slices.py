"""merge-slices: Slice(Slice(x)) -> Slice(x); the Slices that cover an axis of x -> Split(x)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PassContext, PatternPass, Rewriter, Site, SitePass, op, var

from ._intervals import OPEN, Interval, adjoin, pieces, slice_of


class MergeSlices(PatternPass):
    """Take what two Slices in a row take in one.

    Slice(Slice(x, s, e, k), t, f, l) -> Slice(x, s + k t, min(e, s + k f), k l), axis by axis

    Shapes: known integer bounds that count forward; bounds that count from the end need a known size.
    Numerics: exact.
    Source: ONNX Slice-13.
    """

    name: ClassVar[str] = "merge-slices"
    pattern = op.Slice(op.Slice(var("x"), name="inner", variadic=True), name="outer", variadic=True)

    def check(self, m: Match) -> str | None:
        found = _composed(m)
        return found if isinstance(found, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = _composed(m)
        assert not isinstance(found, str)
        axes = sorted(found)
        starts, stops = [found[a].start for a in axes], [found[a].stop for a in axes]
        operands = [np.asarray(row, np.int64) for row in (starts, stops, axes)]
        steps = [found[a].step for a in axes]
        if any(s != 1 for s in steps):
            operands.append(np.asarray(steps, np.int64))
        merged: ir.Value = rw.op("Slice", m["x"], *operands)
        return merged


def _composed(m: Match) -> dict[int, Interval] | str:
    inner, outer = slice_of(m.nodes["inner"]), slice_of(m.nodes["outer"])
    if isinstance(inner, str) or isinstance(outer, str):
        return inner if isinstance(inner, str) else str(outer)
    whole = Interval(0, OPEN)
    merged = {a: inner.get(a, whole).of(outer.get(a, whole)) for a in {**inner, **outer}}
    if any(max(i.start, i.step) > OPEN // 2 for i in merged.values()):
        return "a bound leaves the range of int64"
    return merged


class MergeSlicesToSplit(SitePass):
    """Compute the ranges that cover an axis in one Split.

    Slice(x, 0, a), Slice(x, a, b), ..., Slice(x, z, end) -> Split(x, [a, b - a, ...])

    Shapes: one axis of known size; the ranges meet, do not overlap, and leave nothing out.
    Numerics: exact.
    Source: ONNX Split-13, Slice-13; recurrent gates and joined projections of exporters that slice.
    """

    name: ClassVar[str] = "merge-slices-to-split"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        seen: set[tuple[ir.Value, int, ir.Graph]] = set()
        for node in list(module.nodes()):
            found = pieces(node) if node.graph is not None and node.op_type == "Slice" else None
            if found is None or node.graph is None:
                continue
            key = (*found[:2], node.graph)
            if key not in seen:
                seen.add(key)
                yield Site(node, module, ctx, found[:2])

    def check(self, site: Site) -> str | None:
        x, axis = site.data
        size = ir.known_dims(x)[axis]
        parts = _parts(site)
        if len(parts) < 2 or not adjoin([r for r, _ in parts], size):
            return "the Slices do not cover the axis, or overlap"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        x, axis = site.data
        parts = _parts(site)
        producer = x.producer()
        if producer is not None and producer.graph is rw.graph:
            rw.after(producer)
        else:
            rw.before(rw.graph[0])
        sizes = np.asarray([stop - start for (start, stop), _ in parts], np.int64)
        made = rw.op("Split", x, sizes, outputs=len(parts), axis=axis)
        for new, (_, node) in zip(made, parts, strict=True):
            rw.replace(node.outputs[0], new)
        rw.erase(*(node for _, node in parts))


def _parts(site: Site) -> list[tuple[tuple[int, int], ir.Node]]:
    """Return the ranges that Slices in the graph of the anchor take of the axis, in order."""
    x, axis = site.data
    found = []
    for node in dict.fromkeys(u.node for u in x.uses()):
        piece = pieces(node) if node.graph is site.anchor.graph else None
        if piece is not None and piece[:2] == (x, axis):
            found.append(((piece[2], piece[3]), node))
    return sorted(found, key=lambda part: part[0])
