"""What may be done to one layer: prune its channels, lower its rank, quantize it; each tried alone, then together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import ir, passes
from .driver import Driver
from .recipe import Recipe, calibrated
from .recipe import apply as apply_recipe
from .recipe import layers as quantizable
from .refit import Reference, compute_weights, reading_of, request_of, waves, within_memory
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

RATIOS = (0.12, 0.25, 0.4, 0.6)  # of the parameters of a layer, for a low rank
KEPT = (0.25, 0.5, 0.75)  # of the channels of a pool
PRUNE, LOW_RANK, INT8, INT4 = "prune", "low rank", "int8", "int4"
BOTH = "low rank + int8"
KINDS = (PRUNE, LOW_RANK, INT8, INT4, BOTH)


@dataclass(frozen=True)
class Change:
    """One thing to do with one layer (or with the channels of the layers that go together, named by the first)."""

    layer: str
    kind: str
    strength: float = 0.0

    def __str__(self) -> str:
        name, *more = self.kind.split(" + ")
        return " + ".join([f"{name} {self.strength:g}" if self.strength else name, *more])


@dataclass
class Changes:
    """The changes of a module: statistics of the module as it is are gathered once, for all that are tried alone."""

    driver: Driver
    module: ir.Module
    ctx: PassContext
    fit: Any
    _moments: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    _known: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        compute_weights(self.module)

    def found(self) -> dict[tuple[str, str], list[Change]]:
        """Return what may be done: by layer, and by pool of channels apart from that."""
        options: dict[tuple[str, str], list[Change]] = {}
        for pool in _pruner(KEPT[0]).pools(self.module, self.ctx):
            options["channels", pool.name] = [Change(pool.name, PRUNE, k) for k in KEPT]
        for view in _factorizer(RATIOS[-1]).layers(self.module):
            options["layer", view.name] = []
        for ratio in RATIOS:
            for view in _factorizer(ratio).layers(self.module):
                options["layer", view.name].append(Change(view.name, LOW_RANK, ratio))
        integers = self.driver.options.precision is None  # --precision fp32 keeps numbers as they are
        eight = quantizable(Recipe(), self.module, self.ctx) if integers and self.driver.target.qdq is not None else []
        four = _int4().layers(self.module, self.ctx) if integers else []
        for kind, names in ((INT8, eight), (INT4, four)):
            for name in names:
                options.setdefault(("layer", name), []).append(Change(name, kind))
        for name in eight:
            changes = options["layer", name]
            changes += [Change(name, BOTH, c.strength) for c in changes if c.kind == LOW_RANK]
        return options

    def alone(self, change: Change) -> ir.Module:
        """Return the module with one change, everything else as it is."""
        module = self.module.clone()
        ctx, manager = replace(self.ctx, log=self.driver.log()), Manager()
        if change.kind in (PRUNE, LOW_RANK, BOTH):
            step = (_pruner if change.kind == PRUNE else _factorizer)(change.strength)
            before = set(quantizable(Recipe(), module, ctx)) if change.kind == BOTH else set()
            _run(step, [change.layer], module, replace(ctx, stats=self._moments_of(change)), manager)
            if change.kind == BOTH:
                self._quantize([change], _factors(before, module, ctx), module, ctx, manager, {})
        else:
            self._quantize([change], set(), module, ctx, manager, self._ranges())
        return module

    def _ranges(self) -> dict[Any, Any]:
        """Return what recipes keep from one another: the ranges of all layers of the module as it is."""
        if not self._known and self.driver.target.qdq is not None:
            tensors = passes.BY_NAME["insert-qdq"]().tensors(self.module, self.ctx)  # type: ignore[attr-defined]
            self._known[Recipe().smooth] = calibrated(self.driver, self.module, self.fit, tensors=tensors)
        return self._known

    def together(self, changes: Sequence[Change], module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Make changes in the order of the layers, each fitted to what is left of the ones before it (anchored)."""
        compute_weights(module)
        strengths = {c.layer: c.strength for c in changes if c.kind == PRUNE}
        with Reference(self.driver, module, self.fit) as reference:
            for name, strength in strengths.items():
                pool = next((p for p in _pruner(strength).pools(module, ctx) if p.name == name), None)
                if pool is not None:
                    stats = reference.moments(module, [reading_of(r) for r in pool.readings])
                    _run(_pruner(strength), [name], module, replace(ctx, stats=stats), manager)
            ranks = {c.layer: c.strength for c in changes if c.kind in (LOW_RANK, BOTH)}
            both, factors = {c.layer for c in changes if c.kind == BOTH}, set[str]()
            views = [v for v in _factorizer(RATIOS[-1]).layers(module) if v.name in ranks]
            for wave in waves(module, views):
                stats = reference.moments(module, [request_of(v) for v in wave])
                for name in [v.name for v in wave]:
                    before = set(quantizable(Recipe(), module, ctx)) if name in both else set()
                    _run(_factorizer(ranks[name]), [name], module, replace(ctx, stats=stats), manager)
                    factors |= _factors(before, module, ctx) if name in both else set()
        self._quantize(changes, factors, module, ctx, manager, {})

    def _quantize(
        self,
        changes: Sequence[Change],
        factors: set[str],
        module: ir.Module,
        ctx: PassContext,
        manager: Manager,
        known: dict[Any, Any],
    ) -> None:
        four, eight = ([c.layer for c in changes if c.kind == kind] for kind in (INT4, INT8))
        eight += sorted(factors) + [c.layer for c in changes if c.kind == BOTH]
        if four:
            step = replace(_int4(), only="+".join(four))
            watch = step.watch(module, ctx)
            stats = calibrated(self.driver, module, self.fit, watch=watch) if watch else None
            manager.run(Pipeline((step,)), module, replace(ctx, stats=stats))
        if eight:
            recipe = Recipe(only="+".join(eight))
            apply_recipe(recipe, self.driver, module, ctx, manager, self.fit, known)

    def _moments_of(self, change: Change) -> Mapping[str, Any]:
        """Return the moments of the module as it is, of as many layers at once as fit into memory."""
        kind = LOW_RANK if change.kind == BOTH else change.kind
        key = (kind, change.layer)
        if key not in self._moments:
            with Reference(self.driver, self.module, self.fit) as reference:
                names, requests = self._requests(change)
                found = reference.moments(self.module, requests)
            self._moments |= {(kind, name): found for name in names}
        return self._moments[key]

    def _requests(self, change: Change) -> tuple[list[str], list[Any]]:
        """Return the layers whose moments are gathered along with those of a change, and what they ask for."""
        if change.kind in (LOW_RANK, BOTH):
            parts = within_memory(_factorizer(RATIOS[-1]).layers(self.module))
            part = next(p for p in parts if any(v.name == change.layer for v in p))
            return [v.name for v in part], [request_of(v) for v in part]
        pools = _pruner(KEPT[0]).pools(self.module, self.ctx)
        pool = next(p for p in pools if p.name == change.layer)
        return [pool.name], [reading_of(r) for r in pool.readings]


def _factors(before: set[str], module: ir.Module, ctx: PassContext) -> set[str]:
    """Return the layers that can be quantized now and could not be before: the factors of one."""
    return set(quantizable(Recipe(), module, ctx)) - before


def _run(p: Any, names: Sequence[str], module: ir.Module, ctx: PassContext, manager: Manager) -> None:
    manager.run(Pipeline((replace(p, only="+".join(names)),)), module, ctx)


def _pruner(ratio: float) -> Any:
    kind: Any = passes.BY_NAME["prune-channels"]
    return kind(ratio=ratio)


def _factorizer(ratio: float) -> Any:
    kind: Any = passes.BY_NAME["factorize-linear"]
    return kind(ratio=ratio)


def _int4() -> Any:
    kind: Any = passes.BY_NAME["quantize-weights"]
    return kind(bits=4)
