"""Sources of samples, closed loops, splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fcc.data.dataset import in_memory, open_data, split
from fcc.data.spec import Feeds, TensorSpec
from fcc.errors import DataError, OptionError

F32 = np.dtype(np.float32)
X = [TensorSpec("x", F32, ("N", 2))]
LOOP = [TensorSpec("x", F32, (1,)), TensorSpec("s", F32, (1, None))]


def numbered(n: int) -> np.ndarray[Any, Any]:
    return np.arange(2 * n, dtype=np.float32).reshape(n, 1, 2)


def firsts(data: Any) -> list[float]:
    return [float(f["x"].reshape(-1)[0]) for f in data]


def test_folder_of_npz_in_name_order_other_files_ignored(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=numbered(1) + 100)
    np.savez_compressed(tmp_path / "a.npz", x=numbered(2))
    np.save(tmp_path / "labels.npy", np.arange(3))
    data = open_data(tmp_path, X)
    assert len(data) == 3
    assert firsts(data) == firsts(data) == [0, 2, 100]


def write_set(folder: Path, name: str, value: float) -> None:
    folder.mkdir(parents=True)
    tensor = onnx.numpy_helper.from_array(np.full((1, 2), value, np.float32), name)
    (folder / "input_0.pb").write_bytes(tensor.SerializeToString())


def test_test_data_sets_in_numeric_order(tmp_path: Path) -> None:
    for k in (10, 2):
        write_set(tmp_path / f"test_data_set_{k}", "x" if k == 2 else "", k)
    assert firsts(open_data(tmp_path, X)) == [2, 10]
    assert firsts(open_data(tmp_path / "test_data_set_10", X)) == [10]


def test_broken_test_data_set(tmp_path: Path) -> None:
    write_set(tmp_path / "test_data_set_0", "x", 1)
    (tmp_path / "test_data_set_0" / "input_0.pb").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="is not a tensor"):
        list(open_data(tmp_path, X))


def test_callable_and_list() -> None:
    def feeds() -> Iterator[Feeds]:
        for k in range(3):
            yield {"x": np.full((1, 2), float(k))}

    data = open_data(feeds, X)
    assert data.length is None
    assert firsts(data) == firsts(data) == [0, 1, 2]
    assert next(iter(data))["x"].dtype == F32
    assert len(open_data(list(feeds()), X)) == 3
    assert firsts(data.take(2)) == [0, 1]
    assert len(data.take(7)) == 3


def test_iterator_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="pass a function"):
        open_data(iter([{"x": numbered(1)[0]}]), X)


@pytest.mark.parametrize("source", [[], lambda: [], {"x": numbered(0)}, 3, [1, 2]])
def test_sources_without_feeds(source: Any) -> None:
    with pytest.raises(DataError):
        list(open_data(source, X))


def test_feed_of_the_wrong_shape() -> None:
    with pytest.raises(DataError, match=r"expects \[N, 2\], found \[1, 3\]"):
        list(open_data([{"x": np.zeros((1, 3), np.float32)}], X))


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError):
            open_data(path, X)


def accumulate(feeds: Feeds) -> dict[str, Any]:
    total = feeds["s"] + feeds["x"].sum()
    return {"total": total}


def run(data: Any) -> list[float]:
    return [float(y["total"].reshape(-1)[0]) for _, y in data.run(accumulate)]


def test_state_goes_round_and_starts_anew_in_each_file(tmp_path: Path) -> None:
    ones = np.ones((3, 1), np.float32)
    np.savez(tmp_path / "a.npz", x=ones)
    np.savez(tmp_path / "b.npz", x=ones, s=np.full((1, 1, 1), 10, np.float32))
    data = open_data(tmp_path, LOOP, state={"total": "s"}, outputs=["total"])
    assert run(data) == run(data) == [1, 2, 3, 11, 12, 13]
    assert data.first()["s"].shape == (1, 1)
    with pytest.raises(DataError, match="runner"):
        next(iter(data))


def test_state_is_read_at_step_zero_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((3, 1), np.float32), s=np.full((3, 1, 1), 10, np.float32))
    assert run(open_data(tmp_path / "a.npz", LOOP, state={"total": "s"})) == [11, 12, 13]


def test_sequences_from_python() -> None:
    def sequence(start: float) -> list[Feeds]:
        first = {"x": np.ones(1, np.float32), "s": np.full((1, 1), start, np.float32)}
        return [first, {"x": np.ones(1, np.float32)}]

    assert run(open_data([sequence(0), sequence(5)], LOOP, state={"total": "s"})) == [1, 2, 6, 7]
    assert run(open_data(sequence(5), LOOP, state={"total": "s"})) == [6, 7]


def test_missing_state_follows_equal_symbols() -> None:
    specs = [TensorSpec("x", F32, ("batch", 2)), TensorSpec("s", F32, (4, "batch"))]
    data = open_data([{"x": np.zeros((3, 2), np.float32)}], specs, state={"t": "s"})
    assert data.first()["s"].shape == (4, 3)


def test_state_names_are_checked() -> None:
    with pytest.raises(OptionError, match="no input 'state'"):
        open_data([{"x": np.ones(1, np.float32)}], LOOP, state={"total": "state"})
    with pytest.raises(OptionError, match="did you mean 'total'"):
        open_data([{"x": np.ones(1, np.float32)}], LOOP, state={"totl": "s"}, outputs=["total"])


def test_split_is_contiguous_and_complete() -> None:
    data = open_data({"x": numbered(9)}, X)
    fit, last = split(data)
    assert firsts(fit) == [0, 2, 4, 6, 8, 10]
    assert firsts(last) == [12, 14, 16]
    assert (len(fit), len(last)) == (6, 3)
    assert [len(p) for p in split(data, (1, 1, 1))] == [3, 3, 3]


@pytest.mark.parametrize(("n", "sizes"), [(1, [1, 1]), (2, [1, 1]), (4, [3, 1])])
def test_split_leaves_no_part_empty(n: int, sizes: list[int]) -> None:
    assert [len(p) for p in split(open_data({"x": numbered(n)}, X))] == sizes


def test_split_keeps_sequences_whole() -> None:
    sequences = [[{"x": np.ones(1, np.float32)}] * n for n in (2, 3, 4)]
    parts = split(open_data(sequences, LOOP, state={"total": "s"}))
    assert [run(p) for p in parts] == [[1, 2, 1, 2, 3], [1, 2, 3, 4]]


def test_split_across_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbered(2))
    np.savez(tmp_path / "b.npz", x=numbered(4) + 100)
    assert [firsts(p) for p in split(open_data(tmp_path, X))] == [[0, 2, 100, 102], [104, 106]]


def test_in_memory_reads_once_and_keeps_state_and_sequences() -> None:
    reads = []

    def stream() -> Iterator[list[Feeds]]:
        reads.append(1)
        for k in (1.0, 5.0):
            yield [{"x": np.full(1, k + i, np.float32), "s": np.full((1, 2), k, np.float32)} for i in range(3)]

    data = open_data(stream, LOOP, state={"t": "s"})

    def seen(d: Any) -> list[tuple[float, float]]:
        return [(float(f["x"][0]), float(f["s"][0, 0])) for f, _ in d.run(lambda f: {"t": f["s"] + f["x"]})]

    expected = seen(data)
    kept = in_memory(data, 1 << 20)
    count = len(reads)
    assert seen(kept) == seen(kept) == expected
    assert len(reads) == count
    assert in_memory(data, 8) is data
