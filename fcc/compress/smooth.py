"""SmoothQuant: how much of the spread of the channels of an activation goes into the weights that read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Keeps what is scaled far from the ends of float16.
MOST = 8


def smoothing(activations: NDArray[Any], weights: NDArray[Any], alpha: float) -> Floats:
    """Return s_c = max|x_c|^alpha / max|w_c|^(1 - alpha) per channel, rounded to a power of two in 2^-8..2^8.

    1 for a channel that is zero on either side. Divided by its geometric mean first: only differences count.
    """
    x, w = np.asarray(activations, np.float64), np.asarray(weights, np.float64)
    alive = (x > 0) & (w > 0)
    if not alive.any():
        return np.ones(len(x))
    exponent = np.zeros(len(x))
    exponent[alive] = alpha * np.log2(x[alive]) - (1 - alpha) * np.log2(w[alive])
    exponent[alive] -= np.mean(exponent[alive])
    scale: Floats = np.exp2(np.clip(np.rint(exponent), -MOST, MOST))
    return scale
