"""Recipes of static int8: how ranges, rounding and biases are fitted; a step is kept where unseen samples lose less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import ir, passes
from .analysis.cost import node_cost
from .compiled import Runnable
from .data.dataset import Data, split
from .data.spec import Feeds
from .driver import Driver
from .errors import CalibrationError, FccError
from .rewrite import Log, PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline
from .target import TargetSpec

SOUND = 0.02  # an error at which no layer is looked for that should stay float
MOST_SPARED = 3
MOST_FLOAT = 0.5  # of the multiplications of the layers: with more of them float there is little left to gain
USELESS = 0.1  # an error that speed does not make up for: layers of any size stay float
HELD = (0.75, 0.25)  # of the calibration data: what fits, and what says whether a step helped
MOST_HELD = 128
BETTER = 0.97  # of the error so far: less is within the noise of few samples
MUCH_BETTER = 0.7  # for what costs operators
CHEAPER = 1.05  # for what makes kernels faster: a fifth for a Gemm of one row


@dataclass(frozen=True)
class Recipe:
    """``smooth`` (the alpha, 0 for none) and ``insert`` are options of smooth-activations, the rest of insert-qdq."""

    smooth: float = 0.0
    insert: bool = False
    ranges: str = "minmax"
    gptq: bool = False
    correct: bool = False
    per_tensor: str = ""
    only: str = ""
    exclude: str = ""

    def __str__(self) -> str:
        words = [f"smoothed {self.smooth:g}" + " everywhere" * self.insert] if self.smooth else []
        words += [f"ranges {self.ranges}"] + ["GPTQ"] * self.gptq + ["biases corrected"] * self.correct
        words += [f"one scale for {self.per_tensor}"] if self.per_tensor else []
        words += [f"only {self.only}"] if self.only else []
        words += [f"float: {self.exclude}"] if self.exclude else []
        return ", ".join(words)


# In the order they are tried, each on top of what was kept, with the part of the error that it must stay below.
SMOOTHED: tuple[tuple[dict[str, Any], float], ...] = (({"smooth": 0.5}, BETTER), ({"smooth": 0.75}, BETTER))
STEPS: tuple[tuple[dict[str, Any], float], ...] = (
    *SMOOTHED,
    ({"smooth": 0.75, "insert": True}, MUCH_BETTER),
    ({"ranges": "percentile"}, BETTER),
    ({"ranges": "mse"}, BETTER),
    ({"gptq": True}, BETTER),
    ({"correct": True}, BETTER),
    ({"per_tensor": "Gemm+MatMul"}, CHEAPER),
)


def steps_of(target: TargetSpec) -> tuple[tuple[dict[str, Any], float], ...]:
    """Return the steps worth trying on a target: one scale per weight only where that is faster, none at 16 bits."""
    if target.qdq is not None and target.qdq.weight_dtype == "int16":
        return ()
    faster = target.qdq is not None and target.qdq.per_tensor_pays
    return STEPS if faster else tuple(step for step in STEPS if "per_tensor" not in step[0])


Apply = Callable[..., None]


@dataclass
class Chooser:
    """Fits recipes to a module on one part of the calibration data and compares them on the other.

    ``apply`` quantizes a module by a recipe; ``steps`` are tried in turn; ``spares``: layers may stay float.
    """

    driver: Driver
    module: ir.Module
    ctx: PassContext
    fit: Data
    apply: Apply
    steps: tuple[tuple[dict[str, Any], float], ...] = STEPS
    spares: bool = True
    tried: list[tuple[Recipe, float]] = field(default_factory=list)
    _stats: dict[Any, Any] = field(default_factory=dict)

    def choose(self, base: Recipe | None = None) -> Recipe:
        """Return the recipe that loses least on samples it was not fitted to.

        Where that is still much, up to three layers stay float if the error halves without them.
        """
        fitted, held = split(self.fit, HELD)
        held = held.take(MOST_HELD)
        references = list(outputs_of(self.driver, self.module, held))

        def judge(recipe: Recipe) -> float:
            return self._loss(recipe, fitted, held, references)

        start = base or Recipe()
        return self._spared(start, *self._stepped(start, judge), judge)

    def _stepped(self, best: Recipe, judge: Callable[[Recipe], float]) -> tuple[Recipe, float]:
        """Return a recipe after every step that helped, and its error."""
        loss = judge(best)
        for step, share in self.steps:
            trial = replace(best, **step)
            found = judge(trial)
            if found < share * loss:
                best, loss = trial, found
        return best, loss

    def _spared(self, start: Recipe, best: Recipe, loss: float, judge: Callable[[Recipe], float]) -> Recipe:
        """Leave the few layers float without which the error halves, going by the errors of each alone.

        Not those that hold most of the multiplications, for whose sake int8 is asked. Errors of single layers add up
        as their squares do (measured: the root of the sum is within a tenth). Where the error is useless, layers of any
        size may stay float, and all steps are tried again without them: their errors hid what helps the others.
        """
        names = layers(best, self.module, self.ctx) if self.spares and loss > SOUND else []
        if len(names) < 2:
            return best
        alone = {name: judge(replace(best, only=name)) for name in names}
        work, spared, useless = work_of(self.module, names), list[str](), loss > USELESS
        most = (1.0 if useless else MOST_FLOAT) * sum(work.values())
        for name in sorted(names, key=lambda n: -alone[n])[: len(names) - 1]:
            if len(spared) == MOST_SPARED or sum(work[n] for n in (*spared, name)) > most:
                continue
            spared.append(name)
            exclude = "+".join(filter(None, (best.exclude, *spared)))
            if useless and alone[name] > loss / 2:
                trial, found = self._stepped(replace(start, exclude=exclude), judge)
                if found <= loss / 2:
                    return trial
            elif math.hypot(*(alone[n] for n in names if n not in spared)) <= loss / 2:
                trial = replace(best, exclude=exclude)
                return trial if judge(trial) <= loss / 2 else best
        return best

    def said(self, best: Recipe) -> str:
        """Return what was chosen, and what was tried."""
        tried = "; ".join(f"{recipe} {loss:.3g}" for recipe, loss in self.tried)
        return f"{best} (error on samples held back: {tried})"

    def _loss(self, recipe: Recipe, fitted: Data, held: Data, references: list[Any]) -> float:
        """Return the error of a recipe: of the worst output, ||y - y0|| / ||y0|| over the held samples."""
        from .parity.compare import measure

        gate = self.ctx.log
        module, log = self.module.clone(), Log(skip=gate.skip, strict=gate.strict)
        ctx = replace(self.ctx, log=log)
        self.apply(recipe, self.driver, module, ctx, Manager(), fitted, self._stats)
        try:
            meters, _ = measure(zip(references, outputs_of(self.driver, module, held), strict=True))
        except FccError:
            return float("inf")
        loss = max((m.row(0.0).rel for m in meters), default=0.0)
        self.tried.append((recipe, loss))
        return loss


def layers(recipe: Recipe, module: ir.Module, ctx: PassContext) -> list[str]:
    """Return the output names of the layers that a recipe quantizes."""
    found: list[str] = _made("insert-qdq", only=recipe.only, exclude=recipe.exclude).layers(module, ctx)
    return found


def work_of(module: ir.Module, names: Sequence[str]) -> dict[str, int]:
    """Return the multiplications of layers, by output name."""
    found = {n.outputs[0].name or "": n for n in module.nodes()}
    return {name: node_cost(found[name]).flops for name in names}


def apply(
    recipe: Recipe,
    driver: Driver,
    module: ir.Module,
    ctx: PassContext,
    manager: Manager,
    fit: Any,
    known: dict[Any, Any] | None = None,
) -> None:
    """Quantize a module by a recipe; ``known`` keeps statistics from one recipe to the next on the same samples."""
    kept: dict[Any, Any] = {} if known is None else known
    if recipe.smooth:
        smoothed(recipe, driver, module, ctx, manager, fit, kept)
    options = {k: getattr(recipe, k) for k in ("ranges", "gptq", "correct", "per_tensor", "only", "exclude")}
    insert = _made("insert-qdq", **options)
    form = (recipe.smooth, True) if recipe.smooth and recipe.insert else recipe.smooth
    ranges = _once(kept, form, lambda: calibrated(driver, module, fit, tensors=insert.tensors(module, ctx)))
    watch = insert.watch(module, ctx, ranges)
    known_keys = ranges.watched.keys()
    missing = {k: w for k, w in watch.items() if k not in known_keys}
    if missing:
        ranges.watched.update(calibrated(driver, module, fit, watch=missing).watched)
    manager.run(Pipeline((insert,)), module, replace(ctx, stats=ranges))


def smoothed(
    recipe: Recipe,
    driver: Driver,
    module: ir.Module,
    ctx: PassContext,
    manager: Manager,
    fit: Any,
    kept: dict[Any, Any],
) -> None:
    """Smooth every activation that can be: that is exact, also in front of layers that stay float."""
    smooth = _made("smooth-activations", alpha=recipe.smooth, insert=recipe.insert)
    stats = _once(
        kept, ("channels", recipe.insert), lambda: calibrated(driver, module, fit, watch=smooth.watch(module))
    )
    manager.run(Pipeline((smooth,)), module, replace(ctx, stats=stats))


def calibrated(driver: Driver, module: ir.Module, fit: Any, **wanted: Any) -> Any:
    """Return the statistics of a module as it stands.

    Raises:
        CalibrationError: there is no data.
    """
    from .runtime.calibrate import calibrate

    if fit is None:
        raise CalibrationError("int8 needs calibration data and there is none", "give --calibration samples.npz")
    with driver.phase("calibrate"), Runnable(driver.emit(module)) as model:
        o, tell = driver.options, driver.progress
        return calibrate(
            model,
            samples=fit,
            custom_ops=o.custom_ops,
            threads=o.threads,
            executor=o.executor,
            cache=o.cache,
            progress=(lambda n: tell("calibrate", n, fit.length or 0)) if tell is not None else None,
            **{"tensors": (), **wanted},
        )


def _made(name: str, **options: Any) -> Any:
    kind: Any = passes.BY_NAME[name]
    return kind(**options)


def _once(kept: dict[Any, Any], key: Any, compute: Callable[[], Any]) -> Any:
    if key not in kept:
        kept[key] = compute()
    return kept[key]


def outputs_of(driver: Driver, module: ir.Module, samples: Data | Iterable[Feeds]) -> Iterator[Any]:
    """Yield the outputs of a module as it would be deployed, state going round."""
    from .parity.compare import loop_over
    from .runtime import STAND_IN, open_session

    o = driver.options
    with Runnable(driver.emit(module)) as model:
        entries = STAND_IN if driver.target.name != "cpu" else None
        session = open_session(model, threads=o.threads, custom_ops=o.custom_ops, options=entries)
    yield from loop_over(samples)(session.run)
