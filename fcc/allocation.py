"""Which change for which layer: each tried alone, chosen together under the budget, verified, and less where needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from . import ir
from .allocate import Option, reasons, solve
from .changes import INT4, INT8, LOW_RANK, Change, Changes
from .compiled import Runnable
from .data.dataset import Data, in_memory, split
from .driver import Driver
from .errors import FccError
from .recipe import outputs_of
from .rewrite import Log, PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

PARTS = (0.7, 0.3)  # of the data to fit: what changes are fitted to, and what they are chosen on
MOST_HELD = 128
_KEEP = 1 << 28  # bytes of held samples that are not read again for every change
RESERVE = 1.1  # by which errors on the held samples stay below the budget: unseen ones differ
_ROUNDS = 8
ENOUGH = 0.8  # of the budget: a choice that uses so much is not improved on
_CLOSE = 1.05  # limits this near each other give the same choice
_MOST = 0.5  # relative error of a change alone that is worth looking at, where the budget is in another metric
# Kinds that are given up in turn where the choice for size would run slower: runtimes unpack what is stored at load.
SUSPECTS: tuple[frozenset[str], ...] = (frozenset(), frozenset({INT4, INT8}), frozenset({LOW_RANK}))
_SECONDS = 0.2  # to time one change
SLOWER = 1.02  # of the latency: a choice for size that is above runs slower
_START = 0.1  # relative error that is tried first where the budget is in another metric
_LEAST_GAIN = 2.0  # standard errors by which a change must be faster


@dataclass
class Allocation:
    """The decision for a module, made once and applied as often as it is replayed.

    ``tried`` holds every change with its cost (bytes, or microseconds) and error; ``curve`` the choices that were made
    and measured: error that single changes predict, error of all together, and cost; ``why`` says why nothing is done.
    ``base`` is the cost of the module as it was; ``refused`` says what was not measured, and why.
    """

    driver: Driver
    fit: Data
    chosen: tuple[Change, ...] | None = None
    tried: dict[Change, Option] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    why: str = ""
    base: float = 0.0
    refused: dict[Change, str] = field(default_factory=dict)
    stored: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __call__(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Apply the decision; the first time, make it."""
        fitted, held = self._parts
        if self.chosen is None:
            search = _Search(self, Changes(self.driver, module.clone(), ctx, fitted), held)
            self.chosen = search.decide()
        if self.chosen:
            self.stored = Changes(self.driver, module, ctx, fitted).together(self.chosen, module, ctx, manager)

    def last(self) -> Pipeline:
        """Return the passes that give weights their form in the file: they run after everything else."""
        return Changes.last(self.stored)

    def survey(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Try every change alone, and change nothing."""
        fitted, held = self._parts
        list(_Search(self, Changes(self.driver, module.clone(), ctx, fitted), held).options())

    @cached_property
    def _parts(self) -> tuple[Data, Data]:
        fitted, held = split(self.fit, PARTS)
        return fitted, in_memory(held.take(MOST_HELD), _KEEP)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row of the report for every layer that something could be done to: what was, and every option."""
        taken = {(c.layer, str(c)) for c in self.chosen or ()}
        layers: dict[str, list[Change]] = {}
        for change in self.tried:
            layers.setdefault(change.layer, []).append(change)
        for layer, changes in layers.items():
            done = [str(c) for c in changes if (layer, str(c)) in taken]
            found = [self.tried[c] for c in changes]
            why = reasons(found, done, self.base, self.most, self.driver.options.objective)
            options = [
                {"name": o.name, "cost": o.cost, "error": o.error, "why": self.refused.get(c, reason)}
                for c, o, reason in zip(changes, found, why, strict=True)
            ]
            yield {"name": layer, "what": " + ".join(done) or "kept", "cost": self.base, "options": options}

    @property
    def most(self) -> float:
        """What a change may lose alone: a choice with one that loses more is beyond the budget."""
        o = self.driver.options
        return o.budget if o.budget is not None and o.metric == "rel" else _MOST


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
        for suspects in SUSPECTS:
            layers = [kept for layer in layers if len(kept := list(_without(layer, suspects))) > 1]
            best = self._cheapest(layers) if layers else ()
            if not best:
                break
            if self.allocation.driver.options.objective == "latency" or not self._slower(best):
                return best
        self.allocation.why = self.allocation.why or "no change keeps the budget and gains anything"
        return ()

    def _cheapest(self, layers: Sequence[Sequence[tuple[Option, Change | None]]]) -> tuple[Change, ...]:
        """Return the best choice found by moving the limit for the errors of single changes, as those predict all."""
        options = [[o for o, _ in layer] for layer in layers]
        used: dict[tuple[int, ...], float] = {}
        best: tuple[Change, ...] = ()
        least = math.inf
        limit, high = self._first_limit()
        low = 0.0
        for _ in range(_ROUNDS):
            picked = tuple(solve(options, limit))
            changes = tuple(c for layer, i in zip(layers, picked, strict=True) if (c := layer[i][1]) is not None)
            if picked not in used:
                used[picked], cost = self._together(changes) if changes else (0.0, math.inf)
                if used[picked] <= 1 and cost < least:
                    best, least = changes, cost
            share = used[picked]
            low, high = (max(low, limit), high) if share <= 1 else (low, min(high, limit))
            if ENOUGH <= share <= 1 or high < _CLOSE * low:
                break
            guess = limit * (min(0.9, 1 / share) if share > 1 else min(2.0, max(1.15, 1 / max(share, 1e-9))))
            limit = guess if low < guess < high else math.sqrt(low * high) if low else high / 2
        return best

    def options(self) -> Iterator[list[tuple[Option, Change | None]]]:
        """Yield what may be done to each layer, that it stays first."""
        self.allocation.base = base = self._cost(self.changes.module, None)
        tried = self.allocation.tried
        for changes in self.changes.found().values():
            layer: list[tuple[Option, Change | None]] = [(Option("keep", base, 0.0), None)]
            for change in changes:
                less = [tried[c] for c in changes if c in tried and change.includes(c)]
                hopeless = any(o.error > self.allocation.most for o in less)
                if hopeless:
                    self.allocation.refused[change] = "not tried: less of it alone is beyond the budget"
                tried[change] = option = Option(str(change), base, math.inf) if hopeless else self._alone(change, base)
                if option.cost < base:
                    layer.append((option, change))
            if len(layer) > 1:
                yield layer

    def _alone(self, change: Change, base: float) -> Option:
        """Return cost and error of a change; the cheaper to find out is asked first, the other where it matters."""
        try:
            module = self.changes.alone(change)
            cost = self._cost(module, base) if self._by_size else base
            if self._by_size and cost >= base:
                self.allocation.refused[change] = "not smaller"
                return Option(str(change), base, math.inf)
            error = max(self._error(module), 1e-12)
            if not self._by_size and error <= self.allocation.most:
                cost = self._cost(module, base)
        except FccError:  # the runtime refuses what came out: the layer stays
            self.allocation.refused[change] = "the runtime does not run it"
            return Option(str(change), base, math.inf)
        return Option(str(change), cost if math.isfinite(error) else base, error)

    @property
    def _by_size(self) -> bool:
        return self.allocation.driver.options.objective == "size"

    def _error(self, module: ir.Module) -> float:
        """Return the relative error of the worst output on the held samples."""
        from .parity.compare import measure

        outputs = outputs_of(self.allocation.driver, module, self.held)
        meters, _ = measure(zip(self._references, outputs, strict=True))
        return max((m.row(0.0).rel for m in meters), default=0.0)

    @cached_property
    def _references(self) -> list[Any]:
        return list(outputs_of(self.allocation.driver, self.changes.module, self.held))

    def _together(self, changes: Sequence[Change]) -> tuple[float, float]:
        """Return the share of the budget that changes together use up on the held samples, with a reserve; and cost."""
        driver = self.allocation.driver
        module = self.changes.module.clone()
        ctx = PassContext(driver.target, Log(strict=True), self.changes.ctx.shapes, costs=self.changes.ctx.costs)
        stored = self.changes.together(changes, module, ctx, Manager())
        Manager().run(self.changes.last(stored), module, ctx)
        used, rel = self._used(module)
        predicted = math.hypot(*(self.allocation.tried[c].error for c in changes))
        cost = self._cost(module, math.inf)
        self.allocation.curve.append({"predicted": predicted, "error": rel, "cost": cost})
        return RESERVE * used, cost

    def _used(self, module: ir.Module) -> tuple[float, float]:
        """Return the share of the budget that a module uses up, and its relative error."""
        from .parity.compare import measure, without_state
        from .parity.metrics import metric

        driver, o = self.allocation.driver, self.allocation.driver.options
        kind, budget = metric(o.metric), o.budget
        pairs = list(zip(self._references, outputs_of(driver, module, self.held), strict=True))
        meters, _ = measure(pairs)
        rel = max((m.row(0.0).rel for m in meters), default=0.0)
        own = [kind.call(a, b) for a, b in pairs] if kind.per_feed is not None else []
        figure = kind.value(without_state((m.row(0.0) for m in meters), self.held), own)
        if budget is None:  # without one, what is always asked for: 10 dB
            return rel / 10**-0.5, rel
        if kind.lower:
            return (figure / budget if budget > 0 else (math.inf if figure > 0 else 0.0)), rel
        return 10 ** ((budget - figure) / 20), rel

    def _first_limit(self) -> tuple[float, float]:
        """Return the limit for the errors of single changes that is tried first, and one that is too high."""
        o = self.allocation.driver.options
        if o.budget is None or o.metric != "rel":
            return _START, math.inf
        return o.budget / RESERVE, 1.5 * o.budget

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

    def _slower(self, changes: Sequence[Change]) -> bool:
        """Return whether changes that save bytes cost time, where that can be measured."""
        from .runtime import available

        if self.allocation.driver.target.providers[0] not in available():
            return False
        module = self.changes.module.clone()
        self.changes.together(changes, module, replace(self.changes.ctx, log=Log(strict=True)), Manager())
        self._timed(self.changes.module)
        timing = self._timed(module)
        return bool(timing.ratio - _LEAST_GAIN * timing.noise > SLOWER)

    def _timed(self, module: ir.Module) -> Any:
        from .runtime import open_session, time_ratio

        o = self.allocation.driver.options
        how: Mapping[str, Any] = {"threads": o.threads, "custom_ops": o.custom_ops}
        with Runnable(self.allocation.driver.emit(module)) as model:
            session = open_session(model, **how)
        if module is self.changes.module:
            self._base = session
        return time_ratio(self._base, session, self.held.first(), budget_s=_SECONDS)


def _without(
    layer: Sequence[tuple[Option, Change | None]], kinds: frozenset[str]
) -> Iterator[tuple[Option, Change | None]]:
    yield from ((o, c) for o, c in layer if c is None or not kinds & set(c.steps))
