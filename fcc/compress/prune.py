"""Exact redundancy of neurons: rows of a weight that are zero, equal, or positive multiples of each other.

A neuron is a row: everything along axis 0 of a weight, its other axes flattened; append the bias (and whatever else
tells neurons apart) as further columns. NaN is equal to nothing; -0.0 equals 0.0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Scaled(NamedTuple):
    """Per row: the row it is a multiple of (itself when of none), and the factor > 0."""

    representative: NDArray[np.intp]
    factor: NDArray[np.float64]


def constant_rows(weight: Array) -> NDArray[np.bool_]:
    """Return which rows are all zero: such a neuron outputs its bias whatever (finite) input it gets."""
    return ~np.any(_rows(weight) != 0, axis=1)  # type: ignore[no-any-return]


def dead_rows(weight: Array, bias: Array | None = None) -> NDArray[np.bool_]:
    """Return which rows are all zero and have bias zero (or no bias): such a neuron outputs zero."""
    constant = constant_rows(weight)
    return constant if bias is None else constant & (np.asarray(bias) == 0)


def duplicate_rows(weight: Array) -> NDArray[np.intp]:
    """Return, per row, the first row equal to it (itself when it is the first); O(size)."""
    rows = _rows(weight)
    # Adding zero turns -0.0 into 0.0, so that equal values have equal bytes.
    plain = np.ascontiguousarray(rows + rows.dtype.type(0))
    return _first_of(plain, ~np.any(rows != rows, axis=1))


def scaled_duplicate_rows(weight: Array) -> Scaled:
    """Return, per row, the first row of which it is a positive multiple: w[i] = factor[i] * w[representative[i]].

    Equal to rounding: a match is confirmed element by element within 2 eps of the dtype of the weight; a pair that
    straddles a rounding boundary of the hash may be missed. Rows of zeros, NaN or infinity match nothing.
    """
    rows = _rows(weight)
    eps = float(ml_dtypes.finfo(rows.dtype).eps)  # type: ignore[no-untyped-call]
    exact = rows.astype(np.float64)
    norms = np.max(np.abs(exact), axis=1, initial=0.0)
    usable = np.isfinite(norms) & (norms > 0)
    norms = np.where(usable, norms, 1.0)
    hashed = np.round(exact / norms[:, None] / (256 * eps)) + 0.0
    representative = _first_of(np.ascontiguousarray(hashed), usable)
    factor = norms / norms[representative]
    with np.errstate(invalid="ignore"):
        deviation = np.abs(exact - factor[:, None] * exact[representative])
    matches = np.all(deviation <= 2 * eps * np.abs(exact), axis=1)
    own = np.arange(len(rows))
    return Scaled(np.where(matches, representative, own), np.where(matches, factor, 1.0))


def _rows(weight: Array) -> Array:
    return weight.reshape(len(weight), int(np.prod(weight.shape[1:])))


def _first_of(rows: Array, usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, per row, the first usable row with the same bytes; a row that is not usable stands for itself."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), i) if usable[i] else i for i, row in enumerate(rows)], np.intp)
