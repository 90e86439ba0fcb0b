"""merge-pools: pooling and reductions over space that are one reduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fcc import ir
from fcc.analysis.interval_moves import computes_padding
from fcc.rewrite import PassContext

from ._no_op_layout import Found, first
from ._reductions import axes_of
from ._table import Rule, TablePass, kernel_refusal, only_for, roots


def _covers(node: ir.Node) -> bool:
    """Return whether every element of the input lies in a window of a pooling."""
    before, after = ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0])
    kernel, rank = node.attributes.get_ints("kernel_shape", ()), len(before or ()) - 2
    if before is None or after is None or len(kernel) != rank:
        return False
    strides = node.attributes.get_ints("strides", ()) or [1] * rank
    pads = node.attributes.get_ints("pads", ()) or [0] * 2 * rank
    if any(d != 1 for d in node.attributes.get_ints("dilations", ())):
        return False
    if any(s > k for s, k in zip(strides, kernel, strict=True)):
        return False
    if computes_padding(node):
        return False
    reach = [
        isinstance(n, int) and isinstance(size, int) and (n - 1) * s + k - p >= size
        for n, size, s, k, p in zip(after[2:], before[2:], strides, kernel, pads, strict=False)
    ]
    return all(reach)


def _max_of_max(node: ir.Node, ctx: PassContext) -> Found:
    """ReduceMax(MaxPool(x)) over all of space, GlobalMaxPool(MaxPool(x))."""
    inner = only_for(node, node.inputs[0], "MaxPool")
    dims = ir.dims_of(node.inputs[0])
    if inner is None or dims is None:
        return "it reduces no MaxPool that nobody else uses"
    if node.op_type == "ReduceMax" and axes_of(node) != list(range(2, len(dims))):
        return "it does not reduce all of space, and nothing else"
    if not _covers(inner):
        return "the windows of the MaxPool may leave something out"
    return lambda rw: rw.like(node, first(inner), *node.inputs[1:])


def _whole_window(node: ir.Node, ctx: PassContext) -> Found:
    """AveragePool, MaxPool with one window that is all of space."""
    dims, attributes = ir.dims_of(node.inputs[0]), node.attributes
    if dims is None or list(attributes.get_ints("kernel_shape", ())) != list(dims[2:]):
        return "the window is not all of space"
    if (
        computes_padding(node)
        or any(attributes.get_ints("pads", ()))
        or any(d != 1 for d in attributes.get_ints("dilations", ()))
    ):
        return "it pads or dilates"
    if len(node.outputs) > 1 and ir.is_used(node.outputs[1]):
        return "its indices are used"
    whole = "GlobalAveragePool" if node.op_type == "AveragePool" else "GlobalMaxPool"
    return kernel_refusal(ctx, node.outputs[0], whole) or (lambda rw: rw.op(whole, first(node)))


RULES: Mapping[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("AveragePool", "MaxPool"), (_whole_window,)),
    **dict.fromkeys(("GlobalMaxPool", "ReduceMax"), (_max_of_max,)),
}


class MergePools(TablePass):
    """Pool and reduce over space at once.

    ReduceMax(MaxPool(x), space), GlobalMaxPool(MaxPool(x)) -> ReduceMax(x, space), GlobalMaxPool(x)
    AveragePool<kernel = all of space>(x), MaxPool likewise -> GlobalAveragePool(x), GlobalMaxPool(x)

    Shapes: x [N, C, *spatial]; the windows of a MaxPool leave no element out, and its sizes are known.
    Numerics: exact to rounding of the mean. Source: ONNX GlobalAveragePool-1, MaxPool-12.
    """

    name: ClassVar[str] = "merge-pools"
    pattern = roots(RULES)
    rules = RULES
