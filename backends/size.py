"""How large a model is for the rule "never larger": without fcc's metadata and without value_info."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fcc.ir.source import Source

from . import wire

T = TypeVar("T")


def size_of(model: Any) -> int:
    """Return the bytes of a model without ``fcc.*`` metadata and value_info, external data included.

    ``model`` is an Emitted, a Source, a ModelProto, or the bytes of one.
    """
    if isinstance(model, Source):
        return model.bytes_size - (scan_source(model, wire.overhead) or 0)
    if hasattr(model, "size"):
        return int(model.size)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return len(data) - wire.overhead(data) + _external_bytes(model)


def scan_source(source: Source, scan: Callable[[wire.Buffer], T]) -> T | None:
    """Return ``scan`` of the serialized source, None when the file is gone or is no plain protobuf."""
    try:
        with opened(source.load()) as data:
            return scan(data)
    except (OSError, ValueError, IndexError):
        return None


@contextmanager
def opened(loaded: str | bytes) -> Iterator[wire.Buffer]:
    if isinstance(loaded, bytes):
        yield loaded
        return
    with open(loaded, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def _external_bytes(model: Any) -> int:
    if isinstance(model, bytes):
        return 0
    return sum(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
