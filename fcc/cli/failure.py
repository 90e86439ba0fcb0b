"""What a user is told when something goes wrong: one line, a hint, an exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from fcc.errors import FccError

from .style import echo, printable

INTERRUPTED = 130
BUG = 70
_OPTIONS = 2
_SAVE = 7
_LONGEST = 1000  # characters of a message


@dataclass(frozen=True)
class Failure:
    """A message, what to do about it, and the exit code."""

    message: str
    hint: str
    code: int


def explain(error: BaseException) -> Failure:
    """Return what to tell about an exception."""
    if isinstance(error, FccError):
        return Failure(error.message, error.hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("interrupted", "", INTERRUPTED)
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, OSError) and error.filename is None and not isinstance(error, ConnectionError):
        return Failure(f"cannot write the output of this command: {error.strerror or error}", "", _SAVE)
    if isinstance(error, MemoryError):
        return Failure("out of memory", "use smaller sizes with --opt-shape, or a machine with more memory", BUG)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(f"internal error: {what}", "please report it; --debug shows the traceback", BUG)


def _usage(error: click.UsageError) -> Failure:
    hint = ""
    if isinstance(error, click.NoSuchOption):
        message, near = error.message, error.possibilities or []
        hint = f"did you mean {near[0]!r}?" if near else "see fcc --help"
    else:
        message = error.format_message()
    if isinstance(error, click.MissingParameter):
        hint = "see " + (error.ctx.command_path if error.ctx else "fcc") + " --help"
    return Failure(message[:1].lower() + message[1:].rstrip("."), hint, _OPTIONS)


def report(failure: Failure, traceback_of: BaseException | None = None) -> int:
    """Print a failure to stderr, with the traceback of an exception when given, and return the exit code."""
    try:
        if traceback_of is not None:
            import traceback

            traceback.print_exception(traceback_of)
        say("error", failure.message, failure.hint)
        sys.stderr.flush()
    except OSError:  # stderr is gone: the exit code still speaks
        pass
    return failure.code


def say(kind: str, message: str, hint: str = "") -> None:
    """Print ``fcc: KIND: message`` and its hint to stderr, each on one line."""
    color = "red" if kind == "error" else "yellow"
    echo(f"fcc: {click.style(kind + ':', fg=color, bold=True)} {_one_line(message)}", err=True)
    if hint:
        echo(f"{click.style('hint:', bold=True)} {_one_line(hint)}", err=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), _LONGEST)
