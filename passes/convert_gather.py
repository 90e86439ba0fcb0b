"""convert-gather: parts at constant places, by the operator that moves least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext

from ._intervals import pieces
from ._no_op_layout import Found, first
from ._operands import integers, small_constant
from ._table import Rule, TablePass, only_for, roots

# Gather of columns by Slice, onnxruntime 1.31.1 on CPU: 0.05 to 0.68 of the time, of every second one 0.15 to 0.68; of
# rows (axis 0) 0.95 to 1.04, so that one stays. Slice + Squeeze by Gather of one index: 0.88 to 1.07, and a node less.
_LEAST = 4  # indices that take as many bytes as the bounds of a Slice


def _range(node: ir.Node, ctx: PassContext) -> Found:
    """Gather(x, [a, a + k, ...], axis): a Slice, where the axis is not the first one."""
    x, indices, dims = first(node), small_constant(node.inputs[1]), ir.dims_of(node.inputs[0])
    if indices is None or indices.ndim != 1 or indices.size < _LEAST or dims is None:
        return f"the indices are no constant vector of {_LEAST} or more"
    axis = node.attributes.get_int("axis", 0) % len(dims)
    size, steps = dims[axis], np.unique(np.diff(indices))
    if axis == 0:
        return "whole slices of the first axis are copied as fast"
    if not isinstance(size, int) or steps.size != 1 or steps[0] < 1:
        return "the indices do not rise in equal steps, or the size of the axis is not known"
    start, stop, step = int(indices[0]), int(indices[-1]) + 1, int(steps[0])
    if (start < 0) != (stop <= 0):
        return "the indices wrap around"
    start, stop = (start, stop) if start >= 0 else (start + size, stop + size)
    if not 0 <= start < stop <= size:
        return "an index is beyond the axis"
    bounds = [np.asarray([n], np.int64) for n in (start, stop, axis, step)]
    return lambda rw: rw.op("Slice", x, *(bounds if step > 1 else bounds[:3]))


def _single(node: ir.Node, ctx: PassContext) -> Found:
    """Squeeze(Gather(x, [i])), Squeeze(Slice(x, i, i + 1)): one index, which takes its axis away."""
    dims, axes = ir.dims_of(node.inputs[0]), integers(node, 1, "axes")
    inner = only_for(node, node.inputs[0], "Gather", "Slice")
    if inner is None or dims is None or not axes or len(axes) != 1 or not isinstance(axes[0], int):
        return "it squeezes one axis of no Gather or Slice that nobody else uses"
    found = _index(inner)
    if found is None or found[0] != axes[0] % len(dims):
        return "the axis that it squeezes is not the one of a single constant index"
    axis, index = found
    return lambda rw: rw.op("Gather", first(inner), np.asarray(index, np.int64), axis=axis)


def _index(node: ir.Node) -> tuple[int, int] | None:
    """Return (axis, index) of a Gather or Slice that takes one element of an axis at a constant place."""
    if node.op_type == "Slice":
        part = pieces(node)
        return None if part is None or part[3] - part[2] != 1 else (part[1], part[2])
    dims, indices = ir.dims_of(node.inputs[0]), small_constant(node.inputs[1])
    if dims is None or indices is None or indices.shape != (1,):
        return None
    return node.attributes.get_int("axis", 0) % len(dims), int(indices[0])


def _kept(node: ir.Node, ctx: PassContext) -> Found:
    """Unsqueeze(Gather(x, i), axis): a Gather by a vector of one index."""
    dims, axes = ir.dims_of(node.outputs[0]), integers(node, 1, "axes")
    inner = only_for(node, node.inputs[0], "Gather")
    source = None if inner is None else ir.dims_of(inner.inputs[0])
    if inner is None or dims is None or source is None or not axes or len(axes) != 1 or not isinstance(axes[0], int):
        return "it unsqueezes one axis of no Gather that nobody else uses"
    index, axis = small_constant(inner.inputs[1]), inner.attributes.get_int("axis", 0) % len(source)
    if index is None or index.ndim != 0 or axes[0] % len(dims) != axis:
        return "the new axis is not the one of a single constant index"
    return lambda rw: rw.like(inner, first(inner), index.reshape(1))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "Gather": (_range,),
    "Squeeze": (_single,),
    "Unsqueeze": (_kept,),
}


class ConvertGather(TablePass):
    """Take a part of a tensor by the operator that moves least.

    Gather(x, [a, a + k, ...], axis) -> Slice(x, a, b, axis, k), behind the first axis
    Squeeze(Gather(x, [i], axis), axis), Squeeze(Slice(x, i, i + 1, axis), axis) -> Gather(x, i, axis)
    Unsqueeze(Gather(x, i, axis), axis) -> Gather(x, [i], axis)

    Shapes: constant indices; a size along the axis that is known. Numerics: exact, data movement only.
    Source: ONNX Gather-13, Slice-13; recorded measurements.
    """

    name: ClassVar[str] = "convert-gather"
    pattern = roots(RULES)
    rules = RULES
