"""convert-transpose: a Transpose that a Reshape, a Gemm or a constant can do for nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._permutations import permutation
from ._targets import reshape_entries

_TRANSPOSE = op.Transpose(var("x"), name="transpose", shared=True)


class ConvertTranspose(PatternPass):
    """Replace a Transpose by what costs less.

    Transpose(x) -> Reshape(x) where only dimensions of 1 change their place among the others
    Gemm(Transpose(a), b) -> Gemm(a, b, transA = not transA), likewise b

    Shapes: a Reshape needs all sizes up to what it can copy or infer; a matrix has rank 2, so it is [1, 0] turned over.
    Numerics: exact.
    Source: ONNX Transpose-21, Gemm-13; a Reshape copies nothing in onnxruntime, and joins its neighbours.
    """

    name: ClassVar[str] = "convert-transpose"
    pattern = (
        op.Gemm(_TRANSPOSE, var("other"), var("c").optional(), name="gemm"),
        op.Gemm(var("other"), _TRANSPOSE, var("c").optional(), name="gemm"),
        op.Transpose(var("x"), name="transpose"),
    )

    def check(self, m: Match) -> str | None:
        if "gemm" in m.nodes:
            return None if permutation(m.nodes["transpose"]) == (1, 0) else "the Transpose moves nothing"
        dims, perm = ir.dims_of(m["x"]), permutation(m.root)
        if dims is None or perm is None or len(perm) != len(dims):
            return "the rank is not known"
        moved = [i for i in perm if dims[i] != 1]
        if moved != sorted(moved):
            return "it moves dimensions that are not 1"
        entries = _entries(m)
        return entries if isinstance(entries, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        if "gemm" not in m.nodes:
            reshaped: ir.Value = rw.op("Reshape", m["x"], np.asarray(_entries(m), np.int64))
            return reshaped
        gemm, transposed = m.nodes["gemm"], m.nodes["transpose"].outputs[0]
        index = 0 if gemm.inputs[0] is transposed else 1
        key = "transA" if index == 0 else "transB"
        inputs = [m["x"] if i == index else v for i, v in enumerate(gemm.inputs)]
        made: ir.Value = rw.like(gemm, *inputs, **{key: 1 - gemm.attributes.get_int(key, 0)})
        return made


def _entries(m: Match) -> list[int] | str:
    dims, perm = ir.dims_of(m["x"]), permutation(m.root)
    assert dims is not None
    assert perm is not None
    target = [d for d in (dims[i] for i in perm) if d is not None]
    if len(target) != len(perm):
        return "a size is not known"
    if 0 in target:
        return "a dimension is 0"
    return reshape_entries(dims, target, False)
