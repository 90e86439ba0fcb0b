"""Calibration: run samples through a model and keep the statistics of some of its tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcc.compress.calibrate import CalibrationStats, Watch
from fcc.compress.gram import Gram
from fcc.data.dataset import Data
from fcc.data.spec import Feeds
from fcc.errors import CalibrationError, did_you_mean

from .cache import Cache
from .chunks import CHUNK, How, gather
from .inspect import read_proto, tap, tensor_names
from .jobs import Job, Model
from .session import CPU, Session, Source

__all__ = ["CHUNK", "calibrate"]


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
    cache: Cache | None = None,
) -> CalibrationStats:
    """Return the statistics of the named tensors over all samples.

    ``model`` is bytes, a path, a ModelProto or an onnx_ir Model; ``tensors`` are graph inputs or what nodes of its
    main graph produce. ``samples`` are feeds of any shapes the model takes, or Data, which carries its state in a
    closed loop. ``grams`` asks for Gram matrices too, of tensors with their features along an axis: name -> axis;
    ``watch`` for other accumulators, by key.
    ``folder`` holds the external data of a model that is no path; ``progress`` is called with the number of samples
    done. One sample's tensors are held at a time, beside O(len(tensors)) numbers and features^2 per Gram matrix.
    ``executor`` (threads, processes, a cluster) runs chunks of samples; ``cache`` keeps the result, and what is done
    when the run is interrupted; the result is the same. Samples with state follow each other, so they run here.

    Raises:
        CalibrationError: there is no sample, or the main graph has no tensor of that name.
        DataError: a sample does not fit the model.
    """
    watched = watch or {}
    wanted = tuple(dict.fromkeys((*tensors, *(grams or {}), *(w.tensor for w in watched.values()))))
    tapped = _tapped(model, wanted, provider, threads, custom_ops, folder)
    job = _Statistics(tapped, wanted, dict(grams or {}), dict(watched))
    found: CalibrationStats = gather(job, samples, How(executor, cache, progress))
    return found


@dataclass(frozen=True)
class _Statistics(Job):
    """What is kept of which tensors."""

    model: Model
    wanted: tuple[str, ...]
    grams: Mapping[str, int]
    watch: Mapping[str, Watch]

    def open(self) -> Session:
        return self.model.session()

    def tensors(self, sample: Feeds) -> Mapping[str, Any]:
        return {**sample, **self.opened.run(sample)}

    def loop(self, samples: Data) -> Iterator[Mapping[str, Any]]:
        return ({**feeds, **outputs} for feeds, outputs in samples.run(self.opened.run))

    def collector(self) -> _Collector:
        return _Collector(self)

    @property
    def identity(self) -> Any:
        return "statistics", self.model.identity, self.wanted, self.grams, self.watch


class _Collector:
    """The statistics of a chunk of samples."""

    def __init__(self, job: _Statistics) -> None:
        self._job = job
        watched = {key: deepcopy(w.empty) for key, w in job.watch.items()}
        self._stats = CalibrationStats(grams={name: Gram(axis) for name, axis in job.grams.items()}, watched=watched)

    def add(self, tensors: Mapping[str, Any], number: int) -> None:
        found = {name: tensors[name] for name in self._job.wanted if isinstance(tensors.get(name), np.ndarray)}
        self._stats.update(found)
        for key, w in self._job.watch.items():
            if w.tensor in found:
                self._stats.watched[key].update(found[w.tensor])

    def done(self) -> CalibrationStats:
        return self._stats


def _tapped(
    model: Any, wanted: Sequence[str], provider: str, threads: int, custom_ops: Sequence[str], folder: str | None
) -> Model:
    proto = read_proto(model)
    if folder is None and isinstance(model, str | os.PathLike):
        folder = str(Path(os.fspath(model)).resolve().parent)
    known = {i.name for i in proto.graph.input} | set(tensor_names(proto))
    for name in wanted:
        if name not in known:
            raise CalibrationError(f"no tensor {name!r} in the main graph", did_you_mean(name, known))
    return Model(tap(proto, wanted), provider, threads, tuple(custom_ops), folder)
