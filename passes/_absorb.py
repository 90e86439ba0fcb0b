"""Absorb a per-channel affine map into a linear op, from behind (its output) or from ahead (its input).

Every weight is seen as [group, a, b, taps], where (a, b) is (out, in) or (in, out) channels of a group:

    Conv           w [M, C/group, *kernel]   (group, M/group, C/group, taps)   out first
    ConvTranspose  w [C, M/group, *kernel]   (group, C/group, M/group, taps)   in first
    Gemm           w [N, K] when transB, else [K, N];  MatMul  w [K, N]        group 1, one tap
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import ml_dtypes
import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter
from fcc.target import TargetSpec

from ._affine import FLOATS, Affine, Array, Channels, row_refusal

EAGER = 1 << 20


@dataclass(frozen=True)
class Absorber:
    """A linear op with a constant weight; ``bias`` is added to its output as ``beta * bias``.

    ``spreads`` says why a constant added to the input is not a constant added to the output ("" when it is).
    """

    node: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    blocks: tuple[int, int, int, int]
    out_axis: int
    inputs: Channels
    outputs: Channels
    alpha: float = 1.0
    beta: float = 1.0
    spreads: str = ""

    def array(self) -> Array:
        """Return the weight as stored."""
        array = ir.Module.constant(self.weight)
        assert array is not None
        return array

    def row(self) -> Array:
        """Return the bias as float64 [out], beta included; zeros when there is none."""
        bias = None if self.bias is None else ir.Module.constant(self.bias)
        flat = np.zeros(1) if bias is None else bias.astype(np.float64).reshape(-1) * self.beta
        return np.broadcast_to(flat, (self.outputs.count,))

    def through(self, shift: Array) -> Array:
        """Return what ``shift`` added to the input channels adds to the output channels, float64 [out]."""
        blocks = self.array().reshape(self.blocks).astype(np.float64)
        spread = shift.reshape(_along(self.blocks, 3 - self.out_axis))
        return self.alpha * (blocks * spread).sum(axis=(3 - self.out_axis, 3)).reshape(-1)


def absorber_of(node: ir.Node, bias: ir.Value | None = None) -> Absorber | str:
    """Return the view of a linear op (``bias``: what a following Add adds to a MatMul), or the reason for none."""
    viewer = _VIEWS.get(node.op_type) if node.domain == "" else None
    if viewer is None:
        return f"{node.op_type} is no linear op"
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    dims = ir.dims_of(weight)
    if weight is None or dims is None or not ir.Module.is_constant(weight):
        return f"the weight of {node.op_type} {node.name!r} is not constant"
    if weight.dtype not in FLOATS:
        return f"weights of type {weight.dtype} are not folded"
    sizes = tuple(d for d in dims if isinstance(d, int))
    if prod(sizes) == 0:
        return "the weight is empty"
    own = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else bias
    found = viewer(node, weight, own, sizes)
    if isinstance(found, str) or found.bias is None:
        return found
    reason = row_refusal(
        found.bias, found.outputs if node.op_type in _BROADCASTING else Channels(1, 0, found.outputs.count)
    )
    return found if reason is None else f"the bias cannot take part: {reason}"


# -- the linear ops ------------------------------------------------------------------------------------------------
def _conv(node: ir.Node, weight: ir.Value, bias: ir.Value | None, w: tuple[int, ...]) -> Absorber | str:
    group, rank = node.attributes.get_int("group", 1), len(w)
    if rank < 3 or group < 1 or w[0] % group:
        return "the weight does not fit the groups"
    transposed = node.op_type == "ConvTranspose"
    spreads = "ConvTranspose adds it a varying number of times" if transposed else _padding(node)
    blocks = (group, w[0] // group, w[1], prod(w[2:]))
    first, second = Channels(rank, 1, w[0]), Channels(rank, 1, w[1] * group)
    if transposed:
        return Absorber(node, weight, bias, blocks, 2, first, second, spreads=spreads)
    return Absorber(node, weight, bias, blocks, 1, second, first, spreads=spreads)


def _padding(node: ir.Node) -> str:
    explicit = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    pads = node.attributes.get_ints("pads", None) or () if explicit else ()
    if any(pads) or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "the convolution pads with zeros, not with the shift"
    return ""


def _gemm(node: ir.Node, weight: ir.Value, bias: ir.Value | None, w: tuple[int, ...]) -> Absorber | str:
    if len(w) != 2:
        return "the weight is not a matrix"
    out_axis = 1 if node.attributes.get_int("transB", 0) else 2
    axis = 0 if node.attributes.get_int("transA", 0) else 1
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    ins, outs = Channels(2, axis, w[2 - out_axis]), Channels(2, 1, w[out_axis - 1])
    return Absorber(node, weight, bias, (1, *w, 1), out_axis, ins, outs, alpha, beta)


def _matmul(node: ir.Node, weight: ir.Value, bias: ir.Value | None, w: tuple[int, ...]) -> Absorber | str:
    x = ir.dims_of(node.inputs[0])
    if len(w) != 2:
        return "the weight is not a matrix"
    if not x:
        return "the rank of the input is not known"
    rank = len(x)
    return Absorber(node, weight, bias, (1, *w, 1), 2, Channels(rank, rank - 1, w[0]), Channels(rank, rank - 1, w[1]))


_BROADCASTING = frozenset({"Gemm", "MatMul"})
_View = Callable[[ir.Node, ir.Value, "ir.Value | None", "tuple[int, ...]"], "Absorber | str"]
_VIEWS: dict[str, _View] = {"Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul}


# -- folding -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Folded:
    """A linear op after absorbing: its weight scaled along one block axis, and its bias (None: as it was)."""

    op: Absorber
    axis: int
    scale: Array | None
    bias: Array | None

    def refusal(self, target: TargetSpec, max_copy: int) -> str | None:
        """Return why the fold may not happen, or would not pay (``max_copy``: bytes a copy of a shared weight may take)."""
        weight, dtype = self.op.weight, self.op.weight.dtype
        assert dtype is not None
        assert weight.const_value is not None
        if self.bias is not None:
            if not np.all(np.abs(self.bias) <= float(ml_dtypes.finfo(dtype.numpy()).max)):
                return f"the folded bias leaves the range of {dtype}"
            if self.op.node.op_type == "MatMul" and self.op.bias is None:
                reason = "its rank is not 2" if self.op.outputs.rank != 2 else gemm_refusal(target, dtype)
                if reason is not None:
                    return f"the MatMul has no bias, and cannot become a Gemm: {reason}"
        if self.scale is None:
            return None
        if weight.const_value.nbytes > max_copy and len({u.node for u in weight.uses()}) > 1:
            return f"the weight is shared, and larger than the {max_copy} bytes that a scaled copy may take"
        return _range_refusal(self.op.array().reshape(self.op.blocks), self.axis, self.scale, dtype)

    def emit(self, rw: Rewriter, x: ir.Value, target: TargetSpec) -> ir.Value:
        """Return the output of the linear op that replaces the old one, applied to ``x``."""
        node, weight = self.op.node, self._weight(rw)
        bias = self.op.bias if self.bias is None else self._bias(rw)
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
        compute = partial(_scaled, tensor.numpy, self.op.blocks, self.axis, self.scale)
        return rw.const(compute(), f"{weight.name}/scaled") if tensor.nbytes < EAGER else rw.lazy(compute, weight)

    def _bias(self, rw: Rewriter) -> ir.Value:
        assert self.bias is not None
        assert self.op.weight.dtype is not None
        return rw.const(self.bias.astype(self.op.weight.dtype.numpy()))


def behind(op: Absorber, affine: Affine) -> Folded:
    """scale * (x W + b) + shift = x (W * scale) + (b * scale + shift), the scale along the output channels."""
    moves = affine.shifts or (affine.scales and op.bias is not None)
    bias = op.row() * affine.scale + affine.shift if moves else None
    return Folded(op, op.out_axis, affine.scale if affine.scales else None, bias)


def ahead(op: Absorber, affine: Affine) -> Folded | str:
    """(scale * x + shift) W + b = x (scale * W) + (shift W + b), the scale along the input channels."""
    if affine.shifts and op.spreads:
        return f"a shift of the input is not a shift of the output: {op.spreads}"
    bias = op.row() + op.through(affine.shift) if affine.shifts else None
    return Folded(op, 3 - op.out_axis, affine.scale if affine.scales else None, bias)


def gemm_refusal(target: TargetSpec, dtype: ir.DataType | None) -> str | None:
    """Return why the target has no Gemm for a dtype, or None when it has."""
    return "the dtype is not known" if dtype is None else target.refusal("Gemm", "", 13, {"T": dtype.name.lower()})


def _along(blocks: tuple[int, int, int, int], axis: int) -> tuple[int, ...]:
    return tuple(n if i in (0, axis) else 1 for i, n in enumerate(blocks))


def _scaled(read: Callable[[], Array], blocks: tuple[int, int, int, int], axis: int, scale: Array) -> Array:
    stored = read()
    exact = stored.reshape(blocks).astype(np.float64) * scale.reshape(_along(blocks, axis))
    return exact.astype(stored.dtype).reshape(stored.shape)


def _range_refusal(blocks: Array, axis: int, scale: Array, dtype: ir.DataType) -> str | None:
    """Refuse weights that overflow, and in float16 channels whose weights become subnormal."""
    narrow = blocks.astype(np.float32) if blocks.dtype.itemsize < 4 else blocks
    others = (3 - axis, 3)
    peaks = np.maximum(narrow.max(axis=others), -narrow.min(axis=others)).astype(np.float64).reshape(-1)
    found = peaks * np.abs(scale)
    limits = ml_dtypes.finfo(dtype.numpy())
    if not np.all(np.isfinite(peaks)):
        return "the weight holds NaN or infinity"
    if np.any(found > float(limits.max)):
        return f"the folded weights leave the range of {dtype}"
    if dtype == ir.DataType.FLOAT16 and np.any((found > 0) & (found < float(limits.tiny)) & (found < peaks)):
        return f"the folded weights vanish in {dtype}"
    return None
