"""Judge: the source prepared once, any number of candidates compared with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fcc.data.dataset import Data, Run, open_data
from fcc.data.probes import probes
from fcc.data.randomness import random_outputs
from fcc.data.spec import Feeds, Outputs, inputs_of, is_float
from fcc.data.usual import by_input
from fcc.errors import DataError, FccError
from fcc.ir import Module
from fcc.runtime import CPU, STAND_IN, Session, Source, available, open_session

from .arbiter import BESIDE, Arbiter
from .certify import Certified, certify
from .compare import Loop, Parity, loop_over, measure, rows_of, without_state
from .memory import Memory, collect
from .meter import Meter, leaves, unjudged, worst_of
from .metrics import Metric
from .tolerance import floor_of
from .verdict import Verdict

_SUSPICIOUS = 1e-2  # a float source that differs this much from itself is asked again: it may be random


@dataclass
class _Prepared:
    """What is known of the source: its reference outputs (while they fit in memory), and its own noise."""

    session: Session
    feeds: Data | list[Feeds]
    loop: Loop
    kept: list[Outputs] | None
    noise: Mapping[str, float]
    random: Mapping[str, str]
    notes: list[str]

    def references(self) -> Iterator[Outputs]:
        return iter(self.kept) if self.kept is not None else self.loop(self.session.run)


@dataclass
class Judge:
    """Compares emitted models with their source: references with optimizations off, limits from its own noise.

    The source runs on the CPU provider with optimizations off (reference) and on ``provider`` with them on (noise), on
    the user's ``data`` (its first ``samples`` feeds; None for all) or on generated probes, once, when first needed.
    State goes round on each side by itself.  ``folder`` holds the external data of a source given as bytes.
    Use one Judge from one thread.
    """

    source: Source
    module: Module
    data: Any = None
    state: Mapping[str, str] | None = None
    seed: int = 0
    count: int = 3
    samples: int | None = 256
    provider: str = CPU
    opt_shapes: Mapping[str, Any] | None = None
    custom_ops: Sequence[str] = ()
    threads: int = 1
    folder: str | None = None
    bfloat16: bool = False
    _state: _Prepared | str | None = field(default=None, init=False, repr=False)
    _loads: bool = field(default=False, init=False, repr=False)

    @cached_property
    def _arbiter(self) -> Arbiter:
        return Arbiter(self.source, self.module, self.folder)

    @classmethod
    def of(cls, module: Module, **how: Any) -> Judge:
        """Return the judge of candidates for a module that was read: the original is its source."""
        if module.source is None:
            raise ValueError("the module has no source")
        return cls(module.source.load(), module, folder=module.source.base_dir, **how)

    @property
    def skipped_reason(self) -> str:
        """Why the source cannot be compared with anything; empty when it can.

        Raises:
            DataError: the user's data does not fit the model.
        """
        prepared = self._prepared()
        return prepared if isinstance(prepared, str) else ""

    def feeds(self) -> Data | list[Feeds] | None:
        """Return what the models are run on; None when nothing can be compared."""
        prepared = self._prepared()
        return None if isinstance(prepared, str) else prepared.feeds

    def first_feeds(self, count: int) -> list[Feeds]:
        """Return the first feeds, state included; none when nothing can be compared."""
        prepared = self._prepared()
        if isinstance(prepared, str):
            return []
        if isinstance(prepared.feeds, Data):
            return [feeds for feeds, _ in prepared.feeds.take(count).run(prepared.session.run)]
        return prepared.feeds[:count]

    def finite(self) -> bool:
        """Return whether every float that the source writes is finite."""
        prepared = self._prepared()
        if isinstance(prepared, str):
            return False
        arrays = (a for y in prepared.references() for v in y.values() for _, a in leaves(v))
        return all(bool(np.isfinite(a.astype(np.float64)).all()) for a in arrays if is_float(a.dtype))

    @property
    def noise(self) -> Mapping[str, float]:
        """Output -> what the source moves by itself when the runtime optimizes it."""
        prepared = self._prepared()
        return {} if isinstance(prepared, str) else prepared.noise

    def beside(self, emitted: Source) -> dict[str, tuple[float, float]] | str:
        """Return output -> (error of the source, of a model) beside float64; why there is none, in words."""
        prepared = self._prepared()
        if isinstance(prepared, str):
            return prepared
        if isinstance(prepared.feeds, Data) and prepared.feeds.state:
            return "state goes round on each side by itself"
        try:
            run = self._open(emitted).run
            return self._arbiter.distances((f, prepared.session.run(f), run(f)) for f in prepared.feeds)
        except FccError as error:
            return error.message

    def require(self, metric: Metric) -> None:
        """Raise where a metric says nothing about the outputs.

        Raises:
            OptionError: no output has such a figure.
        """
        prepared = self._prepared()
        if not isinstance(prepared, str) and metric.per_feed is None:
            meters, _ = measure((y, y) for y in prepared.references())
            metric.value(without_state((m.row(0.0) for m in meters), prepared.feeds))

    def certify(self, emitted: Source, metric: Metric, tries: int = 1) -> Certified | None:
        """Return what the user's samples certify about a model; None without any, or where it does not run."""
        prepared = self._prepared()
        if isinstance(prepared, str) or self.data is None:
            return None
        feeds = self.data if isinstance(self.data, Data) else prepared.feeds
        try:
            return certify(prepared.session.run, self._open(emitted).run, feeds, metric, tries)
        except FccError:
            return None

    def judge(
        self,
        emitted: Source,
        *,
        options: Mapping[str, str] | None = None,
        provider_options: Mapping[str, str] | None = None,
        floor: float | None = None,
        limit: float | None = None,
        metric: Metric | None = None,
        budget: float | None = None,
    ) -> Verdict:
        """Return the verdict on an emitted model, run with default options and with the recommended ``options``.

        ``floor`` replaces the tolerance of float outputs, ``limit`` every limit.  ``metric`` is noted; with ``budget``
        only the metric decides, and structure still must match.

        Raises:
            DataError: the user's data does not fit the model.
        """
        prepared = self._prepared()
        if isinstance(prepared, str):
            failure = self._fails_to_load(emitted) if self._loads else ""
            return Verdict(not failure, skipped_reason=prepared, failure=failure)
        try:
            parity, own = self._compare(prepared, emitted, {}, {}, floor, limit, metric)
            rows = list(parity.rows)
            if options or provider_options:
                second, more = self._compare(
                    prepared, emitted, options or {}, provider_options or {}, floor, limit, metric
                )
                rows, own = worst_of(rows, list(second.rows)), own + more
        except FccError as e:
            return Verdict(False, notes=tuple(prepared.notes), failure=f"the emitted model does not run: {e.message}")
        rows = [unjudged(r, prepared.random[r.name]) if r.name in prepared.random else r for r in rows]
        settled = [f"output {r.name} was judged {r.note}" for r in rows if r.ok and r.note.startswith(BESIDE)]
        notes = [*prepared.notes, *settled, *Parity(tuple(rows), parity.feeds).warnings]
        ok, value = all(r.ok for r in rows), 0.0
        if metric is not None:
            value = metric.value(rows, own)
            notes.append(f"{metric.name} {value:.3g}" + (f", budget {budget:.3g}" if budget is not None else ""))
        if metric is not None and budget is not None:
            ok = metric.within(value, budget) and all(np.isfinite(r.error) for r in rows if r.judged)
        return Verdict(ok, tuple(rows), parity.feeds, tuple(notes), figure=value)

    def _fails_to_load(self, emitted: Source) -> str:
        """Return why a model does not load, which its source does though nothing was found that it runs on."""
        try:
            self._open(emitted, optimize=False)
        except FccError as error:
            return f"the emitted model does not run: {error.message}"
        return ""

    def _compare(
        self,
        prepared: _Prepared,
        emitted: Source,
        options: Mapping[str, str],
        provider_options: Mapping[str, str],
        floor: float | None,
        limit: float | None,
        metric: Metric | None,
    ) -> tuple[Parity, list[float]]:
        session = self._open(emitted, options=options, provider_options=provider_options)
        own: list[float] = []

        def watched(references: Iterator[Outputs], found: Iterator[Outputs]) -> Iterator[tuple[Outputs, Outputs]]:
            for expected, y in zip(references, found, strict=True):
                if metric is not None and metric.per_feed is not None:
                    own.append(metric.call(expected, y))
                yield expected, y

        meters, count = measure(watched(prepared.references(), prepared.loop(session.run)))
        rows = rows_of(meters, limit=limit, noise=prepared.noise, floor=self._floors(floor))
        stateless = not (isinstance(prepared.feeds, Data) and prepared.feeds.state)
        if stateless and limit is None and metric is None and not all(r.ok for r in rows):
            runs = ((f, y, session.run(f)) for f, y in zip(prepared.feeds, prepared.references(), strict=True))
            rows = self._arbiter.settle(rows, runs)
        return Parity(tuple(without_state(rows, prepared.feeds)), count), own

    def _floors(self, floor: float | None) -> Callable[[Meter], float]:
        inside = {np.dtype(v.dtype.numpy()) for v in self.module.graph.initializers.values() if v.dtype is not None}

        def of(meter: Meter) -> float:
            if meter.dtype is None:
                return 0.0
            return floor if floor is not None and is_float(meter.dtype) else floor_of(meter.dtype, inside)

        return of

    def _open(self, model: Source, *, optimize: bool = True, provider: str | None = None, **more: Any) -> Session:
        chosen = provider or (self.provider if self.provider in available() else CPU)
        if chosen != self.provider:
            model = self._as_cpu(model)
            more["options"] = {**STAND_IN, **(more.get("options") or {})}
        return open_session(
            model, provider=chosen, optimize=optimize, threads=self.threads, custom_ops=self.custom_ops, **more
        )

    def _as_cpu(self, model: Source) -> Source:
        """Return a model that the CPU can run where it stands in for a device with bfloat16."""
        if not self.bfloat16 or not isinstance(model, bytes):
            return model
        from fcc.runtime.emulate import emulated
        from fcc.runtime.inspect import read_proto

        return bytes(emulated(read_proto(model)).SerializeToString())

    def _prepared(self) -> _Prepared | str:
        if self._state is None:
            self._state = self._prepare()
        return self._state

    def _prepare(self) -> _Prepared | str:
        random = random_outputs(self.module)
        if random and len(random) == len(self.module.graph.outputs):
            return f"the source is not deterministic: {next(iter(random.values()))}"
        notes = [] if self.provider in available() else [f"judged on the CPU: no {self.provider} here"]
        try:
            session = self._open(self.source, optimize=False, provider=CPU, folder=self.folder)
        except FccError as e:
            return e.message
        self._loads = True
        run: Run = session.run if self.data is not None else Memory(session.run).run
        found = self._feeds(session, run, notes)
        if isinstance(found, str):
            return found
        return self._reference(_Prepared(session, found, loop_over(found), None, {}, dict(random), notes), run)

    def _feeds(self, session: Session, run: Run, notes: list[str]) -> Data | list[Feeds] | str:
        specs = inputs_of(self.module)
        shapes = by_input(specs, self.opt_shapes)
        if self.data is not None:
            names = [o.name for o in session.outputs]
            data = open_data(self.data, specs, opt_shapes=shapes, state=self.state, outputs=names)
            if self.samples is not None:
                data = data.take(self.samples)
            return data
        try:
            made = probes(self.module, seed=self.seed, count=self.count, opt_shapes=shapes, run=run)
        except FccError as e:
            return e.message
        return _running(made, run, notes)

    def _reference(self, prepared: _Prepared, run: Run) -> _Prepared | str:
        try:
            prepared.kept = collect(prepared.loop(run))
        except DataError:
            raise
        except FccError as e:
            return e.message
        try:
            optimized = self._open(self.source, folder=self.folder)
            meters, _ = measure(zip(prepared.references(), prepared.loop(optimized.run), strict=True))
        except FccError as e:
            prepared.notes.append(f"the source does not run optimized: {e.message}")
            return prepared
        prepared.noise = {m.name: m.error for m in meters}
        self._repeat(prepared)
        return self._ask_again(prepared, meters)

    def _repeat(self, prepared: _Prepared) -> None:
        """Run the first feed again, and say which outputs of the source differ from run to run."""
        first = ((a, b) for a, b in zip(prepared.references(), prepared.loop(prepared.session.run), strict=False))
        meters, _ = measure(itertools.islice(first, 1))
        prepared.notes += [
            f"the source is not deterministic: output {m.name} differs by {m.error:.2g} from run to run"
            for m in meters
            if m.error > 0 and m.name not in prepared.random
        ]

    def _ask_again(self, prepared: _Prepared, meters: Sequence[Meter]) -> _Prepared | str:
        """Run the source twice where it differs from itself: an output that does not repeat judges nothing."""
        loud = [m for m in meters if m.error > _SUSPICIOUS and m.name not in prepared.random]
        if not loud:
            return prepared
        again, _ = measure(zip(prepared.references(), prepared.loop(prepared.session.run), strict=True))
        unstable = {m.name for m in again if m.error > 0}
        for meter in loud:
            if meter.name in unstable:
                prepared.random = {**prepared.random, meter.name: "differs from run to run"}
            else:
                prepared.notes.append(f"output {meter.name} moves by {meter.error:.2g} when optimizations are on")
        if len(prepared.random) == len(prepared.session.outputs):
            return "the source is not deterministic: it differs from run to run"
        return prepared


def judge(source: Source, emitted: Source, module: Module, **how: Any) -> Verdict:
    """Return the verdict on one emitted model; ``how`` is what Judge takes."""
    return Judge(source, module, **how).judge(emitted)


def _running(made: Sequence[Feeds], run: Run, notes: list[str]) -> list[Feeds] | str:
    """Return the probes on which the source runs; a reason when there is none."""
    good: list[Feeds] = []
    why = "no probe"
    for feeds in made:
        try:
            run(feeds)
            good.append(feeds)
        except FccError as e:
            why = e.message
    if not good:
        return why
    if len(good) < len(made):
        notes.append(f"the source ran on {len(good)} of {len(made)} probes: {why}")
    return good
