"""convert-global-pool: a global pooling whose axes of size 1 are dropped, as the reduction that keeps none."""

from __future__ import annotations

from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, ops, var

from ._permutations import UNARY
from ._reductions import reduced

_KINDS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
_TARGETS = frozenset({"cpu"})
_PLAIN = frozenset({"ConvTranspose", "Flatten", "LayerNormalization", "MatMul", "Reshape", "Squeeze", "Transpose"})
"""Operators whose results onnxruntime does not hold in the blocked layout of its two-dimensional convolutions."""


class ConvertGlobalPool(PatternPass):
    """Write a global pooling whose axes of size 1 are dropped as the reduction that keeps none.

    Reshape(GlobalMaxPool(x), [N, C]) -> ReduceMax(x, spatial axes),  GlobalAveragePool -> ReduceMean
    Likewise with Flatten and Squeeze.

    Shapes: x [N, C, *spatial] float32, spatial sizes known. Only on targets where reductions are faster (cpu: 0.7 to
    0.8 of the time, one thread), and not where x may be in the blocked layout, which poolings read as it is: of rank
    4, unless an operator outside that layout made it. Numerics: a mean may be summed in another order.
    Source: ONNX GlobalMaxPool-1, ReduceMax-20; recorded measurements.
    """

    name: ClassVar[str] = "convert-global-pool"
    pattern = ops("Flatten", "Reshape", "Squeeze")(ops(*_KINDS)(var("x"), name="pool"), variadic=True, name="drop")

    def check(self, m: Match) -> str | None:
        x, out = ir.dims_of(m["x"]), ir.dims_of(m.root.outputs[0])
        if m.ctx.target.name not in _TARGETS:
            return "poolings are as fast as reductions on the target"
        if m["x"].dtype != ir.DataType.FLOAT:
            return "it does not compute in float32"
        if x is None or out != x[:2]:
            return "the result is not [N, C]"
        if not all(isinstance(d, int) and d > 0 for d in x[2:]):
            return "a spatial size is not known, or 0"
        if len(x) == 4 and not _is_plain(m["x"]):
            return "the input may be in the blocked layout of convolutions"
        return None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        rank = len(ir.known_dims(m["x"]))
        return reduced(rw, _KINDS[m.nodes["pool"].op_type], m["x"], list(range(2, rank)), 0)


def _is_plain(value: ir.Value) -> bool:
    """Whether a value comes through elementwise operators from one outside the blocked layout."""
    node = value.producer()
    while node is not None and not node.domain and node.op_type in UNARY and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is None or (not node.domain and node.op_type in _PLAIN)
