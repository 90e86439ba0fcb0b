"""convert-reshape: a Reshape by a computed shape that only puts in or takes out axes of 1 -> Unsqueeze, Squeeze."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._chains import proves_shape
from ._views import full_dims


class ConvertReshape(PatternPass):
    """Put in or take out axes of size 1 without computing a shape.

    Reshape(x [N, S], [N, 1, 1, S])  ->  Unsqueeze(x, [1, 2]);   Reshape(x [N, 1, S], [N, S])  ->  Squeeze(x, [1])

    Shapes: sizes known as symbols, and the shape operand is not constant (fold-shapes writes a constant where it can;
    here two sizes depend on symbols, or one beside another that may be 0). Opset 13. Numerics: exact.
    Source: ONNX Reshape-14, Unsqueeze-13, Squeeze-13.
    """

    name: ClassVar[str] = "convert-reshape"
    pattern = op.Reshape(var("x"), var("shape"), name="reshape")

    def check(self, m: Match) -> str | None:
        if ir.Module.is_constant(m["shape"]):
            return "the shape is constant"
        if m.module.opset() < 13:
            return "Squeeze and Unsqueeze take their axes as attributes (opset below 13)"
        return None if _axes(m) is not None else "it does more than to put in, or to take out, axes of size 1"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = _axes(m)
        assert found is not None
        kind, axes = found
        made: ir.Value = rw.op(kind, m["x"], np.asarray(axes, np.int64))
        return made


def _axes(m: Match) -> tuple[str, list[int]] | None:
    """Return the operator, and the axes of size 1 that it puts in or takes out."""
    before, after = full_dims(m["x"]), full_dims(m.root.outputs[0])
    if before is None or after is None or not proves_shape(m.root) or len(before) == len(after):
        return None
    longer, shorter = (after, before) if len(after) > len(before) else (before, after)
    axes: list[int] = []
    rest = list(shorter)
    for i, d in reversed(list(enumerate(longer))):
        if rest and rest[-1] == d:
            rest.pop()
        elif d == 1:
            axes.insert(0, i)
        else:
            return None
    return None if rest else ("Unsqueeze" if longer is after else "Squeeze", axes)
