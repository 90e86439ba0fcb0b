"""Metrics for budgets: one figure for a whole comparison, by name or from the user's own function."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcc.data.spec import Outputs
from fcc.errors import OptionError, did_you_mean

from .meter import Row

PerFeed = Callable[[Outputs, Outputs], float]


@dataclass(frozen=True)
class Metric:
    """A figure of the worst output.  ``lower`` tells whether lower is better.

    A user's metric has ``per_feed``: called with (reference, candidate) outputs by name, its mean over feeds counts.
    """

    name: str
    of_row: Callable[[Row], float | None]
    lower: bool = True
    per_feed: PerFeed | None = None

    def value(self, rows: Sequence[Row], own: Sequence[float] = ()) -> float:
        """Return the worst figure over the outputs, or the mean of the user's own figures.

        Raises:
            OptionError: no output has such a figure.
        """
        if self.per_feed is not None:
            return math.fsum(own) / len(own) if own else 0.0
        figures = [f for f in (self.of_row(r) for r in rows if r.judged) if f is not None]
        if not figures and any(r.judged for r in rows):
            raise OptionError(f"metric {self.name}: no output has classes or probabilities", "use --metric rel")
        if not figures:
            return 0.0 if self.lower else math.inf
        return max(figures) if self.lower else min(figures)

    def call(self, reference: Outputs, candidate: Outputs) -> float:
        """Return the user's figure for one feed.

        Raises:
            OptionError: the user's function failed.
        """
        assert self.per_feed is not None
        try:
            return float(self.per_feed(reference, candidate))
        except Exception as e:
            raise OptionError(f"metric {self.name} failed: {type(e).__name__}: {e}", "check the function") from e

    def within(self, value: float, budget: float) -> bool:
        """Return whether a figure keeps a budget: at most it, for ``sqnr`` at least it."""
        return value <= budget if self.lower else value >= budget


METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric("rel", lambda r: r.rel),
        Metric("agreement", lambda r: None if r.agreement is None else 1 - r.agreement),
        Metric("sqnr", lambda r: r.sqnr, lower=False),
        Metric("max_abs", lambda r: r.max_abs),
    )
}


def metric(name: str) -> Metric:
    """Return a metric by name, or the user's ``module:function`` or ``file.py:function``.

    ``rel`` is ||y - y0||2 / ||y0||2 pooled over samples; ``agreement`` the part of rows whose largest element moves
    (of probabilities alone: that change sides of 1/2; of outputs fed back as state: nothing);
    ``sqnr`` in dB; ``max_abs`` the largest difference.  A function gets (reference, candidate), returns a float.

    Raises:
        OptionError: no such metric, module or function.
    """
    if name in METRICS:
        return METRICS[name]
    where, colon, function = name.rpartition(":")
    if not colon:
        raise OptionError(f"no metric {name!r}", did_you_mean(name, METRICS) + ", or module:function")
    found = getattr(_load(where), function, None)
    if not callable(found):
        raise OptionError(f"{where} has no function {function!r}", "write module:function")
    return Metric(name, lambda row: None, per_feed=found)


def _load(where: str) -> Any:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except Exception as e:
        raise OptionError(f"cannot load the metric from {where}: {e}", "write module:function") from e
