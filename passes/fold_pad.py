"""fold-pad: Conv(Pad(x)), AveragePool(Pad(x)), MaxPool(Pad(x)) -> the same with larger pads of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fcc import ir
from fcc.analysis.interval_moves import computes_padding
from fcc.analysis.intervals import Intervals
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, ops, var

from ._affine import limits

_PAD = op.Pad(var("x"), const("pads"), const("value").optional(), const("axes").optional(), name="pad", shared=True)
_FOLDING = frozenset({"AveragePool", "Conv", "MaxPool"})


class FoldPad(PatternPass):
    """Let a convolution or a pooling pad its input itself.

    Conv<pads=p>(Pad(x, q, 0), w, b)  ->  Conv<pads=p + q>(x, w, b)
    AveragePool(Pad(x, q, 0))         ->  AveragePool<pads=q, count_include_pad=1>(x)
    MaxPool<pads=p>(Pad(x, q, c))     ->  MaxPool<pads=p + q>(x), where no x is below c: c = -inf, or 0 behind a Relu

    Shapes: x [N, C, *spatial]; the Pad widens spatial axes only, by nothing negative; around a pooling by less than its
    window, so that each window has an element of x. onnxruntime does this to float Convs itself when it loads them, but
    not where a QuantizeLinear stands between, and to MaxPool never.
    Numerics: exact. Source: ONNX Pad-13, Conv-11, AveragePool-19, MaxPool-12.
    """

    name: ClassVar[str] = "fold-pad"
    pattern = (
        op.Conv(_PAD, var("w"), var("b").optional(), name="op"),
        ops("AveragePool", "MaxPool")(_PAD, name="op"),
    )

    def check(self, m: Match) -> str | None:
        node, padded = m.nodes["op"], m.nodes["pad"].outputs[0]
        if padded.is_graph_output() or any(u.node.op_type not in _FOLDING for u in padded.uses()):
            return f"{padded.name!r} has other users, which need the Pad"
        if m.nodes["pad"].attributes.get_string("mode", "constant") != "constant":
            return "the Pad repeats or reflects its input"
        if computes_padding(node):
            return f"the {node.op_type} computes its own padding"
        widened = _widened(m)
        if widened is None:
            return "the rank of the input is not known, or the pads are not as many"
        before, after = widened
        if any((*before[:2], *after[:2])):
            return "the Pad widens the batch or the channels"
        if min((*before, *after)) < 0:
            return "the Pad cuts off its input"
        reason = _value_refusal(m)
        return reason or (None if node.op_type == "Conv" else _window_refusal(m, _pads(m)))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        node = m.nodes["op"]
        made: ir.Value = rw.like(
            node, m["x"], *node.inputs[1:], pads=_pads(m), auto_pad=None, **_CHANGED.get(node.op_type, {})
        )
        return made


_CHANGED: Mapping[str, Mapping[str, Any]] = {"AveragePool": {"count_include_pad": 1}}


def _pads(m: Match) -> list[int]:
    """Return the pads of the operator and of the Pad together."""
    before, after = _widened(m) or ([], [])
    spatial = [*before[2:], *after[2:]]
    own = m.nodes["op"].attributes.get_ints("pads", ()) or [0] * len(spatial)
    return [a + b for a, b in zip(spatial, own, strict=True)]


def _value_refusal(m: Match) -> str | None:
    """Return why what the Pad writes is not what the operator pads with."""
    node = m.nodes["op"]
    array = None if m.get("value") is None else m.const("value")
    if node.op_type != "MaxPool":
        return "the Pad writes another value than 0" if array is not None and array.any() else None
    dtype = m["x"].dtype
    if dtype is None or not dtype.is_floating_point():
        return "the lowest number of the type is not known"
    number = 0.0 if array is None else float(array.reshape(()))
    least = max(Intervals().of(m["x"]).least, -limits(dtype)[1])
    return None if number <= least else f"the Pad writes {number:g}, and the input may be {least:g}"


def _window_refusal(m: Match, pads: list[int]) -> str | None:
    """Return why a pooling would not count, or look at, what it did with the Pad in front."""
    attributes = m.nodes["op"].attributes
    kernel = attributes.get_ints("kernel_shape", ())
    if attributes.get_int("ceil_mode", 0):
        return "its last windows may leave the padded input"
    if any(p >= k for p, k in zip(pads, [*kernel, *kernel], strict=True)) or any(
        d != 1 for d in attributes.get_ints("dilations", ())
    ):
        return "a window lies in the padding alone, or may"
    excludes = m.nodes["op"].op_type == "AveragePool" and not attributes.get_int("count_include_pad", 0)
    if excludes and any(attributes.get_ints("pads", ())):
        return "the pooling does not count its own padding, and would count that of the Pad"
    return None


def _widened(m: Match) -> tuple[list[int], list[int]] | None:
    """Return by how much each axis grows before and after its data; None if unknown or pads do not fit."""
    dims = ir.dims_of(m["w"]) if m.get("w") is not None else ir.dims_of(m["x"])
    if dims is None:
        return None
    pads = [int(p) for p in m.const("pads").ravel()]
    axes = range(len(dims)) if m.get("axes") is None else [int(a) % len(dims) for a in m.const("axes").ravel()]
    own = m.nodes["op"].attributes.get_ints("pads", ())
    if len(pads) != 2 * len(axes) or len(own) not in (0, 2 * (len(dims) - 2)):
        return None
    before, after = [0] * len(dims), [0] * len(dims)
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(pads) // 2 + i]
    return before, after
