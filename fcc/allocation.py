"""Which change for which layer: each tried alone, chosen together under the budget, verified, and less where needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import ir
from .allocate import Option, solve
from .changes import Change, Changes
from .compiled import Runnable
from .data.dataset import Data, split
from .driver import Driver
from .errors import FccError
from .recipe import outputs_of
from .rewrite import Log, PassContext
from .rewrite.manager import Manager

PARTS = (0.7, 0.3)  # of the data to fit: what changes are fitted to, and what they are chosen on
MOST_HELD = 128
RESERVE = 1.1  # by which errors on the held samples stay below the budget: unseen ones differ
_ROUNDS = 6
_SECONDS = 0.2  # to time one change
_START = 0.1  # relative error that is tried first where the budget is in another metric
_LEAST_GAIN = 2.0  # standard errors by which a change must be faster


@dataclass
class Allocation:
    """The decision for a module, made once and applied as often as it is replayed.

    ``tried`` holds every change with its cost (bytes, or microseconds) and error; ``curve`` the choices that were made
    and measured: error that single changes predict, error of all together, and cost; ``why`` says why nothing is done.
    """

    driver: Driver
    fit: Data
    chosen: tuple[Change, ...] | None = None
    tried: dict[Change, Option] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    why: str = ""

    def __call__(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Apply the decision; the first time, make it."""
        fitted, held = self._parts
        if self.chosen is None:
            search = _Search(self, Changes(self.driver, module.clone(), ctx, fitted), held)
            self.chosen = search.decide()
        if self.chosen:
            Changes(self.driver, module, ctx, fitted).together(self.chosen, module, ctx, manager)

    def survey(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Try every change alone, and change nothing."""
        fitted, held = self._parts
        list(_Search(self, Changes(self.driver, module.clone(), ctx, fitted), held).options())

    @cached_property
    def _parts(self) -> tuple[Data, Data]:
        fitted, held = split(self.fit, PARTS)
        return fitted, held.take(MOST_HELD)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row of the report for every layer that something could be done to: what was, and every option."""
        taken = {(c.layer, str(c)) for c in self.chosen or ()}
        layers: dict[str, list[Change]] = {}
        for change in self.tried:
            layers.setdefault(change.layer, []).append(change)
        for layer, changes in layers.items():
            done = [str(c) for c in changes if (layer, str(c)) in taken]
            options = [{"name": o.name, "cost": o.cost, "error": o.error} for o in map(self.tried.__getitem__, changes)]
            yield {"name": layer, "what": " + ".join(done) or "kept", "options": options}


@dataclass
class _Search:
    """Tries changes alone, then together."""

    allocation: Allocation
    changes: Changes
    held: Data

    def decide(self) -> tuple[Change, ...]:
        """Return the changes of the cheapest choice that keeps the budget on the held samples, none if none does."""
        layers = list(self.options())
        if not layers:
            self.allocation.why = "no layer can be changed"
            return ()
        options = [[o for o, _ in layer] for layer in layers]
        best: tuple[Change, ...] = ()
        limit, seen = self._first_limit(), set[tuple[int, ...]]()
        for _ in range(_ROUNDS):
            picked = solve(options, limit)
            changes = tuple(c for layer, i in zip(layers, picked, strict=True) if (c := layer[i][1]) is not None)
            if not changes or tuple(picked) in seen:
                if best or not changes:
                    break
                limit *= 0.8
                continue
            seen.add(tuple(picked))
            used = RESERVE * self._used(changes)
            if used > 1:
                limit *= min(0.9, 1 / used)
            else:
                best = changes
                if used >= 0.7:
                    break
                limit *= 1.15
        if not best:
            self.allocation.why = "no change keeps the budget and gains anything"
        return best

    def options(self) -> Iterator[list[tuple[Option, Change | None]]]:
        """Yield what may be done to each layer, that it stays first."""
        base = self._cost(self.changes.module, None)
        for changes in self.changes.found().values():
            layer: list[tuple[Option, Change | None]] = [(Option("keep", base, 0.0), None)]
            for change in changes:
                option = self._alone(change, base)
                self.allocation.tried[change] = option
                if option.cost < base:
                    layer.append((option, change))
            if len(layer) > 1:
                yield layer

    def _alone(self, change: Change, base: float) -> Option:
        try:
            module = self.changes.alone(change)
            error = self._error(module)
            cost = self._cost(module, base) if math.isfinite(error) else base
        except FccError:  # the runtime refuses what came out: the layer stays
            return Option(str(change), base, math.inf)
        return Option(str(change), cost, max(error, 1e-12))

    def _error(self, module: ir.Module) -> float:
        """Return the relative error of the worst output on the held samples."""
        from .parity.compare import measure

        outputs = outputs_of(self.allocation.driver, module, self.held)
        meters, _ = measure(zip(self._references, outputs, strict=True))
        return max((m.row(0.0).rel for m in meters), default=0.0)

    @cached_property
    def _references(self) -> list[Any]:
        return list(outputs_of(self.allocation.driver, self.changes.module, self.held))

    def _used(self, changes: Sequence[Change]) -> float:
        """Return the share of the budget that changes together use up on the held samples."""
        from .parity.compare import measure
        from .parity.metrics import metric

        driver, o = self.allocation.driver, self.allocation.driver.options
        module = self.changes.module.clone()
        ctx = PassContext(driver.target, Log(strict=True), self.changes.ctx.shapes, costs=self.changes.ctx.costs)
        self.changes.together(changes, module, ctx, Manager())
        kind, budget = metric(o.metric), o.budget
        pairs = list(zip(self._references, outputs_of(driver, module, self.held), strict=True))
        meters, _ = measure(pairs)
        rel = max((m.row(0.0).rel for m in meters), default=0.0)
        tried = [self.allocation.tried[c].error for c in changes]
        point = {"predicted": math.hypot(*tried), "error": rel, "cost": self._cost(module, math.inf)}
        self.allocation.curve.append(point)
        own = [kind.call(a, b) for a, b in pairs] if kind.per_feed is not None else []
        figure = kind.value([m.row(0.0) for m in meters], own)
        if budget is None:  # without one, what is always asked for: 10 dB
            return rel / 10**-0.5
        if kind.lower:
            return figure / budget if budget > 0 else (math.inf if figure > 0 else 0.0)
        return 10 ** ((budget - figure) / 20)

    def _first_limit(self) -> float:
        o = self.allocation.driver.options
        return o.budget / RESERVE if o.budget is not None and o.metric == "rel" else _START

    def _cost(self, module: ir.Module, base: float | None) -> float:
        """Return bytes, or microseconds of one run; ``base`` where a gain over it is within the noise."""
        driver = self.allocation.driver
        if driver.options.objective == "size":
            return float(driver.emit(module).size)
        timing = self._timed(module)
        if base is None:
            return float(timing.a_us)
        if math.isinf(base):
            return float(timing.b_us)
        faster = timing.ratio + _LEAST_GAIN * timing.noise < 1
        return base * float(timing.ratio) if faster else base

    def _timed(self, module: ir.Module) -> Any:
        from .runtime import open_session, time_ratio

        o = self.allocation.driver.options
        how: Mapping[str, Any] = {"threads": o.threads, "custom_ops": o.custom_ops}
        with Runnable(self.allocation.driver.emit(module)) as model:
            session = open_session(model, **how)
        if module is self.changes.module:
            self._base = session
        return time_ratio(self._base, session, self.held.first(), budget_s=_SECONDS)
