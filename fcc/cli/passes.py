"""``fcc passes``: what fcc can rewrite, and in which order each level does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from textwrap import wrap
from typing import Any

import click

from fcc.errors import OptionError, did_you_mean

from .command import make
from .shared import debug_option
from .style import echo, heading, item

PARAMS: list[click.Parameter] = [click.Argument(["name"], required=False, metavar="[PASS]"), debug_option()]


def run(name: str | None, debug: bool) -> None:
    """List every pass with its options, and the pipelines of the levels; with PASS, all that is known of it."""
    from fcc import passes

    if name is None:
        for line in _overview(passes.ALL_PASSES, passes.PIPELINES):
            echo(line)
        return
    if name not in passes.BY_NAME:
        raise OptionError(f"no pass is named {name!r}", did_you_mean(name, passes.BY_NAME))
    for line in _details(passes.BY_NAME[name]):
        echo(line)


def first_sentence(kind: type) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def options_of(kind: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (name, type, default) of every option of a pass."""
    for f in fields(kind):
        default = "required" if f.default is MISSING and f.default_factory is MISSING else repr(f.default)
        yield f.name, f.type if isinstance(f.type, str) else f.type.__name__, default


def _overview(known: Any, pipelines: Any) -> Iterator[str]:
    yield heading("Passes")
    for kind in known:
        yield item(kind.name, "", fg="green")
        yield item("", first_sentence(kind), indent=6, field=0)
        options = ", ".join(f"{name}={default}" for name, _, default in options_of(kind))
        if options:
            yield item("", f"options: {options}", indent=6, field=0)
    yield ""
    yield heading("Pipelines (--passes takes such a list)")
    for level, text in pipelines.items():
        yield from pipeline_lines(f"-O{level}", text or "(nothing)")


def pipeline_lines(label: str, text: str) -> Iterator[str]:
    """Yield a pipeline wrapped after its commas, below 80 columns."""
    lines = wrap(text.replace(",", ", "), 72, break_on_hyphens=False)
    for i, line in enumerate(lines):
        yield f"  {label if i == 0 else '':<5} {line}"


def _details(kind: Any) -> Iterator[str]:
    yield heading(kind.name)
    for line in (inspect.getdoc(kind) or "").splitlines():
        yield f"  {line}".rstrip()
    for name, hint, default in options_of(kind):
        yield f"  option {name}: {hint} = {default}"


command = make("passes", run, PARAMS)
