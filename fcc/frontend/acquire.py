"""From whatever names a model to a ModelProto (or onnx_ir model) that may be changed freely."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir import to_proto

from fcc import ir
from fcc.errors import LoadError, OptionError
from fcc.regular import open_regular

_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint is one)"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"ORTM", "an ORT-format model"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
)
_LARGE = 1 << 16  # bytes of a weight that is not written only to be measured
_HEADER = 12  # bytes of its dims and lengths in the file, about
_EXPORT_HINT = "give a file in ONNX format, for example from torch.onnx.export"


@dataclass(frozen=True)
class Acquired:
    """A model we own, where it came from, and how to get the original again."""

    model: onnx.ModelProto | ir.Model
    path: str | None
    base_dir: str
    size: int
    load: Callable[[], str | bytes]

    @property
    def where(self) -> str:
        """The words that name the model in messages."""
        return self.path or "model"


def acquire(model: Any) -> Acquired:
    """Return the model behind a path, bytes, ModelProto, onnx_ir model or GraphSurgeon graph.

    Raises:
        LoadError: the file cannot be read or is not an ONNX model.
        OptionError: the argument is of no such type.
    """
    if isinstance(model, (str, os.PathLike)):
        return _from_path(os.fspath(model))
    if isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
        return Acquired(_parse(data, "model"), None, os.getcwd(), len(data), lambda: data)
    if isinstance(model, onnx.ModelProto):
        return _from_proto(model)
    if isinstance(model, ir.Model):
        return _from_ir(model)
    if type(model).__module__.partition(".")[0] == "onnx_graphsurgeon":
        from .graphsurgeon import graphsurgeon_to_proto

        return _from_proto(graphsurgeon_to_proto(model))
    raise OptionError(
        f"cannot read a model from {type(model).__name__}",
        "give a path, bytes, onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph",
    )


def _from_path(path: str) -> Acquired:
    if os.path.isdir(path):
        raise LoadError(f"{path} is a folder", "give the .onnx file in it")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise LoadError(f"{path} is empty", "export or download the model again")
            if size >= 1 << 31:
                raise LoadError(f"{path} has {size} bytes, protobuf stops at 2 GiB", "keep weights in external data")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                proto = _parse(view, path)
    except FileNotFoundError:
        raise LoadError(f"{path} does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise LoadError(f"cannot read {path}: {error}", "check the path and its permissions") from None
    base_dir = os.path.dirname(os.path.abspath(path))
    return Acquired(proto, path, base_dir, size, lambda: path)


def _from_proto(model: onnx.ModelProto) -> Acquired:
    own = onnx.ModelProto()
    own.CopyFrom(model)
    _require_graph(own, "model")
    return Acquired(own, None, os.getcwd(), own.ByteSize(), model.SerializeToString)


def _from_ir(model: ir.Model) -> Acquired:
    try:
        original, own = model.clone(), model.clone()
    except Exception:  # onnx_ir copies only sorted, closed graphs; the protobuf shows what is wrong, or gets sorted
        return _from_proto(_serialized(model))
    return Acquired(own, None, os.getcwd(), _bytes_of(model), lambda: _serialized(original).SerializeToString())


def _bytes_of(model: ir.Model) -> int:
    """Return the bytes of the model as a file, external data not included; large weights are not written for that."""
    light, held = model.clone(), 0
    for graph in light.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.dtype == ir.DataType.STRING:
                continue
            if tensor.nbytes > _LARGE:
                held += tensor.nbytes + _HEADER
                value.const_value = ir.tensor(np.zeros(0, np.uint8), name=tensor.name)
    return int(_serialized(light).ByteSize()) + held


def _serialized(model: ir.Model) -> onnx.ModelProto:
    try:
        return to_proto(model)
    except Exception as error:  # the library raises many kinds on models that its user broke
        raise LoadError(f"the onnx_ir model cannot be written: {error}", "check how it was built") from error


def _parse(data: bytes | memoryview, where: str) -> onnx.ModelProto:
    if len(data) == 0:
        raise LoadError(f"{where} is empty", "export or download the model again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise _not_onnx(bytes(data[:64]), where) from None
    if not proto.HasField("graph"):
        raise _not_onnx(bytes(data[:64]), where)
    _require_graph(proto, where)
    return proto


def _require_graph(proto: onnx.ModelProto, where: str) -> None:
    if not proto.HasField("graph") or not (proto.graph.output or proto.graph.node):
        raise LoadError(f"{where} holds no graph", "the file may be cut off: export or download the model again")
    if not proto.opset_import and proto.ir_version >= 3:
        raise LoadError(f"{where} imports no opset", "the file may be cut off: export or download the model again")


def _not_onnx(head: bytes, where: str) -> LoadError:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return LoadError(f"{where} is not an ONNX model: it is {what}", _EXPORT_HINT)
    if head[:1] == b"\x08":
        return LoadError(f"{where} is cut off, damaged, or nested too deeply", "export or download the model again")
    return LoadError(f"{where} is not an ONNX model", _EXPORT_HINT)
