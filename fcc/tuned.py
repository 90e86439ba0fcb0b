"""Measured compiles: choices are timed where no table answers, and the result is no slower than its source."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from . import ir
from .backends import Emitted
from .driver import Broken, Driver, Product
from .errors import TargetUnavailable
from .plan import Plan
from .report import Report
from .search.bisect import Build
from .trial import Trial
from .version import __version__

_ROUNDS = 4  # an answer may bring up new questions


def tune(driver: Driver, report: Report) -> None:
    """Time what passes ask and no table answers, for ``tune_seconds``; later replays know the answers.

    Raises:
        TargetUnavailable: the target's provider is not here.
    """
    from .runtime import available
    from .tune.stopwatch import measure, measure_all

    provider, o, costs = driver.target.providers[0], driver.options, driver.costs
    if provider not in available():
        raise TargetUnavailable(
            f"there is no {provider} here to time choices on",
            "tune on a machine of the target, and take its table along (--table FILE)",
            target=driver.target.name,
        )
    costs.collect, left, tried = True, o.tune_seconds, set()
    for _ in range(_ROUNDS):
        driver.attempt()
        new = {q: name for q, name in costs.open_questions.items() if q not in tried}
        before = driver.seconds.get("tune", 0.0)
        with driver.phase("tune"):
            for row in measure_all(
                new, left, lambda q, name: measure(q, name, target=o.target, provider=provider, threads=o.threads)
            ):
                costs.fresh.add(row)
                if driver.progress is not None:
                    driver.progress("tune", len(costs.fresh.rows), 0)
        left -= driver.seconds["tune"] - before
        tried |= set(new)
        if not new or left <= 0:
            break
    costs.collect = False
    if left <= 0:
        report.notes.append("not every choice was measured in the time given (--tune-seconds)")


def never_slower(driver: Driver, trial: Trial, report: Report, product: Product) -> Product:
    """Return the product, rewrites left out that make it slower than the source, or the source itself.

    Slower: by more than 5 % and 20 us beyond a second session of the source, in two runs (docs/architecture.md).
    """
    why = trial.slower(product.emitted)
    report.whole = dict(trial.raced)
    if not why:
        return product

    largest = max(product.emitted.size, report.before.bytes if report.before is not None else 0)

    def oracle(emitted: Emitted) -> bool:
        return emitted.size <= largest and trial.exact(emitted) and not trial.slower(emitted)

    first: Build[Product | Broken] = Build(product, tuple(product.log.applied))
    outcome = driver.settle(first, oracle, "it makes the model slower")
    if outcome is not None and isinstance(outcome.build.product, Product):
        for g in outcome.guilty:
            report.guilty.append({**asdict(g.rewrite), "reason": g.reason})
        report.whole = dict(trial.raced)
        return outcome.build.product
    unchanged = driver.unchanged()
    if unchanged is None:
        report.notes.append(f"the model is slower than its source: {why}")
        return product
    report.notes.append(f"every form of the model is slower than its source ({why}): the source itself was used")
    return unchanged


def plan_of(driver: Driver, report: Report, product: Product) -> Plan:
    """Return the choices of a compile as a plan that replays them."""
    from .tune.machine import cpu_class

    applied = {r.key for r in product.log.applied}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for key, c in driver.costs.choices.items():
        rows[key] = {"pass_name": c.pass_name, "site": c.site, "taken": key in applied, "how": c.how, "ratio": c.ratio}
    measured = {p.name for p in driver.pipeline.passes() if p.measured}
    for name, site in sorted(applied):
        if name in measured:
            rows.setdefault(
                (name, site), {"pass_name": name, "site": site, "taken": True, "how": "guess", "ratio": None}
            )
    skip = [{"pass_name": n, "site": s, "reason": _reason(report, n, s)} for n, s in sorted(driver.skip)]
    return Plan(
        target=driver.target.name,
        opt_level=driver.options.opt_level,
        source=report.source,
        version=__version__,
        cpu=cpu_class() if driver.target.name == "cpu" else "",
        table=driver.costs.digest,
        choices=tuple(rows.values()),
        skip=tuple(skip),
        whole=report.whole,
        layers=tuple({"name": x.get("name", ""), "what": x.get("what", "")} for x in report.layers),
        lossy=report.decision,
        model=digest(product.module) if report.decision else "",
    )


def digest(module: ir.Module) -> str:
    """Return a digest of the file a module was read from (external data by name and size), "" where it is gone."""
    return module.source.digest() if module.source is not None else ""


def _reason(report: Report, name: str, site: str) -> str:
    found = (g["reason"] for g in report.guilty if (g["pass_name"], g["site"]) in ((name, site), (name, "")))
    return str(next(found, "left out by an option or a plan"))
