"""Which change for which layer: each tried alone, chosen together under the budget, verified, and less where needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from . import ir
from .allocate import Option, reasons, solve
from .changes import INT4, INT8, KEEP, LOW_RANK, Change, Changes
from .data.dataset import Data, in_memory, split
from .driver import Driver
from .errors import FccError
from .gauge import Cost, Gauge
from .recipe import Recipe
from .rewrite import Log, PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

PARTS = (0.7, 0.3)  # of the data to fit: what changes are fitted to, and what they are chosen on
MOST_HELD = 128
_BEYOND = 1.01
BACK_OFF = 1.15  # times the reserve, where samples that were not held say that it was too little
_ROUNDS = 8
ENOUGH = 0.8  # of the budget: a choice that uses so much is not improved on
_CLOSE = 1.05  # limits this near each other give the same choice
_MOST = 0.5  # relative error of a change alone that is worth looking at, where the budget is in another metric
_START = 0.1  # relative error that is tried first where the budget is in another metric
_MOST_SHARED = 64  # layers of which each is timed as the only float one
# Kinds that are given up in turn where the choice for size would run slower: runtimes unpack what is stored at load.
SUSPECTS: tuple[frozenset[str], ...] = (frozenset(), frozenset({INT4, INT8}), frozenset({LOW_RANK}))
Layer = list[tuple[Option, Change | None]]


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
    recipe: Recipe | None = None
    reserve: float = 1.0
    _tries: _Search | None = None
    stored: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __call__(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Apply the decision; the first time, make it."""
        if self.chosen is None:
            self._tries = self._tries or self._search(module, ctx)
            self.chosen, self.recipe = self._tries.decide(), self._tries.changes.given
        if self.chosen:
            changes = Changes(self.driver, module, ctx, self._parts[0], self.recipe)
            self.stored = changes.together(self.chosen, module, ctx, manager)

    def last(self) -> Pipeline:
        """Return the passes that give weights their form in the file: they run after everything else."""
        return Changes.last(self.stored)

    def back_off(self) -> bool:
        """Let the next decision stay further below the budget; return whether there is anything to give up."""
        if not self.chosen or self._tries is None:
            return False
        used, _ = self._tries.known[self.chosen]
        self.reserve = max(BACK_OFF * self.reserve, _BEYOND / used if used > 0 else math.inf)
        self.chosen = None
        return True

    def survey(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Try every change alone, and change nothing."""
        _ = self._search(module, ctx).layers

    def _search(self, module: ir.Module, ctx: PassContext) -> _Search:
        fitted, held = self._parts
        changes = Changes(self.driver, module.clone(), ctx, fitted)
        held = in_memory(held.take(MOST_HELD), KEEP)
        seen = in_memory(fitted.take(MOST_HELD - min(MOST_HELD, held.length or MOST_HELD)), KEEP)
        return _Search(self, changes, Gauge(self.driver, changes.module, held, seen))

    @cached_property
    def _parts(self) -> tuple[Data, Data]:
        fitted, held = split(self.fit, PARTS)
        return fitted, held

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
    gauge: Gauge
    known: dict[tuple[Change, ...], tuple[float, float]] = field(default_factory=dict)

    def decide(self) -> tuple[Change, ...]:
        """Return the changes of the cheapest choice that keeps the budget on the held samples, none if none does."""
        layers = self.layers
        if not layers:
            self.allocation.why = "no layer can be changed"
        for suspects in SUSPECTS:
            layers = [kept for layer in layers if len(kept := _without(layer, suspects)) > 1]
            best = self._cheapest(layers) if layers else ()
            if not best:
                break
            if not self.gauge.by_size or not self.gauge.slower(self._made(best)):
                return best
        self.allocation.why = self.allocation.why or "no change keeps the budget and gains anything"
        return ()

    def _cheapest(self, layers: Sequence[Layer]) -> tuple[Change, ...]:
        """Return the best choice found by moving the limit for the errors of single changes, as those predict all."""
        options = [[o for o, _ in layer] for layer in layers]
        best: tuple[Change, ...] = ()
        least = math.inf
        limit, high = self._first_limit()
        low = 0.0
        for _ in range(_ROUNDS):
            picked = solve(options, limit)
            changes = tuple(c for layer, i in zip(layers, picked, strict=True) if (c := layer[i][1]) is not None)
            share, cost = self._together(changes) if changes else (0.0, math.inf)
            if share <= 1 and cost < least:
                best, least = changes, cost
            low, high = (max(low, limit), high) if share <= 1 else (low, min(high, limit))
            if ENOUGH <= share <= 1 or high < _CLOSE * low:
                break
            guess = limit * (min(0.9, 1 / share) if share > 1 else min(2.0, max(1.15, 1 / max(share, 1e-9))))
            limit = guess if low < guess < high else math.sqrt(low * high) if low else high / 2
        return best

    @cached_property
    def layers(self) -> list[Layer]:
        """Return what may be done to each layer, that it stays first; layers that nothing gains at are left out."""
        self.allocation.base = base = self.gauge.base
        tried, refused = self.allocation.tried, self.allocation.refused
        found, costs = list(self.changes.found().values()), dict[Change, Cost]()
        for changes in found:
            for change in changes:
                less = [tried[c] for c in changes if c in tried and change.includes(c)]
                hopeless = any(o.error > self.allocation.most for o in less)
                if hopeless:
                    refused[change] = "not tried: less of it alone is beyond the budget"
                error, costs[change] = (math.inf, Cost(base)) if hopeless else self._alone(change)
                tried[change] = Option(str(change), costs[change].value, error)
        costs |= self._beside_others(costs)
        layers = [self._layer([c for c in changes if costs[c].below(base)], costs) for changes in found]
        return [layer for layer in layers if len(layer) > 1]

    def _layer(self, changes: Sequence[Change], costs: Mapping[Change, Cost]) -> Layer:
        tried = self.allocation.tried
        tried |= {c: replace(tried[c], cost=costs[c].value) for c in changes}
        return [(Option("keep", self.gauge.base, 0.0), None), *((tried[c], c) for c in changes)]

    def _alone(self, change: Change) -> tuple[float, Cost]:
        """Return error and cost of a change; what is cheaper to find out is asked first, the other where it matters."""
        keep = Cost(self.gauge.base)
        try:
            module = self.changes.alone(change)
            cost = self.gauge.cost(module) if self.gauge.by_size else keep
            if self.gauge.by_size and not cost.below(keep.value):
                self.allocation.refused[change] = "not smaller"
                return math.inf, keep
            error = max(self.gauge.error(module), 1e-12)
            if not self.gauge.by_size and error <= self.allocation.most:
                cost = self.gauge.cost(module)
        except FccError:  # the runtime refuses what came out: the layer stays
            self.allocation.refused[change] = "the runtime does not run it"
            return math.inf, keep
        return error, cost

    def _beside_others(self, costs: Mapping[Change, Cost]) -> dict[Change, Cost]:
        """Return the costs of int8 beside int8 neighbours, which share what quantizes the tensors between them.

        What a layer gains is what the model that is int8 throughout takes longer when the layer alone stays float.
        """
        tried, base = self.allocation.tried, self.gauge.base
        names = [c.layer for c in costs if c.kind == INT8 and tried[c].error <= self.allocation.most]
        if self.gauge.by_size or not 2 <= len(names) <= _MOST_SHARED:
            return {}
        whole = self.gauge.session(self.changes.int8(names))
        found: dict[Change, Cost] = {}
        for name in names:
            timing = self.gauge.ratio(whole, self.gauge.session(self.changes.int8([n for n in names if n != name])))
            gain = Cost(base - timing.a_us * (timing.ratio - 1), timing.a_us * timing.noise)
            change = Change(name, INT8)
            shared = costs[change].value - gain.value
            if gain.value < costs[change].value:
                also = (
                    c for c in costs if c.layer == name and INT8 in c.steps and tried[c].error <= self.allocation.most
                )
                found |= {c: Cost(costs[c].value - shared, costs[c].noise) for c in also} | {change: gain}
        return found

    def _made(self, changes: Sequence[Change]) -> ir.Module:
        """Return the module with all changes."""
        driver = self.allocation.driver
        module = self.changes.module.clone()
        ctx = PassContext(driver.target, Log(strict=True), self.changes.ctx.shapes, costs=self.changes.ctx.costs)
        stored = self.changes.together(changes, module, ctx, Manager())
        Manager().run(self.changes.last(stored), module, ctx)
        return module

    def _together(self, changes: tuple[Change, ...]) -> tuple[float, float]:
        """Return the share of the budget that changes together use up on the held samples, with a reserve; and cost."""
        if changes not in self.known:
            module = self._made(changes)
            used, rel = self.gauge.used(module)
            expected = math.hypot(*(self.allocation.tried[c].error for c in changes))
            self.known[changes] = used, self.gauge.cost(module).value
            self.allocation.curve.append({"predicted": expected, "error": rel, "cost": self.known[changes][1]})
        used, cost = self.known[changes]
        return self.allocation.reserve * used, cost

    def _first_limit(self) -> tuple[float, float]:
        """Return the limit for the errors of single changes that is tried first, and one that is too high."""
        o = self.allocation.driver.options
        if o.budget is None or o.metric != "rel":
            return _START, math.inf
        return o.budget / (self.gauge.reserve * self.allocation.reserve), 1.5 * o.budget


def _without(layer: Layer, kinds: frozenset[str]) -> Layer:
    return [(o, c) for o, c in layer if c is None or not kinds & set(c.steps)]
