"""The cache of calibration: what is kept and found again, what is not, and runs that go on where they stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("onnxruntime")

from fcc import testing
from fcc.compress.calibrate import Watch
from fcc.compress.channels import Channels
from fcc.compress.histogram import Histogram
from fcc.compress.patches import Moments, Window
from fcc.compress.rows import Rows
from fcc.data.dataset import Data, open_data
from fcc.data.spec import TensorSpec
from fcc.errors import SaveError
from fcc.runtime import chunks
from fcc.runtime.cache import Cache, Entry, user_folder
from fcc.runtime.calibrate import calibrate
from fcc.runtime.codec import decode, encode
from fcc.runtime.external import external_files
from fcc.runtime.paired import Request, accumulate

F32 = np.dtype(np.float32)
SPECS = [TensorSpec("x", F32, ("N", 3))]
TEXT = "g (float[N,3] x) => (float[N,2] y) <float[3,4] a, float[4,2] b> { h = MatMul(x, a) y = MatMul(h, b) }"
WATCH: Mapping[str, Watch] = {
    "histogram": Watch("h", Histogram(-2.0, 2.0)),
    "channels": Watch("h", Channels(-1)),
    "moments": Watch("h", Moments()),
}


def model(seed: int = 0) -> bytes:
    return bytes(testing.model_from(TEXT, 21, {}, seed).SerializeToString())


@pytest.fixture(name="folder")
def samples_folder(tmp_path: Path) -> Path:
    """A folder of ragged files, 100 feeds in all."""
    rng = np.random.default_rng(0)
    place = tmp_path / "samples"
    place.mkdir()
    for k in range(5):
        np.savez(place / f"{k}.npz", x=rng.standard_normal((20, 1 + k, 3)).astype(np.float32))
    return place


@pytest.fixture(name="cache")
def new_cache(tmp_path: Path) -> Cache:
    found = Cache.open(tmp_path / "kept")
    assert found is not None
    return found


def counted(data: Data, read: list[int]) -> Data:
    """Return the data with a note of every feed that is read."""

    class Counted(Data):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for feed in super().__iter__():
                read.append(1)
                yield feed

    return Counted(data.specs, data.parts, data.state)


def same(a: Any, b: Any) -> bool:
    """Return whether two results are equal to the bit."""
    left: list[Any] = []
    right: list[Any] = []
    trees = json.dumps(encode(a, left)), json.dumps(encode(b, right))
    return trees[0] == trees[1] and [x.tobytes() for x in left] == [x.tobytes() for x in right]


def statistics(data: Any, cache: Cache | None, **more: Any) -> Any:
    how: dict[str, Any] = {"grams": {"x": -1}, "watch": WATCH, **more}
    return calibrate(model(), ["h", "x"], data, cache=cache, **how)


def moments(data: Any, cache: Cache | None) -> Any:
    requests = [Request("k", "h", Rows(), "y", Rows(), folds=2), Request("p", "x", Rows(), "h", Rows(), parts=2)]
    return dict(accumulate(model(0), model(1), requests, data, cache=cache))


@pytest.mark.parametrize("run", [statistics, moments])
def test_a_second_run_reads_nothing(run: Any, folder: Path, cache: Cache) -> None:
    read: list[int] = []
    first = run(counted(open_data(folder, SPECS), read), cache)
    assert len(read) == 100
    again = run(counted(open_data(folder, SPECS), read), cache)
    assert len(read) == 100
    assert same(first, again)
    assert same(first, run(open_data(folder, SPECS), None))


class Stop(Exception):
    """An interruption."""


def until(number: int) -> Any:
    def progress(count: int) -> None:
        if count == number:
            raise Stop

    return progress


def test_a_run_that_was_interrupted_goes_on(folder: Path, cache: Cache) -> None:
    read: list[int] = []
    with pytest.raises(Stop):
        statistics(open_data(folder, SPECS), cache, progress=until(70))
    told: list[int] = []
    found = statistics(counted(open_data(folder, SPECS), read), cache, progress=told.append)
    assert told == [64, *range(65, 101)]
    assert same(found, statistics(open_data(folder, SPECS), None))
    with ThreadPoolExecutor(2) as pool:
        assert same(found, statistics(open_data(folder, SPECS), cache, executor=pool))


def test_an_interrupted_run_goes_on_elsewhere(folder: Path, cache: Cache) -> None:
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(Stop):
            statistics(open_data(folder, SPECS), cache, executor=pool, progress=until(64))
        told: list[int] = []
        found = statistics(open_data(folder, SPECS), cache, executor=pool, progress=told.append)
    assert told == [64, 96, 100]
    assert same(found, statistics(open_data(folder, SPECS), None))


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be saved when the process is killed; from time to time it was."""
    monkeypatch.setattr(chunks, "_SAVE_S", 0.0)
    monkeypatch.setattr(chunks, "_SAVE_SHARE", 0)
    stored: list[int] = []
    real = Cache.store

    def store(self: Cache, key: str, entry: Entry) -> None:
        stored.append(entry.samples)
        real(self, key, entry)
        if entry.samples == 64:
            monkeypatch.setattr(Cache, "store", lambda *a: None)  # killed from here on
            raise Stop

    monkeypatch.setattr(Cache, "store", store)
    with pytest.raises(Stop):
        statistics(open_data(folder, SPECS), cache)
    assert stored == [32, 64]
    told: list[int] = []
    statistics(open_data(folder, SPECS), cache, progress=told.append)
    assert told == [64, *range(65, 101)]


def test_checkpoints_are_rare(folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[int] = []
    monkeypatch.setattr(Cache, "store", lambda self, key, entry: stored.append(entry.samples))
    statistics(open_data(folder, SPECS), cache)
    assert stored == [100]


def test_state_goes_round_from_the_start(cache: Cache) -> None:
    text = "g (float[1,2] x, float[1,2] s) => (float[1,2] y, float[1,2] t) <float[2,2] a> { h = MatMul(s, a) t = Add(h, x) y = Tanh(t) }"
    loop = bytes(testing.model_from(text, 21, {"a": 0.5}, 0).SerializeToString())
    specs = [TensorSpec(n, F32, (1, 2)) for n in "xs"]
    rng = np.random.default_rng(0)
    data = open_data({"x": rng.standard_normal((70, 1, 2)).astype(np.float32)}, specs, state={"t": "s"})
    with pytest.raises(Stop):
        calibrate(loop, ["t"], data, cache=cache, progress=until(65))
    assert not list(cache.folder.iterdir())
    told: list[int] = []
    found = calibrate(loop, ["t"], data, cache=cache, progress=told.append)
    assert told == list(range(1, 71))
    told.clear()
    assert same(calibrate(loop, ["t"], data, cache=cache, progress=told.append), found)
    assert told == [70]


def keys(cache: Cache) -> set[str]:
    return {p.name for p in cache.folder.glob("*.npz")}


def test_what_results_depend_on_is_in_the_key(folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(folder, SPECS)

    def adds(what: Any) -> bool:
        before = keys(cache)
        what()
        return len(keys(cache) - before) == 1

    assert adds(lambda: statistics(data, cache))
    assert not adds(lambda: statistics(open_data(folder, SPECS), cache))
    assert adds(lambda: calibrate(model(1), ["h", "x"], data, cache=cache, grams={"x": -1}, watch=WATCH))
    assert adds(lambda: calibrate(model(), ["h"], data, cache=cache))
    assert adds(lambda: calibrate(model(), ["h"], data, cache=cache, grams={"x": -1}))
    assert adds(lambda: calibrate(model(), ["h"], data, cache=cache, threads=2))
    other = {"histogram": Watch("h", Histogram(-2.0, 3.0))}
    assert adds(lambda: calibrate(model(), ["h"], data, cache=cache, watch=other))
    assert adds(lambda: statistics(data.take(99), cache))
    assert adds(lambda: moments(data, cache))
    wide = [TensorSpec("x", F32, ("N", "M"))]
    assert adds(lambda: statistics(open_data(folder, wide), cache))
    os.utime(folder / "0.npz", ns=(1, 1))
    assert adds(lambda: statistics(open_data(folder, SPECS), cache))
    np.savez(folder / "9.npz", x=np.ones((1, 1, 3), np.float32))
    assert adds(lambda: statistics(open_data(folder, SPECS), cache))
    monkeypatch.setattr("fcc.runtime.cache.installation", lambda: "another")
    assert adds(lambda: statistics(open_data(folder, SPECS), cache))


def test_weights_outside_of_the_file_count_by_their_contents(tmp_path: Path, cache: Cache) -> None:
    data = open_data({"x": np.ones((4, 1, 3), np.float32)}, SPECS)
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / place).mkdir()
        proto = onnx.load_from_string(model(seed))
        onnx.save(proto, tmp_path / place / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
        calibrate(tmp_path / place / "m.onnx", ["h"], data, cache=cache)
    assert len(keys(cache)) == 2


def test_files_of_nested_graphs_are_found() -> None:
    inner = onnx.parser.parse_graph("g () => (float[2] z) { z = Neg(w) }")
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> m (bool c) => (float[2] y) { y = Not(c) }'
    )
    held = [onnx.TensorProto(name=n, data_location=onnx.TensorProto.EXTERNAL) for n in "wvu"]
    for tensor, place in zip(held, ("b", "c", "a"), strict=True):
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="offset", value="0")
    inner.initializer.append(held[0])
    node = proto.graph.node[0]
    node.attribute.append(onnx.helper.make_attribute("then", inner))
    node.attribute.append(onnx.helper.make_attribute("value", held[1]))
    proto.graph.initializer.append(held[2])
    assert external_files(proto.SerializeToString(), "/w") == ["/w/a", "/w/b", "/w/c"]
    assert external_files(model(), None) == []


def test_samples_in_memory_count_by_their_contents(cache: Cache) -> None:
    x = np.ones((4, 1, 3), np.float32)
    for source in ({"x": x}, {"x": x.copy()}, [{"x": row} for row in x], [{"x": row} for row in x.copy()]):
        statistics(open_data(source, SPECS), cache)
    assert len(keys(cache)) == 2
    statistics(open_data({"x": x + 1}, SPECS), cache)
    statistics(open_data([{"x": row + 1} for row in x], SPECS), cache)
    assert len(keys(cache)) == 4


def test_test_data_sets_are_files(tmp_path: Path, cache: Cache) -> None:
    place = tmp_path / "sets" / "test_data_set_0"
    place.mkdir(parents=True)
    for value in (1, 1, 2):
        array = np.full((1, 3), value, np.float32)
        if value == 2 or not list(place.iterdir()):
            (place / "input_0.pb").write_bytes(onnx.numpy_helper.from_array(array, "x").SerializeToString())
            os.utime(place / "input_0.pb", ns=(value, value))
        statistics(open_data(tmp_path / "sets", SPECS), cache)
    assert len(keys(cache)) == 2


@dataclass
class Own:
    """An accumulator of a user's pass."""

    seen: int = 0

    def update(self, array: Any) -> None:
        self.seen += 1

    def merged(self, other: Own) -> Own:
        return Own(self.seen + other.seen)


class Opaque:
    """One without fields, which nothing tells apart."""

    def update(self, array: Any) -> None:
        """Forget it."""

    def merged(self, other: Any) -> Opaque:
        return self


def test_what_cannot_be_told_apart_or_kept_is_not_kept(folder: Path, cache: Cache) -> None:
    def feeds() -> Iterator[Any]:
        yield {"x": np.ones((1, 3), np.float32)}

    statistics(open_data(feeds, SPECS), cache)
    statistics(open_data(lambda: list(feeds()), SPECS), cache)
    statistics(list(feeds()), cache)
    calibrate(model(), [], open_data(folder, SPECS), cache=cache, watch={"k": Watch("h", Opaque())})
    found = calibrate(model(), [], open_data(folder, SPECS), cache=cache, watch={"k": Watch("h", Own())})
    assert found.watched["k"].seen == 100
    assert not list(cache.folder.iterdir())


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "pickle", "other key", "other format", "tree"])
def test_damaged_and_foreign_files_are_absent(damage: str, folder: Path, cache: Cache) -> None:
    first = statistics(open_data(folder, SPECS), cache)
    (path,) = cache.folder.glob("*.npz")
    whole = path.read_bytes()
    head: dict[str, Any] = {
        "format": 1,
        "key": path.stem.removeprefix("fcc-"),
        "samples": 5,
        "done": True,
        "total": {"evil": []},
    }
    changed: dict[str, dict[str, Any]] = {"other key": {"key": "x"}, "other format": {"format": 0}, "tree": {}}
    if damage in changed:
        text = json.dumps(head | changed[damage]).encode()
        np.savez(path, head=np.frombuffer(text, np.uint8))
    elif damage == "pickle":
        np.savez(path, head=np.array([{"a": 1}], object))
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    assert cache.load(path.stem.removeprefix("fcc-")) is None
    assert same(statistics(open_data(folder, SPECS), cache), first)
    assert same(statistics(open_data(folder, SPECS), cache), first)
    assert cache.load(path.stem.removeprefix("fcc-")) is not None


def entry(size: int) -> Entry:
    return Entry(np.zeros(size // 8), 1, True)


def test_the_folder_stays_within_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10_000)
    (tmp_path / "yours.npz").write_bytes(b"x" * 50_000)
    for number, key in enumerate("abc"):
        cache.store(key * 64, entry(4000))
        os.utime(tmp_path / f"fcc-{key * 64}.npz", (number, number))
    assert cache.load("a" * 64) is None
    assert cache.load("b" * 64) is not None  # and is now the one used last
    cache.store("d" * 64, entry(4000))
    assert {p.name[4] for p in tmp_path.glob("fcc-*")} == {"b", "d"}
    cache.store("e" * 64, entry(5008))
    assert cache.load("e" * 64) is None
    assert (tmp_path / "yours.npz").exists()


def test_files_that_were_never_finished_go(tmp_path: Path) -> None:
    for name, age in (("fcc-old.half", 2 * 86400), ("fcc-new.half", 60)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    Cache(tmp_path).store("a" * 64, entry(8))
    assert sorted(p.name[:7] for p in tmp_path.iterdir()) == ["fcc-aaa", "fcc-new"]


def test_nothing_half_written_is_left(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    cache.store("a" * 64, entry(8))
    assert not list(cache.folder.iterdir())


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_folder() == tmp_path / "xdg" / "fcc" / "calibration"
    found = Cache.open("on")
    assert found is not None
    assert found.folder.is_dir()
    assert Cache.open(found) is found
    assert Cache.open("off") is None
    assert Cache.open(None) is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() == tmp_path / ".cache" / "fcc" / "calibration"
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        Cache.open(tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    "thing",
    [
        None,
        {"a": (1, [2.5, float("inf"), -0.0]), 3: "x", ("k", 0): True},
        np.float64(0.1),
        np.zeros((0, 2), np.int64),
        Moments(Window((3,), (1,), (1,), ((1, 1),), 2), (np.ones((1, 2, 2)), None), (3, 0), 4),
        Channels(1, 2, np.ones(2), np.ones(2)),
    ],
)
def test_what_is_kept_comes_back(thing: Any) -> None:
    arrays: list[Any] = []
    tree = json.loads(json.dumps(encode(thing, arrays)))
    back = decode(tree, dict(enumerate(arrays)))
    assert type(back) is type(thing)
    assert same(back, thing)


@pytest.mark.parametrize("thing", [object(), {1, 2}, np.array(["a"], object), np.zeros(1, [("a", "f4")])])
def test_what_is_not_kept(thing: Any) -> None:
    with pytest.raises(TypeError):
        encode(thing, [])
