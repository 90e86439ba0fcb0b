"""Torch forms of QuantizeLinear and DequantizeLinear, with straight-through gradients.

Quantized tensors are held as floats with integer values, so that gradients pass.
"""

from __future__ import annotations

import torch

from fcc import ir

from .call import Call, NoForm, Table, Tensor
from .types import LIMITS


def straight(x: Tensor) -> Tensor:
    """Return the nearest integers, with the gradient of the identity (straight-through estimator, arXiv 1308.3432)."""
    return x + (torch.round(x) - x).detach()


def along(p: Tensor, x: Tensor, c: Call) -> Tensor:
    """Return a scale or zero point in a shape that broadcasts against what it belongs to."""
    axis = c.get("axis", 1)
    if p.numel() == 1 and p.ndim < 2:
        return p.reshape(())
    block = c.get("block_size", 0)
    if block:
        return p.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return p.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _limits(c: Call) -> tuple[int, int]:
    zero = c.node.inputs[2] if len(c.node.inputs) > 2 else None
    kind = zero.dtype if zero is not None else ir.DataType(c.get("output_dtype", 0) or int(ir.DataType.UINT8))
    if kind not in LIMITS:
        raise NoForm(f"QuantizeLinear to {'an unknown type' if kind is None else kind.name.lower()}")
    return LIMITS[kind]


def _quantize(c: Call) -> Tensor:
    low, high = _limits(c)
    zero = 0 if c[2] is None else along(c[2], c[0], c).to(c[0].dtype)
    return torch.clamp(straight(c[0] / along(c[1], c[0], c)) + zero, low, high)


def _dequantize(c: Call) -> Tensor:
    scale = along(c[1], c[0], c)
    zero = 0 if c[2] is None else along(c[2], c[0], c).to(scale.dtype)
    return (c[0].to(scale.dtype) - zero) * scale


TABLE: Table = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
