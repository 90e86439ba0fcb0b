"""A Conv of one group with constant operands, its windows and paddings written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fcc import ir

Dims = tuple[Any, ...]


@dataclass(frozen=True)
class ConvLayer:
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


def conv_layer_of(node: ir.Node) -> ConvLayer | str:
    """Return the convolution that a Conv computes, or why it has none of this form."""
    operands = ir.operands(node)
    if operands[0].dtype != ir.DataType.FLOAT:
        return "it does not compute in float32"
    if node.attributes.get_int("group", 1) != 1:
        return "it has groups"
    if not all(map(ir.Module.is_constant, operands[1:])):
        return "the weight or the bias is not constant"
    if ir.sole_user(operands[1]) is None:
        return "the weight has other users"
    x, result = ir.dims_of(operands[0]), ir.dims_of(node.outputs[0])
    weight: Any = ir.dims_of(operands[1])
    if x is None or result is None or None in (*x, *result) or len(x) < 3:
        return "the shape of the input is not known"
    if 0 in (*x, *result):
        return "a size is 0"
    if has_other_kernel(node):
        return "its kernel_shape is not that of the weight"
    half = len(x) - 2
    strides, dilations = (tuple(node.attributes.get_ints(k, ()) or (1,) * half) for k in ("strides", "dilations"))
    pads = paddings(node, x[2:], weight[2:], strides, dilations)
    if pads is None:
        return "the padding depends on a size that is not known"
    if min(pads) < 0:
        return "the padding is negative"
    return ConvLayer(node, x, weight, (x[0], *result[1:]), strides, dilations, pads[:half], pads[half:])


def has_other_kernel(node: ir.Node) -> bool:
    """Return whether a convolution names another kernel than its weight has, which no runtime takes."""
    kernel = node.attributes.get_ints("kernel_shape", None)
    return kernel is not None and tuple(kernel) != ir.known_dims(node.inputs[1])[2:]


def paddings(
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
