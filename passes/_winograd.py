"""Convolutions with stride 1 along an axis as tiles of outputs: what is legal, and the shapes in between."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from fcc.analysis.toom_cook import POINTS

from ._conv_layer import ConvLayer, Dims
from ._targets import reshape_entries

TAPS = range(3, 8)
"""Sizes of a kernel that have tiles of 2 outputs and more among ``POINTS``."""


@dataclass(frozen=True)
class Tiling:
    """A convolution along spatial axis ``axis`` in tiles of ``outputs``.

    The axes in front of it are laid out with the channels as one, those behind it as one that is absent where all are
    of size 1. Where every other axis is of size 1 the products are one MatMul, else a Conv with one group per product.
    """

    layer: ConvLayer
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


def tilings(layer: ConvLayer) -> list[Tiling]:
    """Return the tilings of a convolution that can be written."""
    axes = (axis for axis in range(len(layer.kernel)) if refusal(layer, axis) is None)
    pairs = ((axis, products - layer.kernel[axis] + 1) for axis in axes for products in POINTS)
    return [Tiling(layer, axis, outputs) for axis, outputs in pairs if outputs >= 2]


def refusal(layer: ConvLayer, axis: int) -> str | None:
    """Return why no tiles are written along an axis."""
    if layer.kernel[axis] not in TAPS:
        return f"its kernel has not {TAPS[0]} to {TAPS[-1]} elements along the axis"
    if layer.strides[axis] != 1 or layer.dilations[axis] != 1:
        return "it strides or dilates along the axis"
    if not isinstance(layer.x[2 + axis], int):  # the result may be declared
        return "the size along the axis is not known"
    shapes = (view.entries() for view in Tiling(layer, axis, 2).views())
    reason = next((found for found in shapes if isinstance(found, str)), None)
    return None if reason is None else f"no Reshape fits every size: {reason}"
