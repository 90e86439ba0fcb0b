"""Errors of fcc: each has a message (what, where, why), a hint (what to do) and an exit code.

FccError
├─ OptionError 2              an option has no meaning, or not this one
│  └─ PipelineError 2         a pass list that does not parse, or names no pass
├─ LoadError 3                the model cannot be read, or is not valid ONNX
├─ DataError 4                samples do not fit the model's inputs
│  └─ CalibrationError 4      statistics are needed and there are none
├─ TargetError 4
│  ├─ TargetUnavailable 4     this machine cannot run the target
│  └─ UnsupportedOp 4         --strict: (node, reason) pairs the target lacks
├─ PassError 5                --strict: a pass failed at a node
├─ ParityError 6              outputs moved beyond the limit
├─ SaveError 7                the output cannot be written
├─ LimitError 8               --timeout or --max-memory was reached
└─ VerifyError 70             the graph broke: our bug
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FccError(Exception):
    """Base of every error that fcc raises on purpose."""

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class OptionError(FccError):
    """An option, or its value, is not understood."""

    exit_code = 2


class PipelineError(OptionError):
    """A pass list does not parse, or names a pass or field that does not exist."""


class LoadError(FccError):
    """The model cannot be read, or is not valid ONNX."""

    exit_code = 3


class DataError(FccError):
    """Samples do not fit the inputs of the model."""

    exit_code = 4


class CalibrationError(DataError):
    """Statistics are needed and there are none, or they cannot be used."""


class TargetError(FccError):
    """The target does not exist, is not available here, or cannot express the model."""

    exit_code = 4

    def __init__(self, message: str, hint: str = "", *, target: str = "") -> None:
        super().__init__(message, hint)
        self.target = target


class TargetUnavailable(TargetError):
    """This machine has no runtime for the target."""


class UnsupportedOp(TargetError):
    """The target has no kernel for some nodes (raised under --strict)."""

    def __init__(self, rows: Sequence[tuple[str, str]], *, target: str = "") -> None:
        node, reason = rows[0]
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        super().__init__(
            f"target {target} cannot run node {node}: {reason}{more}",
            "compile without --strict to let onnxruntime fall back",
            target=target,
        )
        self.rows = list(rows)


class PassError(FccError):
    """A pass failed at a node (raised under --strict; otherwise the rewrite is skipped)."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "", *, pass_name: str = "", node: str = "") -> None:
        super().__init__(message, hint)
        self.pass_name = pass_name
        self.node = node


class ParityError(FccError):
    """The outputs moved beyond the limit; ``worst`` lists (tensor, error, limit)."""

    exit_code = 6

    def __init__(self, message: str, hint: str = "", *, worst: Sequence[tuple[str, float, float]] = ()) -> None:
        super().__init__(message, hint)
        self.worst = list(worst)


class SaveError(FccError):
    """The output cannot be written."""

    exit_code = 7


class LimitError(FccError):
    """The time or the memory that the compile was given is used up."""

    exit_code = 8


class VerifyError(FccError):
    """The graph is broken after a step of fcc: our bug."""

    def __init__(self, message: str, hint: str = "please report this as a bug of fcc") -> None:
        super().__init__(message, hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known word, else the list of known words."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "one of: " + ", ".join(words)
