"""Ctrl-C and SIGTERM end a command cleanly, wherever it is."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any


class Interruptions:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt in the main thread; ``seen`` remembers one.

    Remembering matters: an interrupt that lands inside a library may come out as an exception of another type, and
    one inside a finalizer is lost. ``check`` raises it again at the next step of the compile. ``argv`` is the command
    line that may be interrupted.
    """

    def __init__(self, argv: Sequence[str] = ()) -> None:
        self.argv = tuple(argv)
        self.seen = False
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._raise)
            sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._hook

    def check(self) -> None:
        """Raise KeyboardInterrupt when one was seen."""
        if self.seen:
            raise KeyboardInterrupt

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def _unraisable(self, lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            self._hook(lost)
