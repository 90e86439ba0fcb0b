"""``fcc compare A B``: whether two models give the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from fcc.errors import ParityError, TargetUnavailable
from fcc.options import parse_budget, parse_shapes

from .command import make, option
from .progress import Progress
from .shared import (
    custom_ops_option,
    data_option,
    debug_option,
    opt_shape_option,
    parse_state,
    seed_option,
    state_option,
    threads_option,
)
from .style import columns, echo, figure, heading, item

PARAMS: list[click.Parameter] = [
    click.Argument(["a"], metavar="A"),
    click.Argument(["b"], metavar="B"),
    option("--metric", metavar="NAME", help="rel, agreement, sqnr, max_abs or file.py:function"),
    option("--budget", metavar="SHARE", help="judge by the metric (rel) against this: 1% or 0.01"),
    option("--no-edges", is_flag=True, help="no feeds of zeros, denormals, large and saturating values"),
    option("--intermediates", is_flag=True, help="also the tensors that both models name"),
    threads_option(),
    custom_ops_option(),
    data_option(),
    state_option(),
    opt_shape_option(),
    seed_option(),
    debug_option(),
]


@click.pass_context
def run(context: click.Context, /, a: str, b: str, intermediates: bool, no_edges: bool, **given: Any) -> None:
    """Run A and B on the same feeds and compare every output; exit 6 when one is beyond its limit.

    The error of an output is max|b - a| / max|a|; its limit is the tolerance of its element type, or twice what A
    moves by itself (own) when the runtime optimizes it. Without --data, probes are generated, and values at the edges
    of what floats hold. f64: how far A and B are from the same computation in float64.
    """
    from fcc.frontend import read
    from fcc.parity import compare_models, metric
    from fcc.runtime import available

    if not available():
        raise TargetUnavailable("onnxruntime is not installed", 'pip install "fcc[cpu]"')
    budget, name = parse_budget(given["budget"]), given["metric"]
    chosen = metric(name or "rel") if budget is not None or name else None
    shapes = parse_shapes(given["opt_shapes"], "opt-shape")
    how = {k: given[k] for k in ("data", "seed", "custom_ops", "threads")}
    how.update(state=parse_state(given["state"]), opt_shapes=shapes)
    with Progress(context.obj) as progress:
        progress("compare", 0, 0)
        read(b)  # what is wrong with a file is said of the file
        found = compare_models(a, b, inside=intermediates, edges=not no_edges, metric=chosen, budget=budget, **how)
    if found.verdict.ran or found.interface:
        for line in _lines(a, b, found, budget):
            echo(line)
    if found.interface:
        raise ParityError(f"{b} has another interface than {a}: {found.interface[0]}")
    if not found.verdict.ran:
        raise ParityError(f"nothing was compared: {found.verdict.skipped_reason}", "give --data or --opt-shape")
    if found.verdict.ok and not found.ok:
        name, verdict = next((n, v) for n, v in found.edges.items() if not v.ok)
        raise ParityError(f"{b} does not give the answers of {a} on {name}: {verdict}")
    if not found.verdict.ok:
        raise ParityError(f"{b} does not give the answers of {a}: {found.verdict}")


def _lines(a: str, b: str, found: Any, budget: float | None) -> Iterator[str]:
    verdict = found.verdict
    yield heading(f"{b} against {a}, {verdict.feeds} feed{'s' if verdict.feeds != 1 else ''}")
    yield from _table("output", verdict.rows, by_row=budget is None, beside=found)
    yield from _edges(found.edges)
    if found.inside is not None:
        yield ""
        yield from _table("inside, in the order of A", found.inside.rows)
    for difference in found.interface:
        yield item("differs", difference, fg="red")
    for note in verdict.notes:
        yield item("note", note)


def _edges(edges: Any) -> Iterator[str]:
    """Yield a table of the feeds at the edges."""
    if edges:
        yield ""
        rows = [("edge", "worst output", "error", "limit", "")]
        for name, v in edges.items():
            state = "ok" if v.ok else "BEYOND"
            rows.append((name, v.worst.name if v.worst else "", figure(v.error), figure(v.limit), state))
        yield from columns(rows, "<<>><")


def _table(title: str, rows: Any, *, by_row: bool = True, beside: Any = None) -> Iterator[str]:
    """Yield a table of outputs; under a budget the metric decides, and their own limits say nothing."""
    if not rows:
        return
    wide = beside.wide if beside is not None else {}
    more = ("own", "f64 A", "f64 B") if beside is not None else ()
    table = [(title, "error", "limit" if by_row else "", *more, "rel", "SQNR", "argmax", "")]
    for r in rows:
        agreement = "" if r.agreement is None else f"{100 * r.agreement:.4g} %"
        state = "not judged" if not r.judged else "" if not by_row else "ok" if r.ok else "BEYOND"
        sqnr = f"{r.sqnr:.1f} dB" if r.sqnr < 1000 else "exact"
        limit = figure(r.limit) if by_row else ""
        own = (figure(beside.noise.get(r.name, 0.0)), *_wide(wide.get(r.name))) if beside is not None else ()
        table.append((r.name, figure(r.error), limit, *own, figure(r.rel), sqnr, agreement, state))
    yield from columns(table, "<" + ">" * (5 + len(more)) + "<")
    if beside is not None and beside.no_wide:
        yield item("note", f"no float64 to compare with: {beside.no_wide}")
    for r in rows:
        if r.note:
            yield item("note", f"{r.name}: {r.note}")


def _wide(errors: Any) -> tuple[str, str]:
    return ("", "") if errors is None else (figure(errors[0]), figure(errors[1]))


command = make("compare", run, PARAMS)
