"""sink-reshape: Reshapes moved through operators to where fewer do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._region_rewrite import Build, plan_of, region_sites
from ._views import Views


@dataclass(frozen=True)
class SinkReshape(SitePass):
    """Compute a connected region of operators in another shape where that needs fewer Reshapes around it.

    Reshape(f(Reshape(x, s)), shape of x) -> f'(x);  f(Reshape(x), Reshape(y)) -> Reshape(f'(x, y)), for any connected f
    Likewise Flatten, Squeeze and Unsqueeze.

    f: elementwise operators, and along the last axes, which both shapes share: normalization, Softmax, reductions,
    Concat, Split, MatMul with a matrix. The border is a minimum cut, see sink-transpose.
    Shapes: known, up to what a Reshape can copy or infer; no size is 0.
    Numerics: exact.
    Source: ONNX operator specifications.
    """

    name: ClassVar[str] = "sink-reshape"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        if module.opset() >= 13:
            yield from region_sites(module, ctx, Views())

    def check(self, site: Site) -> str | None:
        plan = plan_of(site)
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan = plan_of(site)
        assert not isinstance(plan, str)
        Build(plan, rw).run()
