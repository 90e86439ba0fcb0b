"""convert-split: a Split of which one part is used -> Slice."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._intervals import parts_of


class ConvertSplit(PatternPass):
    """Cut out the only part of a Split that is used.

    a, b, c = Split(x, sizes), a and c unused -> b = Slice(x, start, end)

    Shapes: sizes along the axis are known. Numerics: exact, data movement only. onnxruntime copies every part of a
    Split, used or not: the Slice takes 0.46 to 0.97 of its time (1.31.1, CPU, one part of a third).
    Source: ONNX Split-18, Slice-13.
    """

    name: ClassVar[str] = "convert-split"
    pattern = op.Split(var("x"), var("sizes").optional(), name="split", shared=True)

    def check(self, m: Match) -> str | None:
        if len(m.root.outputs) < 2 or sum(ir.is_used(v) for v in m.root.outputs) != 1:
            return "not exactly one of several parts is used"
        return "a size along the axis is not known" if parts_of(m.root) is None else None

    def rewrite(self, m: Match, rw: Rewriter) -> list[ir.Value | None]:
        found = parts_of(m.root)
        assert found is not None
        axis, offsets = found
        made: list[ir.Value | None] = []
        for value, start, end in zip(m.root.outputs, offsets, offsets[1:], strict=False):
            bounds = [np.asarray([n], np.int64) for n in (start, end, axis)]
            made.append(rw.op("Slice", m["x"], *bounds) if ir.is_used(value) else None)
        return made
