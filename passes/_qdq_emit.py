"""What a quantized layer is written as: Q and DQ with explicit zero points, int8 weights, int32 biases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir
from fcc.compress.quantize import (
    MAX_BIAS,
    ActivationParams,
    Quantized,
    bias_floor,
    bias_shift,
    quantize_bias,
    quantize_weight,
)
from fcc.rewrite import ORIGIN, Rewriter
from fcc.target.qdq import QdqScheme

from ._qdq_layers import DIRECT, Array, Layer, clip_limits

# Elements from which the integers of a weight are not kept in memory.
LARGE = 1 << 24


@dataclass(frozen=True)
class Activation:
    """A quantized tensor: float again (``value``), as integers, and its parameters as values; ``step`` is the scale."""

    value: ir.Value
    integers: ir.Value
    scale: ir.Value
    zero_point: ir.Value

    @property
    def step(self) -> float:
        array = ir.Module.constant(self.scale) if self.scale.is_initializer() else self.scale.const_value
        return float(np.asarray(array).reshape(()))


def dequantized(value: ir.Value, dtype: str) -> Activation | None:
    """Return the parts of a value that a DequantizeLinear with one constant scale and zero point of ``dtype`` gives."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain != "" or len(node.inputs) != 3:
        return None
    integers, scale, zero_point = node.inputs
    if integers is None or scale is None or zero_point is None:
        return None
    found = ir.Module.constant(scale), ir.Module.constant(zero_point)
    if any(a is None or a.ndim for a in found) or found[1] is None or found[1].dtype != np.dtype(dtype):
        return None
    return Activation(value, integers, scale, zero_point)


def quantize(rw: Rewriter, value: ir.Value, params: ActivationParams, name: str | None) -> Activation:
    """Return the value after QuantizeLinear and DequantizeLinear; ``name`` is that of the tensor they stand for."""
    scale = rw.const(params.scale, f"{name}/scale")
    zero_point = rw.const(params.zero_point, f"{name}/zero_point")
    return requantize(rw, value, scale, zero_point)


def requantize(rw: Rewriter, value: ir.Value, scale: ir.Value, zero_point: ir.Value) -> Activation:
    """Return the value after QuantizeLinear and DequantizeLinear with parameters that exist."""
    integers = rw.op("QuantizeLinear", value, scale, zero_point)
    return Activation(rw.op("DequantizeLinear", integers, scale, zero_point), integers, scale, zero_point)


def quantized_before(rw: Rewriter, value: ir.Value, params: ActivationParams) -> Activation | None:
    """Return the pair that this pass put on the same float tensor for an earlier layer."""
    for use in value.uses():
        if use.node.op_type != "QuantizeLinear" or f"{rw.pass_name}(" not in use.node.metadata_props.get(ORIGIN, ""):
            continue
        reader = next((u.node for u in use.node.outputs[0].uses()), None)
        found = None if reader is None else dequantized(reader.outputs[0], str(params.zero_point.dtype))
        if found is not None and found.step == params.scale and _same(found.zero_point, params.zero_point):
            return found
    return None


def _same(value: ir.Value, array: Array) -> bool:
    return bool(np.array_equal(np.asarray(ir.Module.constant(value)), array))


def spread(rw: Rewriter, x: Activation, axis: int) -> ir.Value:
    """Return the dequantized tensor by equal scales along an axis of known size."""
    size = ir.known_dims(x.value)[axis]
    assert isinstance(size, int)
    scale, zero_point = (np.repeat(np.asarray(v.const_value), size) for v in (x.scale, x.zero_point))
    made: ir.Value = rw.op("DequantizeLinear", x.integers, scale, zero_point, axis=axis)
    return made


def absorbing(params: ActivationParams, activation: ir.Node | None) -> ActivationParams:
    """Return parameters at which a Clip vanishes: rint(min/s) + zp <= qmin and rint(max/s) + zp >= qmax.

    Rounding may leave a Clip one step short of that; the scale then shrinks by parts of a thousand.
    """
    limits = clip_limits(activation) if activation is not None and activation.op_type == "Clip" else None
    if limits is None:
        return params
    bounds = np.iinfo(params.zero_point.dtype)
    scale, zero = float(params.scale), int(params.zero_point)
    while limits[0] / scale > bounds.min - zero + 0.5 or limits[1] / scale < bounds.max - zero - 0.5:
        scale *= 0.998
    return ActivationParams(np.array(scale, np.float32), params.zero_point)


@dataclass(frozen=True)
class Fit:
    """How a layer is fitted: one scale per channel, or per weight; moments of its inputs by fold for GPTQ,
    what is known of these, and their means by channel for the bias, None where they are not used."""

    per_channel: bool = True
    folds: Sequence[np.ndarray[Any, Any]] | None = None
    known: dict[Any, Any] | None = None
    mean: np.ndarray[Any, Any] | None = None


def emit(rw: Rewriter, layer: Layer, x: Activation, scheme: QdqScheme, fit: Fit = Fit()) -> ir.Value:
    """Return the result of the layer (bias included, activation not) with int8 operands."""
    bias = layer.bias_array()
    if bias is None and fit.mean is not None and layer.form != "MatMul":
        bias = np.zeros(layer.channels)
    floor = bias_floor(bias, x.step) if bias is not None and layer.form != DIRECT else 0.0

    def quantized() -> Quantized:
        return quantize_weight(
            layer.weight_array(),
            layer.axis,
            pair_safe=scheme.pair_safe,
            per_channel=fit.per_channel,
            floor=floor,
            folds=fit.folds,
            pow2=scheme.pow2,
            known=fit.known,
        )

    parts = quantized()
    if bias is not None and fit.mean is not None:
        bias = _corrected(bias, bias_shift(layer.weight_array(), parts, layer.axis, fit.mean), x, parts)
    name = layer.weight.name
    weight = weight_constants(rw, parts, lambda: quantized().values, name)
    if layer.form == DIRECT:
        return _direct(rw, x, weight, bias, f"{name}/bias")
    operands = [x.value, rw.op("DequantizeLinear", *weight, axis=layer.axis)]
    if bias is not None:
        q = quantize_bias(bias, x.step, parts.scale)
        names = (f"{(layer.bias or layer.weight).name}/{part}" for part in ("int", "scale", "zero_point"))
        values = [rw.const(array, n) for array, n in zip(q, names, strict=True)]
        operands.append(rw.op("DequantizeLinear", *values, axis=0))
    if layer.form == layer.node.op_type:
        made: ir.Value = rw.like(layer.node, *operands, alpha=None, beta=None)
    else:
        made = rw.op(layer.form, *operands)
    return made


def weight_constants(rw: Rewriter, parts: Quantized, again: Callable[[], Array], name: str | None) -> list[ir.Value]:
    """Return integers, scale and zero point of a weight."""
    found = [_integers(rw, parts.values, again, f"{name}/int")]
    return [*found, rw.const(parts.scale, f"{name}/scale"), rw.const(parts.zero_point, f"{name}/zero_point")]


def _corrected(bias: Array, shift: Array, x: Activation, parts: Quantized) -> Array:
    """Return the bias with a shift, without it where the sum would not fit int32."""
    fits = np.abs(bias + shift) <= 0.5 * MAX_BIAS * x.step * parts.scale.astype(np.float64)
    return bias + np.where(fits, shift, 0.0)


def _integers(rw: Rewriter, values: Array, again: Callable[[], Array], name: str) -> ir.Value:
    """Return the integers of a weight; those of a large one are computed again when they are written."""
    if values.size < LARGE:
        return rw.const(values, name)
    like = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT8), shape=ir.Shape(values.shape))
    return rw.lazy(again, like, name)


def _direct(rw: Rewriter, x: Activation, weight: list[ir.Value], bias: Array | None, name: str) -> ir.Value:
    values, scale, zero_point = weight
    operands = [x.integers, values, x.scale, scale, x.zero_point, zero_point]
    if bias is not None:
        operands.append(rw.const(bias.astype(np.float32), name))
    rw.module.model.opset_imports.setdefault("com.microsoft", 1)
    made: ir.Value = rw.op(DIRECT, *operands, domain="com.microsoft")
    return made
