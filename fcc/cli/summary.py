"""The summary of a compile: sizes before and after, rewrites, parity, latency, lint, notes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fcc.report import ParityRow, Report

from .reasons import grouped
from .style import change, columns, count, duration, figure, heading, item, size

_SIZES = (
    ("nodes", "nodes", count),
    ("parameters", "parameters", count),
    ("bytes", "bytes", size),
    ("FLOPs", "flops", count),
    ("peak memory", "peak_bytes", size),
)
_SHOWN = 5
_NOISE = 5.0  # percent: what half a second of timing cannot tell from nothing


def summary(report: Report, *, verbose: bool = False, untimed: str = "") -> Iterator[str]:
    """Yield the lines of the summary."""
    where = f"{Path(report.source).name or 'model'} -> {report.output or '(dry run, nothing written)'}"
    yield heading(where)
    yield f"  target {report.target}, -O{report.opt_level}, {sum(report.seconds.values()):.2f} s"
    yield ""
    yield from columns(_figures(report), "<>>>")
    yield ""
    yield from _rewrites(report, verbose)
    yield from _parity(report)
    if untimed:
        repeated = report.parity_skipped and untimed.startswith("onnxruntime ")
        yield item("latency", "not timed: " + ("it does not run here" if repeated else untimed))
    yield from _lint(report, verbose)
    yield from _guilty(report)
    for layer in report.layers if verbose else ():
        yield item("layer", f"{layer.get('name', '')}: {layer.get('what', '')}")
    for row in report.tried if verbose else ():
        for option in row["options"]:
            yield item("tried", f"{row['name']}: {_alone(option)}")
    if report.layers and not verbose:
        yield item("layers", f"{len(report.layers)} compressed (-v lists them)")
    said = tuple(f"rewrite of pass {g['pass_name']} at {g['site']} " for g in report.guilty)
    for note in report.notes:
        if not note.startswith(said):
            yield item("note", note)
    if verbose:
        yield item("times", ", ".join(f"{name} {s:.2f} s" for name, s in report.seconds.items()))


def _figures(report: Report) -> list[tuple[str, str, str, str]]:
    rows = [("", "before", "after", "")]
    for label, key, show in _SIZES:
        before, after = getattr(report.before, key, 0), getattr(report.after, key, 0)
        rows.append((label, show(before), show(after), change(before, after)))
    if report.latency is not None:
        t = report.latency
        rows.append(("latency", duration(t.before_us), duration(t.after_us), _faster(t.ratio, t.noise)))
    return rows


def _faster(ratio: float, noise: float) -> str:
    """Return the change of the latency; ``unclear`` when it is within three standard errors."""
    text = change(1.0, ratio, least=_NOISE)
    return "same" if not text else text if abs(ratio - 1) > 3 * noise else "unclear"


def _rewrites(report: Report, verbose: bool) -> Iterator[str]:
    fired = [p for p in report.passes if p.applied]
    if not fired:
        yield item("rewrites", "none: no pass found anything to improve", field=10)
    else:
        yield from columns([("rewrites", ""), *((p.name, str(p.applied)) for p in fired)], "<>")
    if verbose:
        for p in report.passes:
            for reason, n in grouped(p.refusals):
                yield item("", f"{p.name}: {reason} ({n}x)", indent=4, field=0)
    yield ""


def _parity(report: Report) -> Iterator[str]:
    if report.parity_skipped:
        yield item("parity", f"not run: {report.parity_skipped}", fg="yellow")
    on = f" on {report.parity_on}" if report.parity_on else ""
    for phase in dict.fromkeys(r.phase for r in report.parity):
        rows = [r for r in report.parity if r.phase == phase]
        worst = max(rows, key=lambda r: (r.strain if r.limit else 0.0, r.error))
        yield item("parity", _judged(worst, len(rows)) + on, fg="green" if worst.ok else "red")
    if report.certified:
        yield item("certified", report.certainty, fg="yellow" if report.certified["ok"] is False else "green")


def _judged(row: ParityRow, outputs: int) -> str:
    limit = f", limit {figure(row.limit)}" if row.limit else ", no limit" if row.limit is None else ", must be equal"
    what = "error" if row.metric == "max" else row.metric
    place = f"worst of {outputs} outputs: {row.output}" if outputs > 1 else f"output {row.output}"
    return f"{'ok' if row.ok else 'FAILED'}: {row.phase}, {what} {figure(row.error)}{limit} ({place})"


def _lint(report: Report, verbose: bool) -> Iterator[str]:
    if not report.lint:
        return
    if verbose:
        for row in report.lint:
            yield item("lint", f"{row['node']}: {row['reason']}" if row["node"] else row["reason"], fg="yellow")
        return
    reasons = Counter(row["reason"] for row in report.lint)
    for reason, n in reasons.most_common(_SHOWN):
        yield item("lint", f"{reason} ({n} node{'s' if n > 1 else ''})" if n > 1 else reason, fg="yellow")
    if len(reasons) > _SHOWN:
        yield item("", f"{len(reasons) - _SHOWN} more reasons (-v lists all)")


def skipped(rewrite: Mapping[str, Any]) -> str:
    """Return what was left out and why."""
    reason = rewrite.get("reason") or "it moved the outputs"
    where = f" at {rewrite['site']}" if rewrite["site"] else ""
    return f"{rewrite['pass_name']}{where} was left out: {reason}"


def _alone(option: Mapping[str, Any]) -> str:
    known = math.isfinite(option["error"])
    return f"{option['name']}{', error ' + figure(option['error']) if known else ''}: {option.get('why', '')}"


def _guilty(report: Report) -> Iterator[str]:
    for row in report.guilty:
        yield item("SKIPPED", f"{skipped(row)} (please report it)", fg="red", bold=True)


def time_table(report: Report) -> Iterator[str]:
    """Yield the table of --time-passes: passes by their time, then the phases."""
    passes = sorted(report.passes, key=lambda p: -p.seconds)
    rows = [("pass", "rewrites", "ms"), *((p.name, str(p.applied), f"{p.seconds * 1e3:.1f}") for p in passes)]
    yield ""
    yield from columns(rows, "<>>")
    yield ""
    yield from columns([("phase", "ms"), *((k, f"{s * 1e3:.1f}") for k, s in report.seconds.items())], "<>")
