"""Which ops TensorRT's ONNX parser takes: a table kept by hand in tensorrt.json, looked up here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from fcc.target.kernels import read


@dataclass(frozen=True)
class ParserTable:
    """The element types the parser takes per op of the default domain."""

    label: str
    types: Mapping[str, frozenset[str]] = field(repr=False)
    newer: Mapping[str, str]

    def refusal(self, op_type: str, domain: str, version: int, dtypes: Mapping[str, str]) -> str | None:
        """Return None when the parser takes the op, else the reason in words.

        The table lists types per op, not per variable: the first entry of ``dtypes``, by convention that of input 0,
        is judged. ``version`` is not: the parser takes every version within the opset window.
        """
        if domain:
            return f"{self.label} takes standard ONNX ops only, not {domain}::{op_type}"
        if op_type in self.newer:
            return f"{op_type} needs {self.newer[op_type]}"
        allowed = self.types.get(op_type)
        if allowed is None:
            return f"{self.label} has no {op_type}"
        dtype = next(iter(dtypes.values()), None)
        if dtype is None or dtype in allowed or (dtype == "double" and "float" in allowed):
            return None
        return f"{self.label}'s {op_type} takes {', '.join(sorted(allowed))}, not {dtype}"


@cache
def parser_table() -> ParserTable:
    """Return TensorRT's table; read once, immutable."""
    raw = read("tensorrt.json")
    types = {op: frozenset(row["types"]) for row in raw["rows"] for op in row["ops"]}
    return ParserTable("TensorRT", types, raw["newer"])
