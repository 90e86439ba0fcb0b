"""Where samples come from: each source is a list of sequences, each sequence a stream of feeds."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcc.errors import DataError
from fcc.regular import open_regular

from .fit import check_feed, check_names, common_length, plan
from .rows import ArrayRows, Rows, open_npz
from .spec import Array, TensorSpec

Shapes = Mapping[str, Sequence[int | None]]
_PB = re.compile(r"input_(\d+)\.pb")


@dataclass(frozen=True)
class Series:
    """One stream of feeds; ``first`` holds what is given for step 0 only; ``length`` is None when unknown."""

    steps: Callable[[], Iterator[dict[str, Array]]]
    length: int | None
    first: Mapping[str, Array]
    where: str


@dataclass(frozen=True)
class Reader:
    """How to read for one model: its inputs, the batches wanted, and the inputs that carry state."""

    specs: tuple[TensorSpec, ...]
    opt_shapes: Shapes
    carried: frozenset[str]

    def table(self, members: Mapping[str, Rows], where: str) -> Series:
        """Return the series of one file: an array per input, samples along the first axis."""
        check_names(members, self.specs, where, set(self.carried))
        by_name = {s.name: s for s in self.specs}
        plans = {n: plan(by_name[n], rows, self.opt_shapes.get(n)) for n, rows in members.items()}
        first = {n: next(iter(plans.pop(n)), None) for n in self.carried & set(plans)}
        length = common_length(list(plans.values()))

        def steps() -> Iterator[dict[str, Array]]:
            streams: list[Iterator[Array]] = [iter(p) for p in plans.values()]
            for arrays in zip(*streams, strict=True):
                yield dict(zip(plans, arrays, strict=True))

        return Series(steps, length, {n: a for n, a in first.items() if a is not None}, where)

    def stream(self, items: Callable[[], Iterable[Any]], length: int | None, where: str) -> Series:
        """Return the series of an iterable of feeds, its first one checked; state inputs are taken from that only."""
        head = next(iter(items()), None)
        first = {} if head is None else {n: v for n, v in self._feed(head, where).items() if n in self.carried}

        def steps() -> Iterator[dict[str, Array]]:
            for item in items():
                yield {n: v for n, v in self._feed(item, where).items() if n not in self.carried}

        return Series(steps, length, first, where)

    def _feed(self, item: Any, where: str) -> dict[str, Array]:
        if not isinstance(item, Mapping):
            raise DataError(
                f"{where} gives {type(item).__name__}, not a feed", "give a dict from input names to arrays"
            )
        check_names(item, self.specs, where, set(self.carried))
        return check_feed({n: np.asarray(v) for n, v in item.items()}, self.specs, where)


def series_of(source: Any, reader: Reader) -> list[Series]:
    """Return the sequences of a source: a path, a dict of arrays, a callable or an iterable of feeds.

    Raises:
        DataError: nothing there, or nothing that fits.
    """
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), reader)
    if isinstance(source, Mapping):
        arrays: dict[str, Rows] = {n: ArrayRows(np.asarray(v), f"data:{n}") for n, v in source.items()}
        return [reader.table(arrays, "data")]
    if callable(source):
        return _from_items(source, reader)
    if isinstance(source, Iterator):
        raise DataError(
            "data is an iterator, which can be read only once", "pass a function that returns it, or a list"
        )
    if isinstance(source, Iterable):
        return _from_items(lambda: source, reader)
    raise DataError(f"data is {type(source).__name__}", "give a path, a dict of arrays, a callable or an iterable")


def _from_items(items: Callable[[], Iterable[Any]], reader: Reader) -> list[Series]:
    made = items()
    length = len(made) if isinstance(made, Sized) else None
    head = next(iter(made), None)
    if head is None:
        raise DataError("data gives no feed", "give at least one")
    if isinstance(head, Mapping | np.ndarray | str) or not isinstance(head, Iterable):
        return [reader.stream(items, length, "data")]
    count = length if length is not None else sum(1 for _ in items())

    def nth(k: int) -> Callable[[], Iterable[Any]]:
        return lambda: next(itertools.islice(iter(items()), k, None))

    return [reader.stream(nth(k), None, f"data[{k}]") for k in range(count)]


def _from_path(path: Path, reader: Reader) -> list[Series]:
    if path.exists() and not path.is_dir():
        return [reader.table(open_npz(path), str(path))]
    if not path.is_dir():
        raise DataError(f"{path} does not exist", "give an .npz file, a folder of them, or test_data_set_* folders")
    if any(_PB.fullmatch(p.name) for p in path.iterdir()):
        return [_test_data(path, reader)]
    sets = sorted((p for p in path.glob("test_data_set_*") if p.is_dir()), key=_number)
    if sets:
        return [_test_data(p, reader) for p in sets]
    files = sorted(path.glob("*.npz"))
    if not files:
        raise DataError(f"{path} holds neither .npz files nor test_data_set_* folders", "check the path")
    return [reader.table(open_npz(p), str(p)) for p in files]


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

    return reader.stream(items, 1, str(folder))


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
