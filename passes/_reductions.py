"""The axes of a reduction, and how to make one."""

from __future__ import annotations

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._operands import integers, present


def reduced(rw: Rewriter, kind: str, x: ir.Value, axes: list[int], keepdims: int) -> ir.Value:
    """Return a reduction over axes, an input or an attribute as the opset of the module has it."""
    as_input = rw.module.opset() >= (13 if kind == "ReduceSum" else 18)
    made: ir.Value
    if as_input:
        made = rw.op(kind, x, np.asarray(axes, np.int64), keepdims=keepdims)
    else:
        made = rw.op(kind, x, axes=axes, keepdims=keepdims)
    return made


def axes_of(node: ir.Node) -> list[int] | str:
    """Return the axes that a node reduces, counted from the front."""
    dims = ir.dims_of(node.inputs[0])
    if dims is None:
        return "the rank is not known"
    if not present(node, 1, "axes"):
        return "it reduces none" if node.attributes.get_int("noop_with_empty_axes", 0) else list(range(len(dims)))
    found = integers(node, 1, "axes")
    if not found or any(not isinstance(a, int) for a in found):
        return "the axes are not known, or there are none"
    return sorted(a % len(dims) for a in found)
