"""Casts that keep every value, or say why they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc.errors import DataError

from .spec import Array, TensorSpec, is_float


def family(dtype: np.dtype[Any]) -> str:
    """Return float, int, bool, string, complex or other."""
    if is_float(dtype):
        return "float"
    kinds = {"i": "int", "u": "int", "b": "bool", "U": "string", "S": "string", "O": "string", "c": "complex"}
    return kinds.get(dtype.kind, "int" if "int" in dtype.name else "other")


# (from, to) -> whether the cast can be tried; a value it would change refuses it, except the rounding of floats.
_TRIED = frozenset(
    {
        ("float", "float"),
        ("int", "int"),
        ("int", "float"),
        ("int", "bool"),
        ("bool", "int"),
        ("bool", "float"),
        ("string", "string"),
        ("complex", "complex"),
    }
)


def castable(have: np.dtype[Any], want: np.dtype[Any]) -> bool:
    """Return whether values of one dtype may be given where another is wanted."""
    return have == want or (family(have), family(want)) in _TRIED


def cast(array: Array, spec: TensorSpec, where: str) -> Array:
    """Return the array in the dtype of the input.

    float64 -> float32 and the like round; int -> int, int -> float and int -> bool must keep every value.

    Raises:
        DataError: the families do not fit (float -> int), or a value would change.
    """
    want = spec.dtype
    if array.dtype == want:
        return array
    if not castable(array.dtype, want):
        raise DataError(f"{where}: input {spec.name} expects {want}, found {array.dtype}", "convert the data")
    if want == np.dtype(object):
        return array.astype(np.str_).astype(object)
    with np.errstate(over="ignore", invalid="ignore"):
        out = array.astype(want)
    if family(array.dtype) in ("float", "complex"):
        kept = bool(np.array_equal(np.isfinite(out), np.isfinite(array)))
    else:
        kept = bool(np.array_equal(out.astype(array.dtype), array)) and _same_sign(out, array)
    if not kept:
        raise DataError(
            f"{where}: input {spec.name} expects {want}, and a value of the {array.dtype} data does not fit in it",
            "convert the data",
        )
    return out


def _same_sign(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a < 0, b < 0)) if a.dtype != np.bool_ and b.dtype != np.bool_ else True
