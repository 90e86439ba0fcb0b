"""--explain PASS: where it applied, where it did not and why, nearest misses first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .style import heading, item

_SHOWN = 20


def explain(name: str, log: Any) -> Iterator[str]:
    """Yield the lines for a pass from the log of a compile."""
    applied = [r for r in log.applied if r.pass_name == name]
    refused = sorted((r for r in log.refused if r.pass_name == name), key=lambda r: -r.depth)
    total = sum(n for (pass_name, _), n in log.refusals.items() if pass_name == name)
    yield ""
    yield heading(f"{name}: {len(applied)} applied, {total} left alone")
    for rewrite in applied:
        yield item("applied", f"{rewrite.site}: {', '.join(rewrite.before)} -> {', '.join(rewrite.after) or 'nothing'}")
    for refusal in refused[:_SHOWN]:
        nodes = f" ({refusal.depth} node{'s' if refusal.depth > 1 else ''} of the pattern matched)"
        yield item("left", f"{refusal.site}: {refusal.reason}{nodes if refusal.depth else ''}")
    if len(refused) > _SHOWN:
        yield item("", f"and {len(refused) - _SHOWN} more sites; by reason:")
        for (pass_name, reason), n in log.refusals.most_common():
            if pass_name == name:
                yield item(f"{n}x", reason)
    for failure in log.failures:
        if failure.pass_name == name:
            yield item("failed", f"{failure.site}: {failure.reason}", fg="red")
    if not applied and not total:
        yield item("", "it found no node of its pattern, or did not run (see fcc passes)")
