"""sink-reshape: Reshapes moved through operators to where fewer do."""

from __future__ import annotations

from typing import ClassVar

from ._region_rewrite import RegionPass
from ._regions import Movers
from ._views import Views


class SinkReshape(RegionPass):
    """Compute a connected region of operators in another shape where that needs fewer Reshapes around it.

    Reshape(f(Reshape(x, s)), shape of x) -> f'(x);  f(Reshape(x), Reshape(y)) -> Reshape(f'(x, y)), for any connected f
    Likewise Flatten, Squeeze and Unsqueeze.

    f: elementwise operators, and along the last axes, which both shapes share: normalization, Softmax, reductions,
    Concat, Split, MatMul with a matrix; reductions that drop their axes where the shapes differ by axes of size 1. The
    border is a minimum cut, see sink-transpose.
    Shapes: known, up to what a Reshape can copy or infer; no size is 0.
    Numerics: exact.
    Source: ONNX operator specifications.
    """

    name: ClassVar[str] = "sink-reshape"

    def movers(self) -> Movers:
        return Views()
