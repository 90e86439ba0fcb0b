"""``fcc sensitivity MODEL``: what every lossy change of every layer does alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from fcc.options import parse_shapes
from fcc.plot import bars

from .command import make, option
from .files import check_report, write_text
from .progress import Progress
from .shared import (
    MODEL,
    cache_option,
    calibration_option,
    cluster_option,
    custom_ops_option,
    debug_option,
    opt_shape_option,
    parse_state,
    seed_option,
    skip_bad_option,
    state_option,
    target_option,
    threads_option,
)
from .style import columns, duration, echo, heading, item, size

PARAMS: list[click.Parameter] = [
    MODEL,
    calibration_option(required=True),
    skip_bad_option(),
    cluster_option(),
    cache_option(),
    option("--objective", metavar="NAME", default="size", help="cost to show: size or latency (size)"),
    option("--precision", metavar="fp32", help="fp32: no int8 and int4"),
    option("--json", "as_json", is_flag=True, help="the rows as JSON"),
    option("--svg", metavar="FILE", help="draw the error of every change as bars"),
    target_option(),
    threads_option(),
    custom_ops_option(),
    state_option(),
    opt_shape_option(),
    seed_option(),
    debug_option(),
]


@click.pass_context
def run(context: click.Context, /, model: str, as_json: bool, svg: str | None, debug: bool, **given: Any) -> None:
    """Try every lossy change of every layer of the -O2 model alone: pruned channels, low ranks, int8, int4.

    Errors are relative, of the worst output, on samples that the change was not fitted to; costs are those of the
    whole model. No model is written.
    """
    import fcc

    check_report(svg, Path(model), option="--svg", kinds=(".svg",))

    shapes, state = parse_shapes(given.pop("opt_shapes"), "opt-shape"), parse_state(given.pop("state"))
    with Progress(context.obj) as progress:
        rows = fcc.sensitivity(model, opt_shapes=shapes, state=state, progress=progress, **given)
    if svg is not None:
        write_text(Path(svg), bars(rows, title=f"fcc sensitivity {model}: error of every change alone"))
    if as_json:
        echo(json.dumps(_finite(rows), indent=1))
        return
    for line in _lines(model, rows, given["objective"]):
        echo(line)


def _finite(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in which an error that is not known is null."""
    return [
        {**row, "options": [{**o, "error": o["error"] if math.isfinite(o["error"]) else None} for o in row["options"]]}
        for row in rows
    ]


def _lines(model: str, rows: Sequence[dict[str, Any]], objective: str) -> Iterator[str]:
    yield heading(f"{model}: {len(rows)} layers can be changed")
    if not rows:
        yield item("changes", "none (fcc MODEL --explain factorize-linear says why, and so on)")
        return
    show = size if objective == "size" else duration
    table = [("layer", "change", "error", "cost")]
    for row in rows:
        for i, o in enumerate(sorted(row["options"], key=lambda o: o["error"])):
            error = f"{o['error']:.2g}" if math.isfinite(o["error"]) else "failed"
            table.append((row["name"] if i == 0 else "", o["name"], error, show(o["cost"])))
    yield from columns(table, "<<>>")


command = make("sensitivity", run, PARAMS)
