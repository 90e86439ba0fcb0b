"""Time, memory and the number of nodes are bounded, in Python and on the command line."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import fcc
from fcc import limits
from fcc.cli.supervise import parse_memory, since_start, supervised
from fcc.errors import LimitError, LoadError, OptionError
from fcc.runtime import open_session

LOOP = """<ir_version: 9, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) <int64 n = {1000000000000000000}, float one = {1.0}, bool go = {1}> {
    y = Loop(n, , x) <body = b (int64 i, bool c, float[2] a) => (bool c_, float[2] a_) { c_ = Identity(c) a_ = Add(a, one) }>
}"""
CHAIN = """<ir_version: 9, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) { a = Relu(x) b = Abs(a) y = Neg(b) }"""
CALLS = """<ir_version: 9, opset_import: ["" : 17, "d" : 1]>
g (float[2] x) => (float[2] y) { y = d.f(x) }
<domain: "d", opset_import: ["" : 17, "d" : 1]> f (a) => (b) { t = d.h(a) b = d.h(t) }
<domain: "d", opset_import: ["" : 17, "d" : 1]> h (a) => (b) { t = Relu(a) b = Neg(t) }"""


def model(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_a_deadline_ends_a_run_that_never_ends() -> None:
    with pytest.raises(LimitError, match=r"stopped after 1 s") as caught:
        fcc.compile(model(LOOP), timeout=1.0)
    assert caught.value.exit_code == 8
    assert limits._current.get() is None


def test_a_deadline_far_away_changes_nothing() -> None:
    plain, timed = (fcc.compile(model(CHAIN), timeout=t) for t in (None, 600.0))
    assert plain.to_bytes() == timed.to_bytes()
    assert not any(isinstance(t, threading.Timer) and t.is_alive() for t in threading.enumerate())


def test_every_phase_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def slow(name: str, done: int, of: int) -> None:
        seen.append(name)
        time.sleep(0.15)

    with pytest.raises(LimitError):
        fcc.compile(model(CHAIN), timeout=0.2, progress=slow)
    assert seen[:1] == ["prepare"]
    assert len(seen) <= 3


def test_an_error_swallowed_on_the_way_is_raised_at_the_end() -> None:
    with pytest.raises(LimitError), limits.within(0.01):
        time.sleep(0.05)


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), limits.within(60.0), limits.cancelling(lambda: None):
        raise ValueError("mine")


def test_what_fails_because_it_was_cancelled_is_the_deadline() -> None:
    cancelled = threading.Event()

    def terminated() -> None:
        assert cancelled.wait(5)
        raise RuntimeError("terminated")

    with pytest.raises(LimitError), limits.within(0.05), limits.cancelling(cancelled.set):
        terminated()


def test_nothing_starts_after_the_deadline() -> None:
    session = open_session(model(CHAIN))

    def late() -> None:
        time.sleep(0.05)
        with pytest.raises(LimitError):
            session.run({"x": np.ones(2, np.float32)})
        with pytest.raises(LimitError):
            open_session(model(CHAIN))

    with pytest.raises(LimitError), limits.within(0.01):
        late()
    assert session.run({"x": np.ones(2, np.float32)})["y"].tolist() == [-1, -1]


@pytest.mark.parametrize("given", [0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_positive(given: float) -> None:
    with pytest.raises(OptionError, match="timeout"):
        fcc.compile(model(CHAIN), timeout=given)


@pytest.mark.parametrize(("text", "count"), [(CHAIN, 3), (CALLS, 4)])
def test_nodes_are_counted_with_functions_inlined(text: str, count: int) -> None:
    assert len(fcc.compile(model(text), max_nodes=max(count, 5), opt_level=0).proto().graph.node) == count
    with pytest.raises(LoadError, match=f"more than {count - 1} nodes"):
        fcc.compile(model(text), max_nodes=count - 1)
    with pytest.raises(OptionError, match="max_nodes"):
        fcc.compile(model(text), max_nodes=0)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("900MB", 900 * 10**6),
        ("2GiB", 2 << 30),
        ("2g", 2 * 10**9),
        ("1.5 gb", 1_500_000_000),
        ("300000000", 300_000_000),
    ],
)
def test_memory_is_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "5", "100MB", "1TB", "1e9"])
def test_memory_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--max-memory"):
        parse_memory(text)


def run(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "m.onnx").write_bytes(model(text))
    command = [sys.executable, "-P", "-m", "fcc", str(folder / "m.onnx"), "-o", str(folder / "o.onnx"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_command_ends_with_a_code_and_no_output(tmp_path: Path) -> None:
    done = run(tmp_path, LOOP, "--timeout", "3")
    assert done.returncode == 8
    assert done.stderr.startswith(
        ("fcc: error: the compile was stopped after ", "fcc: error: the compile did not stop after ")
    )
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_the_command_works_within_its_limits(tmp_path: Path) -> None:
    done = run(tmp_path, CHAIN, "--timeout", "300", "--max-memory", "2GB")
    assert (done.returncode, done.stderr) == (0, "")
    assert "m.onnx" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "o.onnx"]


def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "import os, signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, {2, 15})\nwhile True: time.sleep(1)\n"
    )
    (tmp_path / "m.onnx").write_bytes(model(CHAIN))
    start = time.monotonic()
    with pytest.raises(LimitError, match="killed"):
        supervised([str(tmp_path / "m.onnx"), "--plugin", str(tmp_path / "plugin.py"), "--timeout", "1"], 1.0, None)
    assert time.monotonic() - start < 30
    assert since_start() is None


def test_a_child_that_dies_is_explained(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("import os\nos.abort()\n")
    (tmp_path / "m.onnx").write_bytes(model(CHAIN))
    words = [str(tmp_path / "m.onnx"), "--plugin", str(tmp_path / "plugin.py"), "--timeout", "100"]
    with pytest.raises(LimitError, match="signal 6"):
        supervised(words, 100.0, 10**9)
    assert supervised(words, 100.0, None) == 128 + 6


OUT_OF_MEMORY = """
import os, sys, time
os.environ["FCC_SUPERVISOR"] = f"{os.getppid()}@{time.time()}"
import fcc.api, numpy
fcc.api.compile = lambda *_, **__: numpy.ones(10**9)
from fcc.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_memory_beyond_the_limit_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model(CHAIN))
    command = [sys.executable, "-P", "-c", OUT_OF_MEMORY, str(tmp_path / "m.onnx")]
    for words, code, said in ((["--max-memory", "2GB"], 8, "more than 2000000000 bytes"), ([], 70, "out of memory")):
        limited = ["prlimit", f"--data={3 * 10**9}"]  # without --max-memory: what the system gives
        done = subprocess.run([*limited, *command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert said in done.stderr
    assert os.listdir(tmp_path) == ["m.onnx"]
