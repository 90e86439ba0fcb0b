"""quantize-recurrent: LSTM(x, W, R) -> DynamicQuantizeLSTM(x, W8, R8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.compress.quantize import quantize_weight
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.target.qdq import ISA_TYPES

from ._chosen import chosen
from ._qdq_layers import MOST_PRODUCTS

Array = np.ndarray[Any, Any]
_INPUTS = 8  # of an LSTM, peepholes last


@dataclass(frozen=True)
class QuantizeRecurrent(SitePass):
    """Store the weights of an LSTM in int8 and quantize what they multiply as it comes.

    LSTM(x, W, R, B, ...)  ->  DynamicQuantizeLSTM(x, W8', R8', B, ..., scales and zero points of W and R)

    cpu only; no calibration; states stay float. ``only`` and ``exclude`` name layers.
    Shapes: W [D, 4H, I] and R [D, 4H, H] constant float32, stored as [D, I, 4H] and [D, H, 4H]; layout 0.
    Numerics: weights per gate and unit, symmetric, pair-safe where kernels add in int16.
    Source: com.microsoft DynamicQuantizeLSTM; ONNX LSTM-14.
    """

    name: ClassVar[str] = "quantize-recurrent"
    exact: ClassVar[bool] = False
    only: str = ""
    exclude: str = ""

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the names of the first outputs of the layers it would quantize."""
        found = (site for site in self.sites(module, ctx) if self.check(site) is None)
        return [next((v.name or "" for v in site.anchor.outputs if v.name), "") for site in found]

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every LSTM."""
        for node in [n for n in module.nodes() if n.op_type == "LSTM" and n.domain == ""]:
            if node.graph is not None:
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        """Return why the layer stays float."""
        node, target = site.anchor, site.ctx.target
        if not chosen(node, self.only, self.exclude):
            return "excluded by option"
        if target.name != "cpu":
            return f"{target.name} has no kernel for it"
        if node.attributes.get_int("layout", 0):
            return "layout is set"
        for value in node.inputs[1:3]:
            array = ir.Module.constant(value) if value is not None else None
            if array is None:
                return "the weights are not constant"
            if array.dtype != np.float32 or array.ndim != 3 or not array.size or not np.all(np.isfinite(array)):
                return "the weights are not finite float32"
            if array.shape[2] > MOST_PRODUCTS:
                return f"{array.shape[2]} products may overflow the int32 accumulator"
            if ir.sole_user(value) is None:  # type: ignore[arg-type]  # it is a constant
                return "the weights have other users"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Put the quantized layer in place, its attributes and other inputs as they were."""
        node, pair_safe = site.anchor, ISA_TYPES[site.ctx.target.isa][1]
        inputs: list[ir.Value | None] = [*node.inputs, *(None,) * (_INPUTS - len(node.inputs))]
        operands: list[ir.Value] = []
        for i in (1, 2):
            value = inputs[i]
            assert value is not None
            values, scales = _quantized(np.asarray(ir.Module.constant(value)), pair_safe)
            inputs[i] = rw.const(values, f"{value.name}/int")
            operands.append(rw.const(scales, f"{value.name}/scale"))
            operands.append(rw.const(np.zeros(scales.shape, np.int8), f"{value.name}/zero_point"))
        rw.module.model.opset_imports.setdefault("com.microsoft", 1)
        attributes: dict[str, Any] = {k: a for k, a in node.attributes.items() if k != "layout"}
        made = rw.op(
            "DynamicQuantizeLSTM", *inputs, *operands, domain="com.microsoft", outputs=len(node.outputs), **attributes
        )
        results = made if isinstance(made, tuple) else (made,)
        for old, new in zip(node.outputs, results, strict=True):
            if ir.is_used(old):
                new.type, new.shape = old.type, old.shape
                rw.replace(old, new)
        rw.erase(node)
        name = next((v.name for v in node.outputs if v.name), "")
        site.ctx.log.layers.append({"name": name, "what": "dynamic int8 LSTM"})


def _quantized(weight: Array, pair_safe: bool) -> tuple[Array, Array]:
    """Return [D, K, 4H] int8 and scales [D, 4H] of [D, 4H, K]."""
    parts = [quantize_weight(matrix, 0, pair_safe=pair_safe) for matrix in weight]
    return np.stack([p.values.T for p in parts]), np.stack([p.scale for p in parts])
