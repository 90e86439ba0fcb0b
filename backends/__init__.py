if __name__ != "fcc.backends":
    raise ImportError("this folder is the package fcc.backends: import it by that name")

from .base import Backend
from .emit import Emitted
from .fp16 import fp16_pass, require_fp16
from .lint import LintRow
from .registry import PASSES, get_backend
from .save import save
from .size import size_of

__all__ = ["PASSES", "Backend", "Emitted", "LintRow", "fp16_pass", "get_backend", "require_fp16", "save", "size_of"]
