"""Where a model keeps what is not in its file."""

from __future__ import annotations

import os

from .inspect import read_proto


def external_files(model: bytes, folder: str | None) -> list[str]:
    """Return the files that hold external data of the initializers of the main graph, in order of their names."""
    proto = read_proto(model)
    names = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
    return [os.path.join(folder or "", name) for name in sorted(names)]
