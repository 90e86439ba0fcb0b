"""fcc.compile: reads top to bottom as the picture in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from . import ir, lossy
from .account import describe, measure
from .allocation import Allocation
from .compiled import CompiledModel
from .decision import replaying, require_same
from .driver import Broken, Driver, Product
from .errors import ParityError, PassError, UnsupportedOp
from .limits import within
from .options import Options, parse_budget, parse_low_rank, parse_prune, several
from .plan import read_plan
from .report import Report
from .resources import resources
from .rewrite.manager import Instrument
from .search.bisect import MAX_PER_PASS, Outcome
from .trial import Trial
from .tuned import never_slower, plan_of, tune

Progress = Callable[[str, int, int], None]
# Operators to which a NaN is an answer: that a value is missing.
_TAKES_NAN = frozenset({"IsNaN", "Imputer", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"})


def compile(
    model: Any,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    precision: str | None = None,
    passes: str | None = None,
    disable: str | Sequence[str] = (),
    low_rank: Any = None,
    prune: Any = None,
    calibration: Any = None,
    data: Any = None,
    budget: float | str | None = None,
    metric: str = "rel",
    objective: str = "latency",
    shapes: Mapping[str, Any] | None = None,
    opt_shapes: Mapping[str, Any] | None = None,
    verify: str = "end",
    seed: int = 0,
    plugins: Any = (),
    executor: Any = None,
    distill: Any = None,
    tune_seconds: float = 0.0,
    plan: Any = None,
    progress: Progress | None = None,
    instruments: Sequence[Instrument] = (),
    **more: Any,
) -> CompiledModel:
    """Compile a model for a target and prove how far its outputs moved.

    ``model`` is a path, bytes, ModelProto, onnx_ir.Model or GraphSurgeon graph. ``opt_level`` 0..3 is the contract of
    docs/architecture.md; ``precision``, ``size``, ``low_rank``, ``prune`` and level 3 move the outputs, judged against
    ``budget``.
    ``calibration`` fits, ``data`` judges (the last third of the calibration data when absent, generated probes
    without any). ``shapes`` binds dimensions; ``opt_shapes`` only says what is modelled, timed and profiled.
    ``distill`` (True, or {"epochs": n, "rate": r}) fine-tunes what lossy steps left; it takes fcc[torch].
    ``executor`` is a concurrent.futures.Executor that calibration samples run on (the output is the same, byte for
    byte), ``cluster`` a Dask cluster or a number of processes; ``cache`` keeps what was gathered; ``tune_seconds`` is
    the time for measuring choices that no table answers (the result is then held to be no slower than the source);
    ``plan`` replays the ``plan`` of an earlier CompiledModel, as an object or a file. ``progress`` is called with
    (phase, done, total) when a phase begins, and as it goes on where that can be counted; ``total`` is 0 when it is not
    known. ``more`` takes the other fields of fcc.options.Options, such as ``timeout`` in seconds. Thread-safe.

    Raises:
        FccError: one of its subclasses; fcc.errors has the exit code of each.
    """
    options = Options(
        target=target,
        opt_level=opt_level,
        precision=precision,
        passes=passes,
        disable=several(disable),
        low_rank=parse_low_rank(low_rank),
        prune=parse_prune(prune),
        calibration=calibration,
        data=data,
        budget=parse_budget(budget),
        metric=metric,
        objective=objective,
        shapes=shapes,
        opt_shapes=opt_shapes,
        verify=verify,
        seed=seed,
        plugins=several(plugins),
        executor=executor,
        distill=distill,
        tune_seconds=tune_seconds,
        plan=plan,
        **more,
    )
    options = replaying(options, read_plan(plan))
    with within(options.timeout), resources(options) as options:
        return _compiled(options, model, progress, tuple(instruments))


def _compiled(
    options: Options, model: Any, progress: Progress | None, instruments: tuple[Instrument, ...]
) -> CompiledModel:
    driver = Driver(options, model, progress, instruments)
    lossy.require(options, driver.target)
    source = driver.load()
    require_same(driver.costs.plan, source)
    driver.options = options = sized(options, source)
    report = _opened(driver, source)
    report.notes += [f"calibration without a file: {why}" for why in getattr(options.calibration, "left_out", ())]
    fit, check = lossy.samples(options, source)
    with driver.phase("probe"):
        trial = Trial.prepare(options, driver.target.providers[0], source, check)
    if options.tune_seconds > 0:
        tune(driver, report)
    exact = _exact(driver, trial, report)
    product = lossy.compress(driver, trial, report, exact, fit) if options.lossy else exact
    driver, product = _never_larger(driver, trial, report, product, exact)
    if any(row.phase == "lossy" for row in report.parity):
        with driver.phase("certify"):
            trial.certify(product.emitted, report, fit)
    if options.tune_seconds > 0 and not options.lossy and not trial.untimed:
        product = never_slower(driver, trial, report, product)
    _lint(driver, report, product)
    return _closed(driver, report, product)


def optimize(
    model: Any,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    passes: str | None = None,
    disable: str | Sequence[str] = (),
    shapes: Mapping[str, Any] | None = None,
    plugins: Any = (),
) -> ir.Module:
    """Return the module after the exact passes, neither legalized nor verified: for tools that go on from there.

    Raises:
        LoadError, OptionError: as ``compile``.
    """
    options = Options(
        target=target,
        opt_level=opt_level,
        passes=passes,
        disable=several(disable),
        shapes=shapes,
        plugins=several(plugins),
    )
    return Driver(options, model).optimized()


def sensitivity(
    model: Any,
    *,
    calibration: Any,
    target: str = "cpu",
    objective: str = "size",
    precision: str | None = None,
    opt_shapes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Return what every lossy change of every layer does alone: error of the outputs, and cost of the whole model.

    One row per layer of the -O2 model: ``name``, ``what`` ("kept"), and ``options``, each with ``name``, ``cost``
    (bytes for ``objective="size"``, microseconds for "latency") and ``error``, the largest relative error of an output
    on samples that the change was not fitted to; infinite where it could not be made. ``more``: as for ``compile``.

    Raises:
        LoadError, OptionError, DataError, CalibrationError: as ``compile``.
    """
    options = Options(
        target=target,
        opt_level=3,
        precision=precision,
        calibration=calibration,
        objective=objective,
        opt_shapes=opt_shapes,
        **more,
    )
    with resources(options) as options:
        driver = Driver(options, model, progress)
        lossy.require(options, driver.target)
        source = driver.load()
        driver.options = options = sized(options, source)
        allocation = Allocation(driver, lossy.samples(options, source)[0])
        driver.replay(lossy=allocation.survey)
        return list(allocation.rows())


def sized(options: Options, source: ir.Module) -> Options:
    """Return the options with every opt-shape by input; sizes not given are those of the first sample, if any.

    The calibration data becomes Data: it is opened once, and NaN in it is refused where the model does not expect any.

    Raises:
        OptionError: an opt-, min- or max-shape, or a state, that does not fit the model.
        DataError: the data does not fit the inputs.
    """
    from .data.dataset import check_state, open_data
    from .data.spec import inputs_of
    from .data.usual import by_input, first_shapes

    o, specs = options, inputs_of(source)
    check_state(o.state, specs, [v.name or "" for v in source.graph.outputs])
    for option, sizes in (("min-shape", o.min_shapes), ("max-shape", o.max_shapes)):
        by_input(specs, sizes, option=option)
    given = by_input(specs, o.opt_shapes)
    if o.calibration is not None:
        finite = not any(n.op_type in _TAKES_NAN for n in source.nodes())
        how: dict[str, Any] = {"opt_shapes": given, "state": o.state or None, "finite": finite}
        o = replace(o, calibration=open_data(o.calibration, specs, **how, skip_bad=o.skip_bad_data))
    samples = o.data if o.data is not None else o.calibration
    if samples is None:
        return replace(o, opt_shapes=given)
    first = first_shapes(samples, specs, state=o.state or None, sizes=given)
    return replace(o, opt_shapes=by_input(specs, o.opt_shapes, base=first))


def _opened(driver: Driver, source: ir.Module) -> Report:
    o, origin = driver.options, source.source
    report = Report(source=str(origin.path or "") if origin else "", target=o.target, opt_level=o.opt_level)
    report.objective, report.budget, report.metric = o.objective, o.budget, o.metric
    report.before = measure(source, driver.opt_symbols(source), driver.source_size(source))
    return report


def _exact(driver: Driver, trial: Trial, report: Report) -> Product:
    """Optimize exactly; rewrites that fail or move the outputs are named, skipped, and said."""
    first = driver.attempt(oracle=trial.exact if driver.options.verify == "each" else None)
    rows = Report()
    with driver.phase("verify"):
        if isinstance(first.product, Product):
            good = trial.exact(first.product.emitted, rows)
            _take(report, rows)
            if good and not first.product.broken_by:
                return first.product
    outcome = driver.settle(first, trial.exact)
    product = first.product if outcome is None else outcome.build.product
    if isinstance(product, Broken):
        raise product.error
    if outcome is None:
        raise _not_survived(report)
    _blame(report, outcome, driver.options.strict, frozenset(p.name for p in driver.plugins))
    rows = Report()
    trial.exact(product.emitted, rows)
    _take(report, rows)
    return product


def _not_survived(report: Report) -> ParityError:
    worst = report.worst
    return ParityError(
        "the model does not survive import and emission: "
        + (f"output {worst.output} has error {worst.error:.3g}" if worst else " ".join(report.notes[-1:])),
        "please report this as a bug of fcc; --verify off emits it all the same",
        worst=[(r.output, r.error, r.limit or 0.0) for r in report.parity if not r.ok],
    )


def _blame(report: Report, outcome: Outcome[Any], strict: bool, plugins: frozenset[str]) -> None:
    """Say which rewrites were skipped and why; the first one is an error under strict."""
    for g in outcome.guilty:
        name, site = g.rewrite.pass_name, g.rewrite.site
        where = f"rewrite of pass {name} at {site}" if site else f"pass {name}"
        if strict:
            raise PassError(f"{where}: {g.reason}", f"--disable {name} leaves it out", pass_name=name, node=site)
        report.guilty.append({**asdict(g.rewrite), "reason": g.reason})
        whose = "" if name in plugins else " (please report it)"
        report.notes.append(f"{where} was skipped{whose}: {g.reason}")
        if g.whole_pass and site:
            report.notes.append(f"pass {name} was left out after {MAX_PER_PASS} such rewrites")
    if outcome.fell_back:
        report.notes.append("too many rewrites were guilty: the model was left as it is")


def _take(report: Report, rows: Report) -> None:
    """Let the report be about the last judgement."""
    report.parity, report.parity_on, report.parity_skipped = rows.parity, rows.parity_on, rows.parity_skipped
    report.notes += [n for n in rows.notes if n not in report.notes]


def _never_larger(
    driver: Driver, trial: Trial, report: Report, product: Product, exact: Product
) -> tuple[Driver, Product]:
    """Fall back, when the file would grow, to the exact product, to -O1, to the bare model: the first that does not."""
    assert report.before is not None
    before, grown = report.before.bytes, product.emitted.size
    if driver.options.allow_growth or grown <= before:
        return driver, product
    lean = product.emitted.without_repeats()
    if lean.size <= before:
        report.notes.append("metadata that nodes would repeat is on one of them, for the file not to grow")
        return driver, replace(product, emitted=lean)
    for what, other, found in _fallbacks(driver, exact):
        rows = Report()
        if not isinstance(found, Product) or found.emitted.size > before or not trial.exact(found.emitted, rows):
            continue
        _take(report, rows)
        report.layers.clear()
        report.decision = {}
        asked = "--passes" if driver.options.passes is not None else f"-O{driver.options.opt_level}"
        asked += "".join(f" --{k} {v}" for k in ("precision", "size") if (v := getattr(driver.options, k)))
        report.notes.append(
            f"{asked} would write {grown} bytes for {before}: {what} was used (--allow-growth lifts this)"
        )
        return other, found
    report.notes.append(f"the file grows from {before} to {grown} bytes: the target needs it")
    return driver, product


def _fallbacks(driver: Driver, exact: Product) -> Iterator[tuple[str, Driver, Product | Broken]]:
    """Yield what may be smaller, compiled when asked for: its name, its driver, and the product."""
    o = driver.options
    if o.lossy:
        yield "the exact model", driver, exact
    applied = exact.log.counts()
    finishing = [p for p in driver.pipeline.passes() if p.finishing and applied[p.name]]
    growing = [p for p in driver.pipeline.passes() if p.grows and applied[p.name]]
    leaner = [str(p.lean()) for p in finishing if p.lean() != p]
    if leaner:
        yield f"the model by {' and '.join(leaner)}", *_exactly(driver, passes=str(driver.pipeline.lean()))
    gone: dict[str, None] = {}
    for passes in (finishing, growing):
        gone |= dict.fromkeys(p.name for p in passes)
        if passes:
            yield f"the model without {' and '.join(gone)}", *_exactly(driver, disable=(*o.disable, *gone))
    names = tuple(p.name for p in driver.plugins)
    tried = o.opt_level if o.passes is None else 1
    for level, disable in ((1, o.disable), (0, (*o.disable, *names))):
        if level < tried or (level == 0 and names):
            yield f"-O{level}", *_exactly(driver, opt_level=level, passes=None, disable=disable)
    lowerings = tuple(p.name for p in driver.backend.lowerings.passes())
    if driver.target.name == "cpu" and lowerings:  # the CPU provider runs every standard operator, if not as fast
        yield "the model without lowering", *_exactly(driver, disable=(*o.disable, *lowerings))
    if not o.shapes:
        unchanged = driver.unchanged()
        if unchanged is not None:
            yield "the source itself", driver, unchanged


def _exactly(driver: Driver, **changed: Any) -> tuple[Driver, Product | Broken]:
    """Compile with changed options and nothing lossy."""
    options = replace(driver.options, precision=None, size=None, low_rank=None, prune=None, distill=None, **changed)
    same: dict[str, Any] = {"seconds": driver.seconds, "skip": driver.skip, "asked": driver.asked}
    other = Driver(options, driver.source, driver.progress, **same)
    other.costs = driver.costs  # what this run measured
    return other, other.attempt().product


def _lint(driver: Driver, report: Report, product: Product) -> None:
    rows = driver.backend.lint(product.module)
    report.lint = [{"node": str(r.node), "reason": r.reason, "severity": str(r.severity)} for r in rows]
    hard = [(r["node"], r["reason"]) for r in report.lint if r["severity"] == "error"]
    if hard and driver.options.strict:
        raise UnsupportedOp(hard, target=driver.target.name)


def _closed(driver: Driver, report: Report, product: Product) -> CompiledModel:
    symbols = driver.opt_symbols(product.module)
    report.after = measure(product.module, symbols, product.emitted.size)
    describe(report, driver, product)
    plan = plan_of(driver, report, product)
    report.choices = [dict(c) for c in plan.choices]
    rows = tuple(driver.costs.fresh.rows.values())
    return CompiledModel(product.emitted, report, product.module, product.log, driver.options.custom_ops, plan, rows)
