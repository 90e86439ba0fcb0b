"""sink-transpose: Transposes moved through operators to where fewer, or smaller ones, do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._permutations import Transposes
from ._region_rewrite import Build, plan_of, region_sites


@dataclass(frozen=True)
class SinkTranspose(SitePass):
    """Compute a connected region of operators on permuted axes where that needs fewer Transposes around it.

    Transpose(f(Transpose(x, p)), p^-1) -> f'(x), f' working on the permuted axes;
    f(Transpose(x, p), Transpose(y, p)) -> Transpose(f'(x, y), p), for any connected f with any number of borders

    f: elementwise operators (broadcast constants permuted), Concat, Split, Slice, Pad, Tile, Gather of scalars and
    rows, reductions, ArgMax, Softmax, Squeeze, Unsqueeze, MatMul (batch axes; rows beside a matrix), normalization
    along the last axis when that stays. The border is a minimum cut; a region is rewritten when there are no more
    Transposes than before and they cost less (elements moved, and a constant each), so it comes to an end.
    Numerics: exact, but for the order of additions in reductions.
    Source: ONNX operator specifications; onnxruntime's transpose optimizer moves one Transpose at a time.
    """

    name: ClassVar[str] = "sink-transpose"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        if module.opset() >= 13:
            yield from region_sites(module, ctx, Transposes())

    def check(self, site: Site) -> str | None:
        plan = plan_of(site)
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan = plan_of(site)
        assert not isinstance(plan, str)
        Build(plan, rw).run()
