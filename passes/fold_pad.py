"""fold-pad: Conv(Pad(x)) -> Conv(x) with larger pads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var


@dataclass(frozen=True)
class FoldPad(PatternPass):
    """Let a convolution pad its input itself: a Pad with zeros in front of it.

    Conv<pads=p>(Pad(x, q, 0), w, b)  ->  Conv<pads=p + q>(x, w, b)

    Shapes: x [N, C, *spatial]; the Pad widens spatial axes only, by nothing negative. onnxruntime does this to float
    models itself when it loads them, but not where a QuantizeLinear stands between.
    Source: ONNX Pad-13, Conv-11.
    """

    name: ClassVar[str] = "fold-pad"
    pattern = op.Conv(
        op.Pad(var("x"), const("pads"), const("value").optional(), const("axes").optional(), name="pad"),
        var("w"),
        var("b").optional(),
        name="conv",
    )

    def check(self, m: Match) -> str | None:
        if m.nodes["pad"].attributes.get_string("mode", "constant") != "constant":
            return "the Pad repeats or reflects its input"
        if m.get("value") is not None and m.const("value").any():
            return "the Pad writes another value than 0"
        attributes = m.nodes["conv"].attributes
        mode = attributes.get_string("auto_pad", "NOTSET")
        if mode not in ("NOTSET", "VALID") or (mode == "VALID" and any(attributes.get_ints("pads", ()))):
            return "the Conv computes its own padding"
        widened = _widened(m)
        if widened is None:
            return "the rank of the input is not known"
        before, after = widened
        if any((*before[:2], *after[:2])):
            return "the Pad widens the batch or the channels"
        return "the Pad cuts off its input" if min((*before, *after)) < 0 else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        widened = _widened(m)
        assert widened is not None
        spatial = [*widened[0][2:], *widened[1][2:]]
        own = m.nodes["conv"].attributes.get_ints("pads", None) or [0] * len(spatial)
        pads = [a + b for a, b in zip(spatial, own, strict=True)]
        operands = [m["x"], *m.nodes["conv"].inputs[1:]]
        made: ir.Value = rw.like(m.nodes["conv"], *operands, pads=pads, auto_pad=None)
        return made


def _widened(m: Match) -> tuple[list[int], list[int]] | None:
    """Return by how much each axis grows before and after its data; None for an input of unknown rank."""
    dims = ir.dims_of(m["w"])
    if dims is None:
        return None
    pads = [int(p) for p in m.const("pads").ravel()]
    axes = range(len(dims)) if m.get("axes") is None else [int(a) % len(dims) for a in m.const("axes").ravel()]
    before, after = [0] * len(dims), [0] * len(dims)
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(pads) // 2 + i]
    return before, after
