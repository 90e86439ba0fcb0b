"""convert-batchnorm: BatchNormalization(x) -> x * s + t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._affine import FLOATS, Affine, Array, Channels, affine_of, limits


@dataclass(frozen=True)
class ConvertBatchNorm(PatternPass):
    """Write an inference BatchNormalization as a Mul and an Add.

    BN(x) -> x * s + t,  s = scale / sqrt(var + epsilon), t = shift - mean * s

    Shapes: x [N, C, *spatial]; s, t [C, 1, ...]. A factor of 1 or an addend of 0 for all channels is left out.
    One BatchNormalization kernel reads and writes x once, Mul and Add twice: measured on onnxruntime's CPU provider,
    it takes half the time at [1, 64, 56, 56] and less at every shape. So the rewrite happens only where the target
    has no kernel for BatchNormalization but has Mul and Add, where nothing is left to compute, and with ``always``.
    Numerics: in float64, rounded once to the dtype of x; exact to rounding.
    Source: ONNX BatchNormalization-15.
    """

    name: ClassVar[str] = "convert-batchnorm"
    pattern = op.BatchNormalization(var("x"), const("scale"), const("shift"), const("mean"), const("var"))

    always: bool = False

    def check(self, m: Match) -> str | None:
        affine = _affine(m)
        if isinstance(affine, str):
            return affine
        dtype = m["x"].dtype
        if dtype is None or dtype not in FLOATS:
            return f"{dtype} is not converted"
        if max(np.abs(affine.scale).max(initial=0), np.abs(affine.shift).max(initial=0)) > limits(dtype)[1]:
            return f"the scale or the shift leaves the range of {dtype}"
        if self.always or not (affine.scales or affine.shifts):
            return None
        return _worth_refusal(m, dtype)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        x, affine = m["x"], _affine(m)
        assert isinstance(affine, Affine)
        if affine.scales:
            x = rw.op("Mul", x, _column(m["x"], affine.scale))
        if affine.shifts:
            x = rw.op("Add", x, _column(m["x"], affine.shift))
        return x


def _affine(m: Match) -> Affine | str:
    dims = ir.dims_of(m["x"])
    if dims is None or len(dims) < 2:
        return "the rank of the input is not known, or below 2"
    return affine_of(m.root, 0, Channels(len(dims), 1, m.const("scale").size))


def _worth_refusal(m: Match, dtype: ir.DataType) -> str | None:
    version, kind = m.module.opset(), dtype.name.lower()
    types = {op_type: {"T": kind} for op_type in ("BatchNormalization", "Mul", "Add")}
    refused = {k: m.ctx.target.refusal(k, "", version, t) for k, t in types.items()}
    if refused["BatchNormalization"] is None:
        return f"one BatchNormalization kernel of {m.ctx.target.name} is faster than Mul and Add"
    return refused["Mul"] or refused["Add"]


def _column(x: ir.Value, vector: Array) -> Array:
    assert x.dtype is not None
    rank = len(ir.known_dims(x))
    return vector.astype(x.dtype.numpy()).reshape((-1,) + (1,) * (rank - 2))
