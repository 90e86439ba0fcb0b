"""What a changed module costs and loses, on samples held back, beside the module as it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import ir
from .compiled import Runnable
from .data.dataset import Data
from .driver import Driver
from .recipe import outputs_of

SLOWER = 1.02  # of the latency: above it a module is slower
LEAST_GAIN = 2.0  # standard errors by which a module must be faster
_SECONDS = 0.2  # to time one module


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
    """Measures modules beside the one that ``driver`` compiled so far."""

    driver: Driver
    module: ir.Module
    held: Data

    @property
    def by_size(self) -> bool:
        """Whether cost is bytes."""
        return self.driver.options.objective == "size"

    def error(self, module: ir.Module) -> float:
        """Return the relative error of the worst output."""
        from .parity.compare import measure

        meters, _ = measure(zip(self._references, outputs_of(self.driver, module, self.held), strict=True))
        return max((m.row(0.0).rel for m in meters), default=0.0)

    def used(self, module: ir.Module) -> tuple[float, float]:
        """Return the share of the budget that a module uses up, and its relative error."""
        from .parity.compare import measure, without_state
        from .parity.metrics import metric

        o = self.driver.options
        kind, budget = metric(o.metric), o.budget
        pairs = list(zip(self._references, outputs_of(self.driver, module, self.held), strict=True))
        meters, _ = measure(pairs)
        rel = max((m.row(0.0).rel for m in meters), default=0.0)
        own = [kind.call(a, b) for a, b in pairs] if kind.per_feed is not None else []
        figure = kind.value(without_state((m.row(0.0) for m in meters), self.held), own)
        if budget is None:  # without one, what is always asked for: 10 dB
            return rel / 10**-0.5, rel
        if kind.lower:
            return (figure / budget if budget > 0 else (math.inf if figure > 0 else 0.0)), rel
        return 10 ** ((budget - figure) / 20), rel

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
    def _references(self) -> list[Any]:
        return list(outputs_of(self.driver, self.module, self.held))


def predicted(errors: Iterable[float]) -> float:
    """Return the error of changes together: the root of the sum of squares."""
    return math.hypot(*errors)
