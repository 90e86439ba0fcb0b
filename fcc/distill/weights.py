"""What is trained: constants of layers, as parameters in torch and back; quantized ones stay on their grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fcc import ir
from fcc.compress.certificate import operands
from fcc.compress.quantize import is_pair_safe

from .call import Call, Tensor
from .program import TABLE, Program
from .quantized import along, straight
from .types import LIMITS

_RECURRENT, _AFFINE = (1, 2, 3), (1, 2)
# Operator -> inputs that are trained where they are constants.
TRAINED = {
    "BatchNormalization": _AFFINE,
    "Conv": _AFFINE,
    "ConvTranspose": _AFFINE,
    "GRU": _RECURRENT,
    "Gemm": _AFFINE,
    "GroupNormalization": _AFFINE,
    "InstanceNormalization": _AFFINE,
    "LSTM": _RECURRENT,
    "LayerNormalization": _AFFINE,
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": _RECURRENT,
}
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Weight:
    """A constant that is trained, and its parameter; ``dequantize`` is the node behind integers."""

    value: ir.Value
    parameter: Tensor
    dequantize: Call | None = None

    def tensor(self) -> Tensor:
        """Return what the program computes with: floats, or integers with straight-through gradients."""
        if self.dequantize is None:
            return self.parameter
        scale, zero, (low, high) = self._grid(self.dequantize)
        return torch.clamp(straight(self.parameter / scale) + zero, low, high)

    def array(self, start: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the constant to write; channels that would leave the 16-bit sums they kept stay as at the start."""
        found: np.ndarray[Any, Any] = self.tensor().detach().numpy().astype(start.dtype)
        axis = _channels(self.dequantize.node) if self.dequantize is not None else None
        if axis is None or start.dtype != np.int8 or start.ndim < 2:
            return found
        lost = is_pair_safe(start, axis) & ~is_pair_safe(found, axis)
        shape = [-1 if i == axis % start.ndim else 1 for i in range(start.ndim)]
        found = np.where(lost.reshape(shape), start, found)
        return found

    def _grid(self, c: Call) -> tuple[Tensor, Tensor, tuple[int, int]]:
        assert self.value.dtype is not None
        scale = along(c[1], self.parameter, c)
        zero = 0 if c[2] is None else along(c[2], self.parameter, c).to(scale.dtype)
        low, high = LIMITS[self.value.dtype]
        return scale, zero, (-high if low < 0 else low, high)


def _channels(dequantize: ir.Node) -> int | None:
    return next((axis for _, axis in operands(dequantize)), None)


def weights_of(program: Program) -> list[Weight]:
    """Return the constants of a program that are trained, each once however many layers share it."""
    found: dict[ir.Value, Weight] = {}
    for node in program.module.nodes():
        for value in _read(node):
            if value in found:
                continue
            if ir.Module.is_constant(value) and value.dtype in _FLOATS:
                found[value] = Weight(value, _parameter(program.constant(value)))
                continue
            weight = _quantized(program, value)
            if weight is not None:
                found.setdefault(weight.value, weight)
    return [w for w in found.values() if w.parameter.numel()]


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that a node reads as weights or biases; an Add behind a layer adds its bias."""
    places = TRAINED.get(node.op_type, ())
    if node.op_type == "Add":
        makers = [None if v is None else v.producer() for v in node.inputs]
        places = tuple(i for i in (0, 1) if (m := makers[1 - i]) is not None and m.op_type in _BIASED)
    yield from (v for i in places if i < len(node.inputs) and (v := node.inputs[i]) is not None)


def _quantized(program: Program, value: ir.Value) -> Weight | None:
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "DequantizeLinear" and node.inputs else None
    if node is None or source is None or not ir.Module.is_constant(source) or source.dtype not in LIMITS:
        return None
    parameters = node.inputs[1:]
    if not all(p is None or ir.Module.is_constant(p) for p in parameters):
        return None
    alike = (u.node.op_type == node.op_type and list(u.node.inputs[1:]) == list(parameters) for u in source.uses())
    if not all(alike):
        return None
    inputs = tuple(None if v is None else program.constant(v) for v in node.inputs)
    call = Call(node, inputs, program.module.opset())
    with torch.no_grad():
        start = TABLE["DequantizeLinear"](call)
    return Weight(source, _parameter(start), call) if start.dtype in (torch.float32, torch.float64) else None


def _parameter(start: Tensor) -> Tensor:
    return start.detach().clone().requires_grad_(True)
