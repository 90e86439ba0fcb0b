"""What samples that nothing was fitted to or chosen on say about a model, at a confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fcc.allocate import agreement_bound, mean_bound
from fcc.allocate.certify import CONFIDENCE
from fcc.data.dataset import Data, Run
from fcc.data.spec import Feeds, Outputs

from .meter import Meter
from .metrics import Metric

MOST = 2000  # samples


@dataclass(frozen=True)
class Certified:
    """``figure`` of a metric on ``units`` independent samples (or sequences), and its ``bound`` at ``confidence``.

    The bound is one-sided; None where the metric has none (max_abs).
    """

    metric: str
    figure: float
    bound: float | None
    confidence: float
    units: int

    def keeps(self, metric: Metric, budget: float) -> bool:
        """Return whether the bound keeps a budget too."""
        return self.bound is not None and metric.within(self.bound, budget)


@dataclass
class _Unit:
    """One sample, or one sequence of a model with state: figures by output, and the user's."""

    meters: dict[str, Meter] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)

    def add(self, expected: Outputs, found: Outputs, metric: Metric) -> None:
        if metric.per_feed is not None:
            self.own.append(metric.call(expected, found))
        for name, y0 in expected.items():
            self.meters.setdefault(name, Meter(name)).add(y0, found[name])


def certify(
    reference: Run, candidate: Run, feeds: Data | Sequence[Feeds], metric: Metric, tries: int = 1
) -> Certified | None:
    """Return what the first 2,000 samples certify; None where there is no sample, or nothing to measure.

    With several ``tries`` judged on the same samples each is held to confidence 1 - (1 - 0.95) / tries (Bonferroni).
    Samples are independent; of a model with state, sequences are.
    """
    units = list(_units(reference, candidate, feeds, metric))
    confidence = 1 - (1 - CONFIDENCE) / max(tries, 1)
    state = feeds.state if isinstance(feeds, Data) else {}
    names = [n for n in (units[0].meters if units else ()) if metric.name != "agreement" or n not in state]
    found = [b for n in names if (b := _FIGURES.get(metric.name, _rel)([u.meters[n] for u in units], confidence))]
    if metric.per_feed is not None and units:
        found = [_mean([math.fsum(u.own) / len(u.own) for u in units], confidence)]
    if not found:
        return None
    figure, bound = max(found, key=lambda pair: (pair[0] if pair[1] is None else pair[1], pair[0]))
    if metric.name == "sqnr":
        figure, bound = _decibels(figure), None if bound is None else _decibels(bound)
    return Certified(metric.name, figure, bound, confidence, len(units))


def _units(reference: Run, candidate: Run, feeds: Data | Sequence[Feeds], metric: Metric) -> Iterator[_Unit]:
    if not isinstance(feeds, Data):
        for one in feeds:
            yield _unit(iter([(reference(one), candidate(one))]), metric)
        return
    data = feeds.take(MOST)
    if not data.state:
        for one in data:
            yield _unit(iter([(reference(one), candidate(one))]), metric)
        return
    for part in data.parts:
        sequence = replace(data, parts=(part,))
        sides = [(y for _, y in sequence.run(run)) for run in (reference, candidate)]
        yield _unit(zip(*sides, strict=True), metric)


def _unit(pairs: Iterator[tuple[Outputs, Outputs]], metric: Metric) -> _Unit:
    unit = _Unit()
    for expected, found in pairs:
        unit.add(expected, found, metric)
    return unit


Figure = tuple[float, float | None]


def _rel(meters: Sequence[Meter], confidence: float) -> Figure | None:
    errors, sizes = [m.square for m in meters], [m.reference for m in meters]
    total = math.fsum(sizes)
    figure = math.sqrt(math.fsum(errors) / total) if total else (math.inf if math.fsum(errors) else 0.0)
    return figure, mean_bound(errors, sizes, confidence)


def _agreement(meters: Sequence[Meter], confidence: float) -> Figure | None:
    counts = [m.decisions() for m in meters]
    total = sum(n for n, _ in counts)
    if not total:
        return None
    misses = total - sum(same for _, same in counts)
    if all(n == 1 for n, _ in counts):
        return misses / total, 1 - agreement_bound(total - misses, total, confidence)
    clean = sum(n == same for n, same in counts)  # rows of a sample depend on each other: samples count
    if clean == len(counts):
        return 0.0, 1 - agreement_bound(clean, clean, confidence)
    squared = mean_bound([n - same for n, same in counts], [n for n, _ in counts], confidence)
    return misses / total, squared**2


def _largest(meters: Sequence[Meter], confidence: float) -> Figure | None:
    return max(m.max_abs for m in meters), None


def _mean(values: Sequence[float], confidence: float) -> Figure:
    low = min(values)
    figure = math.fsum(values) / len(values)
    return figure, low + mean_bound([v - low for v in values], [1.0] * len(values), confidence) ** 2


def _decibels(rel: float) -> float:
    return -20 * math.log10(rel) if rel > 0 else math.inf


_FIGURES: Mapping[str, Callable[[Sequence[Meter], float], Figure | None]] = {
    "agreement": _agreement,
    "max_abs": _largest,
}
