"""Bookkeeping of a compile: sizes of modules, and what the passes did, for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict

from . import ir
from .analysis.cost import module_cost
from .analysis.liveness import peak_bytes
from .driver import Driver, Product
from .report import PassRow, Report, Size
from .version import __version__


def measure(module: ir.Module, symbols: Mapping[str, int], size: int) -> Size:
    """Return the size of a module whose file has ``size`` bytes, symbols bound (default 1)."""
    cost = module_cost(module, symbols)
    nodes = sum(1 for _ in module.nodes())
    return Size(nodes, cost.parameters, size, cost.flops, peak_bytes(module.graph, symbols))


def describe(report: Report, driver: Driver, product: Product) -> None:
    """Write what happened in a compile into its report."""
    log = product.log
    seconds: dict[str, float] = defaultdict(float)
    for record in product.records:
        seconds[record.name] += record.seconds
    counts, refusals = log.counts(), defaultdict(list)
    for (name, reason), n in sorted(log.refusals.items(), key=lambda item: -item[1]):
        refusals[name].append((reason, n))
    names = list(dict.fromkeys([*seconds, *counts]))
    report.passes = [PassRow(n, counts[n], round(seconds[n], 6), tuple(refusals[n])) for n in names]
    report.rewrites = [asdict(r) for r in log.applied]
    report.notes += [n for n in (*product.module.notes, *log.notes) if n not in report.notes]
    report.notes += [f"pass {f.pass_name} failed at {f.site}: {f.reason}" for f in log.failures]
    report.version = __version__
    report.pipeline = str(driver.pipeline)
    report.seconds = {k: round(v, 6) for k, v in driver.seconds.items()}
