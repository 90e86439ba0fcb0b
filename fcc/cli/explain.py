"""--explain PASS: where it applied, where it did not and why, nearest misses first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .reasons import general
from .style import heading, item

_SHOWN = 3


def explain(name: str, log: Any) -> Iterator[str]:
    """Yield the lines for a pass from the log of a compile."""
    applied = [r for r in log.applied if r.pass_name == name]
    last = {r.site: r for r in log.refused if r.pass_name == name}  # a site that is met again is judged anew
    left = [r for site, r in last.items() if site not in {a.site for a in applied}]
    yield ""
    nearest = " (nearest first)" if len(left) > 1 else ""
    yield heading(f"{name}: {_count(len(applied), 'rewrite')}, {_count(len(left), 'site')} left alone{nearest}")
    for rewrite in applied:
        yield item("applied", f"{rewrite.site}: {', '.join(rewrite.before)} -> {', '.join(rewrite.after) or 'nothing'}")
    yield from _left(left)
    for failure in log.failures:
        if failure.pass_name == name:
            yield item("failed", f"{failure.site}: {failure.reason}", fg="red")
    if not applied and not left:
        yield item("", "no node of the graph starts its pattern, or it did not run (see fcc passes)", field=0)


def _left(refused: list[Any]) -> Iterator[str]:
    """Yield the reasons, those found deepest in the pattern first, each with its first sites."""
    groups: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for refusal in refused:
        groups[-refusal.depth, general(refusal.reason)].append(refusal)
    for (_, reason), sites in sorted(groups.items(), key=lambda g: (g[0][0], -len(g[1]))):
        yield item("left", sites[0].reason if len(sites) == 1 else reason)
        for refusal in sites[:_SHOWN]:
            yield item("at", refusal.site, indent=11, field=3)
        if len(sites) > _SHOWN:
            yield item("", f"and {_count(len(sites) - _SHOWN, 'more site')}", indent=11, field=3)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
