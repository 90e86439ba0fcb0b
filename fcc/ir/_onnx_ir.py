"""Import onnx_ir without paying for sympy.

onnx_ir imports sympy (0.2 s, twice the rest) only to evaluate symbolic dimension expressions, which fcc does with
``fcc.ir.dims``. While onnx_ir loads, a stand-in takes sympy's place; its attributes fetch the real module when used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Deferred:
    """A callable named in sympy that is looked up when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("sympy"), self._name)(*args, **kwargs)


class _LazySympy(ModuleType):
    loading = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Deferred(name) if self.loading else getattr(importlib.import_module("sympy"), name)


def load() -> ModuleType:
    """Return the module onnx_ir, imported with sympy deferred unless sympy or onnx_ir is loaded already."""
    if "onnx_ir" in sys.modules or "sympy" in sys.modules:
        return importlib.import_module("onnx_ir")
    stand_in = _LazySympy("sympy")
    sys.modules["sympy"] = stand_in
    try:
        return importlib.import_module("onnx_ir")
    finally:
        stand_in.loading = False
        if sys.modules.get("sympy") is stand_in:
            del sys.modules["sympy"]


load()
