"""Lossy steps asked for by hand or by level 3: low rank, int8, fp16; each a function over a module being compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from . import ir, passes, precisions
from .driver import Driver, Product
from .errors import CalibrationError, OptionError, ParityError, PassError, TargetError, VerifyError
from .options import Options
from .recipe import calibrated as _calibrate
from .report import Report
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline
from .target import TargetSpec
from .trial import Trial

FASTER = 0.95  # of the latency of -O2: a plan of level 3 has to be faster than that
Steps = Callable[[ir.Module, PassContext, Manager], None]


@dataclass(frozen=True)
class Plan:
    """One way to make a model smaller and faster: a precision, a low rank, a form for the file, or several."""

    precision: str | None = None
    low_rank: dict[str, float] | None = None
    size: str | None = None

    def __str__(self) -> str:
        rank = ",".join(f"{k}={v:g}" for k, v in (self.low_rank or {}).items())
        return " + ".join(x for x in (f"low rank {rank}" if rank else "", self.precision or "", self._size) if x)

    @property
    def _size(self) -> str:
        return f"weights stored as {self.size}" if self.size else ""


def require(options: Options, target: TargetSpec) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        TargetError: the target does not run the precision.
        CalibrationError: int8 or level 3 without calibration data.
    """
    if options.precision == "fp16" and target.name == "cpu":
        raise TargetError(
            "fp16 does not run faster on the CPU: onnxruntime has no float16 MatMul or Conv there",
            "use --precision int8, or --target cuda",
            target="cpu",
        )
    if options.precision == "int8" and target.qdq is None:
        reason, alternative = target.int8_refusal
        raise TargetError(f"static int8 is refused for {target.name}: {reason}", alternative, target=target.name)
    if options.precision == "int8-dynamic" and target.name != "cpu":
        raise TargetError(
            f"dynamic int8 is refused for {target.name}: it has no kernels for it",
            "use --precision int8-weights, int4 or fp16, or --target cpu",
            target=target.name,
        )
    if options.size is not None and target.name == "tensorrt":
        raise TargetError(
            "weights stored as int8 are refused for tensorrt: it takes int8 behind Q and DQ only",
            "use --precision fp16 or int4",
            target=target.name,
        )
    needs = "int8" if options.precision == "int8" else "-O3" if options.opt_level == 3 else ""
    if needs and options.calibration is None:
        raise CalibrationError(
            f"{needs} needs calibration data and there is none",
            "give --calibration samples.npz (one array per input, one sample per row), or compile with -O2",
        )


def samples(options: Options, module: ir.Module) -> tuple[Any, Any]:
    """Return (data to fit, data to judge): the calibration data, its last third judging when --data is absent.

    Raises:
        DataError: the data does not fit the inputs of the model.
    """
    if options.calibration is None:
        return None, options.data
    from .data.dataset import open_data, split
    from .data.spec import inputs_of
    from .data.usual import by_input

    outputs = [v.name or "" for v in module.graph.outputs]
    specs = inputs_of(module)
    sizes = by_input(specs, options.opt_shapes)
    found = open_data(options.calibration, specs, opt_shapes=sizes, state=options.state or None, outputs=outputs)
    if options.data is not None:
        return found, options.data
    fit, check = split(found)
    return fit, check


def compress(driver: Driver, trial: Trial, report: Report, exact: Product, fit: Any) -> Product:
    """Return the plan asked for by hand, or under level 3 the first one that is within the budget and better.

    Raises:
        ParityError: a plan asked for by hand moved the outputs beyond the budget.
        PassError, VerifyError: it raised.
    """
    if driver.options.by_hand:
        return _one(driver, trial, report, plans(driver.options, driver.target)[0], fit)
    reason = trial.skipped or (trial.untimed if driver.options.objective == "latency" else "")
    if reason:
        report.notes.append(f"nothing lossy was tried ({reason}): this is the -O2 model")
        return exact
    for plan, found in _attempts(driver, trial, exact, fit):
        report.notes.append(f"{plan}: {found.why}")
        if found.product is not None and found.better:
            _accept(report, found.product, found.rows)
            return found.product
    report.notes.append("nothing lossy was better within the budget: this is the -O2 model")
    return exact


@dataclass(frozen=True)
class Attempt:
    """What came of a plan: its product when it is within the budget, how the outputs moved, and why it is better."""

    why: str
    product: Product | None = None
    rows: Report = field(default_factory=Report)
    better: bool = False


def _attempts(driver: Driver, trial: Trial, exact: Product, fit: Any) -> Iterator[tuple[Plan, Attempt]]:
    """Yield the plans of level 3 as they are tried, boldest first; none with low rank where the mildest is too much."""
    known = plans(driver.options, driver.target)
    mildest = known[-1]
    found = _tried(driver, trial, exact, mildest, fit)
    if found.product is None:
        yield mildest, found
        known = [p for p in known if not p.low_rank]
    for plan in known:
        yield plan, found if plan == mildest else _tried(driver, trial, exact, plan, fit)


def _one(driver: Driver, trial: Trial, report: Report, plan: Plan, fit: Any) -> Product:
    product, rows = driver.replay(lossy=steps(plan, driver, fit), last=precisions.last(plan.size)).product, Report()
    with driver.phase("verify"):
        good = trial.lossy(product.emitted, rows)
    if not good:
        raise _refused(plan, driver.options, rows)
    _accept(report, product, rows)
    if plan.low_rank and not _factorized(product):
        report.notes.append("low rank: no layer was factorized (--explain factorize-linear says why)")
    names = precisions.PASSES.get(plan.precision or "", ())
    if names and not product.log.layers:
        report.notes.append(f"{plan.precision}: no layer was quantized (--explain {names[0]} says why)")
    if plan.size:
        report.notes.append("--size: weights are unpacked when the file is loaded, memory is that of float32 weights")
    return product


def _tried(driver: Driver, trial: Trial, exact: Product, plan: Plan, fit: Any) -> Attempt:
    rows = Report()
    try:
        product = driver.replay(lossy=steps(plan, driver, fit)).product
    except (PassError, VerifyError) as error:
        if driver.options.strict:
            raise
        return Attempt(f"failed, please report it ({error.message})")
    if plan.low_rank and not _factorized(product):
        return Attempt("no layer can be factorized")
    with driver.phase("verify"):
        good = trial.lossy(product.emitted, rows)
    if not good:
        return Attempt(f"beyond the budget ({_worst(rows)})", rows=rows)
    better, what = _better(driver.options, trial, exact, product)
    return Attempt(what + ("" if better else ", not better"), product, rows, better)


def _accept(report: Report, product: Product, rows: Report) -> None:
    report.parity, report.parity_skipped = [*report.parity, *rows.parity], rows.parity_skipped
    report.notes += [n for n in rows.notes if n not in report.notes]
    report.layers += product.log.layers


def _factorized(product: Product) -> bool:
    return any("rank" in layer for layer in product.log.layers)


def _worst(rows: Report) -> str:
    row = rows.worst or max(rows.parity, key=lambda r: r.error, default=None)
    return f"output {row.output}: {row.metric} {row.error:.3g}" if row else " ".join(rows.notes[-1:])


def _refused(plan: Plan, options: Options, rows: Report) -> ParityError:
    if options.budget is None:
        what, hint = "below 10 dB SQNR", "--force emits it all the same; --budget 5% states what is allowed"
    else:
        what = f"beyond the budget {options.budget:g}"
        hint = f"{'lower' if options.metric == 'sqnr' else 'raise'} --budget, or compress less"
    worst = [(r.output, r.error, r.limit or 0.0) for r in rows.parity]
    return ParityError(f"{plan} moves the outputs {what} ({_worst(rows)})", hint, worst=worst)


def _better(options: Options, trial: Trial, exact: Product, product: Product) -> tuple[bool, str]:
    """Return whether a plan beats the exact product, and by what: smaller, or measured faster beyond the noise."""
    if options.objective == "size":
        return product.emitted.size < exact.emitted.size, f"{product.emitted.size} bytes"
    timing = trial.speed(exact.emitted, product.emitted)
    return timing.ratio + 2 * timing.noise < FASTER, f"{timing.ratio:.2f} of the latency of -O2"


def plans(options: Options, target: TargetSpec) -> list[Plan]:
    """Return the plan asked for by hand, or what level 3 tries on the target: boldest first, mildest low rank last."""
    if options.by_hand:
        precision = options.precision if options.precision != "fp32" else None
        return [Plan(precision, dict(options.low_rank) if options.low_rank else None, options.size)]
    ranks = [{"ratio": r} for r in (0.25, 0.5)]
    only = [Plan(None, r) for r in ranks]
    if options.precision is not None:
        return only
    precision = "int8" if target.qdq is not None else "fp16"
    return [*(Plan(precision, r) for r in ranks), Plan(precision), *only]


def steps(plan: Plan, driver: Driver, fit: Any) -> Steps:
    """Return the function that applies a plan; ``fit`` is the calibration data."""

    def apply(module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        if plan.low_rank:
            factorize = _low_rank(plan.low_rank)
            seen = _calibrate(driver, module, fit, grams=factorize.grams(module)) if fit is not None else None
            manager.run(Pipeline((factorize,)), module, replace(ctx, stats=seen))
        if plan.precision in precisions.PASSES:
            precisions.apply(plan.precision, driver, module, ctx, manager, fit)
        elif plan.precision == "fp16":
            from .backends import fp16_pass

            manager.run(Pipeline((fp16_pass(),)), module, ctx)

    return apply


def _low_rank(options: dict[str, float]) -> Any:
    given: dict[str, Any] = {k: int(v) if k == "rank" else v for k, v in options.items()}
    return passes.BY_NAME["factorize-linear"](**given)


def unavailable_prune(prune: Any) -> None:
    """Refuse --prune by hand.

    Raises:
        OptionError: always, when it is given.
    """
    if prune is not None:
        raise OptionError("prune by hand is not in this version", "-O2 removes dead neurons, exactly")
