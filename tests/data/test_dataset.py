"""Sources of samples, closed loops, splits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


# -- splits ----------------------------------------------------------------------------------------------------------
def joined(parts: Iterable[list[float]]) -> list[float]:
    return list(itertools.chain.from_iterable(parts))


FRACTIONS = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), FRACTIONS)
def test_parts_are_disjoint_complete_and_in_order(sizes: list[int], fractions: list[float]) -> None:
    start, arrays = 0, []
    for size in sizes:
        arrays.append([{"x": np.full((1 + k % 3, 2), k, np.float32)} for k in range(start, start + size)])
        start += size
    data = open_data(arrays, X)
    parts = split(data, fractions)
    assert [p.parts for p in parts] == [p.parts for p in split(data, fractions)]
    if start < len(fractions):
        assert [firsts(p) for p in parts] == [firsts(data)] * len(fractions)
        return
    assert [x for p in parts for x in firsts(p)] == firsts(data) == list(range(start))
    assert all(firsts(p) for p in parts)
    assert not any(a.shares(b) for a, b in itertools.combinations(parts, 2))
    assert all(p.shares(data) for p in parts)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=7), FRACTIONS)
def test_sequences_with_state_stay_whole_where_they_can(sizes: list[int], fractions: list[float]) -> None:
    sequences = [[{"x": np.array([k], np.float32)}] * n for k, n in enumerate(sizes)]
    parts = split(open_data(sequences, LOOP, state={"total": "s"}), fractions)
    held = [[float(f["x"][0]) for f, _ in p.run(accumulate)] for p in parts]
    whole = [float(k) for k, n in enumerate(sizes) for _ in range(n)]
    if len(sizes) >= len(fractions):
        assert joined(held) == whole
        assert all(len(set(held[i]) & set(held[j])) == 0 for i, j in itertools.combinations(range(len(held)), 2))
    elif sum(sizes) >= len(fractions):
        assert joined(held) == whole
    assert all(held)


def test_what_is_cut_off_a_single_sequence_starts_anew() -> None:
    data = open_data([[{"x": np.ones(1, np.float32)}] * 6], LOOP, state={"total": "s"})
    assert [run(p) for p in split(data)] == [[1, 2, 3, 4], [1, 2]]


def test_a_batch_is_never_cut() -> None:
    data = open_data({"x": np.arange(20, dtype=np.float32).reshape(10, 2)}, X, opt_shapes={"x": (4, 2)})
    assert [[len(f["x"]) for f in p] for p in split(data)] == [[4, 4], [2]]


def test_the_split_is_that_of_the_names_of_files(tmp_path: Path) -> None:
    for order in ("abcd", "dbca"):
        place = tmp_path / order
        place.mkdir()
        for name in order:
            np.savez(place / name, x=numbered(3) + 100 * "abcd".index(name))
    a, b = ([firsts(p) for p in split(open_data(tmp_path / o, X), (1, 1, 1))] for o in ("abcd", "dbca"))
    assert a == b
    assert joined(a) == [100 * k + n for k in range(4) for n in (0, 2, 4)]


def test_parts_of_parts_are_parts(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbered(24))
    fit, choose, certify = split(open_data(tmp_path, X), (0.5, 0.25, 0.25))
    inner, held = split(fit, (0.75, 0.25))
    assert joined(map(firsts, (inner, held, choose, certify))) == list(range(0, 48, 2))
    assert inner.shares(fit)
    assert not held.shares(choose)
    assert not inner.shares(held)


def test_data_is_shared_with_the_same_file_opened_again_and_with_no_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbered(3))
    np.savez(tmp_path / "b.npz", x=numbered(3) + 1)
    a, b = (open_data(tmp_path / name, X) for name in ("a.npz", "b.npz"))
    assert open_data(tmp_path, X).shares(a)
    assert open_data({"x": numbered(3)}, X).shares(open_data({"x": numbered(3)}, X))
    assert not a.shares(b)
    unknown = open_data(lambda: [{"x": numbered(1)[0]}], X)
    assert unknown.shares(unknown)
    assert not split(open_data(lambda: [{"x": numbered(1)[0]}] * 2, X))[0].shares(unknown)


# -- what is wrong with samples --------------------------------------------------------------------------------------
def test_nan_is_refused_where_asked_and_infinity_is_not() -> None:
    x = numbered(4)
    x[2, 0, 1] = np.inf
    assert len(list(open_data({"x": x}, X, finite=True))) == 4
    x[3, 0, 0] = np.nan
    assert len(list(open_data({"x": x}, X))) == 4
    for source in ({"x": x}, [{"x": row} for row in x]):
        with pytest.raises(DataError, match="data: sample 3 of input x holds NaN"):
            list(open_data(source, X, finite=True))


def test_integers_hold_no_nan() -> None:
    data = open_data({"n": np.ones((2, 1), np.int64)}, [TensorSpec("n", np.dtype(np.int64), (1,))], finite=True)
    assert len(list(data)) == 2


def test_bad_test_data_sets_are_left_out(tmp_path: Path) -> None:
    for k in range(3):
        write_set(tmp_path / f"test_data_set_{k}", "x", k)
    (tmp_path / "test_data_set_1" / "input_0.pb").write_bytes(b"\xff\xff")
    data = open_data(tmp_path, X, skip_bad=True)
    assert firsts(data) == [0, 2]
    (why,) = data.left_out
    assert "test_data_set_1" in why


def test_files_are_told_apart_by_their_state(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbered(3))
    one, again = (open_data(tmp_path, X).identity for _ in range(2))
    assert one == again
    assert split(open_data(tmp_path, X))[0].identity != one
    assert open_data(tmp_path, X, opt_shapes={"x": (2, 2)}).identity == one  # one feed per row either way
    batched = [open_data({"x": numbered(4)[:, 0]}, X, opt_shapes={"x": (n, 2)}).identity for n in (1, 2)]
    assert batched[0] != batched[1]
    os.utime(tmp_path / "a.npz", ns=(1, 1))
    assert open_data(tmp_path, X).identity != one
    assert open_data(lambda: [{"x": numbered(1)[0]}], X).identity is None
