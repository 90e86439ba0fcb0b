"""quantize-weights: x @ W -> MatMulNBits(x, W4), weights of 4 or 8 bits in blocks, activations float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.analysis.linear import Linear
from fcc.compress.blocks import quantize_blocks
from fcc.compress.calibrate import Watch
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._linears import folds_of, matrix_products, rows_of, watch_inputs
from ._weight_forms import FORMS, Form


@dataclass(frozen=True)
class QuantizeWeights(SitePass):
    """Store the weights of matrix products in 4 or 8 bits; products of few rows, bound by memory, get faster by it.

    x @ W + b  ->  MatMulNBits(x, codes, scales, zero points) + b,  W ~ scale * (code - zero point) by blocks of inputs

    cpu: asymmetric, 8-bit products inside (accuracy level 4); cuda: symmetric, as its fast kernels want it; tensorrt:
    DequantizeLinear of a symmetric weight (8 bits: by outputs) before a MatMul. Rounded by GPTQ where the statistics of
    ``watch(module)`` say that this loses less (cross-validated), else by HQQ or to the nearest. With more than ``rows``
    rows, or fewer than ``least`` weights, the float kernel is faster on cpu: 0 lifts either. ``only`` and ``exclude``
    name layers.
    Shapes: x [..., K], K and N known. Blocks of ``block`` inputs (a power of two from 16).
    Source: com.microsoft MatMulNBits; Frantar et al. 2022 (arXiv 2210.17323); Badri & Shaji 2023 (HQQ).
    """

    name: ClassVar[str] = "quantize-weights"
    exact: ClassVar[bool] = False
    bits: int = 4
    block: int = 32
    rows: int = 4
    least: int = 1 << 20
    only: str = ""
    exclude: str = ""

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the output names of the layers it would quantize."""
        return [view.nodes[0].outputs[0].name or "" for view in self._views(module, ctx)]

    def watch(self, module: ir.Module, ctx: PassContext) -> dict[str, Watch]:
        """Return the accumulators that GPTQ needs."""
        return watch_inputs([v for v in self._views(module, ctx) if v.nodes[0].graph is module.graph])

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the matrix products with constant weights."""
        for node, view in matrix_products(module, self.only, self.exclude):
            yield Site(node, module, ctx, view)

    def check(self, site: Site) -> str | None:
        """Return why the weight stays as it is."""
        return site.data if isinstance(site.data, str) else self._refusal(site.data, site.ctx, site.module)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Put the layer with the quantized weight in its place."""
        view: Linear = site.data
        form = self._form(site.ctx)
        block = view.in_features if self.bits in form.whole else self.block
        blocked, how = quantize_blocks(
            view.array().T, self.bits, block, symmetric=form.symmetric, folds=folds_of(view, site.ctx.stats)
        )
        rw.replace(view.output, form.emit(rw, view, blocked, self.bits))
        rw.erase(*reversed(view.nodes))
        size = f"{view.out_features} x {view.in_features}"
        what = f"int{self.bits} weights of {size}, blocks of {block}, {how}"
        site.ctx.log.layers.append({"name": view.output.name, "what": what, "bits": self.bits, "rounding": how})

    def _form(self, ctx: PassContext) -> Form:
        return FORMS[ctx.target.name]

    def _views(self, module: ir.Module, ctx: PassContext) -> list[Linear]:
        found = (view for _, view in matrix_products(module, self.only, self.exclude) if not isinstance(view, str))
        return [view for view in found if self._refusal(view, ctx, module) is None]

    def _refusal(self, view: Linear, ctx: PassContext, module: ir.Module) -> str | None:
        if self.block < 16 or self.block & (self.block - 1) or self.bits not in (4, 8):
            return f"no kernel takes blocks of {self.block} with {self.bits} bits"
        reason = self._form(ctx).refusal(view, self.bits, self.block, module)
        if reason is not None or not self._form(ctx).few_rows:
            return reason
        size, rows = view.out_features * view.in_features, rows_of(view, ctx)
        if size < self.least:
            return f"with {size} weights the float kernel is faster (from {self.least} it is not)"
        if self.rows and rows is None:
            return "the number of rows is not known (--opt-shape says it)"
        if self.rows and rows is not None and rows > self.rows:
            return f"at {rows} rows the float kernel is faster (up to {self.rows} it is not)"
        return None
