"""convert-weights: a float32 constant -> Cast(int8) * scales, Cast(float16) or Gather(codebook), for a smaller file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.errors import PipelineError, did_you_mean
from fcc.rewrite import ORIGIN, PassContext, Rewriter, Site, SitePass

from ._chosen import chosen
from ._stored_forms import FORMS, error

_LARGEST_HALF = 65504.0
_NEEDS_CONSTANTS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class ConvertWeights(SitePass):
    """Store float32 weights in int8 with scales, in float16, or as a codebook; the runtime computes them again at load.

    w  ->  Cast(w8) * s, s along the axis that loses least;  or Cast(w16);  or Gather(c, Cast(i8)), c of 256 numbers

    The file gets smaller, memory and latency stay: the constants are folded at load. Runs last, since fcc folds
    constants too. ``to``: int8, fp16 or codebook (k-means over all elements, where int8 has scales per channel: as many
    bytes, and seldom less error); ``least``: elements from which a weight is stored so; ``only`` names weights, or the
    layers that read them first, joined by ``+``.
    Shapes: rank 2 and above. Not on tensorrt, which takes int8 behind Q and DQ only.
    Source: onnxruntime ConstantFolding (core/optimizer/constant_folding.cc); Han et al. 2015 (arXiv 1510.00149).
    """

    name: ClassVar[str] = "convert-weights"
    exact: ClassVar[bool] = False
    to: str = "int8"
    least: int = 1024
    only: str = ""

    def __post_init__(self) -> None:
        if self.to not in FORMS:
            raise PipelineError(f"{self.name}{{to}} has no value {self.to!r}", did_you_mean(self.to, FORMS))

    def layers(self, module: ir.Module, ctx: PassContext) -> list[str]:
        """Return the names of the constants it would store in fewer bits."""
        return list(self.readers(module, ctx))

    def readers(self, module: ir.Module, ctx: PassContext) -> dict[str, str]:
        """Return name of a constant it would store -> name of the first output of the layer that reads it first."""
        sites = [s for s in self.sites(module, ctx) if self.check(s) is None]
        return {s.data.name or "": next((v.name for v in s.anchor.outputs if v.name), "") for s in sites}

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every float32 constant at its first reader."""
        seen: set[int] = set()
        for node in list(module.nodes()):
            for value in node.inputs:
                if value is None or id(value) in seen or value.dtype != ir.DataType.FLOAT:
                    continue
                if ir.Module.is_constant(value):
                    seen.add(id(value))
                    yield Site(node, module, ctx, value)

    def check(self, site: Site) -> str | None:
        """Return why the constant stays float32."""
        value: ir.Value = site.data
        if not chosen(site.anchor, self.only, "") and value.name not in self.only.split("+"):
            return "excluded by option"
        dims: Any = ir.dims_of(value)
        if site.ctx.target.name == "tensorrt":
            return "tensorrt takes int8 behind Q and DQ only"
        if len(dims) < 2 or int(np.prod(dims)) < self.least:
            return f"it has fewer than {self.least} elements, or one axis"
        if any(u.node.domain != "" or u.node.op_type in _NEEDS_CONSTANTS for u in value.uses()):
            return "a kernel that prepares constants reads it"
        if any(u.node.graph is not value.graph for u in value.uses()):
            return "a nested graph reads it"
        if any(f"{self.name}(" in u.node.metadata_props.get(ORIGIN, "") for u in value.uses()):
            return "it is a scale of what is stored so"
        array = np.asarray(ir.Module.constant(value))
        if not np.all(np.isfinite(array)):
            return "it holds NaN or infinity"
        if self.to == "fp16" and np.any(np.abs(array) > _LARGEST_HALF):
            return "it holds values beyond float16"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Let every reader use the constant as it is computed again."""
        value: ir.Value = site.data
        array = np.asarray(ir.Module.constant(value))
        stored = FORMS[self.to](array)
        made = stored.write(rw, value.name or "")
        for use in list(value.uses()):
            rw.set_input(use.node, use.idx, made)
        lost = error(array, stored)
        what = f"stored as {self.to}: {array.size} elements in {stored.size} bytes, error {lost:.2g}"
        if self.to == "codebook":
            what += f" (int8: {error(array, FORMS['int8'](array)):.2g})"
        row = {"name": value.name, "what": what, "weight_error": lost, "bytes": stored.size}
        site.ctx.log.layers.append(row)
