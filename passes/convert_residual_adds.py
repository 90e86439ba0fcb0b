"""convert-residual-adds: LayerNormalization(a + b) -> LayerNormalization(Sum(a, b)), where the fused kernel is slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

# Time of Sum and LayerNormalization over that of SkipLayerNormalization, to which onnxruntime 1.31.1 fuses an Add that
# nothing else uses (one thread, AVX-512): [1, 1, 256] 0.92, [1, 16, 64] 0.64, [1, 64, 256] 0.18, [1, 197, 192] 0.15,
# [1, 128, 768] 0.14, [8, 64, 256] 0.15, [1, 512, 1024] 0.21. It fuses no Sum, which takes 1.00 to 1.16 of an Add.
SLOW = frozenset({"cpu"})


class ConvertResidualAdds(SitePass):
    """Write the sum in front of a LayerNormalization as Sum, which a runtime does not fuse with it.

    LayerNormalization(Add(a, b))  ->  LayerNormalization(Sum(a, b))

    Only where the LayerNormalization is all that uses the sum (others are not fused), in float32. Shapes: any, with
    broadcasting. Numerics: exact. Source: ONNX Sum-13; recorded measurements.
    """

    name: ClassVar[str] = "convert-residual-adds"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.op_type == "LayerNormalization" and node.domain == "":
                add = None if node.inputs[0] is None else node.inputs[0].producer()
                if add is not None and add.op_type == "Add" and add.domain == "":
                    yield Site(add, module, ctx)

    def check(self, site: Site) -> str | None:
        total = site.anchor.outputs[0]
        if total.dtype != ir.DataType.FLOAT:
            return f"not measured for {total.dtype}"
        if ir.sole_user(total) is None:
            return "the sum has other users, so that no runtime fuses it"
        return None

    def pays(self, site: Site) -> str | None:
        if site.ctx.target.name not in SLOW:
            return f"nothing says that the fused kernel is slow on {site.ctx.target.name}"
        return None

    def context(self, site: Site) -> Sequence[ir.Node]:
        return [u.node for u in site.anchor.outputs[0].uses()]

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        rw.replace(site.anchor.outputs[0], rw.op("Sum", *site.anchor.inputs))
        rw.erase(site.anchor)
