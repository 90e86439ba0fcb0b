"""Who computes chunks of samples: threads, processes, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcc.compress.blas import one_thread
from fcc.errors import CalibrationError, FccError, OptionError, TargetUnavailable

from .versions import versions

if TYPE_CHECKING:
    from .jobs import Job

_CONNECT_S = 10.0
_OPENING = threading.Lock()
Submit = Callable[[int, list[Any]], Future[tuple[Any, int]]]


@contextmanager
def connected(cluster: Any) -> Iterator[Executor]:
    """Yield an executor for a number of processes on this machine, or for a Dask cluster by address or Client.

    Raises:
        OptionError: neither.
        TargetUnavailable: ``distributed`` is not installed, or the cluster does not answer or has other versions.
    """
    if isinstance(cluster, int) or (isinstance(cluster, str) and cluster.isdigit()):
        with processes(int(cluster)) as executor:
            yield executor
    elif isinstance(cluster, str):
        with _client(cluster) as client:
            yield _executor(client, cluster)
    elif hasattr(cluster, "get_executor"):
        yield _executor(cluster, "the cluster")
    else:
        raise OptionError(f"cluster is {type(cluster).__name__}", "give tcp://host:8786, or a number of processes")


@contextmanager
def processes(count: int) -> Iterator[Executor]:
    """Yield a pool of processes that start clean, leave Ctrl-C to this one, and end with it, however it ends."""
    from multiprocessing import get_context

    if count < 1:
        raise OptionError(f"a cluster has at least 1 process, not {count}")
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """End this process when its parent is gone, even killed: a worker that waits for tasks would wait forever."""
    parent.join()
    os._exit(1)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError as e:
        raise TargetUnavailable(f"a cluster needs distributed: {e}", 'pip install "fcc[dask]"') from e
    with _quiet():
        try:
            connect: Any = distributed.Client
            client = connect(address, timeout=_CONNECT_S, set_as_default=False)
        except ValueError as e:
            raise OptionError(f"no address of a cluster: {address}: {_line(e)}", "write tcp://host:8786") from e
        except (OSError, TimeoutError) as e:
            raise TargetUnavailable(f"no cluster answers at {address}: {_line(e)}", "start it: dask scheduler") from e
        with client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what distributed logs off the terminal: what fails is raised."""
    names = [n for n in logging.root.manager.loggerDict if n.partition(".")[0] in ("distributed", "tornado", "asyncio")]
    loggers = [logging.getLogger(name) for name in names]  # each with a level of its own
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _executor(client: Any, where: str) -> Executor:
    """Return the executor of a Dask client, its workers checked."""
    with _told(f"the workers of {where}"):
        theirs: Mapping[str, Any] = client.run(versions)
    if not theirs:
        raise TargetUnavailable(f"{where} has no worker", "start one: dask worker ADDRESS")
    mine = versions()
    for worker, found in theirs.items():
        for name, version in mine.items():
            if found.get(name) != version:
                raise TargetUnavailable(
                    f"worker {worker} has {name} {found.get(name) or 'not installed'}, here it is {version}",
                    "results are the same only with the same versions",
                )
    executor: Executor = client.get_executor(pure=False)
    return executor


@contextmanager
def shipped(executor: Executor, job: Job) -> Iterator[Submit]:
    """Yield what hands a chunk to a worker: (number of its first sample, samples) -> (what it adds, its size).

    The job is sent once to every process of a pool or cluster; other executors get it with every chunk.
    """
    client = getattr(executor, "_client", None)  # that of distributed's ClientExecutor
    if client is not None:
        # A task of its own, not scattered data: a copy that is lost with its worker is made again.
        with _large():
            held = client.submit(_same, job, pure=False)
        yield lambda start, chunk: _submit(executor, work, held, start, chunk)
    elif isinstance(executor, ProcessPoolExecutor):
        with tempfile.TemporaryDirectory(prefix="fcc-") as folder:
            path = Path(folder) / "job"
            path.write_bytes(pickle.dumps(job))
            yield lambda start, chunk: _submit(executor, _work_from, str(path), start, chunk)
    else:
        yield lambda start, chunk: _submit(executor, work, job, start, chunk)


def result(future: Future[tuple[Any, int]]) -> tuple[Any, int]:
    """Return what a chunk adds, and its size.

    Raises:
        CalibrationError: the workers failed, and not the job.
    """
    with _told("the workers"):
        return future.result()


def _submit(executor: Executor, function: Any, *args: Any) -> Future[Any]:
    with _told("the workers"), _large():
        return executor.submit(function, *args)


@contextmanager
def _large() -> Iterator[None]:
    """Let samples go with their task, which dask warns of: only so can it be given to another worker."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        yield


def _same(job: Job) -> Job:
    return job


def work(job: Job, start: int, samples: list[Any]) -> tuple[Any, int]:
    """Return what a chunk adds, and its size."""
    with _OPENING:
        _ = job.opened
    with one_thread():
        return job.chunk(map(job.tensors, samples), start)


def _work_from(path: str, start: int, samples: list[Any]) -> tuple[Any, int]:
    return work(_loaded(path), start, samples)


@lru_cache(maxsize=1)
def _loaded(path: str) -> Job:
    job: Job = pickle.loads(Path(path).read_bytes())
    return job


@contextmanager
def _told(who: str) -> Iterator[None]:
    """Raise what goes wrong between processes as an error of fcc."""
    try:
        yield
    except FccError:
        raise
    except (BrokenExecutor, CancelledError, OSError, TimeoutError, pickle.PicklingError) as e:
        raise _failed(who, e) from e
    except Exception as e:
        if not type(e).__module__.startswith("distributed."):
            raise
        raise _failed(who, e) from e


def _failed(who: str, error: BaseException) -> CalibrationError:
    what = _line(error) or "what they were given is lost"
    return CalibrationError(f"{who} failed: {what}", "out of memory? without --cluster it runs here")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
