"""Data: samples for one model, read as often as wanted, as feeds or as closed loops through a runner."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcc.errors import DataError, OptionError, did_you_mean

from .sources import Reader, Series, Shapes, series_of
from .spec import Array, Feeds, Outputs, TensorSpec

Run = Callable[[Feeds], Outputs]


@dataclass(frozen=True)
class Part:
    """Steps ``start`` to ``stop`` of a series, kept apart from the others so that each part starts its state anew."""

    series: Series
    start: int = 0
    stop: int | None = None

    @property
    def length(self) -> int | None:
        if self.stop is not None:
            return self.stop - self.start
        return None if self.series.length is None else self.series.length - self.start

    def steps(self) -> Iterator[dict[str, Array]]:
        if (self.start, self.stop) == (0, None):
            return self.series.steps()
        return itertools.islice(self.series.steps(), self.start, self.stop)

    def identity(self) -> Any:
        """Return what tells the steps apart from others, None where nothing does."""
        series = self.series.identity()
        return None if series is None else (series, self.start, self.stop)

    def meets(self, other: Part) -> bool:
        """Return whether a step is in both."""
        ends = [float("inf") if p.stop is None else p.stop for p in (self, other)]
        if self.series is not other.series:
            mine = self.series.identity()
            if mine is None or repr(mine) != repr(other.series.identity()):
                return False
        return max(self.start, other.start) < min(ends)

    def first(self) -> Mapping[str, Array]:
        """Return the state given for step 0; a part that starts later starts from zeros."""
        return self.series.first if self.start == 0 else {}


@dataclass(frozen=True)
class Data:
    """Samples that fit the inputs of a model. ``state`` maps an output to the input it feeds in the next step.

    ``left_out`` says which files were not taken, and why.
    """

    specs: tuple[TensorSpec, ...]
    parts: tuple[Part, ...]
    state: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def identity(self) -> Any:
        """What tells these samples apart from others, without reading them; None where nothing does.

        Files count by path, size and modification time, arrays in memory by their contents.
        """
        parts = [p.identity() for p in self.parts]
        if any(found is None for found in parts):
            return None
        return [(s.name, s.dtype.name, s.dims) for s in self.specs], parts, sorted(self.state.items())

    def shares(self, other: Data) -> bool:
        """Return whether they have a sample in common: parts of the same data, or of the same files or arrays."""
        return any(a.meets(b) for a in self.parts for b in other.parts)

    @property
    def length(self) -> int | None:
        """The number of feeds, None when a source cannot tell."""
        lengths = [p.length for p in self.parts]
        return None if any(n is None for n in lengths) else sum(n for n in lengths if n is not None)

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("the source cannot tell its number of samples")
        return self.length

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield feeds in order.

        Raises:
            DataError: the model has state, so feeds exist only in a loop with a runner (``run``).
        """
        if self.state:
            raise DataError("samples with state need a runner", "use Data.run(session.run)")
        for part in self.parts:
            yield from part.steps()

    def run(self, run: Run) -> Iterator[tuple[dict[str, Array], Outputs]]:
        """Yield (feeds, outputs) of every step, carrying state from the outputs of one step to the next.

        Step 0 of each sequence takes its state from the data, zeros when absent.
        """
        for part in self.parts:
            carried: dict[str, Any] = dict(part.first())
            for step in part.steps():
                feeds = {**self._zeros(step, carried), **step, **carried}
                outputs = run(feeds)
                yield feeds, outputs
                carried = {target: outputs[out] for out, target in self.state.items()}

    def first(self) -> dict[str, Array]:
        """Return the first feed, its state included.

        Raises:
            DataError: there is none.
        """
        for part in self.parts:
            for step in part.steps():
                return {**self._zeros(step, part.first()), **step, **part.first()}
        raise DataError("the data holds no sample", "give at least one")

    def take(self, count: int) -> Data:
        """Return the first ``count`` feeds."""
        kept, left = [], count
        for part in self.parts:
            if left <= 0:
                break
            size = sum(1 for _ in itertools.islice(part.steps(), left)) if part.length is None else part.length
            kept.append(replace(part, stop=part.start + min(left, size)))
            left -= size
        return replace(self, parts=tuple(kept))

    def _zeros(self, step: Feeds, given: Feeds) -> dict[str, Array]:
        """Return zeros for the state inputs that have no value; unknown dims follow equal symbols, else are 1."""
        targets = set(self.state.values()) - set(given)
        if not targets:
            return {}
        sizes: dict[str | None, int] = {}
        for spec in self.specs:
            if spec.name in step and spec.dims is not None:
                sizes.update(
                    {d: n for d, n in zip(spec.dims, step[spec.name].shape, strict=True) if isinstance(d, str)}
                )
        return {s.name: _zero(s, sizes) for s in self.specs if s.name in targets}


def _zero(spec: TensorSpec, sizes: Mapping[str | None, int]) -> Array:
    dims = spec.dims or ()
    return np.zeros([d if isinstance(d, int) else sizes.get(d, 1) for d in dims], spec.dtype)


def open_data(
    source: Any,
    inputs: Sequence[TensorSpec],
    *,
    opt_shapes: Shapes | None = None,
    state: Mapping[str, str] | None = None,
    outputs: Sequence[str] | None = None,
    finite: bool = False,
    skip_bad: bool = False,
) -> Data:
    """Return the samples of a source, checked against the inputs of the model.

    ``source`` is an .npz file, a folder of them, a test_data_set_* folder or a folder of such, a dict of arrays, a
    list of feeds, or a callable that returns an iterable of feeds (or of sequences of feeds).  Arrays of files are
    streamed.  ``state`` is {output: input}; every file is then one sequence.  ``finite`` refuses samples with NaN
    when they are read.  ``skip_bad`` reads every file of a folder to its end, and leaves out those with anything wrong.

    Raises:
        DataError: names, shapes, dtypes or lengths do not fit; the message names expected and found.
        OptionError: ``state`` names no output or input of the model.
    """
    if isinstance(source, Data):
        return source
    wires = dict(state or {})
    check_state(wires, inputs, outputs)
    reader = Reader(tuple(inputs), opt_shapes or {}, frozenset(wires.values()), finite, skip_bad)
    found, left_out = series_of(source, reader)
    data = Data(tuple(inputs), tuple(Part(s) for s in found), wires, left_out)
    if data.length == 0:
        raise DataError(f"{found[0].where} holds no sample", "give at least one")
    return data


def check_state(state: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[str] | None = None) -> None:
    """Check that {output: input} names inputs and outputs of the model.

    Raises:
        OptionError: it does not; the hint names the nearest.
    """
    known = {s.name for s in inputs}
    for out, target in state.items():
        if target not in known:
            raise OptionError(f"state {out}:{target}: no input {target!r}", did_you_mean(target, known))
        if outputs is not None and out not in outputs:
            raise OptionError(f"state {out}:{target}: no output {out!r}", did_you_mean(out, outputs))


def split(data: Data, fractions: Sequence[float] = (2 / 3, 1 / 3)) -> list[Data]:
    """Return disjoint contiguous parts of the data in the given fractions, one for each: all samples, in their order.

    The default gives the first two thirds to fit and the last third to judge.  Feeds are never cut: a batch, the last
    and shorter one too, is in one part.  Files of a folder are in the order of their names, so the split is the same
    wherever the folder lies.  Sequences with state stay whole where there are at least as many as parts; fewer are cut,
    and what is cut off is a sequence of its own, whose state starts at zero.  With fewer feeds than parts every part
    gets all (``Data.shares`` tells).  Counts the samples of a source that cannot tell (one extra pass).
    """
    parts = [p if p.length is not None else replace(p, stop=p.start + sum(1 for _ in p.steps())) for p in data.parts]
    total = sum(p.length or 0 for p in parts)
    units = len(parts) if data.state and len(parts) >= len(fractions) else total
    if units < len(fractions):
        return [data for _ in fractions]
    edges = [round(units * sum(fractions[:k]) / sum(fractions)) for k in range(len(fractions) + 1)]
    for k in range(1, len(edges)):
        edges[k] = min(max(edges[k], edges[k - 1] + 1), units - (len(edges) - 1 - k))
    whole = units != total
    cut = [parts[a:b] if whole else _range(parts, a, b) for a, b in itertools.pairwise(edges)]
    return [replace(data, parts=tuple(piece)) for piece in cut]


def in_memory(data: Data, most: int) -> Data:
    """Return the data with its samples in memory, read once; as it is where they take more than ``most`` bytes."""
    kept: list[Part] = []
    for part in data.parts:
        steps: list[dict[str, Array]] = []
        for step in part.steps():
            most -= sum(a.nbytes for a in step.values())
            if most < 0:
                return data
            steps.append(step)
        kept.append(Part(Series(steps.__iter__, len(steps), part.first(), part.series.where, part.identity)))
    return replace(data, parts=tuple(kept))


def _range(parts: Sequence[Part], start: int, stop: int) -> list[Part]:
    out, at = [], 0
    for part in parts:
        n = part.length or 0
        low, high = max(start - at, 0), min(stop - at, n)
        if low < high:
            out.append(replace(part, start=part.start + low, stop=part.start + high))
        at += n
    return out


__all__ = ["Data", "Part", "Run", "check_state", "in_memory", "open_data", "split"]
