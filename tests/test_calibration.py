"""Calibration of whole compiles: the same bytes whoever computes it, bad data refused or left out by name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import fcc
from fcc import testing
from fcc.errors import DataError, OptionError, SaveError
from fcc.runtime.workers import connected, processes

TEXT = """g (float[N,24] x) => (float[N,12] y) <float[24,64] a, float[64] s, float[64,48] b, float[48,12] c> {
 h = MatMul(x, a) i = Add(h, s) r = Relu(i) k = MatMul(r, b) t = Relu(k) y = MatMul(t, c) }"""
IMAGES = """g (float[N,4,8,8] x) => (float[N,4] y) <float[16,4,3,3] a, float[16,16,3,3] b, float[16,4] c> {
 h = Conv<pads=[1,1,1,1]>(x, a) r = Relu(h) i = Conv(r, b) t = Relu(i) p = GlobalAveragePool(t) f = Flatten(p) y = MatMul(f, c) }"""
WAYS: list[dict[str, Any]] = [
    {"precision": "int8"},
    {"low_rank": "ratio=0.5"},
    {"prune": "ratio=0.5"},
    {"opt_level": 3, "objective": "size", "budget": "20%"},
]


def model(text: str = TEXT) -> onnx.ModelProto:
    return testing.model_from(text, 21, {}, 0)


@pytest.fixture(name="folders", scope="module")
def sample_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of ragged files for both models."""
    rng, found = np.random.default_rng(0), {}
    for name, text, shape in (("rows", TEXT, (24,)), ("images", IMAGES, (4, 8, 8))):
        found[text] = folder = tmp_path_factory.mktemp(name)
        for k in range(3):
            x = rng.standard_normal((33, 1 + k % 3, *shape)) @ np.diag(np.linspace(0.1, 2, shape[-1]))
            np.savez(folder / f"{k}.npz", x=x.astype(np.float32))
    return found


@pytest.fixture(name="executors", scope="module")
def all_executors() -> Iterator[list[Executor]]:
    """Threads, processes, and a cluster where ``distributed`` is installed."""
    with ExitStack() as stack:
        found: list[Executor] = [stack.enter_context(ThreadPoolExecutor(2)), stack.enter_context(processes(2))]
        try:
            import dask
            import distributed
        except ImportError:
            pass
        else:
            stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": "120s"}))
            how: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
            cluster = stack.enter_context(distributed.LocalCluster(**how, processes=True, silence_logs=50))
            found.append(stack.enter_context(connected(cluster.scheduler_address)))
        yield found


@pytest.mark.parametrize(
    ("way", "text"), [*((way, TEXT) for way in WAYS), *((way, IMAGES) for way in (WAYS[0], WAYS[2]))]
)
def test_the_same_model_whoever_calibrates(
    way: dict[str, Any], text: str, folders: dict[str, Path], executors: list[Executor]
) -> None:
    how: dict[str, Any] = {"calibration": folders[text], "force": True, "allow_growth": True, **way}
    here = fcc.compile(model(text), **how)
    assert here.report.layers or here.report.tried
    for executor in executors:
        assert fcc.compile(model(text), executor=executor, **how).to_bytes() == here.to_bytes()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_the_same_model_from_the_cache(way: dict[str, Any], folders: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {"calibration": folders[TEXT], "force": True, "allow_growth": True, **way}
    here = fcc.compile(model(), **how).to_bytes()
    assert fcc.compile(model(), cache=tmp_path / "kept", **how).to_bytes() == here
    kept = {p.name for p in (tmp_path / "kept").iterdir()}
    read: list[tuple[int, int]] = []

    def told(phase: str, done: int, total: int) -> None:
        if phase == "calibrate" and done:
            read.append((done, total))

    assert fcc.compile(model(), cache=tmp_path / "kept", progress=told, **how).to_bytes() == here
    assert {p.name for p in (tmp_path / "kept").iterdir()} == kept
    assert read
    assert all(done == total for done, total in read)  # nothing was run: every result was there


def test_interrupted_anywhere_it_ends_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {"calibration": folders[TEXT], "precision": "int8", "force": True, "allow_growth": True}
    here = fcc.compile(model(), **how).to_bytes()
    stopped, left = 0, 0

    def stops(phase: str, done: int, total: int) -> None:
        nonlocal left
        left -= phase == "calibrate" and done > 0
        if left <= 0:
            raise KeyboardInterrupt

    while True:
        left = 60  # more than a chunk: every time it comes further
        try:
            assert fcc.compile(model(), cache=tmp_path, progress=stops, **how).to_bytes() == here
            break
        except KeyboardInterrupt:
            stopped += 1
            assert stopped < 40
    assert stopped > 3


def bad(folder: Path, kind: str) -> Path:
    """Return a folder of three files, one of them bad."""
    rng = np.random.default_rng(0)
    for name in "abc":
        np.savez(folder / f"{name}.npz", x=rng.standard_normal((30, 1, 24)).astype(np.float32))
    path = folder / "b.npz"
    x = np.ones((30, 1, 24), np.float32)
    if kind == "nan":
        x[7, 0, 3] = np.nan
        np.savez(path, x=x)
    elif kind == "cut":
        for name in "abc":
            np.savez(folder / f"{name}.npz", x=np.ones((300, 1, 24), np.float32))
        whole = path.read_bytes()
        path.write_bytes(whole[:20_000] + b"\0" * 64 + whole[20_064:])  # the directory at the end is whole
    elif kind == "text":
        path.write_text("no samples")
    elif kind == "name":
        np.savez(path, y=x)
    else:
        np.savez(path, x=x[:, :, :5])
    return folder


@pytest.mark.parametrize(
    ("kind", "because"),
    [
        ("nan", "sample 7 of input x holds NaN"),
        ("cut", "cannot be read"),
        ("text", "is not an .npz file"),
        ("name", "which is no input"),
        ("shape", "expects"),
    ],
)
def test_a_bad_file_is_named_and_left_out_when_that_is_allowed(kind: str, because: str, tmp_path: Path) -> None:
    folder = bad(tmp_path, kind)
    how: dict[str, Any] = {"calibration": folder, "precision": "int8", "force": True, "allow_growth": True}
    with pytest.raises(DataError, match=because) as found:
        fcc.compile(model(), **how)
    assert "b.npz" in found.value.message
    done = fcc.compile(model(), skip_bad_data=True, **how)
    (note,) = [n for n in done.report.notes if n.startswith("calibration without a file: ")]
    assert "b.npz" in note
    assert because in note
    (folder / "b.npz").unlink()
    assert fcc.compile(model(), **how).to_bytes() == done.to_bytes()


def test_nothing_is_left_of_a_folder_of_bad_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((3, 1, 24), np.nan, np.float32))
    with pytest.raises(DataError, match=r"none of 1 files can be used: .*a.npz.*NaN"):
        fcc.compile(model(), calibration=tmp_path, precision="int8", skip_bad_data=True)


def test_infinities_are_masks_and_nan_may_be_an_answer(tmp_path: Path) -> None:
    text = """g (float[N,24] x) => (float[N,4] y) <float[24,4] a> {
      m = IsNaN(x) z = Constant<value_float=0.0>() f = Where(m, z, x) y = MatMul(f, a) }"""
    x = np.random.default_rng(0).standard_normal((30, 1, 24)).astype(np.float32)
    x[3, 0, 3] = np.nan
    how: dict[str, Any] = {"precision": "int8", "force": True, "allow_growth": True}
    assert fcc.compile(model(text), calibration={"x": x}, **how).report.layers
    x[3, 0, 3] = -np.inf
    relu = """g (float[N,24] x) => (float[N,4] y) <float[24,4] a> { f = Relu(x) y = MatMul(f, a) }"""
    assert fcc.compile(model(relu), calibration={"x": x}, **how).report.layers


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(OptionError, match="executor and cluster"):
        fcc.compile(model(), executor=pool, cluster=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        fcc.compile(model(), cache=tmp_path / "file")


def test_sensitivity_takes_them_too(folders: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {"calibration": folders[TEXT], "precision": "fp32"}
    here = fcc.sensitivity(model(), **how)
    assert fcc.sensitivity(model(), cluster=1, cache=tmp_path, **how) == here
    assert list(tmp_path.iterdir())
