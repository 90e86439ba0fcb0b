"""A save that is killed at any file operation, a full disk, and two savers: the output is the old one or the new one."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcc.backends import Emitted, atomic, get_backend, save
from fcc.errors import SaveError
from fcc.frontend import read
from fcc.target import get_target

KILLED = """
import json, os, shutil, signal, sys
from fcc.backends import get_backend, save
from fcc.frontend import read
from fcc.target import get_target
emitted = get_backend(get_target("cpu")).emit(read(sys.argv[1]))
left = 0
def hook(event, args):
    global left
    if event in ("open", "os.rename", "os.link", "os.remove", "os.chmod"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
codes = []
while codes[-1:] != [0]:
    folder = f"{sys.argv[2]}/{len(codes)}"
    shutil.copytree(f"{sys.argv[2]}/old", folder)
    child = os.fork()
    if not child:
        left = len(codes) + 1
        sys.addaudithook(hook)
        save(emitted, f"{folder}/o.onnx")
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def source(folder: Path, seed: int, external: bool) -> str:
    rng = np.random.default_rng(seed)
    weight = numpy_helper.from_array(rng.standard_normal((40, 40)).astype(np.float32), "w")
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 40]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", io[:1], io[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(exist_ok=True)
    path = folder / f"s{seed}.onnx"
    onnx.save(model, path, save_as_external_data=external, location=f"s{seed}.bin", size_threshold=100)
    return str(path)


def emitted(path: str) -> Emitted:
    return get_backend(get_target("cpu")).emit(read(path))


def contents(path: Path) -> list[bytes]:
    """Return the bytes of an output: the model, and the data files it refers to."""
    proto = onnx.ModelProto.FromString(path.read_bytes())
    names = sorted({e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"})
    return [path.read_bytes(), *((path.parent / n).read_bytes() for n in names)]


def saved(folder: Path, path: str) -> list[bytes]:
    folder.mkdir()
    save(emitted(path), folder / "o.onnx")
    return contents(folder / "o.onnx")


@pytest.mark.parametrize("external", [False, True])
def test_killed_at_every_file_operation(tmp_path: Path, external: bool) -> None:
    old, new = (source(tmp_path / "s", seed, external) for seed in (0, 1))
    wanted = [saved(tmp_path / f"clean{k}", path) for k, path in enumerate((old, new))]
    saved(tmp_path / "old", old)
    command = [sys.executable, "-P", "-c", KILLED, new, str(tmp_path)]
    codes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    states = []
    for k in range(len(codes)):
        states.append(wanted.index(contents(tmp_path / str(k) / "o.onnx")))
        rest = {p.name for p in (tmp_path / str(k)).iterdir()} - {"o.onnx"}
        assert all(n.startswith((".o.onnx.", "o.onnx.")) and n.endswith((".tmp", ".data")) for n in rest)
    assert codes == [-9] * (len(codes) - 1) + [0]
    assert len(codes) > 4
    assert states == sorted(states)
    assert states[-1] == 1
    assert len(rest) == int(external)


def test_a_full_disk_leaves_the_old_output(tmp_path: Path) -> None:
    old, new = source(tmp_path / "s", 0, False), source(tmp_path / "s", 1, False)
    before = saved(tmp_path / "out", old)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(SaveError, match="too large"):
            save(emitted(new), tmp_path / "out" / "o.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "out" / "o.onnx") == before
    assert os.listdir(tmp_path / "out") == ["o.onnx"]


def test_a_second_save_waits_for_the_first_and_stale_data_is_not_what_is_needed(tmp_path: Path) -> None:
    paths = [source(tmp_path / "s", seed, True) for seed in (0, 1)]
    clean = [saved(tmp_path / f"clean{k}", path) for k, path in enumerate(paths)]
    products = [emitted(path) for path in paths]
    out = tmp_path / "out" / "o.onnx"
    out.parent.mkdir()
    save(products[0], out)
    errors: list[BaseException] = []

    def again(product: Emitted) -> None:
        try:
            for _ in range(20):
                save(product, out)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=again, args=(p,)) for p in products * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert contents(out) in clean
    assert len(os.listdir(out.parent)) == 2


def test_a_folder_is_held_by_one_and_passed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_PATIENCE_S", 0.3)
    order: list[str] = []

    def second() -> None:
        with atomic.alone(str(tmp_path)):
            order.append("second")

    with atomic.alone(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    with atomic.alone(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        order.append("third")
    assert order == ["first", "second", "second", "third"]


def test_data_of_that_name_is_written_anew(tmp_path: Path) -> None:
    path = source(tmp_path / "s", 0, True)
    wanted = saved(tmp_path / "out", path)
    data = next((tmp_path / "out").glob("*.data"))
    data.write_bytes(b"damaged")
    save(emitted(path), tmp_path / "out" / "o.onnx")
    assert contents(tmp_path / "out" / "o.onnx") == wanted


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = source(tmp_path / "s", 0, False)
    for named in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if named:
                patch.setattr(atomic.Pending, "_anonymous", lambda self: None)
            save(emitted(path), tmp_path / ("ö" * 127))
            assert os.listdir(tmp_path).count("ö" * 127) == 1
    with pytest.raises(SaveError, match="too long"):
        save(emitted(path), tmp_path / ("o" * 300))
    (tmp_path / "l").symlink_to("l")
    with pytest.raises(SaveError, match="link to itself"):
        save(emitted(path), tmp_path / "l")
