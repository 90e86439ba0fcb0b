"""Ways to compress a model, by name: fcc's levels and single techniques, the plain methods, onnxruntime's tools.

    O3 1% | O3 1% size | low-rank 0.25 | svd 0.25 | low-rank LSTM 32 | prune 0.5 | magnitude 0.5 | int8 | int4 | ...

``svd`` and ``magnitude`` take the ranks and channel counts of fcc's own, from the weights alone and without repair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from quantization import OURS, STATIC, Case, peers

import fcc
from fcc import ir, refit
from fcc.analysis.channels import channels_of
from fcc.compress.factorize import rank_for
from fcc.compress.low_rank import Layer, Spectrum, by_outputs, by_weight, grouped
from fcc.compress.obs import Elimination, Repair
from fcc.compress.rows import sides
from fcc.driver import Driver
from fcc.options import Options
from fcc.passes._pools import Pool, pools
from fcc.passes._pruning import Pruning
from fcc.passes._ranks import moves
from fcc.passes.factorize_linear import FactorizeLinear
from fcc.passes.prune_channels import PruneChannels
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.rewrite.engine import site_name
from fcc.rewrite.manager import Manager
from fcc.rewrite.pipeline import Pipeline

Steps = Callable[[Driver, ir.Module, PassContext, Manager, Any], None]
SHAPES = {"digits28_mlp": {"x": (64, 1, 28, 28)}}  # the batch that the acceptance of -O3 names


def low_rank(plain: bool, last: str, strength: dict[str, Any]) -> Steps:
    """Return factorize-linear, by the weights alone when ``plain``; ``last`` is the only type of layers, if any."""

    def steps(driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any) -> None:
        only = "+".join(site_name(n) for n in module.nodes() if n.op_type == last)
        with refit.Reference(driver, module, None if plain else fit) as reference:
            refit.low_rank(FactorizeLinear(**strength, only=only), reference, module, ctx, manager)

    return steps


def prune(plain: bool, ratio: float) -> Steps:
    """Return prune-channels, or magnitude pruning without repair to the same channel counts."""

    def steps(driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any) -> None:
        if plain:
            refit.compute_weights(module)
            manager.run(Pipeline((PruneMagnitude(ratio),)), module, ctx)
            return
        with refit.Reference(driver, module, fit) as reference:
            refit.prune(PruneChannels(ratio=ratio), reference, module, ctx, manager)

    return steps


@dataclass(frozen=True)
class Unrepaired(Pruning):
    """Channels go, and readers keep their weights."""

    @property
    def repairs(self) -> tuple[Repair, ...]:  # type: ignore[override]
        rows = [(r.view.matrices()[0], ~np.isin(r.units, self.gone)) for r in self.pool.readings]
        return tuple(Repair(w[stays], None, 0.0, 0.0, False) for w, stays in rows)


@dataclass(frozen=True)
class PruneMagnitude(SitePass):
    """The channels with the smallest weights go (Li et al. 2017, arXiv 1608.08710)."""

    name = "prune-magnitude"  # type: ignore[misc]
    ratio: float = 0.5

    def sites(self, module: ir.Module, ctx: PassContext) -> Any:
        done = set[str]()
        while True:
            found = channels_of(module.graph)
            known = [p for p in pools(found, ctx.target.channel_blocks) if isinstance(p, Pool) and p.name not in done]
            if not known:
                return
            pool = replace(known[0], readings=tuple(replace(r, blocks=None) for r in known[0].readings))
            done.add(pool.name)
            count = min(pool.total - pool.kept(pool.total * self.ratio), len(pool.roots))
            order = np.argsort(_sizes(pool, found.units.find(np.arange(len(found.units)))), kind="stable")
            if count:
                plan = Unrepaired(pool, found, (), Elimination(order, np.zeros(len(order) + 1)), count)
                yield Site(pool.sources[0].layer.node, module, ctx, plan)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        site.data.apply(rw)


def _sizes(pool: Pool, roots: Any) -> Any:
    """Return the sum of the absolute weights of every unit of a pool."""
    total = np.zeros(len(roots))
    for source in pool.sources:
        weight = ir.Module.constant(source.layer.weight)
        assert weight is not None
        rows = np.abs(np.moveaxis(weight, source.layer.out_axis, 0)).reshape(len(source.ids), -1).sum(axis=1)
        np.add.at(total, roots[source.ids], rows)
    return total[pool.roots]


def layer_errors(case: Case, ratio: float) -> tuple[int, float, float]:
    """Return how many layers there are, and the geometric mean of the errors of their outputs: fitted, and by SVD.

    Every layer alone, for what the original model reads there on development data.
    """
    driver = Driver(Options(), case.source)
    module = driver.optimized()
    views = [v for v in FactorizeLinear(ratio=ratio).layers(module) if not v.hidden]
    known = [dict[str, Any](), dict[str, Any]()]
    for data, moments in zip((case.fit, case.judge), known, strict=True):
        with refit.Reference(driver, module, data) as reference:
            for wave in refit.waves(module, views):
                moments.update(reference.moments(module, [refit.request_of(v) for v in wave]))
    logs = []
    for view in views:
        rank = rank_for(ratio, *view.sizes[::-1])
        weights, biases = view.matrices(), np.asarray(view.bias_row())
        for g, (w, b) in enumerate(zip(weights, biases, strict=True)):
            layer, fresh = (Layer(w, b, grouped(m[view.name], g), moves(view), *sides(view)) for m in known)  # type: ignore[misc]
            if layer.x == "input":
                both = by_outputs(layer, rank), by_weight(w)
                logs.append([np.log(_lost(s, rank, b, fresh)) for s in both])
    ours, plain = np.exp(np.mean(logs, axis=0))
    return len(logs), float(ours), float(plain)


def _lost(found: Spectrum, rank: int, bias: Any, layer: Layer) -> float:
    """Return the relative error of the outputs of factors on what a layer reads and writes."""
    a, b = found.factors(rank)
    xx, xy = (p.moment(False)[0] for p in (layer.moments.xx, layer.moments.xy))
    shift = found.bias(rank, bias)
    mean_x, mean_y = layer.moments.xx.a[0], layer.moments.xy.b[0]
    w = a @ b
    square = np.sum(w * (xx @ w)) + 2 * (mean_x @ w) @ shift + shift @ shift
    square += float(layer.moments.energy(False)[0]) - 2 * np.sum(w * xy) - 2 * mean_y @ shift
    return float(np.sqrt(max(square, 1e-18) / float(layer.moments.energy(layer.moves)[0])))


def built(case: Case, technique: str, folder: str) -> bytes:
    """Return the model that a technique makes of a case, fitted on its calibration split.

    Raises:
        ValueError: no technique has that name.
    """
    kind, *rest = technique.split()
    if kind in ("low-rank", "svd"):
        last, size = rest if len(rest) == 2 else ("", rest[0])
        strength = {"rank": int(size)} if size.isdigit() else {"ratio": float(size)}
        return _stepped(case, low_rank(kind == "svd", last, strength))
    if kind in ("prune", "magnitude"):
        return _stepped(case, prune(kind == "magnitude", float(rest[0])))
    if kind in ("O2", "O3"):
        return _level(case, int(kind[1]), rest)
    if technique in (w.removeprefix("fcc ") for w in OURS):
        return _compiled(case, force=True, allow_growth=True, **OURS[f"fcc {technique}"])
    for way, build in peers(case, folder):
        if way == technique:
            return build()[0]
    raise ValueError(f"no technique is named {technique!r}")


def _stepped(case: Case, technique: Steps) -> bytes:
    driver = Driver(Options(verify="off", force=True), case.source)

    def steps(module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        technique(driver, module, ctx, manager, case.fit)

    made: bytes = driver.replay(lossy=steps).product.emitted.to_bytes()
    return made


def _level(case: Case, level: int, rest: list[str]) -> bytes:
    if level == 2:
        return fcc.compile(case.source, allow_growth=True, verify="off").to_bytes()
    budget, objective = float(rest[0].rstrip("%")) / 100, (rest[1:] or ["latency"])[0]
    return _compiled(case, opt_level=3, budget=budget, objective=objective)


def _compiled(case: Case, **options: Any) -> bytes:
    given = {"calibration": case.fit, "state": case.state, "opt_shapes": SHAPES.get(case.name)}
    return fcc.compile(case.source, **given, **options).to_bytes()


ALL = (
    "O3 0.5%",
    "O3 1%",
    "O3 3%",
    "O3 1% size",
    *(f"{way} {ratio:g}" for ratio in (0.1, 0.25, 0.5) for way in ("low-rank", "svd")),
    *(f"{way} {ratio:g}" for ratio in (0.25, 0.5, 0.75) for way in ("prune", "magnitude")),
    *(w.removeprefix("fcc ") for w in OURS),
    *STATIC,
    "dynamic",
)
