"""Complaints about a compiled model: why it is bad, in words; empty when it is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Protocol

from ..backends import Emitted, save
from ..compiled import Runnable
from ..driver import Broken, Product
from ..errors import FccError, OptionError
from ..report import Report
from ..trial import Trial

UNTESTABLE = 125  # exit code of a script that says nothing about a model, as git bisect has it
_ROUNDS = 2  # a slowdown shows in so many runs in a row
_TAIL = 200  # characters of what a script wrote last


class Complaint(Protocol):
    """What is asked of every replay."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def tries(self) -> int:
        """How many reduced models it may be asked about."""
        ...

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return why the product of a replay is bad; the trial holds its source."""
        ...


@dataclass(frozen=True)
class Parity:
    """The outputs move: beyond ``tolerance`` (max|y - y0| / max|y0|), or beyond what a compile allows."""

    tolerance: float | None = None
    name: str = "parity"
    tries: int = 250

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return the worst output and its error, or why the product does not run."""
        if isinstance(product, Broken):
            return product.error.message
        return self._moved(trial, product.emitted) if self.tolerance is not None else _beyond(trial, product.emitted)

    def _moved(self, trial: Trial, emitted: Emitted) -> str:
        try:
            with Runnable(emitted) as model:
                verdict = trial.judge.judge(model, options=emitted.session_options or None, limit=self.tolerance)
        except FccError as error:
            return error.message
        return "" if verdict.ok else str(verdict)


def _beyond(trial: Trial, emitted: Emitted) -> str:
    rows = Report()
    if trial.exact(emitted, rows):
        return ""
    bad = [r for r in rows.parity if not r.ok]
    worst = max(bad, key=lambda r: r.strain, default=None)
    if worst is None:
        return rows.notes[-1] if rows.notes else "it does not run"
    place = "tensor" if worst.phase == "inside" else "output"
    return f"{place} {worst.output}: error {worst.error:.2g}, beyond its limit {worst.limit or 0:.2g}"


@dataclass(frozen=True)
class Crash:
    """A pass raises, or leaves a broken graph; a rewrite that raised and was undone counts."""

    name: str = "crash"
    tries: int = 250

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return what was raised where."""
        if isinstance(product, Broken):
            return product.error.message
        first = next(iter(product.log.failures), None)
        return f"pass {first.pass_name} failed at {first.site}: {first.reason}" if first is not None else ""


@dataclass(frozen=True)
class Slower:
    """The output takes more than ``ratio`` of the time of its source, interleaved with two sessions of it."""

    ratio: float = 1.05
    name: str = "slower"
    tries: int = 16

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return by how much it is slower, in two runs in a row and beyond what equal files differ by."""
        if isinstance(product, Broken):
            return product.error.message
        found = 0.0
        sessions = trial.sessions(product.emitted)
        for _ in range(_ROUNDS):
            source, again, model = (median(t) for t in trial.race(sessions))
            found = model / max(source, again)
            if found <= self.ratio:
                return ""
        return f"it takes {found:.2f} of the time of its source"


@dataclass(frozen=True)
class Script:
    """A user's command exits non-zero; it gets the path of the compiled model as its last argument."""

    command: tuple[str, ...]
    name: str = "test"
    tries: int = 100

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return the exit code and the last line that the command wrote.

        Raises:
            OptionError: it cannot be started.
        """
        if isinstance(product, Broken):
            return product.error.message
        with tempfile.TemporaryDirectory(prefix="fcc-") as folder:
            path = str(Path(folder) / "model.onnx")
            save(product.emitted, path)
            return self.run(path)

    def run(self, path: str) -> str:
        """Return why the command complains about the model at a path."""
        try:
            done = subprocess.run([*self.command, path], capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise OptionError(
                f"--test {self.command[0]}: {error.strerror}", "give an executable or a .py file"
            ) from None
        if done.returncode in (0, UNTESTABLE):
            return ""
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return f"{Path(self.command[-1]).name} exits {done.returncode}" + (f": {lines[-1][-_TAIL:]}" if lines else "")


@dataclass(frozen=True)
class Test:
    """A user's function says why the model at a path is bad; "" or None when it is not."""

    function: Callable[[str], str | None]
    name: str = "test"
    tries: int = 100
    __test__: ClassVar[bool] = False  # no test of pytest

    def flaw(self, trial: Trial, product: Product | Broken) -> str:
        """Return what the function says."""
        if isinstance(product, Broken):
            return product.error.message
        with tempfile.TemporaryDirectory(prefix="fcc-") as folder:
            path = str(Path(folder) / "model.onnx")
            save(product.emitted, path)
            return self.function(path) or ""


def script(test: str | os.PathLike[str] | Sequence[str]) -> Script:
    """Return the complaint of a script: a .py file runs with this Python.

    Raises:
        OptionError: there is no such file.
    """
    words = tuple(test) if not isinstance(test, str | os.PathLike) else (os.fspath(test),)
    path = Path(words[-1])
    if not path.is_file():
        raise OptionError(f"--test {path} is no file", "give an executable or a .py file")
    words = (*words[:-1], str(path.resolve()))
    return Script((sys.executable, *words) if path.suffix == ".py" and len(words) == 1 else words)


def complaint(
    *, tolerance: float | None = None, crash: bool = False, slower: float | bool | None = None, test: Any = None
) -> Complaint | None:
    """Return the one complaint asked for, None when none was.

    Raises:
        OptionError: more than one, or a figure that cannot be.
    """
    asked = {"tolerance": tolerance is not None, "crash": crash, "slower": bool(slower), "test": test is not None}
    named = [name for name, given in asked.items() if given]
    if len(named) > 1:
        raise OptionError(f"{named[0]} and {named[1]} are two complaints", "bisect one after the other")
    if tolerance is not None and not tolerance >= 0:
        raise OptionError(f"tolerance is at least 0, not {tolerance}")
    if slower and slower is not True and not slower >= 1:
        raise OptionError(f"slower is a ratio of at least 1, not {slower}")
    if tolerance is not None:
        return Parity(tolerance)
    if crash:
        return Crash()
    if slower:
        return Slower() if slower is True else Slower(float(slower))
    if test is None:
        return None
    return Test(test) if callable(test) else script(test)
