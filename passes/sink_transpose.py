"""sink-transpose: Transposes moved through operators to where fewer, or smaller ones, do."""

from __future__ import annotations

from typing import ClassVar

from ._permutations import Transposes
from ._region_rewrite import RegionPass
from ._regions import Movers


class SinkTranspose(RegionPass):
    """Compute a connected region of operators on permuted axes where that needs fewer Transposes around it.

    Transpose(f(Transpose(x, p)), p^-1) -> f'(x), f' working on the permuted axes;
    f(Transpose(x, p), Transpose(y, p)) -> Transpose(f'(x, y), p), for any connected f with any number of borders

    f: elementwise operators (broadcast constants permuted), Concat, Split, Slice, Pad, Tile, Gather of scalars and
    rows, reductions, ArgMax, Softmax, Squeeze, Unsqueeze, MatMul (batch axes; rows beside a matrix), normalization
    along the last axis when that stays. The border is a minimum cut; a region is rewritten when there are no more
    Transposes than before and they cost less (elements moved, and a constant each), so it comes to an end.
    Numerics: exact, but for the order of additions in reductions.
    Source: ONNX operator specifications; onnxruntime's transpose optimizer moves one Transpose at a time.
    """

    name: ClassVar[str] = "sink-transpose"

    def movers(self) -> Movers:
        return Transposes()
