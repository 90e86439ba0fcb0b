"""The threads of the linear algebra beneath numpy and scipy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _Limit:
    """One limit for all threads of the process that ask for it: the first sets it, the last one lifts it.

    The number of BLAS threads belongs to the process: a thread that lifted its own limit would lift that of others.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._limits = Lock(), 0, None

    def enter(self) -> None:
        with self._lock:
            if not self._users:
                self._limits = self._set()
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._limits is not None:
                self._limits.restore_original_limits()

    @staticmethod
    def _set() -> Any:
        import scipy.linalg  # noqa: F401  # has a library of its own, which is limited only once it is there
        from threadpoolctl import threadpool_limits

        return threadpool_limits(1, user_api="blas")


_LIMIT = _Limit()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let linear algebra run in one thread: sums have one order then, so results are the same on every machine.

    Matrices of a layer are small: on busy machines threads that wait for each other cost many times what they save.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
