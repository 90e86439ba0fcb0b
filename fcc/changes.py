"""What may be done to one layer: prune its channels, lower its rank, quantize it; each tried alone, then together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from . import ir, passes
from .data.dataset import Data, in_memory
from .driver import Driver
from .recipe import Chooser, Recipe, calibrated, smoothed
from .recipe import apply as apply_recipe
from .recipe import layers as quantizable
from .refit import MEMORY, Reference, compute_weights, reading_of, request_of, space, waves, within_memory
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

RATIOS = (0.6, 0.4, 0.25, 0.12)  # of the parameters of a layer, for a low rank; the mildest first
KEPT = (0.75, 0.5, 0.25)  # of the channels of a pool
PRUNE, LOW_RANK, INT8, INT4, DYNAMIC = "prune", "low rank", "int8", "int4", "int8 dynamic"
STORED, HALF = "stored as int8", "stored as fp16"
FORMS: Mapping[str, str] = {STORED: "int8", HALF: "fp16"}
FEW = 64
KEEP = 1 << 28  # bytes of samples that are read once for many uses
_ON_FACTORS = (INT8, STORED)  # what may be done to the factors of a layer, too
KINDS = (PRUNE, LOW_RANK, INT8, INT4, DYNAMIC, *FORMS, *(f"{LOW_RANK} + {kind}" for kind in _ON_FACTORS))


@dataclass(frozen=True)
class Change:
    """One thing to do with one layer (or with the channels of the layers that go together, named by the first)."""

    layer: str
    kind: str
    strength: float = 0.0

    def __str__(self) -> str:
        name, *more = self.steps
        return " + ".join([f"{name} {self.strength:g}" if self.strength else name, *more])

    @property
    def steps(self) -> list[str]:
        """The kinds it is made of: factors of a low rank may be quantized."""
        return self.kind.split(" + ")

    def includes(self, other: Change) -> bool:
        """Return whether this does to the layer what another does, and more."""
        if self.kind == other.kind:
            return self.strength < other.strength
        return other.kind in self.steps and other.strength in (0.0, self.strength)


@dataclass
class Changes:
    """The changes of a module: statistics of the module as it is are gathered once, for all that are tried alone."""

    driver: Driver
    module: ir.Module
    ctx: PassContext
    fit: Any
    given: Recipe | None = None
    _moments: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    _known: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        compute_weights(self.module)

    def found(self) -> dict[tuple[str, str], list[Change]]:
        """Return what may be done, the mildest first: by layer, and by pool of channels apart from that."""
        options: dict[tuple[str, str], list[Change]] = {}
        for pool in _pruner(KEPT[0]).pools(self.module, self.ctx):
            options["channels", pool.name] = [Change(pool.name, PRUNE, k) for k in KEPT]
        numbers = [(kind, set(names)) for kind, names in self._numbers()]
        for kind, names in numbers:
            for name in sorted(names):
                options.setdefault(("layer", name), []).append(Change(name, kind))
        for ratio in RATIOS:
            for view in _factorizer(ratio).layers(self.module):
                options.setdefault(("layer", view.name), []).append(Change(view.name, LOW_RANK, ratio))
        for kind, names in numbers:
            for name in sorted(names) if kind in _ON_FACTORS else ():
                changes = options["layer", name]
                changes += [Change(name, f"{LOW_RANK} + {kind}", c.strength) for c in changes if c.kind == LOW_RANK]
        return options

    def _numbers(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the kinds of numbers that weights may have, and their layers; for size, the form in the file counts."""
        driver, module, ctx = self.driver, self.module, self.ctx
        if driver.options.precision is not None:  # --precision fp32 keeps numbers as they are
            return
        size = driver.options.objective == "size"
        stored = set(_storer(STORED).readers(module, ctx).values()) if size else set[str]()
        eight = quantizable(Recipe(), module, ctx) if driver.target.qdq is not None else []
        yield HALF, sorted(stored)
        yield STORED, sorted(stored)
        yield INT8, [name for name in eight if name not in stored]
        dynamic = [n for p in _dynamic() for n in p.layers(module, ctx)] if not size else []
        yield DYNAMIC, [name for name in dynamic if name not in eight]
        yield INT4, _int4(size).layers(module, ctx)

    def alone(self, change: Change) -> ir.Module:
        """Return the module with one change, everything else as it is."""
        module = self.module.clone()
        ctx, manager = replace(self.ctx, log=self.driver.log()), Manager()
        first, *second = change.steps
        factors: dict[str, set[str]] = {}
        known: dict[Any, Any] = {}
        if first in (PRUNE, LOW_RANK):
            step = (_pruner if first == PRUNE else _factorizer)(change.strength)
            before = self._layers(second, module, ctx)
            _run(step, [change.layer], module, replace(ctx, stats=self._moments_of(change)), manager)
            factors = {kind: names - before[kind] for kind, names in self._layers(second, module, ctx).items()}
        elif first == INT8:
            known = self._ranges()
        self._quantize([change], factors, module, ctx, manager, known, self.few if factors else self.fit)
        manager.run(self.last(self.stored([change], factors)), module, ctx)
        return module

    @cached_property
    def few(self) -> Any:
        """Samples that say what int8 does to factors: it is asked for every rank of every layer."""
        return in_memory(self.fit.take(FEW), KEEP) if isinstance(self.fit, Data) else self.fit

    @cached_property
    def _four(self) -> Any:
        """The statistics of all layers that may have 4-bit weights, of the module as it is."""
        return self._watched(_int4(self.driver.options.objective == "size"), self.module, self.ctx)

    def _watched(self, step: Any, module: ir.Module, ctx: PassContext) -> Any:
        watch = step.watch(module, ctx)
        return calibrated(self.driver, module, self.fit, watch=watch) if watch else None

    def int8(self, names: Sequence[str]) -> ir.Module:
        """Return the module with some layers in int8, rounded to the nearest: to be timed."""
        module, log = self.module.clone(), self.driver.log()
        plain, known = replace(self.recipe, gptq=False, correct=False, only="+".join(names)), self._ranges()
        apply_recipe(plain, self.driver, module, replace(self.ctx, log=log), Manager(), self.fit, known)
        return module

    @property
    def recipe(self) -> Recipe:
        """How layers are quantized: as given, else what loses least where all are, on samples held back."""
        if self.given is None:
            self.given = self._chosen()
        return self.given

    def _chosen(self) -> Recipe:
        chooser = Chooser(self.driver, self.module, self.ctx, self.fit, apply_recipe, spares=False)
        recipe = chooser.choose()
        self.ctx.log.notes.append(f"int8 by {chooser.said(recipe)}")
        return recipe

    def _layers(self, kinds: Sequence[str], module: ir.Module, ctx: PassContext) -> dict[str, set[str]]:
        """Return the layers that kinds could be done to."""
        found: dict[str, set[str]] = {}
        if INT8 in kinds:
            found[INT8] = set(quantizable(Recipe(), module, ctx))
        if STORED in kinds:
            found[STORED] = set(_storer(STORED).readers(module, ctx))
        return found

    def _ranges(self) -> dict[Any, Any]:
        """Return what recipes keep from one another: the ranges of all layers of the module as it is."""
        if not self._known:
            module, ctx = self.module, replace(self.ctx, log=self.driver.log())
            if self.recipe.smooth:
                module = module.clone()
                smoothed(self.recipe, self.driver, module, ctx, Manager(), self.fit, self._known)
            tensors = passes.BY_NAME["insert-qdq"]().tensors(module, ctx)  # type: ignore[attr-defined]
            self._known[self.recipe.smooth] = calibrated(self.driver, module, self.fit, tensors=tensors)
        return self._known

    def together(
        self, changes: Sequence[Change], module: ir.Module, ctx: PassContext, manager: Manager
    ) -> dict[str, list[str]]:
        """Make changes in the order of the layers, each fitted to what is left of the ones before it (anchored).

        Return what is to be stored in another form (``last``): fcc itself would compute that again.
        """
        compute_weights(module)
        strengths = {c.layer: c.strength for c in changes if c.kind == PRUNE}
        factors: dict[str, set[str]] = {}
        with Reference(self.driver, module, self.fit) as reference:
            for name, strength in strengths.items():
                pool = next((p for p in _pruner(strength).pools(module, ctx) if p.name == name), None)
                if pool is not None:
                    stats = reference.moments(module, [reading_of(r) for r in pool.readings])
                    _run(_pruner(strength), [name], module, replace(ctx, stats=stats), manager)
            ranks = {c.layer: c for c in changes if c.steps[0] == LOW_RANK}
            views = [v for v in _factorizer(RATIOS[0]).layers(module) if v.name in ranks]
            for wave in waves(module, views):
                stats = reference.moments(module, [request_of(v) for v in wave])
                for change in [ranks[v.name] for v in wave]:
                    before = self._layers(change.steps[1:], module, ctx)
                    step = _factorizer(change.strength)
                    _run(step, [change.layer], module, replace(ctx, stats=stats), manager)
                    for kind, names in self._layers(change.steps[1:], module, ctx).items():
                        factors.setdefault(kind, set()).update(names - before[kind])
        self._quantize(changes, factors, module, ctx, manager, {}, self.fit)
        return self.stored(changes, factors)

    def _quantize(
        self,
        changes: Sequence[Change],
        factors: Mapping[str, set[str]],
        module: ir.Module,
        ctx: PassContext,
        manager: Manager,
        known: dict[Any, Any],
        fit: Any,
    ) -> None:
        four, dynamic = (_of(changes, kind) for kind in (INT4, DYNAMIC))
        eight = _of(changes, INT8) + sorted(factors.get(INT8, ()))
        if four:
            step = replace(_int4(self.driver.options.objective == "size"), only="+".join(four))
            stats = self._four if len(changes) == 1 else self._watched(step, module, ctx)
            manager.run(Pipeline((step,)), module, replace(ctx, stats=stats))
        if dynamic:
            manager.run(Pipeline(tuple(replace(p, only="+".join(dynamic)) for p in _dynamic())), module, ctx)
        if eight:
            recipe = replace(self.recipe, only="+".join(eight))
            apply_recipe(recipe, self.driver, module, ctx, manager, fit, known)

    def stored(self, changes: Sequence[Change], factors: Mapping[str, set[str]]) -> dict[str, list[str]]:
        """Return the layers and weights that are to be stored in another form: kind -> names."""
        found = {kind: _of(changes, kind) + sorted(factors.get(kind, ())) for kind in FORMS}
        return {kind: names for kind, names in found.items() if names}

    @staticmethod
    def last(stored: Mapping[str, Sequence[str]]) -> Pipeline:
        """Return the passes that store them."""
        return Pipeline(tuple(replace(_storer(kind), only="+".join(names)) for kind, names in stored.items()))

    def _moments_of(self, change: Change) -> Mapping[str, Any]:
        """Return the moments of the module as it is, of as many layers at once as fit into memory."""
        kind = change.steps[0]
        key = (kind, change.layer)
        if key not in self._moments:
            with Reference(self.driver, self.module, self.fit) as reference:
                names, requests = self._requests(kind, change.layer)
                found = reference.moments(self.module, requests)
            self._moments |= {(kind, name): found for name in names}
        return self._moments[key]

    def _requests(self, kind: str, layer: str) -> tuple[list[str], list[Any]]:
        """Return the layers whose moments are gathered along with those of one, and what they ask for."""
        if kind == LOW_RANK:
            parts = within_memory(_factorizer(RATIOS[0]).layers(self.module))
            part = next(p for p in parts if any(v.name == layer for v in p))
            return [v.name for v in part], [request_of(v) for v in part]
        pools = _pruner(KEPT[0]).pools(self.module, self.ctx)
        at = next(i for i, p in enumerate(pools) if p.name == layer)
        names, requests = list[str](), list[Any]()
        room = MEMORY
        for pool in pools[at:]:  # those after it are asked for next
            more = [reading_of(r) for r in pool.readings]
            room -= sum(space(r.view) for r in pool.readings)
            if names and (room < 0 or {r.key for r in more} & {r.key for r in requests}):
                break
            names.append(pool.name)
            requests += more
        return names, requests


def _of(changes: Sequence[Change], kind: str) -> list[str]:
    return [c.layer for c in changes if c.kind == kind]


def _run(p: Any, names: Sequence[str], module: ir.Module, ctx: PassContext, manager: Manager) -> None:
    manager.run(Pipeline((replace(p, only="+".join(names)),)), module, ctx)


def _pruner(ratio: float) -> Any:
    kind: Any = passes.BY_NAME["prune-channels"]
    return kind(ratio=ratio)


def _factorizer(ratio: float) -> Any:
    kind: Any = passes.BY_NAME["factorize-linear"]
    return kind(ratio=ratio)


def _int4(size: bool) -> Any:
    """Return the pass for 4-bit weights; for size, also where the float kernel is faster."""
    kind: Any = passes.BY_NAME["quantize-weights"]
    return kind(bits=4, rows=0, least=0) if size else kind(bits=4)


def _dynamic() -> list[Any]:
    kinds: list[Any] = [passes.BY_NAME[n] for n in ("insert-dynamic-quantization", "quantize-recurrent")]
    return [kind() for kind in kinds]


def _storer(kind: str) -> Any:
    made: Any = passes.BY_NAME["convert-weights"]
    return made(to=FORMS[kind])
