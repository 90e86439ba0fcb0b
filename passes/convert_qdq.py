"""convert-qdq: DQ(Q(constant)) -> DQ(integers); Q and DQ of a model that came quantized in the types of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.compress.quantize import is_pair_safe
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._qdq_convert import SHIFTED, Array, constants_of, pairs_of, quantized, replace_zero_point

Change = Callable[[Rewriter], None]


@dataclass(frozen=True)
class ConvertQdq(SitePass):
    """Keep the Q and DQ of a quantized model and its scales, in the form that the target has kernels for.

    DQ(Q(w))  ->  DQ(w8), every target;  DQ(b32)  ->  b and, at zero point 128, uint8  ->  int8, tensorrt

    With ``retarget``, for integer kernels of cpu: int8 activations become uint8 (q + 128), and weights whose pairs
    could overflow 16 bits become uint8 at zero point 128, which is slower and exact.
    Shapes: scales and zero points constant, per tensor or along an axis.
    Numerics: values do not change.
    Source: ONNX QuantizeLinear-13; onnxruntime qdq_transformer (QDQS8ToU8, avx2_weight_s8_to_u8.cc).
    """

    name: ClassVar[str] = "convert-qdq"
    retarget: bool = False

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the Q and DQ nodes that a rule of the target is about."""
        for node in [n for n in module.nodes() if n.op_type in _RULES and n.domain == ""]:
            if node.graph is not None and len(node.inputs) > 2 and node.inputs[0] is not None:
                found = next((r for rule in _RULES[node.op_type] if (r := rule(self, node, ctx)) is not None), None)
                if found is not None:
                    yield Site(node, module, ctx, found)

    def check(self, site: Site) -> str | None:
        """Return why a node that a rule is about stays."""
        return site.data if isinstance(site.data, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Make the change that the rule found."""
        site.data(rw)


def _stored(p: ConvertQdq, node: ir.Node, ctx: PassContext) -> Change | str | None:
    """A quantized constant is its integers."""
    value, parts = node.inputs[0], constants_of(node)
    if not ir.Module.is_constant(value):
        return None
    array = ir.Module.constant(value)
    if parts is None or array is None or array.dtype != np.float32 or not np.all(np.isfinite(array)):
        return "scale and zero point are not constant, or the weight is not finite float32"
    if not np.all(parts[0] > 0) or parts[1].dtype not in (np.int8, np.uint8):
        return "the scale is not positive, or the integers have not 8 bits"
    axis = node.attributes.get_int("axis", 1)
    if parts[0].ndim and (array.ndim == 0 or parts[0].shape != (array.shape[axis % array.ndim],)):
        return "the scales do not fit the axis"
    integers: Array = quantized(array, node, *parts)
    return partial(_constant, node, integers)


def _activation(p: ConvertQdq, node: ir.Node, ctx: PassContext) -> Change | str | None:
    """Activations in the type of the kernels: uint8 on x86, symmetric int8 on tensorrt."""
    zero_point = ir.Module.constant(node.inputs[2])
    wanted = _wanted(p, ctx)
    if zero_point is None or str(zero_point.dtype) != SHIFTED.get(wanted, ("", 0))[0]:
        return None
    return _shifted(node.outputs[0], wanted)


def _weight(p: ConvertQdq, node: ir.Node, ctx: PassContext) -> Change | str | None:
    """Constant integers: int8 on tensorrt; where pairs could overflow 16 bits, uint8."""
    integers, zero_point = node.inputs[0], ir.Module.constant(node.inputs[2])
    array = ir.Module.constant(integers) if ir.Module.is_constant(integers) else None
    if array is None or zero_point is None or integers is None:
        return None
    if array.dtype == np.uint8 and _wanted(p, ctx) == "int8":
        return _shifted(integers, "int8")
    scheme = ctx.target.qdq
    if array.dtype != np.int8 or not p.retarget or scheme is None or not scheme.pair_safe:
        return None
    return _shifted(integers, "uint8") if _overflows(node, array) else None


def _bias(p: ConvertQdq, node: ir.Node, ctx: PassContext) -> Change | str | None:
    """TensorRT takes a float bias only."""
    if ctx.target.name != "tensorrt" or node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.INT32:
        return None
    array, parts = ir.Module.constant(node.inputs[0]), constants_of(node)
    if array is None or parts is None or parts[1].any() or (parts[0].ndim and array.ndim != 1):
        return "the integers are no constant bias"
    values = (array.astype(np.float64) * parts[0].astype(np.float64)).astype(parts[0].dtype)
    return partial(_constant, node, values)


def _constant(node: ir.Node, array: Array, rw: Rewriter) -> None:
    rw.replace(node.outputs[0], rw.const(array, node.outputs[0].name or ""))
    rw.erase(node)


def _wanted(p: ConvertQdq, ctx: PassContext) -> str:
    """Return the type that activations should have, "" where any will do."""
    if ctx.target.name == "tensorrt":
        return "int8"
    scheme = ctx.target.qdq
    return "uint8" if p.retarget and scheme is not None and scheme.activation_dtype == "uint8" else ""


def _shifted(integers: ir.Value, dtype: str) -> Change | str:
    pairs = pairs_of(integers)
    if isinstance(pairs, str):
        return pairs
    zero_point = pairs.zero_point.astype(np.int64) + SHIFTED[str(pairs.zero_point.dtype)][1]
    if dtype == "int8" and zero_point.any():
        return "tensorrt takes zero point 0 only, and the range is not symmetric"
    return lambda rw: replace_zero_point(rw, pairs, zero_point.astype(dtype))


def _overflows(node: ir.Node, array: Array) -> bool:
    """Return whether the kernel of what reads a dequantized weight could overflow 16 bits."""
    user = ir.sole_user(node.outputs[0])
    if user is None or user.op_type not in ("Conv", "Gemm", "MatMul") or user.inputs[1] is not node.outputs[0]:
        return False
    axis: Any = 0 if user.op_type == "Conv" or bool(user.attributes.get_int("transB", 0)) else array.ndim - 1
    known = array.ndim == 2 or (array.ndim > 2 and user.op_type == "Conv")
    return known and not bool(is_pair_safe(array, axis).all())


_RULES = {"QuantizeLinear": (_stored, _activation), "DequantizeLinear": (_weight, _bias)}
