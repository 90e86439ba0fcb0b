"""insert-dynamic-quantization: x @ W -> MatMulInteger(DynamicQuantizeLinear(x), W8) * scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear
from fcc.compress.quantize import quantize_weight
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.target.qdq import ISA_TYPES

from ._linears import bias_of, matrix_products
from ._qdq_layers import MOST_PRODUCTS

_OPSET = 11


@dataclass(frozen=True)
class InsertDynamicQuantization(SitePass):
    """Multiply int8 weights with activations that are quantized as they come: no calibration, matrix products only.

    x @ W + b  ->  Cast(MatMulInteger(xq, W8, zx)) * (sx * sw) + b,  xq, sx, zx = DynamicQuantizeLinear(x)

    onnxruntime fuses this to DynamicQuantizeMatMul or MatMulIntegerToFloat on cpu; other providers have no kernel.
    Convolutions are left out: ConvInteger is several times slower than a float Conv. Layers that read the same tensor
    share what quantizes it. ``only`` and ``exclude`` name layers.
    Shapes: x [..., K] float32 of rank 2 and above, W [K, N] or [N, K].
    Numerics: weights per output, symmetric; scaled so that no pair of products saturates where kernels add in int16.
    Source: ONNX DynamicQuantizeLinear-11, MatMulInteger-10.
    """

    name: ClassVar[str] = "insert-dynamic-quantization"
    exact: ClassVar[bool] = False
    only: str = ""
    exclude: str = ""

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the output names of the layers it would quantize."""
        found = matrix_products(module, self.only, self.exclude)
        return [n.outputs[0].name or "" for n, view in found if _refusal(view, module, ctx) is None]

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the matrix products with constant weights."""
        for node, view in matrix_products(module, self.only, self.exclude):
            yield Site(node, module, ctx, view)

    def check(self, site: Site) -> str | None:
        """Return why the layer stays float."""
        return _refusal(site.data, site.module, site.ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Quantize the weight now, the activation at every run."""
        view: Linear = site.data
        weight, name = view.array(), view.weight.name
        parts = quantize_weight(weight, 0, pair_safe=ISA_TYPES[site.ctx.target.isa][1])
        integers, scale, zero = _quantized(view.x) or rw.op("DynamicQuantizeLinear", view.x, outputs=3)
        values = rw.const(np.ascontiguousarray(parts.values.T), f"{name}/int")
        zeros = rw.const(np.zeros((), np.int8), f"{name}/zero_point")
        product = rw.op("Cast", rw.op("MatMulInteger", integers, values, zero, zeros), to=ir.DataType.FLOAT)
        result = rw.op("Mul", product, rw.op("Mul", scale, rw.const(parts.scale, f"{name}/scale")))
        bias = bias_of(view)
        if bias is not None:
            result = rw.op("Add", result, bias.astype(np.float32))
        rw.replace(view.output, result)
        rw.erase(*reversed(view.nodes))
        size = f"{view.out_features} x {view.in_features}"
        site.ctx.log.layers.append({"name": view.output.name, "what": f"dynamic int8, weights of {size}"})


def _refusal(view: Linear | str, module: ir.Module, ctx: PassContext) -> str | None:
    if isinstance(view, str):
        return view
    if ctx.target.name != "cpu":
        return f"{ctx.target.name} has no kernels for it"
    if module.opset() < _OPSET:
        return f"opset {module.opset()} has no DynamicQuantizeLinear ({_OPSET} has)"
    if view.weight.dtype != ir.DataType.FLOAT:
        return f"the weight is {view.weight.dtype}: integer kernels replace float32 ones only"
    if view.in_features > MOST_PRODUCTS:
        return f"{view.in_features} products may overflow the int32 accumulator"
    return None


def _quantized(x: ir.Value) -> tuple[ir.Value, ...] | None:
    """Return what a DynamicQuantizeLinear makes of a tensor already."""
    for use in x.uses():
        if use.node.op_type == "DynamicQuantizeLinear" and use.node.domain == "" and use.node.graph is x.graph:
            return tuple(use.node.outputs)
    return None
