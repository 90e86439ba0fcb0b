"""Lossy steps asked for by hand or by level 3: low rank, int8, fp16; each a function over a module being compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from . import ir, precisions
from .allocation import Allocation
from .decision import Decision, read_decision
from .distill import require_torch
from .driver import Driver, Product
from .errors import CalibrationError, OptionError, ParityError, PassError, TargetError, VerifyError
from .gauge import LEAST_GAIN, SLOWER
from .options import HALVES, STATIC, Options
from .report import Report
from .rewrite import PassContext
from .rewrite.manager import Manager
from .steps import Steps
from .target import TargetSpec
from .trial import Trial

BACK_OFFS = 3  # times that the budget is left more room, where unseen samples lose more than held ones
FASTER = 0.95  # of the latency of -O2: a plan of level 3 has to be faster than that
Change = Callable[[ir.Module, PassContext, Manager], None]


def require(options: Options, target: TargetSpec) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        TargetError: the target does not run the precision.
        CalibrationError: int8, pruning or level 3 without calibration data.
    """
    if options.precision in HALVES and target.name == "cpu":
        raise TargetError(
            f"{options.precision} does not run faster on the CPU: onnxruntime has no MatMul or Conv of it there",
            "use --precision int8, or --target cuda",
            target="cpu",
        )
    if options.precision in STATIC and target.qdq is None:
        reason, alternative = target.int8_refusal
        raise TargetError(f"static int8 is refused for {target.name}: {reason}", alternative, target=target.name)
    if options.precision == "int16" and target.qdq is not None and 16 not in target.qdq.widths:
        raise TargetError(
            f"16-bit activations are refused for {target.name}: it quantizes to 8 bits or fewer",
            "use --precision int8 or fp16",
            target=target.name,
        )
    if options.precision == "int8-dynamic" and target.name != "cpu":
        raise TargetError(
            f"dynamic int8 is refused for {target.name}: it has no kernels for it",
            "use --precision int8-weights, int4 or fp16, or --target cpu",
            target=target.name,
        )
    if options.size is not None and target.name == "tensorrt":
        raise TargetError(
            f"weights stored as {options.size} are refused for tensorrt: it takes int8 behind Q and DQ only",
            "use --precision fp16 or int4",
            target=target.name,
        )
    if options.distill is not None:
        require_torch()
        if not options.lossy:
            raise OptionError("--distill recovers what lossy steps lose, and there is none", "add --low-rank, or -O3")
    wants = {p: options.precision == p for p in STATIC} | {
        "prune": options.prune is not None,
        "-O3": options.opt_level == 3,
        "--distill": options.distill is not None,
    }
    needs = next((name for name, asked in wants.items() if asked), "")
    if needs and options.calibration is None:
        raise CalibrationError(
            f"{needs} needs calibration data and there is none",
            "give --calibration samples.npz (one array per input, one sample per row), or compile with -O2",
        )


def samples(options: Options, module: ir.Module) -> tuple[Any, Any]:
    """Return (data to fit, data to judge): the calibration data, its last third judging when --data is absent.

    float16 alone takes --data for the ranges of values too: nothing is fitted to them.

    Raises:
        DataError: the data does not fit the inputs of the model.
    """
    ranges_only = options.precision == "fp16" and options.low_rank is None and options.prune is None
    given = options.data if options.calibration is None and ranges_only else options.calibration
    if given is None:
        return None, options.data
    from .data.dataset import open_data, split
    from .data.spec import inputs_of
    from .data.usual import by_input

    outputs = [v.name or "" for v in module.graph.outputs]
    specs = inputs_of(module)
    sizes = by_input(specs, options.opt_shapes)
    found = open_data(given, specs, opt_shapes=sizes, state=options.state or None, outputs=outputs)
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
    planned = driver.costs.plan.lossy if driver.costs.plan is not None else {}
    if planned or driver.options.by_hand:
        steps = Steps(driver, fit, read_decision(planned)) if planned else _by_hand(driver, fit)
        return _one(driver, trial, report, steps)
    reason = trial.skipped or (trial.untimed if driver.options.objective == "latency" else "")
    if reason:
        report.notes.append(f"nothing lossy was tried ({reason}): this is the -O2 model")
        return exact
    best = _mixed(driver, trial, report, exact, fit)
    for plan, found in _attempts(driver, trial, exact, fit) if best is None else ():
        report.notes.append(f"{plan}: {found.why}")
        if found.product is not None and found.better:
            best = found
            break
    if best is None or best.product is None:
        report.notes.append("nothing lossy was better within the budget: this is the -O2 model")
        return exact
    _accept(report, best.product, best.rows)
    report.decision = best.decision.to_dict()
    return _recovered(driver, trial, report, best, fit) if driver.options.distill else best.product


def _recovered(driver: Driver, trial: Trial, report: Report, best: Attempt, fit: Any) -> Product:
    """Return the chosen model with its weights fine-tuned, where that helps and keeps the budget."""
    assert best.product is not None
    steps, rows = Steps(driver, fit, replace(best.decision, distill=driver.options.distill)), Report()
    product = driver.replay(lossy=steps, last=steps.last).product
    with driver.phase("verify"):
        good = steps.kept and trial.lossy(product.emitted, rows)
    report.distilled = steps.distilled
    report.notes.append(steps.said if good or not steps.kept else f"{steps.said}, but not within the budget")
    if not good:
        return best.product
    report.parity = [r for r in report.parity if r.phase != "lossy"]
    report.layers.clear()
    _accept(report, product, rows)
    report.decision = steps.decision.to_dict()
    return product


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
    if found.product is None or not found.better or not allocation.chosen:
        return None
    return replace(
        found,
        decision=Decision(
            changes=allocation.chosen,
            recipe=allocation.recipe,
            objective=driver.options.objective,
            by="level 3",
        ),
    )


@dataclass(frozen=True)
class Attempt:
    """What came of a plan: its product when it is within the budget, how the outputs moved, and why it is better."""

    why: str
    product: Product | None = None
    rows: Report = field(default_factory=Report)
    better: bool = False
    decision: Decision = field(default_factory=Decision)
    failed: bool = False


def _attempts(driver: Driver, trial: Trial, exact: Product, fit: Any) -> Iterator[tuple[Decision, Attempt]]:
    """Yield the plans of level 3 as they are tried, boldest first; none with low rank where the mildest is too much."""
    known = plans(driver.options, driver.target)
    mildest = known[-1]
    found = _planned(driver, trial, exact, mildest, fit)
    if found.product is None:
        yield mildest, found
        known = [p for p in known if not p.low_rank]
    for plan in known:
        yield plan, found if plan == mildest else _planned(driver, trial, exact, plan, fit)


def _one(driver: Driver, trial: Trial, report: Report, steps: Steps) -> Product:
    """Return the model by a decision: one named by the user, or one that a plan holds."""
    plan, rows = steps.decision, Report()
    product = driver.replay(lossy=steps, last=steps.last).product
    with driver.phase("verify"):
        good = trial.lossy(product.emitted, rows)
    if not good:
        raise _refused(plan, driver.options, rows)
    _accept(report, product, rows)
    report.decision, report.distilled = steps.decision.to_dict(), steps.distilled
    report.notes += [steps.said] if steps.said else []
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


def _planned(driver: Driver, trial: Trial, exact: Product, plan: Decision, fit: Any) -> Attempt:
    steps = Steps(driver, fit, plan)
    found = replace(_tried(driver, trial, exact, steps), decision=steps.decision)
    if plan.low_rank and found.product is not None and not _factorized(found.product):
        return Attempt("no layer can be factorized")
    return found


def _tried(driver: Driver, trial: Trial, exact: Product, change: Change, last: Any = None) -> Attempt:
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


def _refused(plan: Decision, options: Options, rows: Report) -> ParityError:
    if options.budget is None:
        what, hint = "below 10 dB SQNR", "--force emits it all the same; --budget 5% states what is allowed"
    else:
        what = f"beyond the budget {options.budget:g}"
        hint = f"{'lower' if options.metric == 'sqnr' else 'raise'} --budget, or compress less"
    worst = [(r.output, r.error, r.limit or 0.0) for r in rows.parity]
    return ParityError(f"{plan} moves the outputs {what} ({_worst(rows)})", hint, worst=worst)


def _better(options: Options, trial: Trial, exact: Product, product: Product) -> tuple[bool, str]:
    """Return whether a plan beats the exact product, and by what: smaller and no slower, or faster beyond the noise."""
    if options.objective == "size":
        return _smaller(trial, exact, product)
    timing = trial.speed(exact.emitted, product.emitted)
    return timing.ratio + 2 * timing.noise < FASTER, f"{timing.ratio:.2f} of the latency of -O2"


def _smaller(trial: Trial, exact: Product, product: Product) -> tuple[bool, str]:
    """Return whether a plan is smaller and, where that can be measured, no slower."""
    said = f"{product.emitted.size} bytes"
    if product.emitted.size >= exact.emitted.size or trial.untimed:
        return product.emitted.size < exact.emitted.size, said
    timing = trial.speed(exact.emitted, product.emitted)
    slower = timing.ratio - LEAST_GAIN * timing.noise > SLOWER
    return not slower, said + (f", {timing.ratio:.2f} of the latency of -O2" if slower else "")


def _by_hand(driver: Driver, fit: Any) -> Steps:
    """Return the steps that were named."""
    o = driver.options
    precision = o.precision if o.precision != "fp32" else None
    low_rank, prune, tuned = (dict(x) if x else None for x in (o.low_rank, o.prune, o.distill))
    return Steps(driver, fit, Decision(prune, low_rank, precision, o.size, distill=tuned, objective=o.objective))


def plans(options: Options, target: TargetSpec) -> list[Decision]:
    """Return what level 3 tries with all layers on the target: boldest first, the mildest low rank last."""

    def made(precision: str | None = None, ratio: float | None = None) -> Decision:
        low_rank = None if ratio is None else {"ratio": ratio}
        return Decision(low_rank=low_rank, precision=precision, objective=options.objective, by="level 3")

    mildest = made(ratio=0.5)
    if options.precision is not None:
        return [mildest]
    found = ["int8"] if target.qdq is not None else []
    found += ["fp16"] if target.name != "cpu" else []
    return [*(made(p) for p in found), mildest]
