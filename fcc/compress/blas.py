"""The threads of the linear algebra beneath numpy and scipy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let linear algebra run in one thread: sums have one order then, so results are the same on every machine.

    Matrices of a layer are small: on busy machines threads that wait for each other cost many times what they save.
    """
    import scipy.linalg  # noqa: F401  # has a library of its own, which is limited only once it is there
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
