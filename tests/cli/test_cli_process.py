"""The command as a process: signals, pipes, terminals, imports."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FCC = [sys.executable, "-m", "fcc"]
SLOW = """
import time, pathlib
def slow(graph):
    pathlib.Path("started").touch()
    time.sleep(60)
    return graph
passes = [slow]
"""


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | more


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(model: str, folder: Path, number: signal.Signals) -> None:
    (folder / "slow.py").write_text(SLOW)
    (folder / "net.fcc.onnx").write_text("kept")
    with subprocess.Popen([*FCC, model, "--plugin", "slow.py"], stderr=subprocess.PIPE, text=True) as process:
        wait_for(folder / "started")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "fcc: error: interrupted\n"
    assert (folder / "net.fcc.onnx").read_text() == "kept"
    left = {p.name for p in folder.iterdir()} - {"__pycache__"}
    assert left == {"net.onnx", "net.fcc.onnx", "slow.py", "started"}


def test_closed_pipe_is_quiet(model: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run([*FCC, "passes"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk_for_stdout_is_said(unbuffered: str) -> None:
    command, env = [*FCC, "targets"], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert run.returncode == 7
    assert run.stderr.count("\n") == 1
    assert "No space left" in run.stderr


def test_names_beyond_the_encoding_do_not_fail(model: str, folder: Path) -> None:
    (folder / model).rename(folder / "中文.onnx")
    run = subprocess.run(
        [*FCC, "中文.onnx"], capture_output=True, check=False, env=environment(PYTHONIOENCODING="latin-1")
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"??.onnx -> ??.fcc.onnx")


def on_terminal(words: list[str], **env: str) -> tuple[int, str]:
    """Run a command whose stdout and stderr are a terminal."""
    main, side = pty.openpty()
    with subprocess.Popen(words, stdout=side, stderr=side, env=environment(TERM="xterm", **env)) as process:
        os.close(side)
        pieces = []
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:  # Linux ends a terminal so
                break
            if not piece:
                break
            pieces.append(piece)
        code = process.wait(timeout=60)
    os.close(main)
    return code, b"".join(pieces).decode()


def test_colors_only_where_wanted(model: str) -> None:
    code, text = on_terminal([*FCC, "targets"])
    assert code == 0
    assert "\x1b[1m" in text
    assert "\x1b" not in on_terminal([*FCC, "targets"], NO_COLOR="1")[1]


def test_progress_appears_after_a_second_on_a_terminal(model: str, folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW.replace("60", "1.8"))
    code, text = on_terminal([*FCC, model, "--plugin", "slow.py"])
    assert code == 0
    assert "optimize" in text
    quiet = on_terminal([*FCC, model, "--plugin", "slow.py", "-q"])
    assert quiet == (0, "")


def test_help_and_quiet_compile_load_no_rich(model: str) -> None:
    code = (
        "import sys\nfrom fcc.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "bad = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'rich'} & set(sys.modules)\nassert not bad, bad\n"
        f"assert main([{model!r}]) == 0\nassert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
