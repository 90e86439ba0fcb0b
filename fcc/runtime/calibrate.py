"""Calibration: run samples through a model and keep the statistics of some of its tensors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fcc.compress.calibrate import CalibrationStats, Watch
from fcc.compress.gram import Gram
from fcc.data.dataset import Data
from fcc.data.spec import Feeds, Outputs
from fcc.errors import CalibrationError, did_you_mean

from .inspect import read_proto, tap, tensor_names
from .session import CPU, Session, Source, open_session

T = TypeVar("T")
CHUNK = 32  # samples of one task, and of one partial sum: the result is the same with and without an executor
_WAITING = 16  # tasks handed out at a time: their samples are in memory


def calibrate(
    model: Source | Any,
    tensors: Iterable[str],
    samples: Data | Iterable[Feeds],
    *,
    provider: str = CPU,
    threads: int = 1,
    grams: Mapping[str, int] | None = None,
    watch: Mapping[str, Watch] | None = None,
    custom_ops: Sequence[str] = (),
    folder: str | None = None,
    progress: Callable[[int], None] | None = None,
    executor: Executor | None = None,
) -> CalibrationStats:
    """Return the statistics of the named tensors over all samples.

    ``model`` is bytes, a path, a ModelProto or an onnx_ir Model; ``tensors`` are graph inputs or what nodes of its
    main graph produce. ``samples`` are feeds of any shapes the model takes, or Data, which carries its state in a
    closed loop. ``grams`` asks for Gram matrices too, of tensors with their features along an axis: name -> axis;
    ``watch`` for other accumulators, by key.
    ``folder`` holds the external data of a model that is no path; ``progress`` is called with the number of samples
    run (handed out, with an executor). One sample's tensors are held at a time, beside O(len(tensors)) numbers and
    features^2 per Gram matrix. ``executor`` (threads, processes, a cluster) runs chunks of samples; the result is the
    same. Samples with state follow each other, so they run here.

    Raises:
        CalibrationError: there is no sample, or the main graph has no tensor of that name.
        DataError: a sample does not fit the model.
    """
    watched = watch or {}
    wanted = list(dict.fromkeys((*tensors, *(grams or {}), *(w.tensor for w in watched.values()))))
    kept = _Kept(tuple(wanted), grams or {}, watched)
    how = (kept, provider, threads, custom_ops, folder)
    if executor is None or (isinstance(samples, Data) and samples.state):
        session = _tapped(model, wanted, provider, threads, custom_ops, folder)
        parts = _here(_told(_runs(session, samples), progress), kept)
    else:
        parts = _elsewhere(executor, partial(_chunk, model, *how), _told(samples, progress))
    stats, count = CalibrationStats(), 0
    for part, size in parts:
        stats, count = stats.merged(part), count + size
    if not count:
        raise CalibrationError("the calibration data holds no sample", "give at least one")
    return stats


def _told(items: Iterable[T], progress: Callable[[int], None] | None) -> Iterator[T]:
    for count, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(count)


@dataclass(frozen=True)
class _Kept:
    """What is kept of which tensors."""

    wanted: tuple[str, ...]
    grams: Mapping[str, int]
    watch: Mapping[str, Watch]

    def empty(self) -> CalibrationStats:
        watched = {key: deepcopy(w.empty) for key, w in self.watch.items()}
        return CalibrationStats(grams={name: Gram(axis) for name, axis in self.grams.items()}, watched=watched)

    def update(self, stats: CalibrationStats, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        stats.update(arrays)
        for key, w in self.watch.items():
            if w.tensor in arrays:
                stats.watched[key].update(arrays[w.tensor])


def _here(runs: Iterator[tuple[Feeds, Outputs]], kept: _Kept) -> Iterator[tuple[CalibrationStats, int]]:
    """Yield the statistics of chunk after chunk, and how many samples it had."""
    while True:
        stats, size = kept.empty(), 0
        for feeds, outputs in islice(runs, CHUNK):
            kept.update(stats, _numeric(kept.wanted, feeds, outputs))
            size += 1
        if not size:
            return
        yield stats, size


def _elsewhere(
    executor: Executor, task: Callable[[list[Feeds]], CalibrationStats], samples: Iterable[Feeds]
) -> Iterator[tuple[CalibrationStats, int]]:
    """Yield what ``_here`` does, computed by an executor, in the same order."""
    feeds, waiting = iter(samples), deque[tuple[Future[CalibrationStats], int]]()
    while chunk := list(islice(feeds, CHUNK)):
        waiting.append((executor.submit(task, chunk), len(chunk)))
        if len(waiting) == _WAITING:
            future, size = waiting.popleft()
            yield future.result(), size
    for future, size in waiting:
        yield future.result(), size


def _chunk(
    model: Any,
    kept: _Kept,
    provider: str,
    threads: int,
    custom_ops: Sequence[str],
    folder: str | None,
    samples: list[Feeds],
) -> CalibrationStats:
    session = _tapped(model, kept.wanted, provider, threads, custom_ops, folder)
    ((stats, _),) = _here(_runs(session, samples), kept)
    return stats


def _tapped(
    model: Any, wanted: Sequence[str], provider: str, threads: int, custom_ops: Sequence[str], folder: str | None
) -> Session:
    proto = read_proto(model)
    if folder is None and isinstance(model, str | os.PathLike):
        folder = str(Path(os.fspath(model)).resolve().parent)
    known = {i.name for i in proto.graph.input} | set(tensor_names(proto))
    for name in wanted:
        if name not in known:
            raise CalibrationError(f"no tensor {name!r} in the main graph", did_you_mean(name, known))
    return open_session(tap(proto, wanted), provider=provider, threads=threads, custom_ops=custom_ops, folder=folder)


def _runs(session: Session, samples: Data | Iterable[Feeds]) -> Iterator[tuple[Feeds, Outputs]]:
    if isinstance(samples, Data):
        yield from samples.run(session.run)
        return
    for feeds in samples:
        yield feeds, session.run(feeds)


def _numeric(wanted: Sequence[str], feeds: Feeds, outputs: Outputs) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {}
    for name in wanted:
        found = outputs[name] if name in outputs else feeds.get(name)
        if isinstance(found, np.ndarray):
            arrays[name] = found
    return arrays
