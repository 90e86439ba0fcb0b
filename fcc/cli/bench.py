"""``fcc bench A [B]``: latency of one model, or of two interleaved and their ratio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from fcc.errors import OptionError
from fcc.options import parse_shapes

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
    target_option,
    threads_option,
)
from .style import columns, duration, echo
from .workload import Workload

PARAMS: list[click.Parameter] = [
    click.Argument(["a"], metavar="A"),
    click.Argument(["b"], metavar="[B]", required=False),
    option("--seconds", type=float, default=2.0, metavar="S", help="time to measure (2)"),
    target_option(),
    threads_option(),
    custom_ops_option(),
    data_option(),
    state_option(),
    opt_shape_option(),
    seed_option(),
    debug_option(),
]


@click.pass_context
def run(context: click.Context, /, a: str, b: str | None, seconds: float, target: str, **given: Any) -> None:
    """Measure the latency of A, or of A and B in turn on the same feed and the ratio of their times.

    Sessions have default options and one thread; the feed is the first sample of --data, or a probe at --opt-shape.
    """
    if seconds <= 0:
        raise OptionError(f"--seconds is positive, not {seconds:g}")
    with Progress(context.obj) as progress:
        progress("measure", 0, 0)
        lines = list(_measure(a, b, seconds, _workload(target, given)))
    for line in lines:
        echo(line)


def _workload(target: str, given: dict[str, Any]) -> Workload:
    from fcc.options import TARGETS
    from fcc.target import get_target

    if target not in TARGETS:
        from fcc.errors import did_you_mean

        raise OptionError(f"target has no value {target!r}", did_you_mean(target, TARGETS))
    shapes = parse_shapes(given["opt_shapes"], "opt-shape")
    state = parse_state(given["state"])
    provider = get_target(target).providers[0]
    same = {k: given[k] for k in ("data", "seed", "threads", "custom_ops")}
    return Workload(provider, state=state, opt_shapes=shapes, **same)


def _measure(a: str, b: str | None, seconds: float, load: Workload) -> Iterator[str]:
    from fcc.frontend import read
    from fcc.runtime import measure, time_ratio

    module = read(a)
    load.require(module)
    first = load.open(a)
    feed = load.feed(module, first)
    sizes = ", ".join(f"{name} {list(x.shape)}" for name, x in feed.items())
    yield f"{load.provider}, {load.threads} thread{'s' if load.threads > 1 else ''}, feed {sizes or 'without inputs'}"
    if b is None:
        yield from columns([(a, duration(measure(first, feed, seconds)))], "<>")
        return
    found = time_ratio(first, load.open(b), feed, budget_s=seconds)
    yield from columns([(a, duration(found.a_us)), (b, duration(found.b_us))], "<>")
    yield f"  ratio {found.ratio:.3f} +- {found.noise:.3f} ({found.pairs} pairs; below 1 the second is faster)"


command = make("bench", run, PARAMS)
