"""Whether a newer schema of an operator accepts every older node with the same meaning."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from onnx import defs


@lru_cache(maxsize=2048)
def versions_between(op_type: str, old: int, new: int) -> tuple[int, ...]:
    """Return the schema versions after opset ``old`` up to ``new``; none when the op is unknown at either."""
    first, last = _since(op_type, old), _since(op_type, new)
    if first is None or last is None:
        return ()
    return tuple(v for v in range(first + 1, last + 1) if _since(op_type, v) == v)


def _since(op_type: str, opset: int) -> int | None:
    try:
        return int(defs.get_schema(op_type, opset, "").since_version)
    except defs.SchemaError:
        return None


@lru_cache(maxsize=2048)
def incompatibility(op_type: str, version: int) -> str | None:
    """Return why version ``version`` of an op differs in more than types from the one before it, else None.

    Allowed: more types, required inputs that became optional, new optional inputs, outputs or attributes. Not
    allowed: anything removed, deprecated, or with another default.
    """
    old, new = defs.get_schema(op_type, version - 1, ""), defs.get_schema(op_type, version, "")
    if new.deprecated:
        return "is deprecated"
    return (
        _formals(list(old.inputs), list(new.inputs), "input")
        or _formals(list(old.outputs), list(new.outputs), "output")
        or changed_attribute(old.attributes, new.attributes)
        or next((f"requires attribute {n}" for n, a in new.attributes.items() if _asked(n, a, old)), None)
    )


def _formals(old: list[Any], new: list[Any], what: str) -> str:
    if len(new) < len(old):
        return f"has fewer {what}s"
    option = defs.OpSchema.FormalParameterOption
    for i, after in enumerate(new):
        if i >= len(old):
            if after.option != option.Optional:
                return f"requires another {what} ({after.name})"
        elif (old[i].option == option.Variadic) != (after.option == option.Variadic):
            return f"changed {what} {after.name}"
        elif old[i].option == option.Optional and after.option == option.Single:
            return f"requires {what} {after.name}"
        elif not old[i].types <= after.types:
            return f"accepts fewer types as {what} {after.name}"
    return ""


def changed_attribute(old: Any, new: Any) -> str:
    """Return which attribute of an older schema has gone or has another type or default; empty when none has."""
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            return f"has no attribute {name}"
        if after.type != before.type or after.default_value != before.default_value:
            return f"changed attribute {name}"
    return ""


def _asked(name: str, attribute: Any, old: Any) -> bool:
    return bool(attribute.required) and name not in old.attributes
