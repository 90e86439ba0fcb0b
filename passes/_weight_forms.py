"""How a layer with weights in blocks is written for a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear
from fcc.compress.blocks import Blocked
from fcc.rewrite import Rewriter

from ._linears import bias_of

Array = np.ndarray[Any, Any]
CONTRIB = "com.microsoft"
_WHOLE = frozenset({8})  # tensorrt has blocks for int4 only
_INT8_COMPUTE = 4  # accuracy level: with others 8 bits are 20 times slower on cpu


@dataclass(frozen=True)
class Form:
    """``symmetric``: the zero point is the middle code. ``few_rows``: it pays for few rows of large weights only.

    ``whole``: numbers of bits for which there is no kernel by blocks: all inputs of an output are one.
    """

    symmetric: bool
    few_rows: bool
    whole: frozenset[int]
    refusal: Callable[[Linear, int, int, ir.Module], str | None]
    emit: Callable[[Rewriter, Linear, Blocked, int], ir.Value]


def packed(codes: Array, block: int, bits: int) -> Array:
    """Return codes [K, N] as MatMulNBits stores them: [N, blocks, block * bits / 8], the first of two low."""
    inputs, outputs = codes.shape
    blocks = -(-inputs // block)
    padded = np.zeros((outputs, blocks * block), np.uint8)
    padded[:, :inputs] = codes.T
    return _nibbles(padded.reshape(outputs, blocks, block)) if bits == 4 else padded.reshape(outputs, blocks, block)


def packed_zero_points(zero_points: Array, bits: int) -> Array:
    """Return zero points [blocks, N] as [N, ceil(blocks * bits / 8)]."""
    rows = np.ascontiguousarray(zero_points.T)
    if bits == 8:
        return rows
    return _nibbles(np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))))


def _nibbles(array: Array) -> Array:
    return np.ascontiguousarray(array[..., 0::2] | (array[..., 1::2] << 4))


def _dtype(view: Linear) -> Any:
    assert view.weight.dtype is not None
    return view.weight.dtype.numpy()


def _with_bias(rw: Rewriter, view: Linear, product: ir.Value) -> ir.Value:
    bias = bias_of(view)
    made: ir.Value = product if bias is None else rw.op("Add", product, bias.astype(_dtype(view)))
    return made


def _n_bits(symmetric: bool) -> Callable[[Rewriter, Linear, Blocked, int], ir.Value]:
    def emit(rw: Rewriter, view: Linear, blocked: Blocked, bits: int) -> ir.Value:
        name = view.weight.name
        operands = [rw.const(packed(blocked.codes, blocked.block, bits), f"{name}/int")]
        scales = np.ascontiguousarray(blocked.scales.T).astype(_dtype(view))
        operands.append(rw.const(scales, f"{name}/scale"))
        if not symmetric:
            operands.append(rw.const(packed_zero_points(blocked.zero_points, bits), f"{name}/zero_point"))
        rw.module.model.opset_imports.setdefault(CONTRIB, 1)
        product = rw.op(
            "MatMulNBits",
            view.x,
            *operands,
            domain=CONTRIB,
            K=view.in_features,
            N=view.out_features,
            bits=bits,
            block_size=blocked.block,
            accuracy_level=_INT8_COMPUTE,
        )
        return _with_bias(rw, view, product)

    return emit


def _dequantized(rw: Rewriter, view: Linear, blocked: Blocked, bits: int) -> ir.Value:
    middle, dtype = 1 << (bits - 1), ml_dtypes.int4 if bits == 4 else np.int8
    integers = (blocked.codes.astype(np.int16) - middle).astype(dtype)
    name = view.weight.name
    scales = (blocked.scales[0] if bits in _WHOLE else blocked.scales).astype(_dtype(view))
    operands = [rw.const(integers, f"{name}/int"), rw.const(scales, f"{name}/scale")]
    operands.append(rw.const(np.zeros(scales.shape, dtype), f"{name}/zero_point"))
    how: dict[str, Any] = {"axis": 1} if bits in _WHOLE else {"axis": 0, "block_size": blocked.block}
    weight = rw.op("DequantizeLinear", *operands, **how)
    return _with_bias(rw, view, rw.op("MatMul", view.x, weight))


def _anything(view: Linear, bits: int, block: int, module: ir.Module) -> str | None:
    return None


def _float32(view: Linear, bits: int, block: int, module: ir.Module) -> str | None:
    return None if view.weight.dtype == ir.DataType.FLOAT else f"the weight is {view.weight.dtype}"


def _blocked(view: Linear, bits: int, block: int, module: ir.Module) -> str | None:
    if bits in _WHOLE:
        return None if module.opset() >= 13 else f"opset {module.opset()} has no DequantizeLinear by channels (13 has)"
    if module.opset() < 21:
        return f"opset {module.opset()} has no DequantizeLinear by blocks (21 has)"
    if view.in_features % block:
        return f"{view.in_features} inputs are no whole blocks of {block}"
    return "int4 needs an even number of outputs" if bits == 4 and view.out_features % 2 else None


FORMS: dict[str, Form] = {
    "cpu": Form(symmetric=False, few_rows=True, whole=frozenset(), refusal=_float32, emit=_n_bits(symmetric=False)),
    "cuda": Form(symmetric=True, few_rows=False, whole=frozenset(), refusal=_anything, emit=_n_bits(symmetric=True)),
    "tensorrt": Form(symmetric=True, few_rows=False, whole=_WHOLE, refusal=_blocked, emit=_dequantized),
}
