"""What a sample that nothing was fitted to or chosen on says about all samples, at a confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fcc.errors import OptionError

CONFIDENCE = 0.95
_DRAWS = 2000


def agreement_bound(agreeing: int, samples: int, confidence: float = CONFIDENCE) -> float:
    """Return the agreement that holds at least, one-sided: all of 300 samples alike say 0.990 at 95 %.

    p with P(X >= agreeing | p) = 1 - confidence for X binomial(samples, p); 0 where none agrees.

    Raises:
        OptionError: the counts do not fit each other, or the confidence is not between 0 and 1.
    Source: Clopper & Pearson 1934, Biometrika 26(4).
    """
    if not 0 <= agreeing <= samples or samples == 0:
        raise OptionError(f"{agreeing} of {samples} samples cannot agree")
    if not 0 < confidence < 1:
        raise OptionError(f"confidence {confidence} is not between 0 and 1")
    if agreeing == 0:
        return 0.0
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, agreeing, samples - agreeing + 1))


def mean_bound(errors: ArrayLike, sizes: ArrayLike, confidence: float = CONFIDENCE, seed: int = 0) -> float:
    """Return what a relative error is at most, one-sided: sqrt(sum errors / sum sizes) over samples, bootstrapped.

    ``errors``: squared norm of the difference per sample, ``sizes``: squared norm of the original's outputs. The
    quantile of 2,000 resamples of whole samples, drawn from ``seed``; never below the figure of the sample itself.

    Raises:
        OptionError: no sample, or not as many sizes as errors.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, sec. 13.3 (percentile intervals).
    """
    a, b = np.asarray(errors, np.float64), np.asarray(sizes, np.float64)
    if a.size == 0 or a.shape != b.shape:
        raise OptionError(f"{a.size} errors and {b.size} sizes say nothing about a mean")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, a.size, (_DRAWS, a.size))
    figures = _ratio(a[drawn].sum(axis=1), b[drawn].sum(axis=1))
    upper = np.quantile(figures, confidence, method="higher")
    return float(np.maximum(upper, _ratio(a.sum(), b.sum())))


def _ratio(error: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt(error / size)
    return np.where(error == 0, 0.0, np.where(size == 0, np.inf, found))
