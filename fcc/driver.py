"""The driver: one compile as phases over frozen options; fcc.compile calls them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import ir, limits, passes, plugins
from .analysis import shapes
from .backends import Backend, Emitted, get_backend, size_of
from .compress.blas import one_thread
from .compress.certificate import certificate
from .data.usual import filled
from .errors import FccError, OptionError, PassError, VerifyError
from .frontend import read
from .options import Options
from .provenance import record
from .rewrite import Log, Pass, PassContext
from .rewrite.manager import Instrument, Manager, PassRecord
from .rewrite.pipeline import Pipeline
from .search.bisect import Build, Outcome, Skip, skip_guilty
from .target import TargetSpec, get_target
from .tune.costs import recorded

Progress = Callable[[str, int, int], None]
Oracle = Callable[[Emitted], bool]


def _require_exact(pipeline: Pipeline, options: Options) -> None:
    """Refuse fcc's own passes that move the outputs among those held to rounding, unless nothing is judged.

    Raises:
        OptionError: which pass, and how to ask for what it does.
    """
    lossy = [p for p in pipeline.passes() if not p.exact and p.name in passes.BY_NAME]
    if lossy and options.verify != "off":
        raise OptionError(
            f"pass {lossy[0]} moves the outputs, and passes are held to rounding",
            "--low-rank and --precision int8 are judged against --budget; --verify off judges nothing",
        )


@dataclass(frozen=True)
class Product:
    """One replay: the emitted form, what happened, and the first pass that broke the outputs (--verify each)."""

    module: ir.Module
    emitted: Emitted
    log: Log
    records: tuple[PassRecord, ...]
    broken_by: str = ""


@dataclass(frozen=True)
class Broken:
    """One replay that a pass stopped: it raised, or it broke the graph."""

    error: FccError


@dataclass
class JudgeEach(Instrument):
    """Judge the outputs after every pass that changed something; remember the first pass that failed."""

    emit: Callable[[ir.Module], Emitted]
    oracle: Oracle
    broken_by: str = ""

    def after(self, p: Pass, module: ir.Module, record: PassRecord) -> None:
        if record.applied and not self.broken_by and not self.oracle(self.emit(module)):
            self.broken_by = p.name


@dataclass
class Recorder(Instrument):
    """Collect the records of passes that a backend runs."""

    records: list[PassRecord]

    def after(self, p: Pass, module: ir.Module, record: PassRecord) -> None:
        self.records.append(record)


@dataclass
class Driver:
    """Runs the phases of one compile and remembers their times (seconds), and the guilty rewrites to leave out.

    ``asked``: the options that a user gave, where this driver compiles in another way; the output tells them.
    """

    options: Options
    source: Any
    progress: Progress | None = None
    instruments: tuple[Instrument, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    skip: Skip = frozenset()
    asked: Options | None = None

    def __post_init__(self) -> None:
        with self.phase("prepare"):
            o = self.options
            self.target: TargetSpec = get_target(o.target, isa=o.cpu_isa).quantizing(o.precision, o.scheme)
            self.backend: Backend = get_backend(self.target)
            self.plugins = plugins.load(o.plugins)
            lowerings = {p.name for p in self.backend.lowerings.passes()}
            rest = [name for name in o.disable if name not in lowerings]
            self.pipeline: Pipeline = passes.pipeline(o.opt_level, o.passes, rest, self.plugins)
            _require_exact(self.pipeline, o)
            self.asked = self.asked or o
            self._asked = {"fcc.options": record(self.asked, str(passes.pipeline(self.asked.opt_level)))}
            self._meta = {"fcc.level": str(o.opt_level)}
            chosen = o.passes is not None or bool(rest) or bool(self.plugins)
            if chosen and str(self.pipeline) != str(passes.pipeline(o.opt_level)):  # else the level tells it
                self._meta["fcc.pipeline"] = str(self.pipeline)
            self.skip |= {(name, "") for name in o.disable if name in lowerings}
            self.costs = recorded(o, self.target)
            self.skip |= self.costs.plan.skipped if self.costs.plan is not None else frozenset()
        self._fresh: ir.Module | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and announce it; the deadline of the compile is asked first."""
        limits.check()
        if self.progress is not None:
            self.progress(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def load(self) -> ir.Module:
        """Read, normalize and infer the source; the next replay uses this module up."""
        with self.phase("load"):
            module = read(self.source, shapes=self.options.shapes, max_nodes=self.options.max_nodes)
            for node, reason in shapes.infer(module)[:10]:
                module.notes.append(f"shape inference stopped at {node.name!r}: {reason}")
        self._fresh = module
        return module

    def replay(
        self,
        limit: int | None = None,
        skip: Skip = frozenset(),
        *,
        lossy: Callable[[ir.Module, PassContext, Manager], None] | None = None,
        last: Callable[[], Pipeline | None] | None = None,
        oracle: Oracle | None = None,
        log: Log | None = None,
    ) -> Build[Product]:
        """Run the pipeline, the lossy steps if any, legalize, run what must come ``last``, and emit. Deterministic.

        Raises:
            PassError, VerifyError: a pass raised, or broke the graph; ``log`` (default: new) says how far it came.
        """
        module = self._fresh if self._fresh is not None else self.load()
        self._fresh = None
        self.costs.begin()
        log = self.log(limit, skip) if log is None else log
        ctx = self.context(module, log)
        each = JudgeEach(self.emit, oracle) if oracle is not None else None
        manager = Manager((*self.instruments, *((each,) if each else ())))
        before, finish = (self.pipeline, Pipeline(())) if lossy is None else self.pipeline.split()
        with self.phase("optimize"):
            manager.run(before, module, ctx)
        if lossy is not None:
            with self.phase("compress"), one_thread():
                lossy(module, ctx, manager)
            with self.phase("optimize"):
                manager.run(finish, module, ctx)
        with self.phase("legalize"):
            applied = len(log.applied)
            self.backend.legalize(module, ctx, (*self.instruments, Recorder(manager.records)))
            if len(log.applied) > applied and lossy is None:  # what lowering wrote may be optimized in turn
                manager.run(self.pipeline.without(p.name for p in self.plugins), module, ctx)
                self.backend.legalize(module, ctx, (*self.instruments, Recorder(manager.records)))
        closing = last() if last is not None else None
        if closing is not None:
            with self.phase("compress"):
                manager.run(closing, module, ctx)
        with self.phase("emit"):
            emitted = self.emit(module)
        records, broken = tuple(manager.records), each.broken_by if each else ""
        return Build(Product(module, emitted, log, records, broken), tuple(log.applied))

    def attempt(
        self,
        limit: int | None = None,
        skip: Skip = frozenset(),
        only: Skip | None = None,
        *,
        oracle: Oracle | None = None,
    ) -> Build[Product | Broken]:
        """Replay, where a pass that fails gives a broken product instead of an error; ``only`` these rewrites if given.

        Raises:
            PassError: a pass raised, under strict.
        """
        log = self.log(limit, skip, only)
        try:
            build = self.replay(oracle=oracle, log=log)
        except (PassError, VerifyError) as error:
            if self.options.strict and isinstance(error, PassError):
                raise
            return Build(Broken(error), tuple(log.applied))
        return Build(build.product, build.applied)

    def log(self, limit: int | None = None, skip: Skip = frozenset(), only: Skip | None = None) -> Log:
        """Return an empty log with the gate of a replay."""
        o = self.options
        limits = [x for x in (limit, o.rewrite_limit) if x is not None]
        return Log(min(limits, default=None), self.skip | skip, frozenset(o.explain), o.strict, only)

    def context(self, module: ir.Module, log: Log) -> PassContext:
        """Return what passes may know in a compile of this module."""
        return PassContext(self.target, log, self.opt_symbols(module), costs=self.costs)

    def optimized(self) -> ir.Module:
        """Return the module after the exact pipeline, before legalization."""
        module = self.load()
        self._fresh = None
        Manager(self.instruments).run(self.pipeline, module, self.context(module, Log()))
        return module

    @staticmethod
    def source_size(module: ir.Module) -> int:
        """Return the bytes of the source file, external data included, fcc's metadata and value_info not."""
        return size_of(module.source) if module.source is not None else 0

    def emit(self, module: ir.Module) -> Emitted:
        """Emit a module as it stands, with the profile and metadata of this compile."""
        o = self.options
        return self.backend.emit(
            module,
            meta=self._meta | self._provenance(module) | self._measured(module),
            opt_shapes=filled(o.opt_shapes),
            min_shapes=o.min_shapes,
            max_shapes=o.max_shapes,
        )

    def unchanged(self) -> Product | None:
        """Return the source as the product, nothing but metadata added; None when it cannot be read in one piece."""
        module = self.load()
        self._fresh = None
        emitted = self.backend.unchanged(module, meta={"fcc.level": "0", **self._provenance(module)})
        return None if emitted is None else Product(module, emitted, self.log(), ())

    def _measured(self, module: ir.Module) -> dict[str, str]:
        table = {"fcc.table": self.costs.digest} if self.costs.digest else {}
        return table | (certificate(module) if self.target.name == "cpu" else {})

    def _provenance(self, module: ir.Module) -> dict[str, str]:
        """Return what ``fcc verify`` needs: the options as asked, and the digest of the source."""
        if "fcc.source" not in self._asked and module.source is not None:
            digest = module.source.digest()
            self._asked |= {"fcc.source": digest} if digest else {}
        return self._asked

    def settle(
        self, first: Build[Product | Broken], oracle: Oracle, why: str = "it moved the outputs"
    ) -> Outcome[Product | Broken] | None:
        """Skip guilty rewrites, here and in later replays, until the oracle accepts the product.

        None when it rejects the bare model.
        """
        each = oracle if self.options.verify == "each" else None

        def flaw(product: Product | Broken) -> str:
            if isinstance(product, Broken):
                return product.error.message
            return "" if not product.broken_by and oracle(product.emitted) else why

        outcome = skip_guilty(lambda limit, skip: self.attempt(limit, skip, oracle=each), flaw, first)
        self.skip |= outcome.skip if outcome is not None else frozenset()
        return outcome

    def opt_symbols(self, module: ir.Module) -> Mapping[str, int]:
        """Return symbol -> size at the opt-shape."""
        found: dict[str, int] = {}
        given = self.options.opt_shapes or {}
        for value in module.graph.inputs:
            sizes = given.get(value.name or "")
            for dim, size in zip(ir.dims_of(value) or (), sizes if isinstance(sizes, tuple) else (), strict=False):
                if isinstance(dim, ir.Dim) and size is not None:
                    found[str(dim)] = size
        found.update({k: v for k, v in given.items() if isinstance(v, int)})
        return found
