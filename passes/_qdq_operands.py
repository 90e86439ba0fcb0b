"""What a layer is written as where only its operands are int8: the op as it is, float bias and result."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir
from fcc.compress.quantize import Quantized, bias_shift, quantize_symmetric, quantize_weight
from fcc.rewrite import Rewriter
from fcc.target.qdq import QdqScheme

from ._qdq_emit import Activation, Fit, weight_constants
from ._qdq_layers import Array, Layer


def emit_operands(rw: Rewriter, layer: Layer, x: Activation, scheme: QdqScheme, fit: Fit) -> ir.Value:
    """Return the op as it is with two operands int8: its attributes, and a bias in float."""
    array = layer.weight_array()

    def quantized() -> Quantized:
        if not layer.rule.per_channel or scheme.weight_dtype != "int8":
            axis = layer.axis if layer.rule.per_channel and fit.per_channel else None
            return quantize_symmetric(array, axis, scheme.weight_dtype, pow2=scheme.pow2)
        how: dict[str, Any] = {
            "per_channel": fit.per_channel,
            "folds": fit.folds,
            "pow2": scheme.pow2,
            "known": fit.known,
        }
        return quantize_weight(array, layer.axis, pair_safe=False, **how)

    parts = quantized()
    constants = weight_constants(rw, parts, lambda: quantized().values, layer.weight.name)
    weight = rw.op("DequantizeLinear", *constants, axis=layer.axis)
    others = list(layer.node.inputs[2:])
    shifted = None if fit.mean is None else _shifted_bias(layer, bias_shift(array, parts, layer.axis, fit.mean))
    if shifted is not None:
        others = [rw.const(shifted.astype(np.float32), f"{(layer.bias or layer.weight).name}/corrected")]
    made: ir.Value = rw.like(layer.node, x.value, weight, *others)
    return made


def _shifted_bias(layer: Layer, shift: Array) -> Array | None:
    """Return the bias of an op that has one, or could have one, with a shift; None where it is not a known row."""
    factors = {layer.node.attributes.get_float(k, 1.0) for k in ("alpha", "beta")}
    if layer.node.op_type == "MatMul" or factors != {1.0}:
        return None
    bias = ir.Module.constant(layer.bias) if layer.bias is not None else np.zeros(layer.channels)
    if bias is None or (bias.size != 1 and (bias.size, bias.shape[-1]) != (layer.channels, layer.channels)):
        return None
    return np.asarray(np.broadcast_to(bias.reshape(-1), (layer.channels,)) + shift)
