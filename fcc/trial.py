"""Trial: emitted models of one compile, judged against its source; the source is prepared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from . import ir
from .backends import Emitted
from .compiled import Runnable
from .errors import ParityError, VerifyError
from .options import Options
from .report import ParityRow, Report

MIN_SQNR = 10.0
SLOWER, SLOWER_US = 1.05, 20.0  # beyond what equal files differ by: a model above both is slower
TAPPED_LIMIT = 1 << 29  # bytes of a source that is read whole to add outputs


@dataclass
class Trial:
    """Judges emitted models; without a runtime, or with --verify off, everything passes and the report says so."""

    options: Options
    provider: str
    judge: Any = None
    inside: Any = None
    hidden: tuple[str, ...] = ()
    skipped: str = ""
    source: Any = None
    tries: int = 0
    raced: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def prepare(cls, options: Options, provider: str, module: ir.Module, data: Any) -> Trial:
        """Run the source on the user's data or on probes; the module must still be what was read.

        Raises:
            DataError: the data does not fit the model.
            ParityError: nothing can be compared, under --require-parity.
        """
        trial = cls(options, provider, source=module.source)
        if options.verify == "off":
            trial.skipped = "verification is off"
        elif module.source is None:
            trial.skipped = "the source cannot be run again"
        else:
            trial._open(module, data)
        if trial.skipped and options.require_parity:
            raise ParityError(f"parity not run: {trial.skipped}", "leave --require-parity out to emit it unverified")
        return trial

    def _open(self, module: ir.Module, data: Any) -> None:
        from .parity import Judge
        from .parity.metrics import metric
        from .runtime import CPU, available

        o = self.options
        if CPU not in available():
            self.skipped = 'onnxruntime is not installed (pip install "fcc[cpu]")'
            return
        how: dict[str, Any] = {
            "state": o.state or None,
            "seed": o.seed,
            "provider": self.provider,
            "opt_shapes": o.opt_shapes,
            "custom_ops": o.custom_ops,
            "threads": o.threads,
            "bfloat16": o.precision == "bf16",
        }
        self.judge = Judge.of(module, data=data, **how)
        self.skipped = self.judge.skipped_reason
        if o.lossy and o.budget is not None:
            self.judge.require(metric(o.metric))
        source = module.source
        if not self.skipped and source is not None and source.bytes_size <= TAPPED_LIMIT:
            self._open_inside(module, source, data, how)

    def _open_inside(self, module: ir.Module, source: Any, data: Any, how: dict[str, Any]) -> None:
        """Prepare the source with the tensors as outputs that its own outputs hide."""
        from .parity import Judge
        from .parity.saturating import hidden_tensors
        from .runtime import tap

        names = hidden_tensors(module)
        if not names:
            return
        feeds = data if data is not None else list(self.judge.feeds())
        inside = Judge(tap(source.load(), names), module, data=feeds, folder=source.base_dir, **how)
        if not inside.skipped_reason:
            self.inside, self.hidden = inside, tuple(names)

    def exact(self, emitted: Emitted, report: Report | None = None) -> bool:
        """Return whether the outputs, and what they hide, are within the tolerance of exact rewrites."""
        return self._judge(emitted, report, "exact", {}) and self._inside(emitted, report)

    def _inside(self, emitted: Emitted, report: Report | None) -> bool:
        """Judge the tensors in front of saturating outputs, where the emitted model still has them."""
        if self.inside is None or emitted.external:
            return True
        from .runtime import tap, tensor_names

        data = emitted.to_bytes()
        there = set(tensor_names(data)) & set(self.hidden)
        if not there:
            return True
        verdict = self.inside.judge(tap(data, sorted(there)))
        rows = [r for r in verdict.rows if r.judged and r.name in there]
        if report is not None:
            report.parity += [_row("inside", r, None, None, r.ok) for r in rows]
        return not verdict.failure and all(r.ok for r in rows)

    def lossy(self, emitted: Emitted, report: Report | None = None) -> bool:
        """Return whether the outputs keep the budget (none given: at least 10 dB SQNR, unless forced)."""
        from .parity.metrics import metric

        o = self.options
        self.tries += 1
        if o.budget is not None:
            return self._judge(emitted, report, "lossy", {"metric": metric(o.metric), "budget": o.budget})
        limit = {} if o.force else {"metric": metric("sqnr"), "budget": MIN_SQNR}
        return self._judge(emitted, report, "lossy", limit or {"limit": float("inf")})

    def certify(self, emitted: Emitted, report: Report, fit: Any) -> None:
        """Write into the report what the samples say about a lossy model in general, unless it was fitted to them.

        ``fit`` is the data that it was fitted to.
        """
        from .data.dataset import Data
        from .parity.metrics import metric

        o = self.options
        kind = metric(o.metric)
        if self.skipped or self.judge.data is None:
            return
        judging = self.judge.feeds()
        if isinstance(judging, Data) and isinstance(fit, Data) and judging.shares(fit):
            report.notes.append("nothing is certified: the samples that judge are those it was fitted to")
            return
        with Runnable(emitted) as model:
            found = self.judge.certify(model, kind, self.tries)
        if found is not None:
            kept = found.keeps(kind, o.budget) if o.budget is not None else None
            report.certified = {**asdict(found), "budget": o.budget, "tries": self.tries, "ok": kept}

    @property
    def untimed(self) -> str:
        """Why nothing can be timed on the target here; empty when it can."""
        from .runtime import available

        if self.skipped:
            return self.skipped
        return "" if self.provider in available() else f"no {self.provider} here"

    def speed(self, before: Emitted, after: Emitted) -> Any:
        """Return the Timing of one feed on the target's provider, interleaved: latency of ``after`` over ``before``."""
        from .runtime import open_session, time_ratio

        o = self.options
        how: dict[str, Any] = {"provider": self.provider, "threads": o.threads, "custom_ops": o.custom_ops}
        with Runnable(before) as a, Runnable(after) as b:
            first, second = (open_session(m, **how) for m in (a, b))
        return time_ratio(first, second, self._feed(first), budget_s=1.0)

    def slower(self, emitted: Emitted) -> str:
        """Return by how much a model is slower than the source, in two runs in a row; empty when it is not.

        Source, source again and model run in turn, all with default options; the two sessions of the source show what
        equal files differ by. ``raced`` keeps the figures of the last run.
        """
        sessions = self.sessions(emitted)
        return self._raced(sessions) and self._raced(sessions)

    def sessions(self, emitted: Emitted) -> list[Any]:
        """Return two sessions of the source and one of a model, with default options on the target's provider."""
        from .runtime import open_session

        how: dict[str, Any] = {
            "provider": self.provider,
            "threads": self.options.threads,
            "custom_ops": self.options.custom_ops,
        }
        original = self.source.load()
        folder = self.source.base_dir if isinstance(original, bytes) else None
        sessions = [open_session(original, folder=folder, **how) for _ in range(2)]
        with Runnable(emitted) as model:
            return [*sessions, open_session(model, **how)]

    def race(self, sessions: list[Any]) -> list[list[float]]:
        """Return the times (seconds) of sessions that run in turn on one feed."""
        from .runtime import race

        return race(sessions, self._feed(sessions[0]))

    def _raced(self, sessions: list[Any]) -> str:
        source, again, model = (median(t) * 1e6 for t in self.race(sessions))
        band = max(again / source, source / again)
        self.raced = {"source_us": source, "again_us": again, "model_us": model, "ratio": model / source}
        if model <= SLOWER * band * source or model - max(source, again) <= SLOWER_US:
            return ""
        return f"{model / source:.2f} of the time, {model - source:.0f} us more"

    def _feed(self, session: Any) -> Any:
        """Return a feed to time models on, of the opt-shape."""
        from .data.dataset import Data
        from .data.usual import at_sizes

        feeds = self.judge.feeds()
        first = feeds.first() if isinstance(feeds, Data) else feeds[0]
        return at_sizes(first, self.options.opt_shapes, session.run)

    def _shown(self, how: Mapping[str, Any], ok: bool) -> tuple[Any, float | None]:
        """Return the metric and limit of the rows: what decided, or the user's metric where nothing was asked."""
        from .parity.metrics import metric

        asked = "metric" in how and (self.options.budget is not None or not ok)
        return (how["metric"], how["budget"]) if asked else (metric(self.options.metric), None)

    def _judge(self, emitted: Emitted, report: Report | None, phase: str, how: dict[str, Any]) -> bool:
        if report is not None and self.skipped:
            report.parity_skipped = self.skipped
        if self.judge is None:
            return True
        try:
            with Runnable(emitted) as model:
                verdict = self.judge.judge(model, options=emitted.session_options or None, **how)
        except VerifyError as error:
            if report is not None:
                report.notes.append(error.message)
            return False
        if report is not None and verdict.ran:
            shown, limit = self._shown(how, verdict.ok)
            noise = self.judge.noise if phase != "inside" else {}
            rows = [(r, _row(phase, r, shown, limit, verdict.ok)) for r in verdict.rows if r.judged]
            beside = ({"own": noise.get(r.name), "sqnr": r.sqnr, "agreement": r.agreement} for r, _ in rows)
            report.parity += [replace(row, **more) for (_, row), more in zip(rows, beside, strict=True)]
            if shown.per_feed is not None and limit is not None:
                report.parity.append(ParityRow(phase, "(all)", shown.name, verdict.figure, limit, verdict.ok))
            report.parity_on = f"{verdict.feeds} {'samples' if self.judge.data is not None else 'probes'}"
            said = f"{how['metric'].name} " if "metric" in how else None  # the rows have the figure
            report.notes += [n for n in verdict.notes if n not in report.notes and not (said and n.startswith(said))]
        if report is not None and verdict.failure:
            report.notes.append(verdict.failure)
        return bool(verdict.ok)


def _row(phase: str, row: Any, metric: Any, budget: float | None, ok: bool) -> ParityRow:
    if phase in ("exact", "inside"):
        return ParityRow(phase, row.name, "max", row.error, row.limit, row.ok)
    figure = metric.of_row(row)
    if figure is None:  # nothing was asked of this output alone
        return ParityRow(phase, row.name, "rel", row.rel, None, ok)
    return ParityRow(phase, row.name, metric.name, figure, budget, budget is None or metric.within(figure, budget))
