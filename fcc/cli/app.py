"""From the words of a command line to an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from fcc.errors import LimitError

from .command import SUBCOMMANDS
from .failure import explain, report
from .signals import Interruptions
from .supervise import since_start


def run(argv: Sequence[str]) -> int:
    """Run a command and return its exit code; no exception leaves."""
    debug = "--debug" in argv
    with Interruptions(argv) as interruptions:
        try:
            _tolerant_streams()
            code = _dispatch(list(argv), interruptions)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            _mute_stdout()
            return 0
        except BaseException as error:
            failure = explain(KeyboardInterrupt() if interruptions.seen else error)
            code = report(failure, error if debug else None)
            if isinstance(error, LimitError) and since_start() is not None:
                os._exit(code)  # a runtime's threads may go on, and who supervises this process would speak as well
            _give_up_stdout()
            return code


def _dispatch(words: list[str], interruptions: Interruptions) -> int:
    name = words[0] if words else ""
    chosen = name if name in SUBCOMMANDS else "compile"
    command: click.Command = importlib.import_module(f"fcc.cli.{chosen}").command
    path, args = (f"fcc {name}", words[1:]) if name in SUBCOMMANDS else ("fcc", words)
    try:
        with command.make_context(path, args, obj=interruptions) as context:
            return command.invoke(context) or 0
    except click.exceptions.Exit as done:
        return done.exit_code


def _tolerant_streams() -> None:
    """Let names that the terminal's encoding lacks be shown as ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _give_up_stdout() -> None:
    """Drop what stdout cannot take: the interpreter would try again at exit, and end with a code of its own."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _mute_stdout()


def _mute_stdout() -> None:
    """Keep the interpreter from complaining about the closed pipe when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
