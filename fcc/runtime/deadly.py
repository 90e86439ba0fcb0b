"""Models of which onnxruntime ends the process instead of refusing them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fcc.backends import wire
from fcc.backends.size import opened

_FUNCTIONS = 25  # field of ModelProto


def deadly(model: bytes | str | os.PathLike[str]) -> str:
    """Return why onnxruntime 1.32 would abort on a model, '' when it would not.

    A model-local function must not call what neither ONNX, onnxruntime nor the model defines. Files without functions
    are not read.
    """
    try:
        with opened(model if isinstance(model, bytes) else os.fspath(model)) as data:
            found = [data[f.start : f.stop] for f in wire.fields(data, 0, len(data)) if f.number == _FUNCTIONS]
    except (OSError, ValueError, IndexError):
        return ""
    if not found:
        return ""
    import onnx

    try:
        functions = [onnx.FunctionProto.FromString(text) for text in found]
    except Exception:
        return ""
    own = {(f.domain, f.name) for f in functions}
    for function in functions:
        for node in _nodes(function.node):
            known = node.domain.startswith("com.") or onnx.defs.has(node.op_type, domain=_plain(node.domain))
            if not known and (node.domain, node.op_type) not in own:
                where = f"function {function.domain}.{function.name}"
                return f"{where} calls {node.domain}.{node.op_type}, which nothing defines"
    return ""


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)
