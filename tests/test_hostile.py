"""Hostile models, files, samples, outputs and plans: the code, one line, nothing written but the output.

Those that run into their limits: python benchmarks/hostile.py.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fcc.__main__ import main

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


CASES = [c for c in load("hostile_cases").CASES if not c.slow]
hostile = load("hostile")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_case(case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    words = list(case.build(work))
    if "-o" not in words:
        words += ["-o", str(work / "out.onnx")]
    monkeypatch.chdir(work)
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    before = hostile.tree(tmp_path)
    code = main([str(work / "m.onnx"), *words, *case.words])
    out, err = capfd.readouterr()
    after = hostile.tree(tmp_path)
    written = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert code in case.codes, err
    assert case.says in out + err
    allowed = ("work/out.onnx", *case.writes) if code == 0 else ()
    assert [n for n in written if not n.startswith(allowed)] == []
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert len(err) < 5000
    if code:
        assert err.startswith("fcc: error: ")
        assert len(err.splitlines()) <= 2


WATCH = """
import json, os, sys
writes, loaded = [], []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# a path relative to an open folder (clearing the temporary one) is left to the comparison of what lies there
PATHS = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.link": 2, "os.symlink": 2, "os.rmdir": 1, "os.truncate": 1,
         "os.chmod": 1, "os.chown": 1, "os.utime": 1}
DENIED = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "socket.connect", "socket.bind")
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & WRITES:
        writes.extend([] if isinstance(args[0], int) else [os.fspath(args[0])])
    elif event in PATHS:
        writes.extend(os.fspath(a) for a in args[: PATHS[event]] if isinstance(a, str) and args[-1] == -1)
    elif event == "ctypes.dlopen" and args[0]:
        loaded.append(os.fspath(args[0]))
    elif event in DENIED:
        writes.append(f"{event} {args[0]!r}")
sys.addaudithook(hook)
from fcc.__main__ import main
code = main(json.loads(sys.argv[1]))
loaded += [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
print(json.dumps({"code": code, "writes": writes, "loaded": loaded}))
"""


@pytest.mark.parametrize("external", [False, True])
def test_nothing_else_is_written_and_no_other_code_is_loaded(tmp_path: Path, external: bool) -> None:
    import onnx

    files = load("hostile_files")
    work, home, out = tmp_path / "work", tmp_path / "home", tmp_path / "out"
    for folder in (work, home, out):
        folder.mkdir()
    files.plain(work)
    if external:
        (work / "w.bin").write_bytes(bytes(64))
        onnx.save(files.external("w.bin"), work / "m.onnx")
    for name in ("numpy", "onnx", "onnxruntime", "fcc", "click", "rich", "sitecustomize", "usercustomize", "plugin"):
        (work / f"{name}.py").write_text("raise SystemExit('loaded')")
    before = hostile.tree(tmp_path)
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PYTHONPATH", None)
    words = [str(work / "m.onnx"), "-o", str(out / "o.onnx"), "-q"]
    command = [sys.executable, "-P", "-c", WATCH, json.dumps(words)]
    run = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=True)
    told = json.loads(run.stdout)
    assert told["code"] == 0, run.stderr
    ours = (f"{out}{os.sep}", f"{home}{os.sep}", "/proc/self/fd/", os.devnull)  # the temporary folder is empty again
    assert [w for w in told["writes"] if not w.startswith(ours) and w != str(out)] == []
    mine = tuple({str(BENCHMARKS.parent), sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)})
    assert [f for f in told["loaded"] if os.path.isabs(f) and not f.startswith(mine)] == []
    changed = {n for n in hostile.tree(tmp_path).items() ^ before.items()}
    assert {n for n, _ in changed} == {f"out/{p.name}" for p in out.iterdir()}


def test_an_old_tensor_of_a_test_folder_may_not_point_outside(tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto

    from fcc.data.dataset import open_data
    from fcc.data.spec import TensorSpec
    from fcc.errors import DataError

    tensor = TensorProto(name="x", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(DataError, match="external"):
        list(open_data(tmp_path, [TensorSpec("x", np.dtype(np.float32), (4,))]))
