"""Saving: complete or not at all, data beside the model, nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcc import ir
from fcc.backends import Emitted, atomic, get_backend, save, size_of
from fcc.errors import SaveError
from fcc.frontend import read
from fcc.target import get_target


def model(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = [numpy_helper.from_array(rng.standard_normal((32, 32)).astype(np.float32), f"w{i}") for i in range(3)]
    nodes = [helper.make_node("MatMul", ["x" if i == 0 else f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(3)]
    nodes.append(helper.make_node("Identity", ["h3"], ["y"]))
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 32]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(folder: Path, seed: int = 0) -> Path:
    path = folder / "source.onnx"
    onnx.save(model(seed), path, save_as_external_data=True, location="source.bin", size_threshold=100)
    return path


def emitted(source: Any) -> Emitted:
    return get_backend(get_target("cpu")).emit(read(source))


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_saved_file_is_the_model(tmp_path: Path) -> None:
    out = emitted(model())
    assert save(out, tmp_path / "a.onnx") == [str(tmp_path / "a.onnx")]
    assert (tmp_path / "a.onnx").read_bytes() == out.to_bytes()
    assert files(tmp_path) == ["a.onnx"]


def test_overwrites_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    path.chmod(0o640)
    save(emitted(model()), path)
    onnx.checker.check_model(onnx.load(path))
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "m.onnx")
    save(emitted(model()), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert onnx.load(tmp_path / "real" / "m.onnx").graph.name == "g"


def test_external_data_lies_beside_the_model_under_its_hash(tmp_path: Path) -> None:
    source = external(tmp_path)
    out = emitted(str(source))
    assert out.external
    (tmp_path / "out").mkdir()
    written = save(out, tmp_path / "out" / "m.onnx")
    assert [Path(w).name for w in written] == files(tmp_path / "out")
    assert written[1].endswith(".data")
    loaded = onnx.load(written[0])
    for want, found in zip(model().graph.initializer, loaded.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(want), numpy_helper.to_array(found))
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(written[0], providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((2, 32), np.float32)})[0].shape == (2, 32)
    again = save(out, tmp_path / "out" / "m.onnx")
    assert again == written
    bare = onnx.load(written[0], load_external_data=False)
    assert out.size == size_of(bare) or abs(out.size - size_of(bare)) < 64 * len(bare.graph.initializer)


def test_external_size_is_not_above_the_source(tmp_path: Path) -> None:
    module = read(str(external(tmp_path)))
    out = get_backend(get_target("cpu")).emit(module)
    assert module.source is not None
    assert out.size <= size_of(module.source)


def test_stale_data_of_the_replaced_output_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    target = tmp_path / "m.onnx"
    (tmp_path / "m.onnx.0123456789abcdef.data").write_bytes(b"belongs to nobody we know")
    first = save(emitted(str(external(tmp_path / "a", 0))), target)
    second = save(emitted(str(external(tmp_path / "b", 1))), target)
    assert first[1] != second[1]
    assert not os.path.exists(first[1])
    assert (tmp_path / "m.onnx.0123456789abcdef.data").exists()
    save(emitted(model()), target)
    assert not os.path.exists(second[1])


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(), path)
    before = path.read_bytes()
    os.link(path, tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to(path)
    for name in ("m.onnx", "hard.onnx", "soft.onnx", "../" + tmp_path.name + "/m.onnx"):
        with pytest.raises(SaveError, match="input itself"):
            save(emitted(str(path)), tmp_path / name)
    assert path.read_bytes() == before


def test_a_data_file_of_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = external(tmp_path)
    data = tmp_path / "source.bin"
    before = data.read_bytes()
    (tmp_path / "soft.bin").symlink_to(data)
    os.link(data, tmp_path / "hard.bin")
    for name in ("source.bin", "soft.bin", "hard.bin"):
        with pytest.raises(SaveError, match="weights of the input"):
            save(emitted(str(source)), tmp_path / name)
    assert data.read_bytes() == before


def test_stale_data_that_the_input_uses_stays(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    first, data = save(emitted(str(external(tmp_path / "s"))), tmp_path / "m.onnx")
    (tmp_path / "copy.onnx").write_bytes(Path(first).read_bytes())
    module = read(str(tmp_path / "copy.onnx"))
    module.graph.initializers["w1"].const_value = module.graph.initializers["w0"].const_value
    written = save(get_backend(get_target("cpu")).emit(module), first)
    assert written[1] != data
    assert os.path.exists(data)
    assert len(onnx.load(tmp_path / "copy.onnx").graph.initializer) == 3


@pytest.mark.parametrize(
    ("where", "message"),
    [("nowhere/m.onnx", "does not exist"), (".", "is a folder"), ("pipe", "no regular file")],
)
def test_places_that_cannot_be_written(tmp_path: Path, where: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SaveError, match=message) as error:
        save(emitted(model()), tmp_path / where)
    assert error.value.exit_code == 7
    assert error.value.hint


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_a_failed_save_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, named: bool, outside: bool
) -> None:
    (tmp_path / "s").mkdir()
    out = emitted(str(external(tmp_path / "s"))) if outside else emitted(model())
    (tmp_path / "o").mkdir()
    target = tmp_path / "o" / "m.onnx"
    target.write_bytes(b"precious")
    if named:
        monkeypatch.setattr(atomic.Pending, "_anonymous", lambda self: None)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SaveError, match=r"m\.onnx"):
        save(out, target)
    assert files(tmp_path / "o") == ["m.onnx"]
    assert target.read_bytes() == b"precious"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = emitted(model())
    monkeypatch.setattr(atomic.Pending, "_anonymous", lambda self: None)

    def interrupt(self: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(out.weights[0]), "payload", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(out, tmp_path / "m.onnx")
    assert files(tmp_path) == []


def test_named_files_work_where_unnamed_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.Pending, "_anonymous", lambda self: None)
    out = emitted(model())
    save(out, tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == out.to_bytes()


def test_lazy_weights_are_computed_once_each_while_saving(tmp_path: Path) -> None:
    module = read(str(external(tmp_path)))
    calls = []

    def compute() -> Any:
        calls.append(1)
        return ir.tensor(np.ones((32, 32), np.float32))

    value = module.graph.initializers["w1"]
    value.const_value = ir.LazyTensor(compute, ir.DataType.FLOAT, ir.Shape([32, 32]), name="w1")
    out = get_backend(get_target("cpu")).emit(module)
    assert calls == []
    written = save(out, tmp_path / "m.onnx")
    assert len(calls) == 1
    assert np.array_equal(numpy_helper.to_array(onnx.load(written[0]).graph.initializer[1]), np.ones((32, 32)))


def test_equal_tensors_share_their_bytes_in_the_data_file(tmp_path: Path) -> None:
    module = read(str(external(tmp_path)))
    module.graph.initializers["w1"].const_value = module.graph.initializers["w0"].const_value
    _, data = save(get_backend(get_target("cpu")).emit(module), tmp_path / "m.onnx")
    assert os.path.getsize(data) == 2 * 32 * 32 * 4


def test_constants_of_nested_graphs_survive_external_data(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[300] x) => (float[300] y) {
        y = If (c) <then_branch = t () => (float[300] a) { a = Mul(x, k) },
                    else_branch = e () => (float[300] b) { b = Neg(x) }>
    }"""
    proto = onnx.parser.parse_model(text)
    body = next(a for a in proto.graph.node[0].attribute if a.name == "then_branch").g
    body.initializer.append(numpy_helper.from_array(np.arange(300, dtype=np.float32), "k"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(300, np.float32), "unused"))
    onnx.save(proto, tmp_path / "s.onnx", save_as_external_data=True, location="s.bin", size_threshold=100)
    out = emitted(str(tmp_path / "s.onnx"))
    assert out.external
    (tmp_path / "o").mkdir()
    path = save(out, tmp_path / "o" / "m.onnx")[0]
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded)
    assert np.array_equal(
        numpy_helper.to_array(next(t for t in loaded.graph.initializer if t.name == "k")), np.arange(300)
    )
