"""Low rank and structured pruning, row by row: error, agreement, latency and bytes against the plain methods.

    FCC_ZOO=../shared python benchmarks/compression.py [MODEL ...] [--limit N] [--rounds N] [--no-time]

Fitted on the calibration split of FCC_ZOO/tools/feeds.py, judged on its development split, which is never fitted.
Every row of fcc is followed by the plain method at equal parameters: the SVD of the weights for a low rank, the
channels of the largest weights without repair for pruning. Errors and agreement are of the first output against the
source with optimizations off; latency is the median ratio of interleaved runs to fcc -O2 (one thread); bytes are those
of the file over the source's; seconds those of the compile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import fcc
from fcc import ir, refit
from fcc.analysis.channels import channels_of
from fcc.compress.factorize import rank_for
from fcc.compress.low_rank import Layer, Spectrum, by_outputs, by_weight, grouped
from fcc.compress.obs import Elimination, Repair
from fcc.compress.rows import sides
from fcc.data.dataset import Data, open_data
from fcc.data.spec import inputs_of
from fcc.driver import Driver
from fcc.frontend import read
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
from fcc.runtime import open_session

ZOO = Path(os.environ.get("FCC_ZOO", "../shared"))
STATE = {"silero_vad_16k_op15": {"stateN": "state"}}
COLUMNS = "{:21} {:34} {:>7} {:>9} {:>8} {:>7} {:>7} {:>7}  {}"
Steps = Callable[[Driver, ir.Module, PassContext, Manager, Any], None]


@dataclass(frozen=True)
class Technique:
    """A row: what to do, and the figure that is wanted, in words."""

    name: str
    steps: Steps
    wanted: str = ""


def low_rank(wanted: str = "", *, plain: bool = False, last: str = "", **strength: Any) -> Technique:
    """Return a row of factorize-linear, by the weights alone when ``plain``; ``last`` is the only type of layers."""

    def steps(driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any) -> None:
        only = "+".join(site_name(n) for n in module.nodes() if n.op_type == last)
        with refit.Reference(driver, module, None if plain else fit) as reference:
            refit.low_rank(FactorizeLinear(**strength, only=only), reference, module, ctx, manager)

    how = ",".join(f"{k}={v:g}" for k, v in strength.items()) + (f" {last}" if last else "")
    return Technique(f"{'plain SVD' if plain else 'low rank'} {how}", steps, wanted)


def prune(ratio: float, wanted: str = "", *, plain: bool = False) -> Technique:
    """Return a row of prune-channels, or of magnitude pruning without repair of the same channels."""

    def steps(driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any) -> None:
        if plain:
            refit._compute_weights(module)
            manager.run(Pipeline((PruneMagnitude(ratio),)), module, ctx)
            return
        with refit.Reference(driver, module, fit) as reference:
            refit.prune(PruneChannels(ratio=ratio), reference, module, ctx, manager)

    return Technique(f"{'magnitude' if plain else 'prune'} ratio={ratio:g}", steps, wanted)


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


def pairs(make: Callable[..., Technique], *rows: tuple[float, str]) -> list[Technique]:
    """Return rows by ratio, each before its plain method."""
    known = {low_rank: "ratio"}
    named = [({known[make]: r} if make in known else {"ratio": r}, text) for r, text in rows]
    return [t for given, text in named for t in (make(wanted=text, **given), make(plain=True, **given))]


CASES: dict[str, list[Technique]] = {
    "digits28_mlp": [
        *pairs(low_rank, (0.1, "rel .035, agree 1.000"), (0.25, "rel .013 (plain .084)"), (0.5, "<= 1/3 of plain")),
        *pairs(prune, (0.5, "agree >= .998"), (0.25, "agree .995")),
    ],
    "digits28_cnn": [
        *pairs(low_rank, (0.1, "agree >= .97 (plain .59)"), (0.25, "agree .993, rel .079")),
        *pairs(prune, (0.5, "agree .997"), (0.25, "agree >= .98 (magnitude .20)")),
    ],
    "mlir_mnist": [*pairs(low_rank, (0.5, "<= 1/3 of plain"))],
    "burn_mnist": [*pairs(prune, (0.5, "agree .873 (magnitude .28)"), (0.25, "agree .732"))],
    "superres": [*pairs(low_rank, (0.5, "")), *pairs(prune, (0.5, "rel <= .006, >= 2.5x faster"), (0.25, "rel .012"))],
    "silero_vad_16k_op15": [
        *pairs(low_rank, (0.1, "agree >= .92 (plain .165)"), (0.25, "agree .989"), (0.5, "agree .992")),
        low_rank("agree >= .995", rank=32, last="LSTM"),
        low_rank("agree .978", rank=32, last="LSTM", plain=True),
        *pairs(prune, (0.5, "agree .990"), (0.25, "agree .973")),
    ],
    "ultraface_rfb320": [*pairs(low_rank, (0.5, "<= 1/3 of plain")), *pairs(prune, (0.75, ""))],
    "magika_standard_v3_3": [*pairs(low_rank, (0.75, "agree .80: to be refused"))],
}


def samples(name: str, split: str, limit: int, module: ir.Module, folder: str) -> Data:
    """Return the samples of a split, written by the tool of the zoo and streamed from there."""
    target = Path(folder) / split
    tool = [sys.executable, str(ZOO / "tools" / "feeds.py"), name, str(target), "--split", split, "--limit", str(limit)]
    subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)
    return open_data(target, inputs_of(module), state=STATE.get(name))


def compiled(source: bytes, technique: Technique, fit: Data) -> tuple[bytes, float, float]:
    """Return the model, the share of parameters that is left of -O2's, and the seconds it took."""
    start = time.perf_counter()
    driver = Driver(Options(verify="off", force=True), source)

    def steps(module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        technique.steps(driver, module, ctx, manager, fit)

    product = driver.replay(lossy=steps).product
    seconds = time.perf_counter() - start
    exact = driver.replay().product
    share = parameters(product.module) / parameters(exact.module)
    return product.emitted.to_bytes(), share, seconds


def parameters(module: ir.Module) -> int:
    """Return the number of elements of all initializers."""
    values = [v for g in module.graphs() for v in g.initializers.values()]
    return sum(int(np.prod([d for d in ir.dims_of(v) or () if isinstance(d, int)])) for v in values)


def outputs(model: bytes, data: Data, optimize: bool = True) -> Any:
    """Return the first output of every sample, one per row, in a closed loop where there is state."""
    session = open_session(model, optimize=optimize)
    name = session.outputs[0].name
    return np.stack([found[name].reshape(-1) for _, found in data.run(session.run)])


def agreement(a: Any, b: Any, classes: int) -> float:
    """Return the share of rows with the same largest class, or on the same side of one half."""
    if classes == 1:
        return float(np.mean((a > 0.5) == (b > 0.5)))
    a, b = (x.reshape(len(x), -1, classes).argmax(axis=2) for x in (a, b))
    return float(np.mean(a == b))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(CASES))
    parser.add_argument("--limit", type=int, default=1000, help="samples of each split")
    parser.add_argument("--seconds", type=float, default=1.0, help="for the latency of a row")
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--layers", type=float, metavar="RATIO", help="errors of single layers instead, at this ratio")
    given = parser.parse_args()
    print(
        COLUMNS.format("model", "what", "params", "rel", "agree", "latency", "bytes", "compile", "wanted"), flush=True
    )
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            if given.layers:
                print(name, layer_errors(name, given.layers, given.limit, folder), flush=True)
                continue
            case(name, given.limit, 0.0 if given.no_time else given.seconds, folder)


def case(name: str, limit: int, seconds: float, folder: str) -> None:
    """Print the rows of one model."""
    source = (ZOO / "models" / f"{name}.onnx").read_bytes()
    module = read(source)
    fit, development = (samples(name, split, limit, module, folder) for split in ("calibration", "development"))
    exact = fcc.compile(source, verify="off").to_bytes()
    true = outputs(source, development, optimize=False)
    classes = int((open_session(source).run(development.first())[open_session(source).outputs[0].name]).shape[-1])
    for technique in CASES[name]:
        model, share, took = compiled(source, technique, fit)
        found = outputs(model, development)
        rel = float(np.linalg.norm(found - true) / np.linalg.norm(true))
        ratio = latency(exact, model, development, seconds) if seconds else float("nan")
        figures = (f"{share:.3f}", f"{rel:.4f}", f"{agreement(true, found, classes):.4f}")
        rest = (f"{ratio:.2f}".replace("nan", ""), f"{len(model) / len(source):.3f}", f"{took:.1f} s", technique.wanted)
        print(COLUMNS.format(name, technique.name, *figures, *rest), flush=True)


def layer_errors(name: str, ratio: float, limit: int, folder: str) -> str:
    """Return the geometric mean, over layers, of the error of their outputs on development data: fitted, and by SVD.

    Every layer alone, for what the original model reads there.
    """
    source = (ZOO / "models" / f"{name}.onnx").read_bytes()
    driver = Driver(Options(), source)
    module = driver.optimized()
    fit, development = (samples(name, split, limit, module, folder) for split in ("calibration", "development"))
    views = [v for v in FactorizeLinear(ratio=ratio).layers(module) if not v.hidden]
    known = [dict[str, Any](), dict[str, Any]()]
    for data, moments in zip((fit, development), known, strict=True):
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
    return f"{len(logs)} layers at ratio {ratio:g}: fitted {ours:.4f}, plain SVD {plain:.4f}, {ours / plain:.2f} of it"


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


def latency(before: bytes, after: bytes, data: Data, seconds: float) -> float:
    """Return the median ratio of interleaved runs."""
    from fcc.runtime import time_ratio

    sessions = [open_session(m) for m in (before, after)]
    return time_ratio(*sessions, data.first(), budget_s=seconds).ratio


if __name__ == "__main__":
    main()
