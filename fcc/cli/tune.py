"""``fcc tune MODEL``: time what the compiler would otherwise guess, and keep the figures for later compiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fcc.options import parse_shapes

from .command import make, option
from .files import writable
from .progress import Progress
from .shared import (
    MODEL,
    custom_ops_option,
    data_option,
    debug_option,
    opt_shape_option,
    seed_option,
    target_option,
    threads_option,
)
from .style import columns, duration, echo, heading, item

PARAMS: list[click.Parameter] = [
    MODEL,
    option("--seconds", type=float, default=60.0, metavar="S", help="time to measure at most (60)"),
    option("--table", metavar="FILE", help="where the figures are kept (the user's table)"),
    target_option(),
    option("--cpu-isa", metavar="NAME", default="avx2", help="avx2, vnni, arm or native (avx2)"),
    threads_option(),
    custom_ops_option(),
    data_option(),
    opt_shape_option(),
    seed_option(),
    debug_option(),
]
_WAYS = {None: "?", True: "taken", False: "left"}


@click.pass_context
def run(context: click.Context, /, model: str, seconds: float, table: str | None, debug: bool, **given: Any) -> None:
    """Time, on this machine, the choices that passes make for MODEL, and write the figures into a table.

    Later compiles of this and of similar models use them: fcc MODEL, or fcc MODEL --table FILE.
    """
    import fcc

    path = keeper(table)
    shapes = parse_shapes(given.pop("opt_shapes"), "opt-shape")
    with Progress(context.obj) as progress:
        compiled = fcc.compile(
            model, tune_seconds=seconds, table=str(path), opt_shapes=shapes, progress=progress, **given
        )
        keep(compiled.measured, path)
    for line in _lines(compiled, path):
        echo(line)


def keeper(table: str | None) -> Path:
    """Return the file that measurements go to, its folder made when it is the user's own table.

    Raises:
        SaveError: it cannot be written.
    """
    from fcc.tune import user_table

    path = Path(table) if table is not None else user_table()
    if table is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    writable(path)
    return path


def keep(rows: Any, path: Path) -> None:
    """Add measurements to a table on disk; nothing is written when there are none.

    Raises:
        DataError: the file is there and is no table.
        SaveError: it cannot be written.
    """
    from fcc.tune.table import Table, load

    from .files import write_text

    if rows:
        table = load(path) if path.is_file() else Table()
        for row in rows:
            table.add(row)
        write_text(path, "".join(f"{line}\n" for line in table.lines()))


def _lines(compiled: Any, path: Path) -> Iterator[str]:
    report = compiled.report
    yield heading(f"{Path(report.source).name}: {len(compiled.measured)} measured, kept in {path}")
    rows = [("pass", "site", "time", "")]
    for c in report.choices:
        ratio = "not measured" if c["ratio"] is None else f"{c['ratio']:.2f} ({c['how']})"
        rows.append((c["pass_name"], c["site"], ratio, _WAYS[c["taken"]]))
    nothing = [item("choices", "none: nothing in this model depends on measurement")]
    yield from columns(rows, "<<<<") if len(rows) > 1 else nothing
    if report.whole:
        w = report.whole
        yield item(
            "whole",
            f"{duration(w['model_us'])} after, {duration(w['source_us'])} before (source again "
            f"{duration(w['again_us'])}): ratio {w['ratio']:.3f}",
        )
    for g in report.guilty:
        yield item("SKIPPED", f"{g['pass_name']} at {g['site']}: {g['reason']}", fg="red")
    for note in report.notes:
        yield item("note", note)


command = make("tune", run, PARAMS)
