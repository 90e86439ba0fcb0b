"""Write the generated parts of the documentation: docs/passes.md, and the help texts in docs/cli.md.

python docs/generate.py           # write
python docs/generate.py --check   # exit 1 when something is out of date (tests/test_docs.py does the same)
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fcc import passes
from fcc.backends import get_backend
from fcc.cli.command import SUBCOMMANDS
from fcc.cli.passes import first_sentence, options_of, pipeline_lines
from fcc.target import get_target, targets

DOCS = Path(__file__).parent
_HELP = re.compile(r"(<!-- help (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_INTRO = """# Passes

Generated from the docstrings by `python docs/generate.py`; `fcc passes` prints the same.

A pass is one rewrite with its conditions. Exact passes keep the outputs within float rounding on every input; the
others move them, run only when asked for, and are judged against `--budget`. `--disable NAME` leaves one out,
`--passes` takes a pipeline of your own, `--explain NAME` says where a pass applied and why not elsewhere.
"""


def passes_page() -> str:
    """Return docs/passes.md."""
    lines = [_INTRO, "## Pipelines", "", "```text"]
    for level, text in passes.PIPELINES.items():
        lines += pipeline_lines(f"-O{level}", text or "(nothing)")
    lines += ["```", ""]
    for kind in passes.ALL_PASSES:
        lines += _pass(kind)
    lowerings = _lowerings()
    if lowerings:
        lines += [
            "# Lowerings",
            "",
            "Passes that express what a target lacks by what it has; they run at every level.",
            "",
        ]
        for kind, users in lowerings.items():
            lines += _pass(kind, f"Targets: {', '.join(users)}.")
    return "\n".join(lines).rstrip() + "\n"


def _lowerings() -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for target in targets():
        for p in get_backend(get_target(target)).lowerings.passes():
            if type(p) not in passes.ALL_PASSES:
                found.setdefault(type(p), []).append(target)
    return found


def _pass(kind: Any, where: str = "") -> Iterator[str]:
    yield from (f"## {kind.name}", "", first_sentence(kind), "")
    rest = (inspect.getdoc(kind) or "").partition("\n")[2].strip("\n")
    if rest:
        yield from ("```text", rest, "```", "")
    for name, hint, default in options_of(kind):
        yield f"- option `{name}`: `{hint}`, default `{default}`"
    if list(options_of(kind)):
        yield ""
    yield from (f"{where or _levels(kind)}{'' if kind.exact else ' Moves the outputs.'}", "")


def _levels(kind: Any) -> str:
    levels = [f"-O{n}" for n in passes.PIPELINES if any(p.name == kind.name for p in passes.pipeline(n).passes())]
    return f"Runs at {', '.join(levels)}." if levels else "Runs when asked for."


def cli_page(text: str) -> str:
    """Return docs/cli.md with its help texts replaced by those of today."""
    return _HELP.sub(lambda m: f"{m[1]}```text\n{help_of(m[2])}\n```\n{m[3]}", text)


def help_of(name: str) -> str:
    """Return what ``fcc --help`` or ``fcc NAME --help`` prints."""
    command: click.Command = importlib.import_module(f"fcc.cli.{name}").command
    path = f"fcc {name}" if name in SUBCOMMANDS else "fcc"
    return command.get_help(click.Context(command, info_name=path, **command.context_settings)).rstrip()


def generated() -> dict[Path, str]:
    """Return every generated file with its contents."""
    cli = DOCS / "cli.md"
    return {DOCS / "passes.md": passes_page(), cli: cli_page(cli.read_text())}


def main() -> int:
    stale = {path: text for path, text in generated().items() if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv[1:]:
        print("\n".join(f"{path.name} is out of date: run python docs/generate.py" for path in stale), end="")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
