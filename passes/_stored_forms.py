"""Forms in which a file holds a float32 weight in fewer bits: what is written, what it is again, and its bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fcc import ir
from fcc.compress import codebook
from fcc.rewrite import Rewriter

Array = np.ndarray[Any, Any]


class Stored(NamedTuple):
    """``again`` is what the runtime computes, ``size`` the bytes of the constants; ``write`` makes them and nodes."""

    again: Array
    size: int
    write: Callable[[Rewriter, str], ir.Value]


def _as_int8(array: Array) -> Stored:
    axis, scale = _best_axis(array)
    steps = scale.reshape(tuple(-1 if i == axis else 1 for i in range(array.ndim)))
    integers = np.clip(np.rint(array / steps.astype(np.float64)), -127, 127).astype(np.int8)

    def write(rw: Rewriter, name: str) -> ir.Value:
        wide = rw.op("Cast", rw.const(integers, f"{name}/int"), to=ir.DataType.FLOAT)
        made: ir.Value = rw.op("Mul", wide, rw.const(steps, f"{name}/scale"))
        return made

    return Stored(integers * steps, integers.nbytes + steps.nbytes, write)


def _best_axis(array: Array) -> tuple[int, Array]:
    """Return the axis along which scales lose least, and the scales."""
    wide, found = array.astype(np.float64), []
    for axis in range(array.ndim):
        largest = np.abs(wide).max(axis=tuple(i for i in range(array.ndim) if i != axis), initial=0.0)
        scale = np.maximum(largest / 127, np.finfo(np.float32).smallest_normal).astype(np.float32)
        shape = tuple(-1 if i == axis else 1 for i in range(array.ndim))
        steps = scale.astype(np.float64).reshape(shape)
        found.append((float(np.sum((np.rint(wide / steps) * steps - wide) ** 2)), axis, scale))
    _, axis, scale = min(found, key=lambda f: f[:2])
    return axis, scale


def _as_float16(array: Array) -> Stored:
    half = array.astype(np.float16)

    def write(rw: Rewriter, name: str) -> ir.Value:
        made: ir.Value = rw.op("Cast", rw.const(half, f"{name}/half"), to=ir.DataType.FLOAT)
        return made

    return Stored(half.astype(np.float32), half.nbytes, write)


def _as_codebook(array: Array) -> Stored:
    book = codebook.fit(array)

    def write(rw: Rewriter, name: str) -> ir.Value:
        indices = rw.op("Cast", rw.const(book.indices, f"{name}/index"), to=ir.DataType.INT32)
        made: ir.Value = rw.op("Gather", rw.const(book.entries, f"{name}/codebook"), indices, axis=0)
        return made

    return Stored(book.entries[book.indices], book.indices.nbytes + book.entries.nbytes, write)


def error(array: Array, stored: Stored) -> float:
    """Return ||again - w|| / ||w||, 0 for zeros."""
    wide = array.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    return float(np.linalg.norm(wide - stored.again)) / norm if norm else 0.0


FORMS: Mapping[str, Callable[[Array], Stored]] = {
    "int8": _as_int8,
    "fp16": _as_float16,
    "codebook": _as_codebook,
}
