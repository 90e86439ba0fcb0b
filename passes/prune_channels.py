"""prune-channels: output channels that readers miss least go, and the readers are refitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.analysis.channels import Channels, Source, channels_of
from fcc.errors import OptionError
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.rewrite.engine import site_name

from ._pools import Pool, pools
from ._pruning import Pruning, pruning


@dataclass(frozen=True)
class PruneChannels(SitePass):
    """Remove output channels of layers, with all that depends on them, and repair the layers that read them.

    B(f(A(x))) -> B'(f(A'(x))),  A' = A without some outputs,  B' = argmin ||B'(f(A'(x))) - y||^2,  y what B wrote in
    the original model

    Which: backward elimination on that least squares problem, all weights that stay being refitted. How many: a share
    ``ratio`` of the channels stays, or the fewest that keep a share ``energy`` of the squares of y; a multiple of what
    kernels work on at once, at least one such block. Channels that are added, multiplied, or of one head go together,
    and all their readers are refitted. ``only`` names the first outputs of layers, joined by ``+``.

    Shapes: A is Conv or ConvTranspose (group 1), Gemm, or MatMul with a constant matrix; B is Conv, Gemm or MatMul; f
    as in eliminate-dead-neurons; main graph. Needs moments of the readers (``pools``) in ``ctx.stats``.
    Numerics: float64, rounded once; a ridge of 1e-3 towards the weight of B as it was.
    Errors: OptionError unless one of ratio and energy is given, between 0 and 1.
    Source: Hassibi & Stork 1993; He et al. 2017 (arXiv 1707.06168), sec. 3; for groups, Fang et al. 2023.
    """

    name: ClassVar[str] = "prune-channels"
    exact: ClassVar[bool] = False
    needs_stats: ClassVar[bool] = True
    ratio: float | None = None
    energy: float | None = None
    only: str = ""

    def __post_init__(self) -> None:
        given = [option for option in (self.ratio, self.energy) if option is not None]
        if len(given) != 1 or not 0 < given[0] < 1:
            raise OptionError("prune-channels takes one of ratio and energy, between 0 and 1")

    def pools(self, module: ir.Module, ctx: PassContext) -> list[Pool]:
        """Return what can be pruned, in the order of the first layers; ``readings`` are what statistics are of."""
        found = pools(channels_of(module.graph), ctx.target.channel_blocks)
        able = [pool for pool in found if isinstance(pool, Pool) and self._most(pool) is None]
        return [pool for pool in able if self.named(pool.sources[0].layer.node)]

    def named(self, node: ir.Node) -> bool:
        """Return whether ``only`` names a node, or is empty."""
        return not self.only or f"+{site_name(node)}+" in f"+{self.only}+"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every pool once, at its first layer; later ones are looked for in the graph as it is then."""
        done = set[str]()
        version = -1
        while version != module.version:
            version = module.version
            found = channels_of(module.graph)
            for node, text in found.refused.items():
                if self.named(node) and (name := node.outputs[0].name or "") not in done:
                    done.add(name)
                    yield Site(node, module, ctx, text)
            for pool in pools(found, ctx.target.channel_blocks):
                first = pool.sources[0] if isinstance(pool, Pool) else pool[0]
                name = first.layer.node.outputs[0].name or ""
                if name in done or not self.named(first.layer.node):
                    continue
                done.add(name)
                yield Site(first.layer.node, module, ctx, self._planned(pool, found, ctx))
                if module.version != version:
                    break

    def check(self, site: Site) -> str | None:
        return site.data if isinstance(site.data, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan: Pruning = site.data
        site.ctx.log.layers.append(plan.row())
        plan.apply(rw)

    def _planned(self, pool: Pool | tuple[Source, str], found: Channels, ctx: PassContext) -> Pruning | str:
        if not isinstance(pool, Pool):
            return pool[1]
        return self._most(pool) or pruning(pool, found, ctx.stats, self.ratio, self.energy)

    def _most(self, pool: Pool) -> str | None:
        """Return why no unit of a pool may go."""
        wanted = pool.total * self.ratio if self.ratio is not None else 1
        if pool.kept(wanted) < pool.total:
            return None
        return f"{pool.total} channels are no more than what should stay, in steps of {pool.step}"
