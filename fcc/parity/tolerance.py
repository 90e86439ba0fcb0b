"""How far an output may move before it counts as wrong: a table per element type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fcc.data.spec import is_float

# Largest max|y - y0| / max|y0| of a rewrite that is exact but for rounding. float32 is architecture decision 8; the
# others scale with the unit roundoff (2**-11 for float16, 2**-8 for bfloat16). What is not listed must be equal.
FLOORS: Mapping[str, float] = {
    "float64": 1e-6,
    "complex128": 1e-6,
    "float32": 1e-4,
    "complex64": 1e-4,
    "float16": 5e-3,
    "bfloat16": 4e-2,
    "float8_e4m3fn": 0.25,
    "float8_e4m3fnuz": 0.25,
    "float8_e5m2": 0.5,
    "float8_e5m2fnuz": 0.5,
}
NOISE_FACTOR = 2.0  # times the source's own difference between optimizations off and on
SILENT = 1e-6  # an output with no larger element can judge nothing


def floor_of(dtype: np.dtype[Any], inside: Iterable[np.dtype[Any]] = ()) -> float:
    """Return the tolerance of an output; a float computed from coarser floats inside the model has theirs."""
    if dtype.name not in FLOORS:
        return 0.0
    return max([FLOORS[dtype.name], *(FLOORS[d.name] for d in inside if is_float(d) and d.name in FLOORS)])


def limit_of(floor: float, noise: float) -> float:
    """Return max(floor, 2 noise); a noise that is not finite says nothing."""
    return max(floor, NOISE_FACTOR * noise) if np.isfinite(noise) else floor
