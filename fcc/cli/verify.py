"""``fcc verify OUT --against SOURCE``: whether a file is what fcc makes of a source, and gives its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from fcc.errors import ParityError

from .command import make, option
from .progress import Progress
from .shared import custom_ops_option, data_option, debug_option
from .style import echo, figure, heading, item

DIFFERS = 1  # exit code: the file is not what fcc makes of the source
PARAMS: list[click.Parameter] = [
    click.Argument(["output"], metavar="OUT"),
    option("--against", metavar="SOURCE", required=True, help="the model that OUT was made of"),
    option("--calibration", metavar="PATH", help="samples that the compile was fitted to"),
    option("--from-plan", "plan", metavar="FILE", help="the plan that it replayed, or that a measured compile wrote"),
    option("--table", metavar="FILE", help="measurements that it used"),
    option("--plugin", "plugins", metavar="FILE|MODULE", multiple=True, help="passes of your own that it ran"),
    custom_ops_option(),
    data_option(),
    debug_option(),
]


@click.pass_context
def run(context: click.Context, /, output: str, against: str, debug: bool, **given: Any) -> int:
    """Compile SOURCE again as the metadata of OUT says, compare the bytes, and judge OUT against SOURCE.

    Exit 0 when the bytes are the same and the answers hold, 1 when the bytes differ (what differs and why is said), 4
    when data or passes are needed and not given, 6 when the bytes are the same and the answers do not hold.
    """
    import fcc

    with Progress(context.obj) as progress:
        found = fcc.verify(output, against, progress=progress, **given)
    for line in _lines(found):
        echo(line)
    if not found.same:
        return DIFFERS
    if not found.verdict.ok:
        raise ParityError(f"{output} does not give the answers of {against}: {found.verdict}")
    return 0


def _lines(found: Any) -> Iterator[str]:
    yield heading(f"{found.output} against {found.source}")
    yield item("bytes", "the same" if found.same else "DIFFERENT", fg="green" if found.same else "red")
    yield from (item("because", cause, fg="red") for cause in found.causes)
    yield from (item("differs", what) for what in found.differs)
    yield from (item("note", note) for note in found.notes)
    verdict = found.verdict
    yield item("parity", str(verdict), fg="green" if verdict.ok else "red")
    for row in verdict.rows:
        state = "not judged" if not row.judged else "ok" if row.ok else "BEYOND"
        yield item("", f"output {row.name}: error {figure(row.error)}, limit {figure(row.limit)} {state}")


command = make("verify", run, PARAMS)
