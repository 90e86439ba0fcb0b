if __name__ != "fcc.backends":
    raise ImportError("this folder is the package fcc.backends: import it by that name")

"""Backends: legalize a module for a target, say what the target lacks, and write the ONNX output."""

from .base import Backend
from .emit import Emitted
from .lint import LintRow
from .registry import get_backend
from .save import save
from .size import size_of

__all__ = ["Backend", "Emitted", "LintRow", "get_backend", "save", "size_of"]
