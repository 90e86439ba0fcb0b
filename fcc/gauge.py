"""What a changed module costs and loses, on samples held back, beside the module as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import ir
from .allocate import mean_bound
from .compiled import Runnable
from .data.dataset import Data
from .driver import Driver
from .recipe import outputs_of

_TAIL = 3.0  # times the budget that a single sample may lose: what breaks rare samples breaks rare ones unseen
_LEAST_SIZE = 0.1  # of the mean square of the outputs: smaller samples have no relative error
_DIFFER = 1.5  # over the root of the number of samples: how much more unseen ones may lose
SLOWER = 1.02  # of the latency: above it a module is slower
LEAST_GAIN = 2.0  # standard errors by which a module must be faster
_SECONDS = 0.2  # to time one module


Pair = tuple[Any, Any]
Samples = list[tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Cost:
    """Bytes, or microseconds of one run with their standard error."""

    value: float
    noise: float = 0.0

    def below(self, other: float) -> bool:
        """Return whether it is less, beyond the noise."""
        return self.value + LEAST_GAIN * self.noise < other


@dataclass
class Gauge:
    """Measures modules beside the one that ``driver`` compiled so far, on samples ``held`` back and some ``seen``."""

    driver: Driver
    module: ir.Module
    held: Data
    seen: Data

    @cached_property
    def reserve(self) -> float:
        """By how much errors stay below the budget, since unseen samples differ: the more, the fewer there are."""
        return 1 + _DIFFER / math.sqrt(max(1, sum(map(len, self._references))))

    @property
    def by_size(self) -> bool:
        """Whether cost is bytes."""
        return self.driver.options.objective == "size"

    def error(self, module: ir.Module) -> float:
        """Return the relative error of the worst output: on samples held back, on all, or a third of one sample's."""
        held, seen = self._compared(module)
        return max(_worst(held), _worst([*held, *seen]), _tail(_by_output([*held, *seen])))

    def used(self, module: ir.Module) -> tuple[float, float]:
        """Return the share of the budget that a module uses up, and its relative error.

        Of a relative error the bound at 95 % over all samples counts too, and a third of what one sample loses.
        """
        from .parity.compare import measure, without_state
        from .parity.metrics import metric

        o = self.driver.options
        kind, budget = metric(o.metric), o.budget
        held, seen = self._compared(module)
        rel = max(_worst(held), _worst([*held, *seen]))
        if budget is None:  # without one, what is always asked for: 10 dB
            return self.reserve * rel / 10**-0.5, rel
        if o.metric == "rel":
            samples = _by_output([*held, *seen])
            most = max(self.reserve * rel, _bound(samples), _tail(samples))
            return most / budget if budget > 0 else _all_or_none(rel), rel
        meters, _ = measure(held)
        own = [kind.call(a, b) for a, b in held] if kind.per_feed is not None else []
        figure = kind.value(without_state((m.row(0.0) for m in meters), self.held), own)
        if kind.lower:
            return self.reserve * figure / budget if budget > 0 else _all_or_none(figure), rel
        return self.reserve * 10 ** ((budget - figure) / 20), rel

    def _compared(self, module: ir.Module) -> tuple[list[Pair], list[Pair]]:
        """Return pairs of outputs, before and after: of samples held back, and of those that were fitted."""
        found = [list(outputs_of(self.driver, module, data)) for data in (self.held, self.seen)]
        first, second = (list(zip(*both, strict=True)) for both in zip(self._references, found, strict=True))
        return first, second

    @cached_property
    def base(self) -> float:
        """The cost of the module as it was."""
        return self._size(self.module) if self.by_size else float(self.ratio(self._session, self._session).a_us)

    def cost(self, module: ir.Module) -> Cost:
        """Return the cost of a module; of latency, as a share of what the module as it was takes at the same time."""
        if self.by_size:
            return Cost(self._size(module))
        timing = self.ratio(self._session, self.session(module))
        return Cost(self.base * timing.ratio, self.base * timing.noise)

    def slower(self, module: ir.Module) -> bool:
        """Return whether a module takes longer, where that can be measured."""
        from .runtime import available

        if self.driver.target.providers[0] not in available():
            return False
        timing = self.ratio(self._session, self.session(module))
        return bool(timing.ratio - LEAST_GAIN * timing.noise > SLOWER)

    def session(self, module: ir.Module) -> Any:
        """Return a session of a module."""
        from .runtime import open_session

        o = self.driver.options
        how: Mapping[str, Any] = {"threads": o.threads, "custom_ops": o.custom_ops}
        with Runnable(self.driver.emit(module)) as model:
            return open_session(model, **how)

    def ratio(self, a: Any, b: Any) -> Any:
        """Return the Timing of two sessions, one run each in turn, at the opt-shape."""
        from .runtime import time_ratio

        return time_ratio(a, b, self._feed, budget_s=_SECONDS)

    def _size(self, module: ir.Module) -> float:
        return float(self.driver.emit(module).size)

    @cached_property
    def _session(self) -> Any:
        return self.session(self.module)

    @cached_property
    def _feed(self) -> Any:
        from .data.usual import at_sizes

        return at_sizes(self.held.first(), self.driver.options.opt_shapes, self._session.run)

    @cached_property
    def _references(self) -> list[list[Any]]:
        return [list(outputs_of(self.driver, self.module, data)) for data in (self.held, self.seen)]


def _worst(pairs: Sequence[Pair]) -> float:
    from .parity.compare import measure

    meters, _ = measure(pairs)
    return max((m.row(0.0).rel for m in meters), default=0.0)


def _by_output(pairs: Sequence[Pair]) -> Samples:
    """Return ||y - y0||^2 and ||y0||^2 of every sample, by output."""
    from .parity.compare import measure

    found: dict[str, tuple[list[float], list[float]]] = {}
    for pair in pairs:
        for m in measure([pair])[0]:
            squares, sizes = found.setdefault(m.name, ([], []))
            squares.append(m.square)
            sizes.append(m.reference)
    return list(found.values())


def _bound(samples: Samples) -> float:
    """Return what the relative error of the worst output is at most, at 95 %."""
    return max((mean_bound(squares, sizes) for squares, sizes in samples), default=0.0)


def _tail(samples: Samples) -> float:
    """Return the relative error of the sample that loses most, over 3; samples near zero tell nothing."""
    found = [0.0]
    for squares, sizes in samples:
        least = _LEAST_SIZE * math.fsum(sizes) / len(sizes)
        found += [math.sqrt(e / n) for e, n in zip(squares, sizes, strict=True) if n > least]
    return max(found) / _TAIL


def _all_or_none(error: float) -> float:
    return math.inf if error > 0 else 0.0
