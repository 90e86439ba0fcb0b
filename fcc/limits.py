"""Limits of one compile: a deadline that every step asks, and that ends runs of the runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import LimitError

MAX_NODES = 300_000

Cancel = Callable[[], None]
_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class Deadline:
    """A moment after which ``check`` raises; what is ``watched`` at that moment is cancelled."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: set[Cancel] = set()
        self._timer = threading.Timer(seconds, self._cancel)
        self._timer.daemon = True

    def check(self) -> None:
        """Raise LimitError when the time is up."""
        if time.monotonic() >= self._end:
            raise LimitError(
                f"the compile was stopped after {self.seconds:.3g} s",
                "raise --timeout, give smaller sizes with --opt-shape, or --verify off",
            )

    @contextmanager
    def watch(self, cancel: Cancel) -> Iterator[None]:
        """Call ``cancel`` from another thread if the time is up before this is left."""
        with self._lock:
            self._watched.add(cancel)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._watched.discard(cancel)

    def _cancel(self) -> None:
        with self._lock:
            for cancel in self._watched:
                cancel()

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Hold what is done inside, in this thread, to a time in seconds; None is no limit.

    Raises:
        LimitError: the time was up, at the latest on leaving without another error.
    """
    if seconds is None:
        yield
        return
    with Deadline(seconds) as deadline:
        token = _current.set(deadline)
        try:
            yield
            deadline.check()
        finally:
            _current.reset(token)


def check() -> None:
    """Raise LimitError when the time of the compile is up."""
    deadline = _current.get()
    if deadline is not None:
        deadline.check()


@contextmanager
def cancelling(cancel: Cancel) -> Iterator[None]:
    """Call ``cancel`` when the time of the compile is up; whatever is raised then is a LimitError.

    Raises:
        LimitError: the time is up.
    """
    deadline = _current.get()
    if deadline is None:
        yield
        return
    try:
        with deadline.watch(cancel):
            yield
    except LimitError:
        raise
    except Exception:
        deadline.check()
        raise
