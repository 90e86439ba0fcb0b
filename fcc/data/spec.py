"""What a model takes and gives, one tensor at a time, free of any runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from fcc.errors import DataError

if TYPE_CHECKING:
    from fcc.ir import Module, Value
    from fcc.ir.source import ValueSpec

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Any]
Outputs = Mapping[str, Any]

# ONNX element type, spelled as onnxruntime and the ONNX text format do, to numpy. Strings are object arrays.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
    "int4": np.dtype(ml_dtypes.int4),
    "uint4": np.dtype(ml_dtypes.uint4),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
    "string": np.dtype(object),
}
_FLOAT_KINDS = frozenset(
    np.dtype(t)
    for t in (
        np.float16,
        np.float32,
        np.float64,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
    )
)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is a real floating-point one, bfloat16 and float8 included."""
    return dtype in _FLOAT_KINDS


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and dims of one input or output.

    A dim is an int, a symbol, or None when unknown; ``dims`` is None when the rank is unknown.  ``optional`` inputs
    have a default (an overridable initializer).  ``kind`` is tensor, sequence, optional or map.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str | None, ...] | None
    optional: bool = False
    kind: str = "tensor"

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{show_dims(self.dims)}"


def show_dims(dims: Sequence[Any] | None) -> str:
    """Return dims as ``[batch, 3, ?]``."""
    return "[...]" if dims is None else f"[{', '.join('?' if d is None else str(d) for d in dims)}]"


def parse_type(text: str) -> tuple[str, np.dtype[Any]]:
    """Return (kind, element dtype) of a type as onnxruntime writes it: ``seq(tensor(float))`` -> sequence of float32.

    Raises:
        DataError: an element type that numpy cannot hold.
    """
    head, _, rest = text.partition("(")
    kind = {"tensor": "tensor", "seq": "sequence", "optional": "optional", "map": "map"}.get(head, "other")
    element = rest.rstrip(")").rpartition("(")[2].rpartition(",")[2]
    if element not in DTYPES:
        raise DataError(f"element type {text!r} has no numpy equivalent")
    return kind, DTYPES[element]


def inputs_of(module: Module) -> list[TensorSpec]:
    """Return the inputs of a module as its source declares them; overridable initializers are ``optional``."""
    if module.source is not None:
        return [_declared(v) for v in module.source.inputs]
    values = [v for v in module.graph.inputs if not v.is_initializer() or module.model.ir_version >= 4]
    return [_spec(v) for v in values]


def _declared(spec: ValueSpec) -> TensorSpec:
    kind = "tensor" if spec.dtype is not None else "sequence"
    dtype = spec.dtype.numpy() if spec.dtype is not None else np.float32
    return TensorSpec(spec.name, np.dtype(dtype), spec.dims, spec.overridable, kind)


def _spec(value: Value) -> TensorSpec:
    from fcc.ir import dims_of

    kind = type(value.type).__name__.removesuffix("Type").lower() if value.type is not None else "tensor"
    dtype = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.dtype(np.float32)
    dims = dims_of(value)
    shown = None if dims is None else tuple(_axis(d) for d in dims)
    return TensorSpec(value.name or "", dtype, shown, value.is_initializer(), kind)


def _axis(d: Any) -> int | str | None:
    if isinstance(d, int):
        return d if d > 0 else None
    return None if d is None else str(d)
