"""Lossy steps asked for by hand or by level 3: low rank, int8, fp16; each a function over a module being compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import ir, passes, precisions, refit
from .allocation import Allocation
from .driver import Driver, Product
from .errors import CalibrationError, ParityError, PassError, TargetError, VerifyError
from .options import Options
from .report import Report
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline
from .target import TargetSpec
from .trial import Trial

BACK_OFFS = 3  # times that the budget is left more room, where unseen samples lose more than held ones
FASTER = 0.95  # of the latency of -O2: a plan of level 3 has to be faster than that
Steps = Callable[[ir.Module, PassContext, Manager], None]


@dataclass(frozen=True)
class Plan:
    """One way to make a model smaller and faster: fewer channels, a low rank, a precision, a form for the file."""

    precision: str | None = None
    low_rank: dict[str, float] | None = None
    prune: dict[str, float] | None = None
    size: str | None = None

    def __str__(self) -> str:
        steps = (("prune", self.prune), ("low rank", self.low_rank))
        said = [f"{name} " + ",".join(f"{k}={v:g}" for k, v in given.items()) for name, given in steps if given]
        said += [self.precision] if self.precision else []
        return " + ".join([*said, *([f"weights stored as {self.size}"] if self.size else [])])


def require(options: Options, target: TargetSpec) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        TargetError: the target does not run the precision.
        CalibrationError: int8, pruning or level 3 without calibration data.
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
    wants = {"int8": options.precision == "int8", "prune": options.prune is not None, "-O3": options.opt_level == 3}
    needs = next((name for name, asked in wants.items() if asked), "")
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
    best = _mixed(driver, trial, report, exact, fit)
    for plan, found in _attempts(driver, trial, exact, fit):
        report.notes.append(f"{plan}: {found.why}")
        if found.product is not None and found.better:
            best = best if best is not None and not _beats(driver.options, trial, found, best) else found
            break
    if best is None or best.product is None:
        report.notes.append("nothing lossy was better within the budget: this is the -O2 model")
        return exact
    _accept(report, best.product, best.rows)
    return best.product


def _mixed(driver: Driver, trial: Trial, report: Report, exact: Product, fit: Any) -> Attempt | None:
    """Return the model in which every layer is changed on its own account, None where that is not better."""
    allocation = Allocation(driver, fit)
    found = _tried(driver, trial, exact, allocation, allocation.last)
    for _ in range(BACK_OFFS):
        if found.product is not None or found.failed or not allocation.back_off():
            break
        found = _tried(driver, trial, exact, allocation, allocation.last)
    report.tried, report.curve = list(allocation.rows()), allocation.curve
    report.notes.append(f"layer by layer: {allocation.why or found.why}")
    return found if found.product is not None and found.better and allocation.chosen else None


def _beats(options: Options, trial: Trial, one: Attempt, other: Attempt) -> bool:
    """Return whether one product is smaller, or faster beyond the noise, than another."""
    assert one.product is not None
    assert other.product is not None
    if options.objective == "size":
        return one.product.emitted.size < other.product.emitted.size
    timing = trial.speed(other.product.emitted, one.product.emitted)
    return bool(timing.ratio + 2 * timing.noise < 1)


@dataclass(frozen=True)
class Attempt:
    """What came of a plan: its product when it is within the budget, how the outputs moved, and why it is better."""

    why: str
    product: Product | None = None
    rows: Report = field(default_factory=Report)
    better: bool = False
    failed: bool = False


def _attempts(driver: Driver, trial: Trial, exact: Product, fit: Any) -> Iterator[tuple[Plan, Attempt]]:
    """Yield the plans of level 3 as they are tried, boldest first; none with low rank where the mildest is too much."""
    known = plans(driver.options, driver.target)
    mildest = known[-1]
    found = _planned(driver, trial, exact, mildest, fit)
    if found.product is None:
        yield mildest, found
        known = [p for p in known if not p.low_rank]
    for plan in known:
        yield plan, found if plan == mildest else _planned(driver, trial, exact, plan, fit)


def _one(driver: Driver, trial: Trial, report: Report, plan: Plan, fit: Any) -> Product:
    rows = Report()
    product = driver.replay(lossy=steps(plan, driver, fit), last=partial(precisions.last, plan.size)).product
    with driver.phase("verify"):
        good = trial.lossy(product.emitted, rows)
    if not good:
        raise _refused(plan, driver.options, rows)
    _accept(report, product, rows)
    if plan.low_rank and not _factorized(product):
        report.notes.append("low rank: no layer was factorized (--explain factorize-linear says why)")
    if plan.prune and not _pruned(product):
        report.notes.append("prune: no channel was removed (--explain prune-channels says why)")
    names = precisions.PASSES.get(plan.precision or "", ())
    if names and not product.log.layers:
        report.notes.append(f"{plan.precision}: no layer was quantized (--explain {names[0]} says why)")
    if plan.size:
        report.notes.append("--size: weights are unpacked when the file is loaded, memory is that of float32 weights")
    return product


def _planned(driver: Driver, trial: Trial, exact: Product, plan: Plan, fit: Any) -> Attempt:
    found = _tried(driver, trial, exact, steps(plan, driver, fit))
    if plan.low_rank and found.product is not None and not _factorized(found.product):
        return Attempt("no layer can be factorized")
    return found


def _tried(driver: Driver, trial: Trial, exact: Product, change: Steps, last: Any = None) -> Attempt:
    rows = Report()
    try:
        product = driver.replay(lossy=change, last=last).product
    except (PassError, VerifyError) as error:
        if driver.options.strict:
            raise
        return Attempt(f"failed, please report it ({error.message})", failed=True)
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


def _pruned(product: Product) -> bool:
    return any("channels" in layer for layer in product.log.layers)


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
        low_rank, prune = (dict(x) if x else None for x in (options.low_rank, options.prune))
        return [Plan(precision, low_rank, prune, options.size)]
    mildest = Plan(None, {"ratio": 0.5})
    if options.precision is not None:
        return [mildest]
    return [Plan("int8" if target.qdq is not None else "fp16"), mildest]


def steps(plan: Plan, driver: Driver, fit: Any) -> Steps:
    """Return the function that applies a plan; ``fit`` is the calibration data."""

    def apply(module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        if plan.prune or plan.low_rank:
            with refit.Reference(driver, module, fit) as reference:
                if plan.prune:
                    refit.prune(passes.BY_NAME["prune-channels"](**plan.prune), reference, module, ctx, manager)
                if plan.low_rank:
                    refit.low_rank(_factorize(plan.low_rank, driver.options), reference, module, ctx, manager)
        if plan.precision in precisions.PASSES:
            precisions.apply(plan.precision, driver, module, ctx, manager, fit)
        elif plan.precision == "fp16":
            from .backends import fp16_pass

            manager.run(Pipeline((fp16_pass(),)), module, ctx)

    return apply


def _factorize(low_rank: dict[str, float], options: Options) -> Any:
    """Return the pass for a low rank; what level 3 chooses for speed leaves layers alone that would not gain any."""
    kind: Any = passes.BY_NAME["factorize-linear"]
    given: dict[str, Any] = {k: int(v) if k == "rank" else v for k, v in low_rank.items()}
    return kind(**given, fast=not options.by_hand and options.objective == "latency")
