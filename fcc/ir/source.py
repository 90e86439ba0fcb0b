"""What a module was read from: the declared inputs and outputs, and how to run the original."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from onnx_ir import DataType


@dataclass(frozen=True)
class ValueSpec:
    """One declared input or output of the source.

    ``dtype`` and ``dims`` are None when the value is no tensor (sequence, map) or has no declared shape; an axis is
    an int, the name of a symbol, or None when unknown (a declared 0 or -1 reads as unknown). ``declaration`` is the
    ValueInfoProto as the source wrote it, with bound dimensions filled in.
    """

    name: str
    dtype: DataType | None
    dims: tuple[int | str | None, ...] | None
    declaration: bytes = field(default=b"", repr=False)
    overridable: bool = False


@dataclass(frozen=True)
class Source:
    """The original model: file, size in bytes (external data included), contract, and a way to run it.

    ``data_files`` are the files of its external data. ``load()`` returns the path of a file that is on disk, else the
    bytes of the model; relative external data of the latter lies in ``base_dir``.
    """

    path: str | None
    bytes_size: int
    inputs: tuple[ValueSpec, ...]
    outputs: tuple[ValueSpec, ...]
    base_dir: str
    load: Callable[[], str | bytes] = field(repr=False)
    data_files: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a digest of the file, external data by name and size; "" where it is gone. Reads the whole file."""
        try:
            loaded = self.load()
            if isinstance(loaded, bytes):
                found = hashlib.sha256(loaded)
            else:
                with open(loaded, "rb") as file:
                    found = hashlib.file_digest(file, "sha256")
        except OSError:
            return ""
        for name in self.data_files:
            path = os.path.join(self.base_dir, name)
            size = os.path.getsize(path) if os.path.exists(path) else 0
            found.update(f"{os.path.basename(path)} {size}\n".encode())
        return found.hexdigest()

    def declare(self, proto: Any) -> None:
        """Write the source's declarations over the inputs and outputs of the same name in a ModelProto, in place."""
        graph = proto.graph
        for specs, infos in ((self.inputs, graph.input), (self.outputs, graph.output)):
            declared = {s.name: s.declaration for s in specs if s.declaration}
            for info in _named(infos, declared):
                info.ParseFromString(declared[info.name])


def _named(infos: Any, names: dict[str, bytes]) -> Iterator[Any]:
    return (info for info in infos if info.name in names)
