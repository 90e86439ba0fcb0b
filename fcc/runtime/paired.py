"""Moments of layers over two models run side by side: what one reads, and what the other wrote there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fcc.compress.moments import Gathered, Moments
from fcc.compress.rows import Mixed, Rows, chosen
from fcc.data.dataset import Data
from fcc.data.spec import Feeds

from .cache import Cache
from .chunks import How, gather
from .inspect import only, read_proto, tap
from .jobs import Job, Model
from .session import CPU, Source

ENOUGH = 20480  # rows of a layer: more of them do not lower the error
FEWEST, MOST = 16, 1024  # rows of one sample
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
    cache: Cache | None = None,
) -> Mapping[str, Any]:
    """Return the moments asked for, over all samples, by key; keys without a finite row are missing.

    Both models (bytes, or paths for external data) take the same feeds; each runs as far as the tensors need. One
    sample's tensors are held at a time. ``executor`` runs chunks of samples; ``cache`` keeps the result, and what is
    done when the run is interrupted; the result is the same, byte for byte. Samples with state are closed loops of each
    model with itself, and run here.

    Raises:
        CalibrationError: there is no sample.
        DataError: a sample does not fit the models.
    """
    whole = isinstance(samples, Data) and bool(samples.state)
    part = partial(_part, whole=whole, how=(provider, threads, tuple(custom_ops)))
    before = part(reference, [r.y for r in requests if not r.own])
    after = part(model, [n for r in requests for n in ((r.x, r.y) if r.own else (r.x,))])
    job = _Pairs(before, after, tuple(requests), rows_per_sample(samples))
    total: Gathered = gather(job, samples, How(executor, cache, progress))
    return {
        r.key: total.found[r.key, 0] if not r.parts else [m for (k, _), m in total.found.items() if k == r.key]
        for r in requests
        if any(key == r.key for key, _ in total.found)
    }


def _part(source: Source, names: list[str], *, whole: bool, how: tuple[str, int, tuple[str, ...]]) -> Model | None:
    """Return what of a model computes the named tensors (all of it where a state goes round), None for no tensor."""
    proto = read_proto(source)
    folder = None if isinstance(source, bytes) else str(Path(os.fspath(source)).resolve().parent)
    data = tap(proto, names) if whole else only(proto, names)
    return None if data is None else Model(data, *how, folder)


Tensors = Mapping[str, Any]


@dataclass(frozen=True)
class _Pairs(Job):
    """Two models on the same feeds, and what is asked about their tensors."""

    before: Model | None
    after: Model | None
    requests: tuple[Request, ...]
    rows: int

    def open(self) -> list[Callable[[Feeds], Tensors]]:
        return [(lambda fed: {}) if m is None else m.session().run for m in (self.before, self.after)]

    def tensors(self, sample: Feeds) -> tuple[Tensors, Tensors]:
        before, after = self.opened
        return {**sample, **before(sample)}, {**sample, **after(sample)}

    def loop(self, samples: Data) -> Iterator[tuple[Tensors, Tensors]]:
        before, after = self.opened
        for (fed, a), (own, b) in zip(samples.run(before), samples.run(after), strict=True):
            yield {**fed, **a}, {**own, **b}

    def collector(self) -> _Collector:
        return _Collector(self.requests, self.rows)

    @property
    def identity(self) -> Any:
        models = [None if m is None else m.identity for m in (self.before, self.after)]
        return "moments", models, self.requests, self.rows


class _Collector:
    """Moments of a chunk of samples; rows are collected first, since a product of many costs little more than of one.

    Not more than ``_ELEMENTS`` numbers wait.
    """

    def __init__(self, requests: Sequence[Request], rows: int) -> None:
        self._requests, self._rows = requests, rows
        self._gathered = Gathered()
        self._waiting: dict[Request, list[tuple[Any, Any, Any]]] = {r: [] for r in requests}

    def add(self, tensors: tuple[Tensors, Tensors], number: int) -> None:
        """Take the rows that are asked for out of the tensors of both models; samples are numbered."""
        before, after = tensors
        for request in self._requests:
            x, y = after[request.x], (after if request.own else before)[request.y]
            at = chosen(prod(request.rows.grid(x)), self._rows, number)
            if not len(at):
                continue
            rows = request.rows.take(x, at), request.target.take(y, at), number + request.rows.sample_of(x, at)
            self._waiting[request].append(rows)
            if sum(x.size + y.size for x, y, _ in self._waiting[request]) > _ELEMENTS:
                self._flush(request)

    def done(self) -> Gathered:
        for request in self._requests:
            self._flush(request)
        return self._gathered

    def _flush(self, request: Request) -> None:
        parts, self._waiting[request] = self._waiting[request], []
        if parts:
            x, y, fold = (np.concatenate(p) for p in zip(*parts, strict=True))
            with np.errstate(invalid="ignore", over="ignore"):
                for part in range(max(request.parts, 1)):
                    own = fold % max(request.parts, 1) == part
                    moments = Moments.of(x[own], y[own], fold[own], request.folds)
                    self._gathered.add((request.key, part), moments)
