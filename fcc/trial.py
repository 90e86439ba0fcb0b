"""Trial: emitted models of one compile, judged against its source; the source is prepared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import ir
from .backends import Emitted
from .compiled import Runnable
from .errors import ParityError, VerifyError
from .options import Options
from .report import ParityRow, Report

MIN_SQNR = 10.0


@dataclass
class Trial:
    """Judges emitted models; without a runtime, or with --verify off, everything passes and the report says so."""

    options: Options
    provider: str
    judge: Any = None
    skipped: str = ""

    @classmethod
    def prepare(cls, options: Options, provider: str, module: ir.Module, data: Any) -> Trial:
        """Run the source on the user's data or on probes; the module must still be what was read.

        Raises:
            DataError: the data does not fit the model.
            ParityError: nothing can be compared, under --require-parity.
        """
        trial = cls(options, provider)
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
        from .runtime import CPU, available

        o = self.options
        if CPU not in available():
            self.skipped = 'onnxruntime is not installed (pip install "fcc[cpu]")'
            return
        self.judge = Judge.of(
            module,
            data=data,
            state=o.state or None,
            seed=o.seed,
            provider=self.provider,
            opt_shapes=o.opt_shapes,
            custom_ops=o.custom_ops,
            threads=o.threads,
        )
        self.skipped = self.judge.skipped_reason

    def exact(self, emitted: Emitted, report: Report | None = None) -> bool:
        """Return whether the outputs are within the tolerance of exact rewrites."""
        return self._judge(emitted, report, "exact", {}, None)

    def lossy(self, emitted: Emitted, report: Report | None = None) -> bool:
        """Return whether the outputs keep the budget (none given: at least 10 dB SQNR, unless forced)."""
        from .parity.metrics import metric

        o = self.options
        if o.budget is not None:
            return self._judge(emitted, report, "lossy", {"metric": metric(o.metric), "budget": o.budget}, o.budget)
        limit = {} if o.force else {"metric": metric("sqnr"), "budget": MIN_SQNR}
        return self._judge(emitted, report, "lossy", limit or {"limit": float("inf")}, None)

    def ratio(self, before: Emitted, after: Emitted) -> float:
        """Return the latency of ``after`` over that of ``before``, interleaved, one feed; 1.0 without a runtime."""
        from .runtime import open_session, time_ratio

        feeds = None if self.skipped else next(iter(self.judge.feeds() or ()), None)
        if feeds is None:
            return 1.0
        with Runnable(before) as a, Runnable(after) as b:
            first, second = (open_session(m, threads=self.options.threads) for m in (a, b))
        return float(time_ratio(first, second, feeds, budget_s=1.0).ratio)

    def _judge(
        self, emitted: Emitted, report: Report | None, phase: str, how: dict[str, Any], budget: float | None
    ) -> bool:
        if self.skipped:
            if report is not None:
                report.parity_skipped = self.skipped
            return True
        try:
            with Runnable(emitted) as model:
                verdict = self.judge.judge(model, options=emitted.session_options or None, **how)
        except VerifyError as error:
            if report is not None:
                report.notes.append(error.message)
            return False
        if report is not None:
            report.parity += [_row(phase, r, budget, self.options.metric, verdict.ok) for r in verdict.rows if r.judged]
            report.parity_on = f"{verdict.feeds} {'samples' if self.judge.data is not None else 'probes'}"
            said = f"{how['metric'].name} " if "metric" in how else None  # the rows have the figure
            report.notes += [n for n in verdict.notes if n not in report.notes and not (said and n.startswith(said))]
            if verdict.failure:
                report.notes.append(verdict.failure)
        return bool(verdict.ok)


def _row(phase: str, row: Any, budget: float | None, metric: str, ok: bool) -> ParityRow:
    if phase == "exact":
        return ParityRow(phase, row.name, "max", row.error, row.limit, row.ok)
    figure = getattr(row, metric, None)
    if metric == "agreement" and figure is not None:
        figure = 1 - figure
    return ParityRow(phase, row.name, metric, row.rel if figure is None else figure, budget, ok)
