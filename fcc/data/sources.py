"""Where samples come from: each source is a list of sequences, each sequence a stream of feeds."""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fcc.errors import DataError
from fcc.regular import open_regular

from .fit import check_feed, check_names, common_length, plan
from .identity import digest, file_state
from .rows import ArrayRows, Rows, open_npz
from .spec import Array, TensorSpec, is_float

Shapes = Mapping[str, Sequence[int | None]]
_PB = re.compile(r"input_(\d+)\.pb")


@dataclass(frozen=True)
class Series:
    """One stream of feeds; ``first`` holds what is given for step 0 only; ``length`` is None when unknown.

    ``identity`` is what tells the samples apart from others: the state of files, a digest of arrays; None where only
    reading them would tell.
    """

    steps: Callable[[], Iterator[dict[str, Array]]]
    length: int | None
    first: Mapping[str, Array]
    where: str
    identity: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Reader:
    """How to read for one model: its inputs, the batches wanted, and the inputs that carry state.

    ``finite``: a NaN is an error; ``skip``: files of a folder in which anything is wrong are left out.
    """

    specs: tuple[TensorSpec, ...]
    opt_shapes: Shapes
    carried: frozenset[str]
    finite: bool = False
    skip: bool = False

    def table(self, members: Mapping[str, Rows], where: str) -> Series:
        """Return the series of one file: an array per input, samples along the first axis."""
        check_names(members, self.specs, where, set(self.carried))
        by_name = {s.name: s for s in self.specs}
        plans = {n: plan(by_name[n], rows, self.opt_shapes.get(n)) for n, rows in members.items()}
        first = {n: next(iter(plans.pop(n)), None) for n in self.carried & set(plans)}
        length = common_length(list(plans.values()))

        def steps() -> Iterator[dict[str, Array]]:
            streams: list[Iterator[Array]] = [iter(p) for p in plans.values()]
            for number, arrays in enumerate(zip(*streams, strict=True)):
                yield self._checked(dict(zip(plans, arrays, strict=True)), where, number)

        @cache
        def identity() -> Any:
            return [(n, p.size, p.rows.identity()) for n, p in plans.items()], sorted(first.items())

        return Series(steps, length, {n: a for n, a in first.items() if a is not None}, where, identity)

    def stream(
        self,
        items: Callable[[], Iterable[Any]],
        length: int | None,
        where: str,
        identity: Callable[[], Any] = lambda: None,
    ) -> Series:
        """Return the series of an iterable of feeds, its first one checked; state inputs are taken from that only."""
        head = next(iter(items()), None)
        first = {} if head is None else {n: v for n, v in self._feed(head, where).items() if n in self.carried}

        def steps() -> Iterator[dict[str, Array]]:
            for number, item in enumerate(items()):
                feed = {n: v for n, v in self._feed(item, where).items() if n not in self.carried}
                yield self._checked(feed, where, number)

        return Series(steps, length, first, where, identity)

    def _checked(self, feed: dict[str, Array], where: str, number: int) -> dict[str, Array]:
        """Return a feed.

        Raises:
            DataError: it holds a NaN and must not.
        """
        for name, array in feed.items() if self.finite else ():
            if is_float(array.dtype) and np.isnan(array).any():
                raise DataError(
                    f"{where}: sample {number} of input {name} holds NaN",
                    "nothing can be fitted to it: remove the sample",
                )
        return feed

    def _feed(self, item: Any, where: str) -> dict[str, Array]:
        if not isinstance(item, Mapping):
            raise DataError(
                f"{where} gives {type(item).__name__}, not a feed", "give a dict from input names to arrays"
            )
        check_names(item, self.specs, where, set(self.carried))
        return check_feed({n: np.asarray(v) for n, v in item.items()}, self.specs, where)


def series_of(source: Any, reader: Reader) -> tuple[list[Series], tuple[str, ...]]:
    """Return the sequences of a source (a path, a dict of arrays, a callable or an iterable of feeds).

    With them what was left out, and why.

    Raises:
        DataError: nothing there, or nothing that fits.
    """
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), reader)
    if isinstance(source, Mapping):
        arrays: dict[str, Rows] = {n: ArrayRows(np.asarray(v), f"data:{n}") for n, v in source.items()}
        return [reader.table(arrays, "data")], ()
    if callable(source):
        return _from_items(source, reader, held=False), ()
    if isinstance(source, Iterator):
        raise DataError(
            "data is an iterator, which can be read only once", "pass a function that returns it, or a list"
        )
    if isinstance(source, Iterable):
        held = isinstance(source, list | tuple)  # in memory: their contents tell them apart
        return _from_items(lambda: source, reader, held), ()
    raise DataError(f"data is {type(source).__name__}", "give a path, a dict of arrays, a callable or an iterable")


def _from_items(items: Callable[[], Iterable[Any]], reader: Reader, held: bool) -> list[Series]:
    made = items()
    length = len(made) if isinstance(made, Sized) else None
    head = next(iter(made), None)
    if head is None:
        raise DataError("data gives no feed", "give at least one")
    if isinstance(head, Mapping | np.ndarray | str) or not isinstance(head, Iterable):
        return [reader.stream(items, length, "data", _contents(items) if held else lambda: None)]
    count = length if length is not None else sum(1 for _ in items())

    def nth(k: int) -> Callable[[], Iterable[Any]]:
        return lambda: next(itertools.islice(iter(items()), k, None))

    return [
        reader.stream(nth(k), None, f"data[{k}]", _contents(nth(k)) if held else lambda: None) for k in range(count)
    ]


def _contents(items: Callable[[], Any]) -> Callable[[], Any]:
    """Return what computes the digest of feeds in memory, None for feeds that are made as they are asked for."""

    @cache
    def identity() -> Any:
        found = items()
        return digest([dict(f) for f in found]) if isinstance(found, list | tuple) else None

    return identity


def _from_path(path: Path, reader: Reader) -> tuple[list[Series], tuple[str, ...]]:
    if path.exists() and not path.is_dir():
        return [_file(path, reader)], ()
    if not path.is_dir():
        raise DataError(f"{path} does not exist", "give an .npz file, a folder of them, or test_data_set_* folders")
    if any(_PB.fullmatch(p.name) for p in path.iterdir()):
        return [_test_data(path, reader)], ()
    sets = sorted((p for p in path.glob("test_data_set_*") if p.is_dir()), key=_number)
    if sets:
        return _of_many(sets, _test_data, reader)
    files = sorted(path.glob("*.npz"))
    if not files:
        raise DataError(f"{path} holds neither .npz files nor test_data_set_* folders", "check the path")
    return _of_many(files, _file, reader)


def _of_many(
    paths: Sequence[Path], read: Callable[[Path, Reader], Series], reader: Reader
) -> tuple[list[Series], tuple[str, ...]]:
    """Return the series of files, and which were left out: under ``skip`` those that cannot be read to their end.

    Raises:
        DataError: a file is wrong; under ``skip``, all of them are.
    """
    found: list[Series] = []
    left_out: list[str] = []
    for path in paths:
        try:
            series = read(path, reader)
            if reader.skip:
                deque(series.steps(), maxlen=0)
            found.append(series)
        except DataError as e:
            if not reader.skip:
                raise
            left_out.append(e.message)
    if not found:
        raise DataError(f"none of {len(paths)} files can be used: {left_out[0]}", "check the data")
    return found, tuple(left_out)


def _file(path: Path, reader: Reader) -> Series:
    return reader.table(open_npz(path), str(path))


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.rpartition("_")[2]
    return (int(digits), path.name) if digits.isdigit() else (1 << 30, path.name)


def _test_data(folder: Path, reader: Reader) -> Series:
    """Return the one feed of an ONNX test folder: input_<k>.pb is named, or the k-th input of the model."""
    files = sorted((p for p in folder.iterdir() if _PB.fullmatch(p.name)), key=lambda p: int(p.stem[6:]))
    if not files:
        raise DataError(f"{folder} holds no input_<k>.pb", "check the path")

    def items() -> list[dict[str, Array]]:
        return [_test_feed(files, reader.specs)]

    states = [file_state(f) for f in files]
    return reader.stream(items, 1, str(folder), lambda: states)


def _test_feed(files: Sequence[Path], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    import onnx

    known = {s.name for s in specs}
    order = [s.name for s in specs if not s.optional] + [s.name for s in specs if s.optional]
    feed: dict[str, Array] = {}
    for path in files:
        proto = onnx.TensorProto()
        try:
            with open_regular(path) as file:
                proto.ParseFromString(file.read())
            if proto.data_location == onnx.TensorProto.EXTERNAL:
                raise ValueError("it is external")
            array = np.asarray(onnx.numpy_helper.to_array(proto))
        except Exception as e:
            raise DataError(f"{path} is not a tensor: {e}", "only tensors are read from test_data_set folders") from e
        k = int(path.stem[6:])
        if proto.name not in known and k >= len(order):
            raise DataError(f"{path} is input {k}, but the model has {len(order)}", "check the folder")
        feed[proto.name if proto.name in known else order[k]] = array
    return feed
