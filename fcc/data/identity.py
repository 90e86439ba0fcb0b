"""What tells things apart: digests of plain data, and the state of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def digest(thing: Any) -> str:
    """Return the SHA-256 of bytes, numbers, texts, arrays, and containers and dataclasses of such.

    Raises:
        TypeError: something in it has no contents that tell it apart.
    """
    found = hashlib.sha256()
    for piece in _pieces(thing):
        found.update(len(piece).to_bytes(8, "little"))
        found.update(piece)
    return found.hexdigest()


def file_digest(path: str) -> str:
    """Return the SHA-256 of the contents of a file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: str | os.PathLike[str]) -> tuple[str, int, int] | None:
    """Return (absolute path, size, modification time in ns): samples may be more than one wants to read to tell them.

    None when the file is not there.
    """
    try:
        state = os.stat(path)
    except OSError:
        return None
    return os.path.abspath(path), state.st_size, state.st_mtime_ns


def _pieces(thing: Any) -> Iterator[bytes]:
    """Yield bytes that are equal for equal things only."""
    if isinstance(thing, bytes):
        yield from (b"bytes", thing)
    elif thing is None or isinstance(thing, bool | int | float | str):
        yield f"{type(thing).__name__} {thing!r}".encode("utf-8", "surrogatepass")
    elif isinstance(thing, np.generic):
        yield from _pieces(np.asarray(thing))
    elif isinstance(thing, np.ndarray) and thing.dtype.hasobject:
        yield from _container(f"objects {thing.shape}", thing.reshape(-1).tolist())
    elif isinstance(thing, np.ndarray):
        yield f"array {thing.dtype.str} {thing.dtype.name} {thing.shape}".encode()
        yield thing.tobytes()
    elif isinstance(thing, Mapping):
        yield from _container("mapping", [x for pair in thing.items() for x in pair])
    elif isinstance(thing, Sequence):
        yield from _container("sequence", thing)
    elif is_dataclass(thing) and not isinstance(thing, type):
        kind = type(thing)
        yield from _container(f"{kind.__module__}.{kind.__qualname__}", [getattr(thing, f.name) for f in fields(thing)])
    else:
        raise TypeError(f"{type(thing).__name__} has no contents that tell it apart")


def _container(kind: str, items: Iterable[Any]) -> Iterator[bytes]:
    held = list(items)
    yield f"{kind} of {len(held)}".encode()
    for item in held:
        yield from _pieces(item)
