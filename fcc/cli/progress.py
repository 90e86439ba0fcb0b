"""Progress on stderr for whatever takes longer than a second, on a terminal only."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from .signals import Interruptions

DELAY_S = 1.0


class Progress:
    """Called with (phase, done, total) while entered; shows a bar when a second has passed.

    The bar (and the import of rich) is started by a timer, so that short commands pay nothing for it.
    """

    def __init__(self, interruptions: Interruptions, *, quiet: bool = False) -> None:
        self._interruptions = interruptions
        self._phase: tuple[str, int, int] = ("", 0, 0)
        self._bar: Any = None
        self._lock = threading.Lock()
        self._closed = False
        shown = not quiet and sys.stderr.isatty()
        self._timer = threading.Timer(DELAY_S, self._start) if shown else None

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Tell where the work is; ``total`` is 0 when unknown. Raises a KeyboardInterrupt that was swallowed."""
        self._interruptions.check()
        self._phase = (phase, done, total)
        with self._lock:
            self._update()

    def __enter__(self) -> Progress:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.progress import TimeRemainingColumn as Remaining

        with self._lock:
            if self._closed:
                return
            parts = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn())
            times = (TimeElapsedColumn(), TextColumn("left"), Remaining())
            self._bar = Bar(*parts, *times, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None)
            self._update()
            self._bar.start()

    def _update(self) -> None:
        if self._bar is not None:
            phase, done, total = self._phase
            if self._bar.tasks[0].completed > done:  # another run: the speed of the last one says nothing about it
                self._bar.reset(self._task)
            self._bar.update(self._task, description=phase, completed=done, total=total or None)
