"""fold-zero-products: x * 0 of integers -> 0."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

_LARGEST = 1024


class FoldZeroProducts(PatternPass):
    """Write down the product of integers and zero.

    Mul(x, 0) -> 0

    Shapes: the result has a known shape of at most 1024 elements. Integers only: for floats x may be NaN or infinite.
    torch.onnx writes such products to keep an input that the model does not need. Exact.
    Source: ONNX Mul-14.
    """

    name: ClassVar[str] = "fold-zero-products"
    pattern = op.Mul(var("x"), const("zero", 0.0))

    def check(self, m: Match) -> str | None:
        result = m.root.outputs[0]
        dims = ir.dims_of(result)
        if result.dtype is None or not result.dtype.is_integer():
            return "x holds floats, which may be NaN"
        if dims is None or not all(isinstance(d, int) for d in dims):
            return "the shape of the product is not known"
        size = int(np.prod(ir.numbers(dims), dtype=np.int64))
        return None if size <= _LARGEST else f"the product has more than {_LARGEST} elements"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        result = m.root.outputs[0]
        assert result.dtype is not None
        shape = ir.numbers(ir.known_dims(result))
        return rw.const(np.zeros(shape, result.dtype.numpy()))
