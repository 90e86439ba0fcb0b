"""The precisions by hand: which passes each runs, with which statistics, and what is tried to lose less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from . import ir, passes
from .driver import Driver
from .options import STATIC
from .recipe import SMOOTHED, Chooser, Recipe, calibrated, layers, smoothed, steps_of
from .recipe import apply as static
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline

PASSES: Mapping[str, tuple[str, ...]] = {
    "int8": ("insert-qdq",),
    "int16": ("insert-qdq",),
    "int8-dynamic": ("insert-dynamic-quantization", "quantize-recurrent", "quantize-embeddings"),
    "int8-weights": ("quantize-weights", "quantize-embeddings"),
    "int4": ("quantize-weights", "quantize-embeddings"),
}
BF16_OPSET = 22  # of Conv and pooling
_BITS = {"int8-weights": 8, "int4": 4}
_KERNEL_LIMITS = ("rows", "least")  # options that leave layers float whose float kernel is faster


def apply(
    precision: str | None,
    driver: Driver,
    module: ir.Module,
    ctx: PassContext,
    manager: Manager,
    fit: Any,
    recipe: Recipe | None = None,
) -> Recipe | None:
    """Quantize a module and return the recipe, where there is one; ``recipe`` is used instead of looking for one.

    ``fit`` is calibration data, or None where the precision does without.

    Raises:
        CalibrationError: static int8 without data.
    """
    if precision in STATIC:
        return _static(driver, module, ctx, manager, fit, recipe)
    if precision == "int8-dynamic":
        return _dynamic(driver, module, ctx, manager, fit, recipe)
    _weights(precision, driver, module, ctx, manager, fit)
    return None


def _weights(
    precision: str | None, driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any
) -> None:
    for name in PASSES[precision] if precision is not None else ():
        step = _made(name, driver, {"bits": _BITS[precision]} if precision and name == "quantize-weights" else {})
        watch = step.watch(module, ctx) if fit is not None and hasattr(step, "watch") else {}
        stats = calibrated(driver, module, fit, watch=watch) if watch else None
        manager.run(Pipeline((step,)), module, replace(ctx, stats=stats))


def halve(
    precision: str | None, driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any
) -> None:
    """Convert a module to 16 bits; ``fit`` shows which values leave the range of float16."""
    from .backends import fp16_pass

    step = fp16_pass(precision or "fp16")
    if precision == "bf16" and module.opset() < BF16_OPSET:
        raised: Any = passes.BY_NAME["convert-opset"]
        manager.run(Pipeline((raised(version=BF16_OPSET),)), module, ctx)
    seen = fit is not None and precision == "fp16"
    stats = calibrated(driver, module, fit, tensors=step.tensors(module)) if seen else None
    manager.run(Pipeline((step,)), module, replace(ctx, stats=stats))


def last(size: str | None) -> Pipeline | None:
    """Return what runs after everything else: fcc itself would compute again what is to be stored in fewer bits."""
    kind: Any = passes.BY_NAME["convert-weights"]
    return None if size is None else Pipeline((kind(to=size),))


def _made(name: str, driver: Driver, options: Mapping[str, Any]) -> Any:
    """Return a pass; where size is the aim it also takes layers whose float kernel is faster."""
    kind: Any = passes.BY_NAME[name]
    lift = driver.options.objective == "size"
    lifted = {f.name: 0 for f in fields(kind) if lift and f.name in _KERNEL_LIMITS}
    return kind(**lifted, **options)


def _static(
    driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any, given: Recipe | None
) -> Recipe:
    convert: Any = passes.BY_NAME["convert-qdq"]
    manager.run(Pipeline((passes.BY_NAME["convert-relu-qdq"](), convert(retarget=True))), module, ctx)
    assert ctx.target.qdq is not None
    if module.opset() < ctx.target.qdq.opset:
        raised: Any = passes.BY_NAME["convert-opset"]
        manager.run(Pipeline((raised(version=ctx.target.qdq.opset),)), module, ctx)
    recipe = given or Recipe()
    if given is None and layers(recipe, module, ctx):
        chooser = Chooser(driver, module, ctx, fit, static, steps_of(driver.target))
        recipe = chooser.choose()
        ctx.log.notes.append(f"{driver.options.precision or 'int8'} by {chooser.said(recipe)}")
    static(recipe, driver, module, ctx, manager, fit)
    if driver.options.precision == "int16":
        ctx.log.notes.append("int16: float kernels run between Q and DQ, none takes 16 bits: slower than fp32")
    return recipe


def _dynamic(
    driver: Driver, module: ir.Module, ctx: PassContext, manager: Manager, fit: Any, given: Recipe | None
) -> Recipe:
    recipe = given or Recipe()
    if given is None and fit is not None and _made("insert-dynamic-quantization", driver, {}).layers(module, ctx):
        chooser = Chooser(driver, module, ctx, fit, _by_dynamic, SMOOTHED, spares=False)
        recipe = chooser.choose()
        ctx.log.notes.append(f"dynamic int8 by {chooser.said(recipe)}")
    _by_dynamic(recipe, driver, module, ctx, manager, fit)
    return recipe


def _by_dynamic(
    recipe: Recipe,
    driver: Driver,
    module: ir.Module,
    ctx: PassContext,
    manager: Manager,
    fit: Any,
    known: dict[Any, Any] | None = None,
) -> None:
    if recipe.smooth:
        smoothed(recipe, driver, module, ctx, manager, fit, {} if known is None else known)
    manager.run(Pipeline(tuple(_made(name, driver, {}) for name in PASSES["int8-dynamic"])), module, ctx)
