"""What a compile holds while it runs: the workers of calibration, and the cache of what it gathers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from .options import Options


@contextmanager
def resources(options: Options) -> Iterator[Options]:
    """Yield the options with ``cluster`` as an executor and ``cache`` opened, and let go of both in the end.

    Raises:
        OptionError: the cluster is neither an address nor a number.
        TargetUnavailable: the cluster does not answer.
        SaveError: the cache cannot be written.
    """
    if options.cluster is None and options.cache is None:
        yield options
        return
    from .runtime.cache import Cache
    from .runtime.workers import connected

    with ExitStack() as stack:
        cache = Cache.open(options.cache)
        executor = options.executor
        if options.cluster is not None:
            executor = stack.enter_context(connected(options.cluster))
        yield replace(options, executor=executor, cluster=None, cache=cache)
