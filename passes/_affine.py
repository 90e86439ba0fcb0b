"""Per-channel affine maps, and the nodes that compute one: BatchNormalization, Mul, Add, Sub, Div, Neg by constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fcc import ir

Array = np.ndarray[Any, Any]
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift along the channels: two float64 vectors, one element per channel."""

    scale: Array
    shift: Array

    @property
    def scales(self) -> bool:
        """Whether any channel is scaled."""
        return bool(np.any(self.scale != 1))

    @property
    def shifts(self) -> bool:
        """Whether any channel is shifted."""
        return bool(np.any(self.shift != 0))

    def repeated(self, times: int) -> Affine:
        """Return the map of a tensor in which every channel stands for a block of ``times`` channels."""
        return Affine(np.repeat(self.scale, times), np.repeat(self.shift, times))


@dataclass(frozen=True)
class Channels:
    """Where the channels of a tensor are: its rank, their axis, how many."""

    rank: int
    axis: int
    count: int


def limits(dtype: ir.DataType) -> tuple[float, float]:
    """Return the smallest normal and the largest finite number of a float dtype."""
    found = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
    return float(found.tiny), float(found.max)


def affine_of(node: ir.Node, operand: int, channels: Channels) -> Affine | str:
    """Return the map that ``node`` applies to its input ``operand``, or the reason why it is none.

    The input must have ``channels``; BatchNormalization has them on axis 1. The node is a BatchNormalization or one of
    the forms that the patterns of this family match.
    """
    if node.op_type == "BatchNormalization":
        return _batchnorm(node, channels)
    return _elementwise(node, operand, channels)


def _batchnorm(node: ir.Node, channels: Channels) -> Affine | str:
    if channels.axis != 1:
        return f"BatchNormalization works along axis 1, the channels are on axis {channels.axis}"
    if node.attributes.get_int("training_mode", 0) or any(v.name for v in node.outputs[1:]):
        return "training-mode BatchNormalization computes its own statistics"
    if any(ir.dims_of(v) != (channels.count,) for v in node.inputs[1:5]):
        return f"the statistics are no vectors of {channels.count} channels"
    gamma, beta, mean, var = (np.asarray(ir.Module.constant(v), np.float64) for v in node.inputs[1:5])
    spread = var + node.attributes.get_float("epsilon", 1e-5)
    if not np.all(spread > 0):
        return "a variance plus epsilon is not positive"
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(spread)
        shift = beta - mean * scale
    if not np.all(np.isfinite(spread) & np.isfinite(scale) & np.isfinite(shift)):
        return "the scale or the shift is not finite"
    return Affine(scale, shift)


def _elementwise(node: ir.Node, operand: int, channels: Channels) -> Affine | str:
    c = _per_channel(node.inputs[1 - operand] if len(node.inputs) > 1 else None, channels)
    if isinstance(c, str):
        return c
    if not np.all(np.isfinite(c)):
        return "the constant is not finite"
    with np.errstate(all="ignore"):
        scale, shift = _FORMS[node.op_type, operand](c)
    if np.any(scale == 0) or not np.all(np.isfinite(scale)):
        return "the factor is 0 or not finite"
    return Affine(scale, shift)


_FORMS: dict[tuple[str, int], Callable[[Array], tuple[Array, Array]]] = {
    ("Mul", 0): lambda c: (c, np.zeros_like(c)),
    ("Mul", 1): lambda c: (c, np.zeros_like(c)),
    ("Add", 0): lambda c: (np.ones_like(c), c),
    ("Add", 1): lambda c: (np.ones_like(c), c),
    ("Sub", 0): lambda c: (np.ones_like(c), -c),
    ("Sub", 1): lambda c: (-np.ones_like(c), c),
    ("Div", 0): lambda c: (1 / c, np.zeros_like(c)),
    ("Neg", 0): lambda c: (-c, np.zeros_like(c)),
}


def _per_channel(value: ir.Value | None, channels: Channels) -> Array | str:
    """Return a constant as one float64 element per channel (ones for no operand), or why it is no such constant."""
    if value is None:
        return np.ones(channels.count)
    reason = row_refusal(value, channels)
    if reason is not None:
        return reason
    array = ir.Module.constant(value)
    assert array is not None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels.count,))


def row_refusal(value: ir.Value, channels: Channels) -> str | None:
    """Return why a value does not broadcast to a tensor as one constant per channel, or None when it does."""
    dims = ir.dims_of(value)
    if dims is None or not ir.Module.is_constant(value):
        return "the operand is not constant"
    if len(dims) > channels.rank:
        return f"the constant has rank {len(dims)}, above {channels.rank}: it would raise the rank of the tensor"
    padded = (1,) * (channels.rank - len(dims)) + dims
    if any(d != 1 for i, d in enumerate(padded) if i != channels.axis):
        return "the constant varies along other axes than the channels"
    if padded and padded[channels.axis] not in (1, channels.count):
        return f"the constant does not have {channels.count} channels"
    return None
