"""fcc.compile: reads top to bottom as the picture in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from . import ir, lossy
from .account import describe, measure
from .compiled import CompiledModel
from .driver import Broken, Driver, Product
from .errors import ParityError, PassError, UnsupportedOp
from .options import Options, parse_budget, parse_low_rank
from .report import Report
from .rewrite.manager import Instrument
from .search.bisect import MAX_PER_PASS, Outcome
from .trial import Trial

Progress = Callable[[str, int, int], None]


def compile(
    model: Any,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    precision: str | None = None,
    passes: str | None = None,
    disable: Sequence[str] = (),
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
    plugins: Sequence[Any] = (),
    executor: Any = None,
    progress: Progress | None = None,
    instruments: Sequence[Instrument] = (),
    **more: Any,
) -> CompiledModel:
    """Compile a model for a target and prove how far its outputs moved.

    ``model`` is a path, bytes, ModelProto, onnx_ir.Model or GraphSurgeon graph. ``opt_level`` 0..3 is the contract of
    docs/architecture.md; ``precision``, ``low_rank`` and level 3 move the outputs and are judged against ``budget``.
    ``calibration`` fits, ``data`` judges (the last third of the calibration data when absent, generated probes
    without any). ``shapes`` binds dimensions; ``opt_shapes`` only says what is modelled, timed and profiled.
    ``executor`` is a concurrent.futures.Executor for calibration; ``more`` takes the other fields of
    fcc.options.Options. Thread-safe.

    Raises:
        FccError: one of its subclasses; fcc.errors has the exit code of each.
    """
    lossy.unavailable_prune(prune)
    options = Options(
        target=target,
        opt_level=opt_level,
        precision=precision,
        passes=passes,
        disable=tuple(disable),
        low_rank=parse_low_rank(low_rank),
        calibration=calibration,
        data=data,
        budget=parse_budget(budget),
        metric=metric,
        objective=objective,
        shapes=shapes,
        opt_shapes=opt_shapes,
        verify=verify,
        seed=seed,
        plugins=tuple(plugins),
        **more,
    )
    driver = Driver(options, model, progress, tuple(instruments))
    lossy.require(options, driver.target)
    source = driver.load()
    driver.options = options = _sized(options, source)
    report = _opened(driver, source)
    fit, check = lossy.samples(options, source)
    with driver.phase("probe"):
        trial = Trial.prepare(options, driver.target.providers[0], source, check)
    product = _exact(driver, trial, report)
    product = lossy.compress(driver, trial, report, product, fit) if options.lossy else product
    product = _never_larger(driver, trial, report, product)
    _lint(driver, report, product)
    return _closed(driver, report, product)


def optimize(
    model: Any,
    *,
    target: str = "cpu",
    opt_level: int = 2,
    passes: str | None = None,
    disable: Sequence[str] = (),
    shapes: Mapping[str, Any] | None = None,
    plugins: Sequence[Any] = (),
) -> ir.Module:
    """Return the module after the exact passes, neither legalized nor verified: for tools that go on from there.

    Raises:
        LoadError, OptionError: as ``compile``.
    """
    options = Options(
        target=target, opt_level=opt_level, passes=passes, disable=tuple(disable), shapes=shapes, plugins=tuple(plugins)
    )
    return Driver(options, model).optimized()


def _sized(options: Options, source: ir.Module) -> Options:
    """Return the options with every opt-shape by input; sizes not given are those of the first sample, if any.

    Raises:
        OptionError: an opt-, min- or max-shape, or a state, that does not fit the model.
        DataError: the data does not fit the inputs.
    """
    from .data.dataset import check_state
    from .data.spec import inputs_of
    from .data.usual import by_input, first_shapes

    o, specs = options, inputs_of(source)
    check_state(o.state, specs, [v.name or "" for v in source.graph.outputs])
    for option, sizes in (("min-shape", o.min_shapes), ("max-shape", o.max_shapes)):
        by_input(specs, sizes, option=option)
    given = by_input(specs, o.opt_shapes)
    samples = o.data if o.data is not None else o.calibration
    if samples is None:
        return replace(o, opt_shapes=given)
    first = first_shapes(samples, specs, state=o.state or None, sizes=given)
    return replace(o, opt_shapes=by_input(specs, o.opt_shapes, base=first))


def _opened(driver: Driver, source: ir.Module) -> Report:
    o, origin = driver.options, source.source
    report = Report(source=str(origin.path or "") if origin else "", target=o.target, opt_level=o.opt_level)
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
    _blame(report, outcome, driver.options.strict)
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


def _blame(report: Report, outcome: Outcome[Any], strict: bool) -> None:
    """Say which rewrites were skipped and why; the first one is an error under strict."""
    for g in outcome.guilty:
        name, site = g.rewrite.pass_name, g.rewrite.site
        where = f"rewrite of pass {name} at {site}" if site else f"pass {name}"
        if strict:
            raise PassError(f"{where}: {g.reason}", f"--disable {name} leaves it out", pass_name=name, node=site)
        report.guilty.append({**asdict(g.rewrite), "reason": g.reason})
        report.notes.append(f"{where} was skipped (please report it): {g.reason}")
        if g.whole_pass and site:
            report.notes.append(f"pass {name} was left out after {MAX_PER_PASS} such rewrites")
    if outcome.fell_back:
        report.notes.append("too many rewrites were guilty: the model was left as it is")


def _take(report: Report, rows: Report) -> None:
    """Let the report be about the last judgement."""
    report.parity, report.parity_on, report.parity_skipped = rows.parity, rows.parity_on, rows.parity_skipped
    report.notes += [n for n in rows.notes if n not in report.notes]


def _never_larger(driver: Driver, trial: Trial, report: Report, product: Product) -> Product:
    """Fall back to the pipeline that only cleans up, then to the bare model, when the file would grow."""
    assert report.before is not None
    before, o = report.before.bytes, driver.options
    if o.allow_growth or product.emitted.size <= before:
        return product
    plain = replace(o, opt_level=1, precision=None, low_rank=None, passes=None)
    for level in (1, 0):
        smaller = Driver(replace(plain, opt_level=level), driver.source, driver.progress, skip=driver.skip)
        found, rows = smaller.attempt().product, Report()
        if isinstance(found, Product) and found.emitted.size <= before and trial.exact(found.emitted, rows):
            _take(report, rows)
            report.notes.append(
                f"-O{o.opt_level} would write {product.emitted.size} bytes for {before}: -O{level} was used"
                " (--allow-growth lifts this)"
            )
            return found
    report.notes.append(f"the file grows from {before} to {product.emitted.size} bytes: the target needs it")
    return product


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
    return CompiledModel(product.emitted, report, product.module, product.log)
