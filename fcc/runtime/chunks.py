"""One pass over samples, in chunks: what they add is merged in the order of the samples, whoever computed it."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from fcc.compress.blas import one_thread
from fcc.data.dataset import Data
from fcc.data.spec import Feeds
from fcc.errors import CalibrationError

from .cache import Cache, Entry, key_of
from .jobs import Job
from .workers import result, shipped

CHUNK = 32  # samples of one task, and of one partial sum: results are the same with and without an executor
_WAITING, _BYTES = 16, 1 << 28  # tasks handed out at a time, and samples in them: at least two tasks, if large
_SAVE_S, _SAVE_SHARE = 1.0, 20  # between two checkpoints: seconds, and times what one takes
Tell = Callable[[int], None]


@dataclass(frozen=True)
class How:
    """Who computes the chunks (None: this process), what is kept for later runs, who is told of samples done."""

    executor: Executor | None = None
    cache: Cache | None = None
    progress: Tell | None = None


def gather(job: Job, samples: Data | Iterable[Feeds], how: How) -> Any:
    """Return what a job gathers over all samples: the same bytes whatever computes it, whether or not it was resumed.

    One chunk's samples are held at a time, with an executor those of a few chunks.  Samples with state follow each
    other, so they run here, from the start.

    Raises:
        CalibrationError: there is no sample, or the workers failed.
        DataError: a sample does not fit the model.
    """
    state = isinstance(samples, Data) and bool(samples.state)
    kept = _Kept(how.cache, job, samples, resumes=not state)
    entry = kept.found
    if entry.samples:
        _tell(how, entry.samples)
    if not entry.done:
        with one_thread():
            parts = _looped(job, samples, how) if state else _parts(job, samples, how, entry.samples)
            entry = kept.merged(parts)
    if not entry.samples:
        raise CalibrationError("the calibration data holds no sample", "give at least one")
    return entry.total


class _Kept:
    """What a cache has of a job: nothing without a cache, or where samples cannot be told apart.

    ``resumes``: part of the samples counts too.
    """

    def __init__(self, cache: Cache | None, job: Job, samples: Any, *, resumes: bool) -> None:
        identity = samples.identity if cache is not None and isinstance(samples, Data) else None
        self._key = ""
        if identity is not None:
            with contextlib.suppress(TypeError, OSError):  # a user's accumulator that nothing tells apart; no such file
                self._key = key_of((job.identity, identity))
        self._cache, self._resumes = cache if self._key else None, resumes
        entry = self._cache.load(self._key) if self._cache is not None else None
        self.found = entry if entry is not None and (entry.done or resumes) else Entry(None, 0, False)
        self._next = time.monotonic() + _SAVE_S

    def merged(self, parts: Iterable[tuple[Any, int]]) -> Entry:
        """Return what was found and what parts add, in their order; kept from time to time, and when interrupted."""
        total, done, saved = self.found.total, self.found.samples, self.found.samples
        try:
            for part, size in parts:
                total, done = part if total is None else total.merged(part), done + size
                if time.monotonic() >= self._next:
                    self._save(Entry(total, done, False))
                    saved = done
        except BaseException:
            if done > saved:
                self._save(Entry(total, done, False))
            raise
        entry = Entry(total, done, True)
        self._save(entry)
        return entry

    def _save(self, entry: Entry) -> None:
        start = time.monotonic()
        if self._cache is not None and entry.samples and (entry.done or self._resumes):
            self._cache.store(self._key, entry)
        now = time.monotonic()
        self._next = now + max(_SAVE_S, _SAVE_SHARE * (now - start))


def _parts(job: Job, samples: Iterable[Feeds], how: How, start: int) -> Iterator[tuple[Any, int]]:
    """Yield what chunk after chunk adds, from sample ``start`` on, and its size."""
    feeds = (plain(feed) for feed in islice(iter(samples), start, None))
    if how.executor is None:
        yield from _here(job, map(job.tensors, feeds), how, start)
    else:
        for part, size in _elsewhere(job, how.executor, feeds, start):
            yield part, size
            start += size
            _tell(how, start)


def plain(feed: Feeds) -> dict[str, Any]:
    """Return a feed with its arrays in row-major order, as they come out of another process: sums follow memory."""
    return {n: np.asarray(v, order="C") if isinstance(v, np.ndarray) else v for n, v in feed.items()}


def _looped(job: Job, samples: Any, how: How) -> Iterator[tuple[Any, int]]:
    return _here(job, job.loop(samples), how, 0)


def _here(job: Job, items: Iterator[Any], how: How, start: int) -> Iterator[tuple[Any, int]]:
    while True:
        part, size = job.chunk(_told(islice(items, CHUNK), how, start), start)
        if not size:
            return
        start += size
        yield part, size


def _told(items: Iterable[Any], how: How, start: int) -> Iterator[Any]:
    for count, item in enumerate(items, start + 1):
        yield item
        _tell(how, count)


def _tell(how: How, count: int) -> None:
    if how.progress is not None:
        how.progress(count)


def _elsewhere(job: Job, executor: Executor, feeds: Iterator[Feeds], start: int) -> Iterator[tuple[Any, int]]:
    """Yield what ``_here`` does, computed by an executor, in the same order."""
    waiting = deque[tuple[Future[tuple[Any, int]], int]]()
    with shipped(executor, job) as submit:
        try:
            for chunk in _chunks(feeds):
                waiting.append((submit(start, chunk), _bytes(chunk)))
                start += len(chunk)
                while len(waiting) >= _WAITING or (len(waiting) > 1 and sum(size for _, size in waiting) > _BYTES):
                    yield result(waiting.popleft()[0])
            while waiting:
                yield result(waiting.popleft()[0])
        finally:
            for future, _ in waiting:
                future.cancel()


def _chunks(feeds: Iterator[Feeds]) -> Iterator[list[Feeds]]:
    while chunk := list(islice(feeds, CHUNK)):
        yield chunk


def _bytes(chunk: Sequence[Mapping[str, Any]]) -> int:
    return sum(getattr(v, "nbytes", 0) for feed in chunk for v in feed.values())
