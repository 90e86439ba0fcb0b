"""``fcc bisect MODEL``: the rewrites to blame for a wrong, crashing or slow output, and a reproducer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from .command import make, option
from .compile_options import arguments, params
from .progress import Progress
from .style import echo, heading, item

COMPLAINT = "Complaint (default: a crash, else outputs that a compile would refuse)"
NOTHING = 1  # exit code: there is nothing to blame
_USELESS = frozenset(
    {
        *("output", "precision", "size", "low_rank", "prune", "distill", "epochs", "rate", "budget", "metric"),
        *("objective", "allow_growth", "allow_cuda_only", "calibration", "verify", "require_parity", "strict", "force"),
        *("tune_seconds", "plan", "explain", "print_after", "time_passes", "report", "curve", "dry_run", "verbose"),
        *("quiet", "version", "scheme", "skip_bad_data", "cluster", "cache"),
    }
)
_ALL = params()
PARAMS: list[click.Parameter] = [
    *(p for p in _ALL if p.name not in _USELESS and not isinstance(p, click.Option)),
    option("-o", "--output", "folder", metavar="FOLDER", help="write a reproducer: reduced model, feeds, README"),
    option(
        "--tolerance", type=float, metavar="T", group=COMPLAINT, help="an output moves by more: max|y-y0| / max|y0|"
    ),
    option("--crash", is_flag=True, group=COMPLAINT, help="a pass raises or breaks the graph"),
    option("--slower", type=float, metavar="RATIO", group=COMPLAINT, help="it takes more than this share of the time"),
    option("--test", metavar="SCRIPT", group=COMPLAINT, help="SCRIPT OUTPUT.onnx exits non-zero (125: says nothing)"),
    *(p for p in _ALL if p.name not in _USELESS and isinstance(p, click.Option)),
]
_OWN = ("folder", "tolerance", "crash", "slower", "test")


@click.pass_context
def run(context: click.Context, /, model: str, **given: Any) -> int:
    """Find the rewrites to blame for a bad output of MODEL, also those that are wrong only together.

    The deterministic compile is replayed with a limit, then with single rewrites. With -o, the part of the model that
    is needed is cut out. Exit 0 when something is to blame, 1 when nothing is, 6 when it is bad without any rewrite.
    """
    import fcc
    from fcc.trust.reproducer import said

    own = {name: given.pop(name) for name in _OWN}
    keywords = {k: v for k, v in arguments({**_defaults(), **given}).items() if k not in _USELESS}
    with Progress(context.obj) as progress:
        found = fcc.bisect(model, **own, **keywords, progress=progress)
    for line in _lines(model, found, said):
        echo(line)
    if found.bare:
        from fcc.errors import ParityError

        raise ParityError(
            f"it is bad without any rewrite: {found.reason}", "the import, the emission or the runtime is"
        )
    return 0 if found.blames else NOTHING


def _defaults() -> dict[str, Any]:
    """Return what the options of a compile are when they are not given."""
    options: list[click.Parameter] = [p for p in _ALL if isinstance(p, click.Option) and p.expose_value]
    return dict(click.Command("fcc", params=options).make_context("fcc", []).params)


def _lines(model: str, found: Any, said: Any) -> Iterator[str]:
    yield heading(f"{model}: {found.applied} rewrites, {found.compiles} compiles")
    yield item(found.complaint, found.reason or "nothing to complain about")
    for blame in found.blames:
        yield from (f"  {line}" for line in said(blame))
    if found.blames:
        n, end = len(found.blames), "good" if found.cleared else "still bad"
        yield item("without", f"{'it' if n == 1 else 'them'} the output is {end}; named after {found.named} compiles")
    if found.folder:
        size = f"{found.nodes} nodes" if found.nodes else "the whole model: no part of it was enough"
        yield item("written", f"{found.folder} ({size})")


command = make("bisect", run, PARAMS)
