"""Float64 decides between a source and a candidate that differ: the source, too, is only as good as its rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fcc.analysis.cost import node_cost
from fcc.data.spec import Feeds, Outputs, is_float
from fcc.errors import FccError
from fcc.ir import Module
from fcc.runtime import Source

from .meter import Meter, Row, leaves

BESIDE = "beside float64"
MOST_FLOPS = 5e10  # of all feeds that are settled: the evaluator is numpy


@dataclass
class Arbiter:
    """Settles rows beyond their limit, feed by feed, where a float64 run of the source exists.

    An output is right where it is no further from the float64 answer than its limit or than the source's own.
    """

    source: Source
    module: Module
    folder: str | None = None
    _wide: Any = field(default=None, init=False, repr=False)
    _answers: dict[int, Outputs] = field(default_factory=dict, init=False, repr=False)

    def settle(self, rows: Sequence[Row], runs: Iterable[tuple[Feeds, Outputs, Outputs]]) -> tuple[Row, ...]:
        """Return the rows, those that float64 clears within a limit; ``runs``: (feeds, source's outputs, candidate's).

        Nothing is settled where the model has no float64 form, is too large for as many as differ.
        """
        bad = {r.name: r for r in rows if not r.ok and np.isfinite(r.error)}
        if not bad or any(not r.ok and r.name not in bad for r in rows):
            return tuple(rows)
        settled: dict[str, Row] = {}
        try:
            for k, name, near, own in self._distances(bad, runs):
                # a source that is infinitely far off is no measure: it overflows, or the evaluator left its shape
                limit = max(bad[name].limit, own if np.isfinite(own) else 0.0)
                row = replace(bad[name], error=near, limit=limit, feed=k)
                row = replace(row, note=f"{BESIDE}, where the source's own error is {own:.2g}")
                settled[name] = max(settled.get(name, row), row, key=lambda r: r.strain)
        except FccError:
            return tuple(rows)
        return tuple(settled.get(r.name, r) for r in rows)

    def _distances(
        self, bad: Mapping[str, Row], runs: Iterable[tuple[Feeds, Outputs, Outputs]]
    ) -> Iterable[tuple[int, str, float, float]]:
        """Yield (feed, output, error of the candidate, of the source) beside float64, where they differ too much."""
        left = MOST_FLOPS
        for k, (feeds, expected, found) in enumerate(runs):
            differing = [n for n, row in bad.items() if _error(expected[n], found[n]) > row.limit]
            if not differing:
                continue
            left -= self._flops
            if left < 0:
                raise FccError("the model is too large for float64 to settle so many samples")
            answer = self._answer(k, feeds)
            for name in differing:
                yield k, name, _error(answer[name], found[name]), _error(answer[name], expected[name])

    def distances(self, runs: Iterable[tuple[Feeds, Outputs, Outputs]]) -> dict[str, tuple[float, float]]:
        """Return output -> (error of the source, of the candidate) beside float64, the largest over the feeds.

        Raises:
            FccError: the model has no float64 form, or is too large for one feed.
        """
        left, worst = MOST_FLOPS, dict[str, tuple[float, float]]()
        for k, (feeds, expected, found) in enumerate(runs):
            left -= self._flops
            if left < 0 and not worst:
                raise FccError("the model is too large for float64")
            if left < 0:
                break
            answer = self._answer(k, feeds)
            for name in expected.keys() & found.keys() & answer.keys():
                own, other = _error(answer[name], expected[name]), _error(answer[name], found[name])
                known = worst.get(name, (0.0, 0.0))
                worst[name] = (max(known[0], own), max(known[1], other))
        return worst

    @cached_property
    def _flops(self) -> int:
        return sum(node_cost(n).flops for n in self.module.graph)

    def _answer(self, feed: int, feeds: Feeds) -> Outputs:
        if feed not in self._answers:
            if self._wide is None:
                from fcc.runtime.wide import Wide

                self._wide = Wide(self.source, self.folder)
            self._answers[feed] = self._wide.run(feeds)
        return self._answers[feed]


def _error(reference: Any, value: Any) -> float:
    """Return max|value - reference| / max|reference|, element types of floats aside."""
    meter = Meter("")
    meter.add(*({path: _plain(a) for path, a in leaves(v)} for v in (reference, value)))
    return meter.error


def _plain(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return a.astype(np.float64) if is_float(a.dtype) else a
