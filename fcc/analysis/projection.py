"""Projection: every linear layer as rows times a matrix, Y = X W + b, where X may be the patches that a Conv reads.

Gemm (transA = 0) and MatMul with a constant matrix (any rank of x), Conv of any kernel, stride, dilation, padding and
group, and what RNN, GRU and LSTM do with their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .. import ir
from .linear import linear_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its input: sizes per spatial axis; ``pads`` as ONNX has them, begins then ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"

    def places(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (padding in front, number of windows) per spatial axis of an input of these sizes."""
        begins, counts = [], []
        for i, size in enumerate(sizes):
            reach = (self.kernel[i] - 1) * self.dilations[i] + 1
            begin, end = self._padding(i, size, reach)
            begins.append(begin)
            counts.append(max(0, (size + begin + end - reach) // self.strides[i] + 1))
        return tuple(begins), tuple(counts)

    def _padding(self, i: int, size: int, reach: int) -> tuple[int, int]:
        if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-size // self.strides[i])
            total = max(0, (count - 1) * self.strides[i] + reach - size)
            small, large = total // 2, total - total // 2
            return (small, large) if self.auto_pad == "SAME_UPPER" else (large, small)
        return (0, 0) if self.auto_pad == "VALID" else (self.pads[i], self.pads[i + len(self.kernel)])


@dataclass(frozen=True)
class Projection:
    """A layer as ``groups`` matrices: W [in, out] each, rows of x times W plus the bias give rows of ``output``.

    ``nodes`` compute it (the operator, then the Add of a bias). ``axis`` is where features lie in x and in the output
    (-1 or 1), ``batch`` which axis of x counts samples. A recurrent layer has no tensor that is X W: ``output`` is its
    first result, and ``hidden`` is set.
    """

    kind: str
    nodes: tuple[ir.Node, ...]
    weight: ir.Value
    bias: ir.Value | None
    output: ir.Value
    groups: int = 1
    window: Window | None = None
    axis: int = -1
    batch: int = 0

    @property
    def node(self) -> ir.Node:
        """The operator."""
        return self.nodes[0]

    @property
    def x(self) -> ir.Value:
        """The input."""
        x = self.node.inputs[0]
        assert x is not None
        return x

    @property
    def name(self) -> str:
        """The name of its output: of the layer in reports and statistics."""
        return self.output.name or ""

    @property
    def hidden(self) -> bool:
        """Whether its product is no tensor of the graph."""
        return self.kind in RECURRENT

    @property
    def sizes(self) -> tuple[int, int]:
        """(in, out) of one group."""
        dims = [int(d) for d in ir.dims_of(self.weight) or () if isinstance(d, int)]
        if self.kind == "Conv":
            return prod(dims[1:]), dims[0] // self.groups
        if self.hidden:
            return dims[2], dims[0] * dims[1]
        return (dims[1], dims[0]) if self.node.attributes.get_int("transB", 0) else (dims[0], dims[1])

    def matrices(self) -> Array:
        """Return W as [groups, in, out] in float64, the alpha of a Gemm included."""
        stored = ir.Module.constant(self.weight)
        assert stored is not None
        (m, n), wide = self.sizes, stored.astype(np.float64)
        if self.kind == "Conv":
            return wide.reshape(self.groups, n, m).transpose(0, 2, 1)
        if self.hidden:
            return wide.reshape(n, m).T[None]
        alpha = self.node.attributes.get_float("alpha", 1.0)
        return (wide.T if self.node.attributes.get_int("transB", 0) else wide)[None] * alpha

    def bias_row(self) -> Array | str:
        """Return the bias as [groups, out] in float64, zeros when absent, or why it is no constant row."""
        n = self.sizes[1]
        row = np.zeros((self.groups, n))
        if self.bias is None:
            return row
        stored = ir.Module.constant(self.bias)
        if stored is None:
            return "the bias is not constant"
        if any(d != 1 for d in stored.shape[: 1 if self.hidden else -1]) and not self.hidden:
            return "the bias is no row"
        if self.hidden:  # the first half belongs to the input, the second to the state
            return stored[:, : stored.shape[1] // 2].astype(np.float64).reshape(1, n)
        beta = self.node.attributes.get_float("beta", 1.0) if self.kind == "Gemm" else 1.0
        return np.broadcast_to(stored.astype(np.float64).reshape(-1) * beta, (self.groups * n,)).reshape(row.shape)


def projection_of(node: ir.Node) -> Projection | str:
    """Return the view of a node, or the reason why it has none."""
    if node.domain != "" or node.op_type not in OPS:
        return f"{node.op_type} is no linear op"
    if node.op_type == "Conv":
        return _conv(node)
    if node.op_type in RECURRENT:
        return _recurrent(node)
    view = linear_of(node)
    if isinstance(view, str):
        return view
    return Projection(node.op_type, view.nodes, view.weight, view.bias, view.output)


def _conv(node: ir.Node) -> Projection | str:
    x, weight = node.inputs[0], node.inputs[1]
    dims = ir.dims_of(weight) or ()
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    rank, groups = len(dims) - 2, node.attributes.get_int("group", 1)
    if rank < 1 or 0 in dims or dims[0] % groups:  # type: ignore[operator]
        return "the weight is empty or has no kernel"

    def ints(name: str, size: int, default: int) -> tuple[int, ...]:
        return tuple(node.attributes.get_ints(name, ()) or (default,) * size)

    window = Window(
        tuple(int(d) for d in dims[2:]),  # type: ignore[arg-type]
        ints("strides", rank, 1),
        ints("dilations", rank, 1),
        ints("pads", 2 * rank, 0),
        node.attributes.get_string("auto_pad", "NOTSET"),
    )
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Projection("Conv", (node,), weight, bias, node.outputs[0], groups, window, axis=1)


def _recurrent(node: ir.Node) -> Projection | str:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    output = next((v for v in node.outputs if v.name and ir.is_used(v)), None)
    if output is None or 0 in (ir.dims_of(weight) or (0,)):
        return "the weight is empty, or nothing reads the result"
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    batch = 0 if node.attributes.get_int("layout", 0) else 1
    return Projection(node.op_type, (node,), weight, bias, output, batch=batch)


RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
OPS = frozenset({"Gemm", "MatMul", "Conv"}) | RECURRENT
