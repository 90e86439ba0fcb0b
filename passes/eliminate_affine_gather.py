"""eliminate-affine-gather: Gather(x, [0, 1, 2, ...] in any shape) -> Reshape(x)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._affine_index import enumerates, index_of
from ._targets import reshape_entries


class EliminateAffineGather(PatternPass):
    """Replace a Gather that reads every slice once and in order by a Reshape.

    Gather<axis=a>(x, i) -> Reshape(x, [x.shape[:a], i.shape, x.shape[a+1:]]),  where i holds 0, 1, ..., x.shape[a] - 1

    The indices are constant, or computed from Range, Add and Mul by a scalar: i[b, j] = 64 * b + j, as torch exports
    the padding mask of attention. Shapes: x of any rank, symbols included; at most one dimension of the result may need
    to be inferred. Numerics: exact. Source: ONNX Gather-13.
    """

    name: ClassVar[str] = "eliminate-affine-gather"
    pattern = op.Gather(var("x"), var("indices"), name="gather")

    def check(self, m: Match) -> str | None:
        x, axis, indices = ir.dims_of(m["x"]), m.root.attributes.get_int("axis", 0), ir.dims_of(m["indices"])
        if not x or indices is None:
            return "a rank is not known"
        found = index_of(m["indices"])
        if found is None:
            return "the indices are not affine in their coordinates"
        if not enumerates(found, indices):
            return "the indices are not 0, 1, 2, ... in order"
        size: Any = 1
        for d in indices:
            size = size * d
        if size != x[axis]:
            return "the indices are not known to be as many as there are slices"
        target = _target(m)
        return target if isinstance(target, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        target = _target(m)
        assert not isinstance(target, str)
        made: ir.Value = rw.op("Reshape", m["x"], np.array(target, np.int64))
        return made


def _target(m: Match) -> list[int] | str:
    x, indices = ir.known_dims(m["x"]), ir.known_dims(m["indices"])
    axis = m.root.attributes.get_int("axis", 0) % len(x)
    wanted = (*x[:axis], *indices, *x[axis + 1 :])
    known = [d for d in wanted if d is not None]
    if len(known) != len(wanted):
        return "a dimension of the result is not known"
    return reshape_entries(x, known, allowzero=False)
