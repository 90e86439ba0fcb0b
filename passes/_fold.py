"""Absorb a per-channel affine map into a linear op, from behind (its output) or from ahead (its input)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter
from fcc.target import TargetSpec

from ._absorb import Absorber
from ._affine import Affine, Array, limits

EAGER = 1 << 20


@dataclass(frozen=True)
class Folded:
    """A linear op after absorbing: its weight scaled along one axis of its blocks, and its bias (None: as it was)."""

    op: Absorber
    axis: int
    scale: Array | None
    bias: Array | None

    def refusal(self, target: TargetSpec, max_copy: int) -> str | None:
        """Return why the fold may not happen or would not pay; a shared weight is copied up to ``max_copy`` bytes."""
        weight, dtype = self.op.weight, self.op.weight.dtype
        assert dtype is not None
        assert weight.const_value is not None
        if self.bias is not None:
            if not np.all(np.abs(self.bias) <= limits(dtype)[1]):
                return f"the folded bias leaves the range of {dtype}"
            if self.op.node.op_type == "MatMul" and self.op.bias is None:
                reason = "its rank is not 2" if self.op.outputs.rank != 2 else gemm_refusal(target, dtype)
                if reason is not None:
                    return f"the MatMul has no bias, and cannot become a Gemm: {reason}"
        if self.scale is None:
            return None
        if weight.const_value.nbytes > max_copy and len({u.node for u in weight.uses()}) > 1:
            return f"the weight is shared, and larger than the {max_copy} bytes that a scaled copy may take"
        return self._range_refusal(self.scale, dtype)

    def _range_refusal(self, scale: Array, dtype: ir.DataType) -> str | None:
        """Refuse weights that overflow, and in float16 channels whose weights become subnormal."""
        blocks = self.op.array()
        narrow = blocks.astype(np.float32) if blocks.dtype.itemsize < 4 else blocks
        others = (3 - self.axis, 3)
        with np.errstate(all="ignore"):
            peaks = np.maximum(narrow.max(axis=others), -narrow.min(axis=others)).astype(np.float64).reshape(-1)
            found = peaks * np.abs(scale)
        tiny, largest = limits(dtype)
        if not np.all(np.isfinite(peaks)):
            return "the weight holds NaN or infinity"
        if np.any(found > largest):
            return f"the folded weights leave the range of {dtype}"
        if dtype == ir.DataType.FLOAT16 and np.any((found > 0) & (found < tiny) & (found < peaks)):
            return f"the folded weights vanish in {dtype}"
        return None

    def emit(self, rw: Rewriter, x: ir.Value, target: TargetSpec) -> ir.Value:
        """Return the output of the linear op that replaces the old one, applied to ``x``."""
        node, weight = self.op.node, self._weight(rw)
        bias = self.op.bias if self.bias is None else self._bias(rw, self.bias)
        made: ir.Value
        if bias is None:
            made = rw.like(node, x, weight)
        elif node.op_type != "MatMul":
            made = rw.like(node, x, weight, bias, **({} if self.bias is None else {"beta": None}))
        elif self.op.outputs.rank == 2 and gemm_refusal(target, weight.dtype) is None:
            made = rw.op("Gemm", x, weight, bias)
        else:
            made = rw.op("Add", rw.like(node, x, weight), bias)
        return made

    def _weight(self, rw: Rewriter) -> ir.Value:
        weight, tensor = self.op.weight, self.op.weight.const_value
        assert tensor is not None
        if self.scale is None:
            return weight
        compute = partial(_scaled, tensor.numpy, self.op.blocks, self.op.along(self.axis, self.scale))
        return rw.const(compute(), f"{weight.name}/scaled") if tensor.nbytes < EAGER else rw.lazy(compute, weight)

    def _bias(self, rw: Rewriter, bias: Array) -> ir.Value:
        assert self.op.weight.dtype is not None
        return rw.const(bias.astype(self.op.weight.dtype.numpy()))


def behind(op: Absorber, affine: Affine) -> Folded:
    """scale * (x W + b) + shift = x (W * scale) + (b * scale + shift), the scale along the output channels."""
    moves = affine.shifts or (affine.scales and op.bias is not None)
    with np.errstate(all="ignore"):
        bias = op.row() * affine.scale + affine.shift if moves else None
    return Folded(op, op.out_axis, affine.scale if affine.scales else None, bias)


def ahead(op: Absorber, affine: Affine) -> Folded | str:
    """(scale * x + shift) W + b = x (scale * W) + (shift W + b), the scale along the input channels."""
    if affine.shifts and op.spreads:
        return f"a shift of the input is not a shift of the output: {op.spreads}"
    with np.errstate(all="ignore"):
        bias = op.row() + op.through(affine.shift) if affine.shifts else None
    return Folded(op, op.in_axis, affine.scale if affine.scales else None, bias)


def gemm_refusal(target: TargetSpec, dtype: ir.DataType | None) -> str | None:
    """Return why the target has no Gemm for a dtype, or None when it has."""
    return "the dtype is not known" if dtype is None else target.refusal("Gemm", "", 13, {"T": dtype.name.lower()})


def _scaled(read: Callable[[], Array], blocks: tuple[int, int, int, int], scale: Array) -> Array:
    stored = read()
    exact = stored.reshape(blocks).astype(np.float64) * scale
    return exact.astype(stored.dtype).reshape(stored.shape)
