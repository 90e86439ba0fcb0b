"""Where a model keeps what is not in its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from .inspect import read_proto


def external_files(model: bytes, folder: str | None) -> list[str]:
    """Return the files that hold external data of a model, nested graphs included, in order of their names."""
    names = {e.value for t in _tensors(read_proto(model).graph) for e in t.external_data if e.key == "location"}
    return [os.path.join(folder or "", name) for name in sorted(names)]


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for nested in (attribute.g, *attribute.graphs):
            yield from _tensors(nested)
