"""The options of calibration on a command line: workers, the cache, bad files, progress, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from fcc.cli.progress import Progress
from fcc.cli.signals import Interruptions

INT8 = ("--precision", "int8", "--allow-growth", "--force", "-q")


@pytest.fixture(name="data")
def sample_folder(folder: Path) -> str:
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    for name in "ab":
        np.savez(folder / "data" / name, x=rng.standard_normal((60, 1, 4)).astype(np.float32))
    return "data"


def test_workers_and_cache_give_the_same_file(fcc: Any, model: str, data: str, folder: Path) -> None:
    def compiled(*words: str) -> bytes:
        done = fcc(model, *INT8, "--calibration", data, *words)
        assert (done.code, done.err) == (0, "")
        return (folder / "net.fcc.onnx").read_bytes()

    here = compiled()
    assert compiled("--cluster", "2", "--cache", "kept") == here
    kept = {p.name for p in (folder / "kept").iterdir()}
    assert len(kept) > 2
    assert compiled("--cache", "kept") == here
    assert {p.name for p in (folder / "kept").iterdir()} == kept
    assert {p.name for p in folder.iterdir()} == {"net.onnx", "net.fcc.onnx", "data", "kept"}


def test_the_users_own_cache(fcc: Any, model: str, data: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))
    assert fcc(model, *INT8, "--calibration", data).code == 0
    assert fcc(model, *INT8, "--calibration", data, "--cache", "off").code == 0
    assert not (folder / "xdg").exists()
    assert fcc(model, *INT8, "--calibration", data, "--cache", "on").code == 0
    assert list((folder / "xdg" / "fcc" / "calibration").iterdir())


@pytest.mark.parametrize(
    ("words", "code", "because"),
    [
        (("--cluster", "0"), 2, "at least 1 process"),
        (("--cluster", "nonsense://x"), 2, "no address of a cluster"),
        (("--cluster", "tcp://127.0.0.1:1"), 4, "no cluster answers at tcp://127.0.0.1:1"),
        (("--cache", "net.onnx"), 7, "cache net.onnx cannot be written"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    words: Any, code: int, because: str, fcc: Any, model: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "://" in words[1]:
        pytest.importorskip("distributed")
    monkeypatch.setattr("fcc.runtime.workers._CONNECT_S", 0.2)
    done = fcc(model, *INT8, "--calibration", data, *words)
    assert done.code == code
    assert len(done.errors) == 1
    assert because in done.errors[0]


def test_a_bad_file_is_left_out(fcc: Any, model: str, data: str, folder: Path) -> None:
    (folder / data / "a.npz").write_text("no samples")
    words = (model, "--precision", "int8", "--allow-growth", "--force", "--calibration", data)
    refused = fcc(*words)
    assert refused.code == 4
    assert "data/a.npz is not an .npz file" in refused.errors[0]
    done = fcc(*words, "--skip-bad-data")
    assert (done.code, done.err) == (0, "")
    assert "calibration without a file: data/a.npz is not an .npz file" in done.out
    assert "latency" in done.out
    assert "not timed" not in done.out


def test_interrupted_processes_say_nothing(model: str, folder: Path) -> None:
    """And what was done is kept: the second run begins where the first one ended."""
    rng = np.random.default_rng(0)
    np.savez(folder / "x.npz", x=rng.standard_normal((40_000, 1, 4)).astype(np.float32))
    words = [sys.executable, "-m", "fcc", model, *INT8, "--calibration", "x.npz", "--cluster", "2", "--cache", "kept"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        time.sleep(0.2)
        end = time.monotonic() + 60
        while not list(folder.glob("kept/fcc-*")) and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fcc: error: interrupted\n"
    assert list(folder.glob("kept/fcc-*.npz"))
    assert not list(folder.glob("kept/*.half"))
    assert not (folder / "net.fcc.onnx").exists()


class Bar:
    """Stands for rich's bar."""

    def __init__(self) -> None:
        self.completed, self.seen = 0.0, list[Any]()
        self.tasks = [self]

    def update(self, task: Any, description: str, completed: int, total: int | None) -> None:
        self.completed = completed
        self.seen.append((description, completed, total))

    def reset(self, task: Any) -> None:
        self.seen.append("reset")

    def stop(self) -> None:
        """Nothing to stop."""


def test_every_run_over_the_samples_has_its_own_speed() -> None:
    with Progress(Interruptions(), quiet=True) as progress:
        progress._bar, progress._task = Bar(), 0
        seen = progress._bar.seen
        for done in (1, 2, 1):
            progress("calibrate", done, 2)
        progress("emit", 0, 0)
    assert seen == [
        ("calibrate", 1, 2),
        ("calibrate", 2, 2),
        "reset",
        ("calibrate", 1, 2),
        "reset",
        ("emit", 0, None),
    ]
