"""Moments of layers over two models run side by side: what one reads, and what the other wrote there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fcc.compress.moments import Gathered, Moments
from fcc.compress.rows import Mixed, Rows, chosen
from fcc.data.dataset import Data
from fcc.data.spec import Feeds
from fcc.errors import CalibrationError

from .calibrate import CHUNK
from .inspect import only, read_proto, tap
from .session import CPU, Session, Source, open_session

ENOUGH = 20480  # rows of a layer: more of them do not lower the error
FEWEST, MOST = 16, 1024  # rows of one sample
_WAITING = 16
_ELEMENTS = 1 << 22  # of rows that wait, per layer


@dataclass(frozen=True, eq=False)
class Request:
    """Moments to gather under ``key``: x are ``rows`` of tensor ``x`` of the model, y are rows of tensor ``y`` of the
    reference (of the model itself with ``own``).

    Samples go in turn to ``folds`` of y, or (not both) to ``parts`` with moments of their own: under ``key`` is then
    the list of those that have rows.
    """

    key: str
    x: str
    rows: Rows | Mixed
    y: str
    target: Rows
    folds: int = 0
    parts: int = 0
    own: bool = False


@dataclass(frozen=True)
class _Task:
    """Everything that a chunk needs besides its samples; goes to other processes as it is."""

    reference: Source
    model: Source
    requests: tuple[Request, ...]
    rows: int
    provider: str
    threads: int
    custom_ops: tuple[str, ...]
    whole: bool


def rows_per_sample(samples: Any) -> int:
    """Return how many rows of every sample are looked at, by the number of samples where it is known."""
    count = samples.length if isinstance(samples, Data) else len(samples) if isinstance(samples, Sequence) else None
    return 256 if not count else min(MOST, max(FEWEST, -(-ENOUGH // count)))


def accumulate(
    reference: Source,
    model: Source,
    requests: Sequence[Request],
    samples: Data | Iterable[Feeds],
    *,
    provider: str = CPU,
    threads: int = 1,
    custom_ops: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
    executor: Executor | None = None,
) -> Mapping[str, Any]:
    """Return the moments asked for, over all samples, by key; keys without a finite row are missing.

    Both models (bytes, or paths for external data) take the same feeds; each runs as far as the tensors need. One
    sample's tensors are held at a time. ``executor`` runs chunks of samples; the result is the same, byte for byte.
    Samples with state are closed loops of each model with itself, and run here.

    Raises:
        CalibrationError: there is no sample.
        DataError: a sample does not fit the models.
    """
    whole = isinstance(samples, Data) and bool(samples.state)
    task = _Task(
        reference, model, tuple(requests), rows_per_sample(samples), provider, threads, tuple(custom_ops), whole
    )
    if executor is None or whole:
        runs = _loops(task, samples) if isinstance(samples, Data) and whole else _pairs(task, samples)
        parts = _here(task, runs)
    else:
        parts = _elsewhere(executor, task, samples)
    total, count = Gathered(), 0
    for part, size in parts:
        total, count = total.merged(part), count + size
        if progress is not None:
            progress(count)
    if not count:
        raise CalibrationError("the calibration data holds no sample", "give at least one")
    return {
        r.key: total.found[r.key, 0] if not r.parts else [m for (k, _), m in total.found.items() if k == r.key]
        for r in task.requests
        if any(key == r.key for key, _ in total.found)
    }


Tensors = Mapping[str, Any]


def _loops(task: _Task, samples: Data) -> Iterator[tuple[Tensors, Tensors]]:
    """Yield the tensors of reference and model, each in its own closed loop."""
    before, after = _sessions(task)
    for (fed, a), (own, b) in zip(samples.run(_runner(before)), samples.run(_runner(after)), strict=True):
        yield {**fed, **a}, {**own, **b}


def _pairs(task: _Task, samples: Iterable[Feeds]) -> Iterator[tuple[Tensors, Tensors]]:
    before, after = map(_runner, _sessions(task))
    for fed in samples:
        yield {**fed, **before(fed)}, {**fed, **after(fed)}


def _runner(session: Session | None) -> Callable[[Feeds], Tensors]:
    return (lambda fed: {}) if session is None else session.run


def _sessions(task: _Task) -> tuple[Session | None, Session | None]:
    own = [n for r in task.requests for n in ((r.x, r.y) if r.own else (r.x,))]
    return (
        _open(task, task.reference, [r.y for r in task.requests if not r.own]),
        _open(task, task.model, own),
    )


def _open(task: _Task, source: Source, names: list[str]) -> Session | None:
    proto = read_proto(source)
    folder = None if isinstance(source, bytes) else str(Path(os.fspath(source)).resolve().parent)
    model = tap(proto, names) if task.whole else only(proto, names)
    if model is None:
        return None
    return open_session(model, provider=task.provider, threads=task.threads, custom_ops=task.custom_ops, folder=folder)


def _here(task: _Task, runs: Iterator[tuple[Tensors, Tensors]], start: int = 0) -> Iterator[tuple[Gathered, int]]:
    """Yield the moments of chunk after chunk, and how many samples it had."""
    while True:
        found, size = _Chunk(task), 0
        for before, after in islice(runs, CHUNK):
            for request in task.requests:
                found.add(request, before, after, start + size)
            size += 1
        if not size:
            return
        start += size
        yield found.done(), size


class _Chunk:
    """Moments of a chunk of samples; rows are collected first, since a product of many costs little more than of one.

    Not more than ``_ELEMENTS`` numbers wait.
    """

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.gathered = Gathered()
        self.waiting: dict[Request, list[tuple[Any, Any, Any]]] = {r: [] for r in task.requests}

    def add(self, request: Request, before: Tensors, after: Tensors, number: int) -> None:
        x, y = after[request.x], (after if request.own else before)[request.y]
        at = chosen(prod(request.rows.grid(x)), self.task.rows, number)
        if not len(at):
            return
        rows = request.rows.take(x, at), request.target.take(y, at), number + request.rows.sample_of(x, at)
        self.waiting[request].append(rows)
        if sum(x.size + y.size for x, y, _ in self.waiting[request]) > _ELEMENTS:
            self._flush(request)

    def done(self) -> Gathered:
        for request in self.task.requests:
            self._flush(request)
        return self.gathered

    def _flush(self, request: Request) -> None:
        parts, self.waiting[request] = self.waiting[request], []
        if parts:
            x, y, fold = (np.concatenate(p) for p in zip(*parts, strict=True))
            with np.errstate(invalid="ignore", over="ignore"):
                for part in range(max(request.parts, 1)):
                    own = fold % max(request.parts, 1) == part
                    moments = Moments.of(x[own], y[own], fold[own], request.folds)
                    self.gathered.add((request.key, part), moments)


def _chunk(task: _Task, start: int, samples: Sequence[Feeds]) -> Gathered:
    ((found, _),) = _here(task, _pairs(task, samples), start)
    return found


def _elsewhere(executor: Executor, task: _Task, samples: Iterable[Feeds]) -> Iterator[tuple[Gathered, int]]:
    """Yield what ``_here`` does, computed by an executor, in the same order."""
    feeds, waiting, start = iter(samples), deque[tuple[Future[Gathered], int]](), 0
    while chunk := list(islice(feeds, CHUNK)):
        waiting.append((executor.submit(partial(_chunk, task), start, chunk), len(chunk)))
        start += len(chunk)
        if len(waiting) == _WAITING:
            future, size = waiting.popleft()
            yield future.result(), size
    for future, size in waiting:
        yield future.result(), size
