"""Small ONNX models to try fcc on: seeded builders for the common architectures, and trained digit classifiers.

>>> from fcc.models import BUILDERS, path
>>> model = BUILDERS["mlp"](sizes=(16, 8, 4), batchnorm=True, seed=1)
>>> path("digits_mlp.onnx").name
'digits_mlp.onnx'
"""

if __name__ != "fcc.models":
    raise ImportError("this folder is the package fcc.models: import it by that name")

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

__all__ = ["BUILDERS", "path"]

_MODULES = {
    "mlp": "mlp",
    "cnn": "cnn",
    "vgg": "vgg",
    "resnet": "resnet",
    "rnn": "recurrent",
    "lstm": "recurrent",
    "gru": "recurrent",
    "self_attention": "attention",
    "transformer_block": "transformer",
    "bert": "bert",
    "gpt": "gpt",
}

BUILDERS: "dict[str, Callable[..., onnx.ModelProto]]"  # filled on first use: only then is onnx imported


@functools.cache
def _builders() -> "dict[str, Callable[..., onnx.ModelProto]]":
    return {name: getattr(importlib.import_module(f"fcc.models.{module}"), name) for name, module in _MODULES.items()}


def __getattr__(name: str) -> object:
    if name == "BUILDERS":
        return _builders()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def path(name: str) -> Path:
    """Return the path of a shipped file, with or without ``.onnx``; FileNotFoundError names the files there are."""
    folder = Path(__file__).parent.resolve()
    shipped = {file.name: file for file in folder.glob("digits_*.*")}
    for candidate in (name, f"{name}.onnx"):
        if candidate in shipped:
            return shipped[candidate]
    raise FileNotFoundError(f"no shipped file {name!r}; there are: {', '.join(sorted(shipped))}")
