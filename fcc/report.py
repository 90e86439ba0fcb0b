"""The report of a compile, as data: JSON (schema 1, docs/report.md) and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .plot import curve

SCHEMA = 1


@dataclass(frozen=True)
class Size:
    """Nodes of all graphs, parameters, file bytes, FLOPs and peak activation bytes at the opt-shape."""

    nodes: int
    parameters: int
    bytes: int
    flops: int
    peak_bytes: int


@dataclass(frozen=True)
class PassRow:
    """What one pass did: applications, seconds, and reasons for leaving sites alone with their counts."""

    name: str
    applied: int
    seconds: float
    refusals: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ParityRow:
    """One output ("(all)": of a user's metric) of one judgement, exact or lossy.

    ``error`` is the figure of ``metric``; ``limit`` is what it is held to, None when nothing was asked of it.
    ``own`` is how far the source moves by itself when the runtime optimizes it, ``sqnr`` in dB, ``agreement`` the share
    of rows with the same largest element: None where they are not known.
    """

    phase: str
    output: str
    metric: str
    error: float
    limit: float | None
    ok: bool
    own: float | None = None
    sqnr: float | None = None
    agreement: float | None = None

    @property
    def strain(self) -> float:
        """How much of the limit is used up: above 1 is beyond it. Of ``sqnr`` (dB) more is better."""
        used, limit = (self.limit or 1.0, self.error) if self.metric == "sqnr" else (self.error, self.limit or 1.0)
        return used / limit if limit > 0 else math.inf


@dataclass(frozen=True)
class LatencyRow:
    """Median latency before in microseconds, the median of paired ratios after / before, and its standard error.

    ``after_us`` is ``before_us * ratio``: pairs cancel what disturbs both.
    """

    provider: str
    before_us: float
    after_us: float
    ratio: float
    noise: float


@dataclass
class Report:
    """Everything that happened."""

    source: str = ""
    output: str = ""
    version: str = ""
    target: str = ""
    opt_level: int = 2
    pipeline: str = ""
    before: Size | None = None
    after: Size | None = None
    passes: list[PassRow] = field(default_factory=list)
    rewrites: list[dict[str, Any]] = field(default_factory=list)
    guilty: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    lint: list[dict[str, str]] = field(default_factory=list)
    parity: list[ParityRow] = field(default_factory=list)
    parity_on: str = ""
    parity_skipped: str = ""
    certified: dict[str, Any] = field(default_factory=dict)
    latency: LatencyRow | None = None
    choices: list[dict[str, Any]] = field(default_factory=list)
    whole: dict[str, float] = field(default_factory=dict)
    objective: str = "latency"
    budget: float | None = None
    metric: str = "rel"
    decision: dict[str, Any] = field(default_factory=dict)
    distilled: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def applied(self) -> int:
        """Number of rewrites in the emitted model."""
        return len(self.rewrites)

    @property
    def worst(self) -> ParityRow | None:
        """The parity row nearest to (or beyond) its limit."""
        return max((r for r in self.parity if r.limit), key=lambda r: r.strain, default=None)

    @property
    def certainty(self) -> str:
        """What the samples certify about a lossy model, in words; empty when nothing."""
        c = self.certified
        if not c:
            return ""
        level = f"{100 * (1 - (1 - c['confidence']) * c['tries']):.3g} %"
        tries = f", {c['tries']} plans judged on them" if c["tries"] > 1 else ""
        if c["bound"] is None:
            share = (1 - c["confidence"]) ** (1 / c["units"])
            return f"{c['metric']} {c['figure']:.3g}, not exceeded by {100 * share:.4g} % of samples at {level}"
        side = "at least" if c["metric"] == "sqnr" else "at most"
        said = f"{c['metric']} {side} {c['bound']:.3g} at {level} ({c['units']} unseen samples{tries})"
        if c["ok"] is None:
            return said
        kept = "keeps the budget" if c["ok"] else "more samples would be needed to certify the budget"
        return f"{said}: {kept} {c['budget']:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ``schema`` first."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        """Return the report as JSON (NaN and infinities as null)."""
        return json.dumps(_finite(self.to_dict()), indent=2, sort_keys=False)

    def to_svg(self) -> str:
        """Return the choices of level 3 as a plot: cost against error, the budget, and every change alone."""
        budget = self.budget if self.metric == "rel" else None
        title = f"fcc {self.source or 'model'}: error against {self.objective}"
        return curve(self.curve, self.tried, objective=self.objective, budget=budget, title=title)

    def to_markdown(self, plot: str = "") -> str:
        """Return the report as a Markdown page; ``plot`` is the address of the curve, to be shown in it."""
        parts = [f"# fcc report: {self.source or 'model'}", ""]
        parts += [f"target {self.target}, -O{self.opt_level}, fcc {self.version}", ""]
        parts += _table(("", "before", "after"), _size_rows(self.before, self.after))
        parts += _table(("pass", "rewrites", "seconds"), [(p.name, p.applied, f"{p.seconds:.4f}") for p in self.passes])
        rows = [
            (r.phase, r.output, r.metric, f"{r.error:.3g}", r.limit, *_beside(r), "ok" if r.ok else "FAILED")
            for r in self.parity
        ]
        parts += _table(("phase", "output", "metric", "error", "limit", "own", "SQNR", "argmax", ""), rows)
        parts += [f"Judged on {self.parity_on}.", ""] if self.parity_on else []
        parts += [f"Certified: {self.certainty}.", ""] if self.certified else []
        parts += [f"Parity not run: {self.parity_skipped}", ""] if self.parity_skipped else []
        parts += _table(("skipped rewrite", "site"), [(g["pass_name"], g["site"]) for g in self.guilty])
        parts += _table(("layer", "what"), [(x.get("name", ""), x.get("what", "")) for x in self.layers])
        parts += _spectra(self.layers)
        parts += _tried(self.tried, self.objective)
        parts += [f"![error against {self.objective}]({plot})", ""] if plot else []
        points = [(f"{p['predicted']:.3g}", f"{p['error']:.3g}", f"{p['cost']:.6g}") for p in self.curve]
        parts += _table(("predicted error", "error", f"cost ({_UNIT[self.objective]})"), points)
        parts += _table(("distillation", ""), list(self.distilled.items()))
        parts += _table(("node", "lint"), [(x["node"], x["reason"]) for x in self.lint])
        refusals = [(p.name, reason, n) for p in self.passes for reason, n in p.refusals]
        parts += _table(("pass", "left alone because", "times"), refusals)
        parts += [f"- {note}" for note in self.notes]
        return "\n".join(parts) + "\n"


_UNIT = {"size": "bytes", "latency": "us"}


def _beside(row: ParityRow) -> tuple[str, str, str]:
    """Return what is known beside the figure of a row: own noise, SQNR in dB, agreement."""
    own = "" if row.own is None else f"{row.own:.2g}"
    sqnr = "" if row.sqnr is None else f"{row.sqnr:.1f} dB"
    return own, sqnr, "" if row.agreement is None else f"{row.agreement:.4g}"


def _spectra(layers: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rank of every layer that was factorized, and the error of its outputs at other ranks."""
    ranked = [x for x in layers if x.get("spectrum")]
    rows = [(x["name"], x["rank"], ", ".join(f"{r}: {error:.2g}" for r, error in x["spectrum"])) for x in ranked]
    return _table(("layer", "rank", "error at rank"), rows)


def _tried(tried: Sequence[dict[str, Any]], objective: str) -> list[str]:
    """Return every change that was tried alone, and why it was not chosen."""
    rows = [
        (row["name"] if k == 0 else "", o["name"], _figure(o["error"]), f"{o['cost']:.6g}", o.get("why", ""))
        for row in tried
        for k, o in enumerate(row["options"])
    ]
    return _table(("layer", "change alone", "error", f"cost ({_UNIT[objective]})", ""), rows)


def _figure(error: float) -> str:
    return f"{error:.3g}" if math.isfinite(error) else ""


def _size_rows(before: Size | None, after: Size | None) -> list[tuple[Any, ...]]:
    if before is None or after is None:
        return []
    a, b = asdict(before), asdict(after)
    return [(key, a[key], b[key]) for key in a]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join("" if c is None else str(c).replace("|", "\\|") for c in row) + " |" for row in rows]
    return [*lines, ""]


def _finite(x: Any) -> Any:
    if hasattr(x, "item") and not isinstance(x, float):  # a number of numpy
        x = x.item()
    if isinstance(x, float):
        return x if x == x and abs(x) != float("inf") else None
    if isinstance(x, dict):
        return {str(k): _finite(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(v) for v in x]
    return x
