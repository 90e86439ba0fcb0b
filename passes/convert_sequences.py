"""convert-sequences: SequenceAt(SplitToSequence(x), i) -> output i of Split(x)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass


@dataclass(frozen=True)
class ConvertSequences(SitePass):
    """Turn a sequence of pieces whose elements are only picked by constant position into a Split.

    SequenceAt(SplitToSequence(x, split), i) -> Split(x, sizes)[i], squeezed where keepdims = 0

    Shapes: x with a size known at compile time along the axis, or constant sizes of the pieces; at most
    ``max_pieces`` pieces. Numerics: exact, data movement only.
    Source: ONNX SplitToSequence-11, SequenceAt-11, Split-18.
    """

    name: ClassVar[str] = "convert-sequences"
    max_pieces: int = 64

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type == "SplitToSequence" and node.domain == "":
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        sizes = _sizes(site.anchor)
        if isinstance(sizes, str):
            return sizes
        if len(sizes) > self.max_pieces:
            return f"{len(sizes)} pieces are more than {self.max_pieces}"
        sequence = site.anchor.outputs[0]
        if sequence.is_graph_output():
            return "the sequence is a graph output"
        for user in sequence.consumers():
            position = _position(user)
            if position is None:
                return f"{user.op_type} {user.name!r} uses the sequence other than by a constant position"
            if not -len(sizes) <= position < len(sizes):
                return f"position {position} is outside {len(sizes)} pieces"
            if user.graph is not site.anchor.graph:
                return f"{user.name!r} uses the sequence in another graph"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node, sizes = site.anchor, _sizes(site.anchor)
        assert not isinstance(sizes, str)
        axis = node.attributes.get_int("axis", 0)
        many = len(sizes) > 1
        pieces = (
            rw.op("Split", node.inputs[0], np.array(sizes, np.int64), outputs=len(sizes), axis=axis) if many else None
        )
        drop = _given(node) is None and not node.attributes.get_int("keepdims", 1)
        for user in node.outputs[0].consumers():
            position = _position(user)
            assert position is not None
            piece = pieces[position] if pieces is not None else rw.op("Identity", node.inputs[0])
            rw.replace(user.outputs[0], rw.op("Squeeze", piece, np.array([axis], np.int64)) if drop else piece)
            rw.erase(user)
        rw.erase(node)


def _given(node: ir.Node) -> ir.Value | None:
    return node.inputs[1] if len(node.inputs) > 1 else None


def _sizes(node: ir.Node) -> list[int] | str:
    dims = ir.dims_of(node.inputs[0])
    if dims is None:
        return "the rank of the input is not known"
    total = dims[node.attributes.get_int("axis", 0)]
    given = _given(node)
    if given is None:
        return [1] * total if isinstance(total, int) else "the size along the axis is not known"
    split = ir.Module.constant(given)
    if split is None:
        return "the sizes of the pieces are not constant"
    if split.ndim == 1:
        fits = not isinstance(total, int) or int(split.sum()) == total
        return [int(s) for s in split] if fits else "the sizes of the pieces do not add up to the size of the axis"
    if not isinstance(total, int):
        return "the size along the axis is not known"
    step = int(split)
    if step < 1:
        return "a piece has no size"
    return [min(step, total - start) for start in range(0, total, step)]


def _position(user: ir.Node) -> int | None:
    if user.op_type != "SequenceAt" or user.domain != "":
        return None
    position = ir.Module.constant(user.inputs[1])
    return None if position is None or position.size != 1 else int(position.reshape(()))
