"""fcc: a graph-rewriting model compiler, ONNX in, smaller and faster verified ONNX out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .api import compile, optimize, sensitivity
    from .compiled import CompiledModel
    from .errors import FccError
    from .frontend import read
    from .passes.graphsurgeon import GraphSurgeonPass
    from .trust import bisect, verify

_LAZY = {
    "CompiledModel": "compiled",
    "FccError": "errors",
    "GraphSurgeonPass": "passes.graphsurgeon",
    "bisect": "trust",
    "compile": "api",
    "optimize": "api",
    "read": "frontend",
    "sensitivity": "api",
    "verify": "trust",
}
__all__ = [
    "CompiledModel",
    "FccError",
    "GraphSurgeonPass",
    "__version__",
    "bisect",
    "compile",
    "optimize",
    "read",
    "sensitivity",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module(".testing", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
