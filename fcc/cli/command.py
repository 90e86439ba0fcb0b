"""Commands whose help groups the options, and the words that name a command."""

from __future__ import annotations

from typing import Any

import click

SUBCOMMANDS = {
    "compare": "whether two models give the same answers",
    "inspect": "what a model holds: nodes, parameters, FLOPs, memory, lint",
    "bench": "latency of a model, or the ratio of two",
    "sensitivity": "what every lossy change of every layer does alone: error and cost",
    "tune": "time the choices of passes on this machine, and keep the figures",
    "bisect": "which rewrites are to blame for a wrong, crashing or slow output",
    "verify": "whether a file is what fcc makes of a source, byte for byte",
    "passes": "every pass, its options, and the pipelines of -O0 to -O3",
    "targets": "the targets, and which of them this machine can run",
}


class GroupedCommand(click.Command):
    """A command whose options carry ``group``; help lists them by group, in the order of definition."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = "print this"
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", next(reversed(groups), "Options")), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=26)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            for line in self.epilog.splitlines():
                formatter.write(f"{line}\n")


class GroupedOption(click.Option):
    """An option with the title of its group in the help."""

    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


def make(name: str, function: Any, params: list[click.Parameter], epilog: str = "") -> click.Command:
    """Return a command that calls ``function``; its docstring is the help."""
    settings = {"max_content_width": 80, "terminal_width": 80}
    return GroupedCommand(
        name, callback=function, params=params, help=function.__doc__, epilog=epilog, context_settings=settings
    )


def option(*names: str, group: str = "Options", **kwargs: Any) -> click.Option:
    """Return an option of a group."""
    return GroupedOption(names, group=group, **kwargs)
