"""Convolutions with stride 1 along an axis as tiles of outputs: what is legal, and the shapes in between."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from fcc import ir
from fcc.analysis.toom_cook import POINTS

from ._targets import reshape_entries

Dims = tuple[Any, ...]
TAPS = range(3, 8)
"""Sizes of a kernel that have tiles of 2 outputs and more among ``POINTS``."""


@dataclass(frozen=True)
class Layer:
    """A Conv of one group with constant operands: dims of input, weight and result, windows with paddings written out.

    Dims of the input and of the result are numbers or symbols, at least 1 as far as they are numbers.
    """

    node: ir.Node
    x: Dims
    weight: tuple[int, ...]
    result: Dims
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.weight[2:]

    def operands(self) -> tuple[ir.Value, ir.Value, ir.Value | None]:
        """Return input, weight and bias."""
        x, weight, *bias = self.node.inputs
        assert x is not None
        assert weight is not None
        return x, weight, bias[0] if bias else None


def layer_of(node: ir.Node) -> Layer | str:
    """Return the convolution that a Conv computes, or why it is none that tiles are written for."""
    operands = [v for v in node.inputs if v is not None]
    if operands[0].dtype != ir.DataType.FLOAT:
        return "it does not compute in float32"
    if node.attributes.get_int("group", 1) != 1:
        return "it has groups"
    if not all(map(ir.Module.is_constant, operands[1:])):
        return "the weight or the bias is not constant"
    if ir.sole_user(operands[1]) is None:
        return "the weight has other users"
    x, weight, result = (ir.dims_of(v) for v in (*operands[:2], node.outputs[0]))
    if x is None or result is None or None in (*x, *result) or len(x) < 3:
        return "the shape of the input is not known"
    if 0 in (*x, *result, *(weight or ())):
        return "a size is 0"
    kernel: Any = (weight or ())[2:]
    strides, dilations = (
        tuple(node.attributes.get_ints(k, ()) or (1,) * len(kernel)) for k in ("strides", "dilations")
    )
    pads = _pads(node, x[2:], kernel, strides, dilations)
    if pads is None:
        return "the padding depends on a size that is not known"
    if min(pads) < 0:
        return "the padding is negative"
    half = len(kernel)
    channels: Any = weight
    return Layer(node, x, channels, (x[0], *result[1:]), strides, dilations, pads[:half], pads[half:])


def _pads(
    node: ir.Node, sizes: Dims, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return what is padded before and after each axis; None where a rule needs a size that is a symbol."""
    rule = node.attributes.get_string("auto_pad", "NOTSET")
    if rule == "NOTSET":
        return tuple(node.attributes.get_ints("pads", ()) or (0,) * (2 * len(kernel)))
    if rule == "VALID":
        return (0,) * (2 * len(kernel))
    if not all(isinstance(s, int) for s in sizes):
        return None
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    total = [max((-(-s // step) - 1) * step + span - s, 0) for s, step, span in zip(sizes, strides, spans, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return (*less, *more) if rule == "SAME_UPPER" else (*more, *less)


@dataclass(frozen=True)
class Tiling:
    """A convolution along spatial axis ``axis`` in tiles of ``outputs``.

    The axes in front of it are laid out with the channels as one, those behind it as one that is absent where all are
    of size 1. Where every other axis is of size 1 the products are one MatMul, else a Conv with one group per product.
    """

    layer: Layer
    axis: int
    outputs: int

    @property
    def taps(self) -> int:
        return self.layer.kernel[self.axis]

    @property
    def products(self) -> int:
        return self.outputs + self.taps - 1

    @property
    def length(self) -> int:
        """The number of outputs along the axis."""
        return int(self.layer.result[2 + self.axis])

    @property
    def tiles(self) -> int:
        return -(-self.length // self.outputs)

    @property
    def surplus(self) -> int:
        """How many outputs of the last tile do not exist."""
        return self.tiles * self.outputs - self.length

    @property
    def is_matmul(self) -> bool:
        c = self.layer
        others = zip(c.x[2:], c.kernel, c.result[2:], c.begin, c.end, strict=True)
        return all(found == (1, 1, 1, 0, 0) for i, found in enumerate(others) if i != self.axis)

    def along(self, value: int, other: int) -> list[int]:
        """Return an attribute of a node on laid out values: ``other`` beside the axis."""
        return [other, value, *([other] * self.has_inner)]

    @property
    def has_inner(self) -> bool:
        return any(d != 1 for dims in (self.layer.x, self.layer.result) for d in dims[3 + self.axis :])

    def laid_out(self, lead: Dims, dims: Dims, size: int) -> Dims:
        """Return [lead, channels * axes in front, size, axes behind] of a value with channels and spatial ``dims``."""
        at = 1 + self.axis
        return (*lead, prod(dims[:at]), size, *([prod(dims[at + 1 :])] if self.has_inner else []))

    def apart(self, channels: int, dims: Dims) -> Dims:
        """Return the shape of a value with tiles along the axis, all products in one axis of channels."""
        spatial = (*dims[: self.axis], self.tiles, *dims[self.axis + 1 :])
        return (self.layer.x[0], self.products * channels, *spatial)

    def views(self) -> list[View]:
        """Return the values that are laid out anew, in order: the input, tiles and products (Conv), the result."""
        x, result, n = self.layer.x, self.layer.result, self.products
        batch, sources = x[0], (x[1:], result[1:])
        gathered, given = (self.laid_out((batch, n), dims, self.tiles) for dims in sources)
        first = self.laid_out((batch, 1), sources[0], x[2 + self.axis])
        last = self.laid_out((batch, 1), sources[1], self.length)
        groups, made = (self.apart(dims[0], dims[1:]) for dims in sources)
        between = [] if self.is_matmul else [View(gathered, groups), View(made, given)]
        return [View(x, first), *between, View(last, result)]


@dataclass(frozen=True)
class View:
    """A value laid out anew: its shape before and after."""

    before: Dims
    after: Dims

    @property
    def adds_axis(self) -> bool:
        """Whether it is an Unsqueeze behind the batch."""
        return self.after == (self.before[0], 1, *self.before[1:])

    @property
    def drops_axis(self) -> bool:
        """Whether it is the Squeeze that takes the axis out."""
        return View(self.after, self.before).adds_axis

    def entries(self) -> list[int] | str:
        """Return the shape operand of its Reshape, or why there is none for every size."""
        return reshape_entries(self.before, self.after, False)

    def refusal(self) -> str | None:
        """Return why it cannot be written."""
        found = [] if self.adds_axis or self.drops_axis else self.entries()
        return found if isinstance(found, str) else None


def tilings(layer: Layer) -> list[Tiling]:
    """Return the tilings of a convolution that can be written."""
    axes = (axis for axis in range(len(layer.kernel)) if refusal(layer, axis) is None)
    pairs = ((axis, products - layer.kernel[axis] + 1) for axis in axes for products in POINTS)
    return [Tiling(layer, axis, outputs) for axis, outputs in pairs if outputs >= 2]


def refusal(layer: Layer, axis: int) -> str | None:
    """Return why no tiles are written along an axis."""
    if layer.kernel[axis] not in TAPS:
        return f"its kernel has not {TAPS[0]} to {TAPS[-1]} elements along the axis"
    if layer.strides[axis] != 1 or layer.dilations[axis] != 1:
        return "it strides or dilates along the axis"
    if not isinstance(layer.x[2 + axis], int) or not isinstance(layer.result[2 + axis], int):
        return "the size along the axis is not known"
    reason = next(filter(None, (v.refusal() for v in Tiling(layer, axis, 2).views())), None)
    return None if reason is None else f"no Reshape fits every size: {reason}"
