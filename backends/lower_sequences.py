"""lower-sequences: SplitToSequence read at constant positions -> Split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shapes import elements
from fcc.rewrite import PassContext, Rewriter, Site, SitePass


@dataclass(frozen=True)
class LowerSequences(SitePass):
    """Replace a sequence that is only read at constant positions by the parts themselves.

    SequenceAt(SplitToSequence(x, split, axis), i) -> Split(x, sizes, axis)[i]

    Shapes: x [..., n, ...] with n known along ``axis`` unless ``split`` lists the sizes. Without ``split`` every part
    has size 1, and keepdims = 0 squeezes it.
    Source: ONNX SplitToSequence-11, SequenceAt-11, Split-13.
    """

    name: ClassVar[str] = "lower-sequences"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in [n for n in module.nodes() if n.op_type == "SplitToSequence" and n.domain == ""]:
            yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        node = site.anchor
        sequence = node.outputs[0]
        readers = [u.node for u in sequence.uses()]
        sizes = _sizes(node)
        if sequence.is_graph_output() or not readers or any(r.op_type != "SequenceAt" for r in readers):
            return "the sequence is used by more than SequenceAt"
        if sizes is None:
            return "the sizes of the parts are not known"
        positions = [_position(r) for r in readers]
        if any(p is None or not -len(sizes) <= p < len(sizes) for p in positions):
            return "a position is not a constant within the sequence"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node = site.anchor
        sizes = _sizes(node) or []
        axis = node.attributes.get_int("axis", 0)
        made = rw.op("Split", node.inputs[0], np.asarray(sizes, np.int64), axis=axis, outputs=len(sizes))
        parts = [made] if isinstance(made, ir.Value) else list(made)
        squeeze = len(node.inputs) < 2 and not node.attributes.get_int("keepdims", 1)
        readers = list(dict.fromkeys(u.node for u in node.outputs[0].uses()))
        taken: set[int] = set()
        for reader in readers:
            position = (_position(reader) or 0) % len(sizes)
            part = parts[position]
            if squeeze:
                part = rw.op("Squeeze", part, np.asarray([axis], np.int64))
            elif position in taken:
                part = rw.op("Identity", part)
            taken.add(position)
            rw.replace(reader.outputs[0], part)
        rw.erase(*readers, node)


def _sizes(node: ir.Node) -> list[int] | None:
    axis = node.attributes.get_int("axis", 0)
    dims = ir.dims_of(node.inputs[0])
    size = dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return [1] * size if isinstance(size, int) else None
    split = elements(node.inputs[1])
    if split is None or not all(isinstance(s, int | np.integer) for s in split.reshape(-1)):
        return None
    if split.ndim == 1:
        return [int(s) for s in split]
    step = int(split)
    if not isinstance(size, int) or step <= 0:
        return None
    return [min(step, size - start) for start in range(0, size, step)]


def _position(node: ir.Node) -> int | None:
    array = ir.Module.constant(node.inputs[1])
    return None if array is None or array.size != 1 else int(array.reshape(-1)[0])
