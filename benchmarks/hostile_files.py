"""Hostile files: external data, model files, samples, outputs and JSON that are not what they should be."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from hostile_models import Build, model, node
from onnx import TensorProto

GOOD = model([node("Relu", ["x"], ["y"])], x=("n", 2), y=("n", 2))
OUTSIDE = "outside"  # beside the folder of the model


def plain(folder: Path, proto: onnx.ModelProto = GOOD) -> None:
    """Write a model that is fine."""
    (folder / "m.onnx").write_bytes(proto.SerializeToString())


# ---- external data


def external(
    location: str, offset: str = "0", length: str | None = "16", dims: Sequence[int] = (2, 2)
) -> onnx.ModelProto:
    """Return a model whose weight lies at a place in a file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            weight.external_data.add(key=key, value=value)
    return model([node("Add", ["x", "w"], ["y"])], [weight])


def data_at(location: str, make: Callable[[Path], None] | None = None, **place: str | None) -> Build:
    """Return a builder of a model with external data; ``make`` prepares what lies there."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder, external(location.format(folder=folder), **place))  # type: ignore[arg-type]
        secret = folder.parent / OUTSIDE
        secret.mkdir(exist_ok=True)
        (secret / "w.bin").write_bytes(bytes(64))
        if make is not None:
            make(folder)
        return ()

    return build


def linked(folder: Path) -> None:
    """A link to a file outside."""
    (folder / "w.bin").symlink_to(folder.parent / OUTSIDE / "w.bin")


def folder_linked(folder: Path) -> None:
    """A link to a folder outside."""
    (folder / "d").symlink_to(folder.parent / OUTSIDE)


def link_chain(folder: Path) -> None:
    """Links in a row whose last one leads outside."""
    (folder / "w.bin").symlink_to("a")
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to(folder.parent / OUTSIDE / "w.bin")


def link_circle(folder: Path) -> None:
    """Links that lead to each other."""
    (folder / "w.bin").symlink_to("a")
    (folder / "a").symlink_to("w.bin")


def fifo(folder: Path) -> None:
    """A FIFO that nobody writes to."""
    os.mkfifo(folder / "w.bin")


def to_device(name: str) -> Callable[[Path], None]:
    """Return what links to a device."""
    return lambda folder: (folder / "w.bin").symlink_to(f"/dev/{name}")


def a_folder(folder: Path) -> None:
    """A folder of that name."""
    (folder / "w.bin").mkdir()


def small(folder: Path) -> None:
    """A file of 64 bytes."""
    (folder / "w.bin").write_bytes(bytes(64))


def sparse_terabyte(folder: Path) -> None:
    """A sparse file of a terabyte."""
    with open(folder / "w.bin", "wb") as file, contextlib.suppress(OSError):
        file.truncate(1 << 40)


def the_model(folder: Path) -> None:
    """The model file itself as its data."""
    (folder / "w.bin").symlink_to("m.onnx")


def overlapping(folder: Path) -> Sequence[str]:
    """Weights that share bytes."""
    small(folder)
    proto = external("w.bin")
    second = proto.graph.initializer.add()
    second.CopyFrom(proto.graph.initializer[0])
    second.name = "v"
    second.external_data[1].value = "8"
    proto.graph.node[0].output[0] = "t"
    proto.graph.node.append(node("Mul", ["t", "v"], ["y"]))
    plain(folder, proto)
    return ()


def many_places(folder: Path) -> Sequence[str]:
    """Twenty thousand weights that are all the same megabyte: 20 GB of weights in a file of one."""
    (folder / "w.bin").write_bytes(np.random.default_rng(0).bytes(1 << 20))
    proto = external("w.bin", length=str(1 << 20), dims=(512, 512))
    weight, adds = proto.graph.initializer[0], [node("Slice", ["x", "s", "e"], ["t0"])]
    del proto.graph.node[:]
    proto.graph.initializer.extend([weight] * 19_999)
    for i in range(20_000):
        proto.graph.initializer[i].name = f"w{i}"
        adds.append(node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"]))
    adds[-1].output[0] = "y"
    adds[0] = node("Identity", ["x"], ["t0"])
    proto.graph.node.extend(adds)
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    for size in (1, 512):
        proto.graph.input[0].type.tensor_type.shape.dim.add(dim_value=size)
    plain(folder, proto)
    return ()


# ---- what is given as a model


def given(make: Callable[[Path], None]) -> Build:
    """Return a builder of something at m.onnx."""

    def build(folder: Path) -> Sequence[str]:
        make(folder / "m.onnx")
        return ()

    return build


def contents(data: Callable[[], bytes]) -> Build:
    """Return a builder of a file with these bytes."""
    return given(lambda path: path.write_bytes(data()) and None)


def write_sparse(path: Path, size: int) -> None:
    """Write a file of holes."""
    with open(path, "wb") as file:
        file.truncate(size)


def sparse(size: int) -> Build:
    """Return a builder of a sparse file."""
    return given(lambda path: write_sparse(path, size))


def link_to(target: str) -> Build:
    """Return a builder of a link."""
    return given(lambda path: path.symlink_to(target))


# ---- samples


def npz(**arrays: np.ndarray) -> bytes:
    """Return an .npz in memory."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


class Boom:
    """What creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch pwned",))


def zipped(name: str, data: bytes | Callable[[io.BufferedIOBase], None], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip with one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive, archive.open(name, "w", force_zip64=True) as member:
        if callable(data):
            data(member)  # type: ignore[arg-type]
        else:
            member.write(data)
    return out.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f4", pad: int = 0) -> bytes:
    """Return the header of a .npy."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b" " * pad + b"\n"
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text


def bomb(megabytes: int, shape: tuple[int, ...]) -> bytes:
    """Return an .npz whose member unpacks to many megabytes."""

    def write(member: io.BufferedIOBase) -> None:
        member.write(header(shape))
        for _ in range(megabytes):
            member.write(bytes(1 << 20))

    return zipped("x.npy", write)


def sampled(data: Callable[[], bytes]) -> Build:
    """Return a builder of a good model and a file of samples."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        (folder / "s.npz").write_bytes(data())
        return ("--data", str(folder / "s.npz"))

    return build


def samples_at(make: Callable[[Path], None]) -> Build:
    """Return a builder of a good model and samples that are no file."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        make(folder / "s.npz")
        return ("--data", str(folder / "s.npz"))

    return build


def one_bad(option: str, *words: str) -> Build:
    """Return a builder of a folder of samples with a bad one among them."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        (folder / "s").mkdir()
        for k in range(3):
            (folder / "s" / f"{k}.npz").write_bytes(npz(x=np.ones((2, 2), np.float32)) if k != 1 else b"bad")
        return (option, str(folder / "s"), *words)

    return build


def object_array() -> bytes:
    """Return an .npz with an array of objects that run a command when unpickled."""
    head = repr({"descr": "|O", "fortran_order": False, "shape": (1,)}).encode() + b"\n"
    return zipped("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + pickle.dumps([Boom()]))


# ---- outputs


def output(target: str, make: Callable[[Path], None] | None = None) -> Build:
    """Return a builder of a good model and a place to write it to."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        if make is not None:
            make(folder)
        return ("-o", target.format(folder=folder))

    return build


# ---- JSON


def option(name: str, data: Callable[[], bytes], suffix: str = ".json") -> Build:
    """Return a builder of a good model and a file given with an option."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        (folder / f"given{suffix}").write_bytes(data())
        return (name, str(folder / f"given{suffix}"))

    return build


def option_at(name: str, make: Callable[[Path], None]) -> Build:
    """Return a builder of a good model and something else than a file, given with an option."""

    def build(folder: Path) -> Sequence[str]:
        plain(folder)
        make(folder / "given")
        return (name, str(folder / "given"))

    return build


def deep_json(depth: int) -> bytes:
    """Return a plan whose lists are nested this deep."""
    return b'{"schema": 1, "target": "cpu", "skip": [], "choices": ' + b"[" * depth + b"]" * depth + b"}"


def wide_json(rows: int) -> bytes:
    """Return a plan with this many choices."""
    row = json.dumps({"pass_name": "p", "site": "s", "taken": True})
    return b'{"schema": 1, "target": "cpu", "skip": [], "choices": [' + ", ".join([row] * rows).encode() + b"]}"


def gzipped() -> bytes:
    """Return the good model, gzipped."""
    return gzip.compress(GOOD.SerializeToString())


ODD_PLAN = b'{"schema": 1, "target": "cpu", "skip": [], "choices": [], "lossy": {"steps": [[]], "layers": 7}}'


def report_over_model(folder: Path) -> Sequence[str]:
    """The report where the model lies, by another name."""
    plain(folder)
    (folder / "r.md").symlink_to("m.onnx")
    return ("--report", str(folder / "r.md"))


def plan_over_model(folder: Path) -> Sequence[str]:
    """The plan where the model lies, by another name."""
    plain(folder)
    (folder / "p").symlink_to("m.onnx")
    return ("--plan", str(folder / "p"))
