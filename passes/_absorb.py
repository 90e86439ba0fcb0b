"""Linear ops that may absorb a per-channel affine map of their input or output: Conv, ConvTranspose, Gemm, MatMul.

Every weight is seen as [group, a, b, taps], where (a, b) is (out, in) or (in, out) channels of a group:

    Conv           w [M, C/group, *kernel]   (group, M/group, C/group, taps)   out first
    ConvTranspose  w [C, M/group, *kernel]   (group, C/group, M/group, taps)   in first
    Gemm           w [N, K] when transB, else [K, N];  MatMul  w [K, N]        group 1, one tap
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from fcc import ir

from ._affine import FLOATS, Array, Channels, row_refusal


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

    @property
    def in_axis(self) -> int:
        """The axis of ``blocks`` that holds the input channels of a group."""
        return 3 - self.out_axis

    def array(self) -> Array:
        """Return the weight as ``blocks``."""
        array = ir.Module.constant(self.weight)
        assert array is not None
        return array.reshape(self.blocks)

    def along(self, axis: int, vector: Array) -> Array:
        """Return one element per channel of ``axis``, shaped to broadcast to ``blocks``."""
        return vector.reshape(tuple(n if i in (0, axis) else 1 for i, n in enumerate(self.blocks)))

    def row(self) -> Array:
        """Return the bias as float64 [out], beta included; zeros when there is none."""
        bias = None if self.bias is None else ir.Module.constant(self.bias)
        flat = np.zeros(1) if bias is None else bias.astype(np.float64).reshape(-1) * self.beta
        return np.broadcast_to(flat, (self.outputs.count,))

    def through(self, shift: Array) -> Array:
        """Return what ``shift`` added to the input channels adds to the output channels, float64 [out]."""
        moved = self.array().astype(np.float64) * self.along(self.in_axis, shift)
        total: Array = self.alpha * moved.sum(axis=(self.in_axis, 3)).reshape(-1)
        return total


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
    sizes = tuple(ir.numbers(dims))
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
    if any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
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
