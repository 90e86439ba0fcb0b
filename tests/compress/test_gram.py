"""Gram matrices streamed over samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc.compress.calibrate import CalibrationStats
from fcc.compress.gram import ROWS_PER_SAMPLE, Gram


def matrix(gram: Gram) -> np.ndarray[Any, Any]:
    found = gram.matrix()
    assert found is not None
    return found


def test_any_rank_and_axis() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 3)).astype(np.float32), rng.standard_normal((0, 5, 3)).astype(np.float32)
    last, middle = Gram(), Gram(1)
    for array in (a, b, a):
        last.update(array)
        middle.update(array)
    rows = a.reshape(-1, 3).astype(np.float64)
    assert np.allclose(matrix(last), rows.T @ rows / 10)
    rows = np.moveaxis(a, 1, -1).reshape(-1, 5).astype(np.float64)
    assert np.allclose(matrix(middle), rows.T @ rows / 6)


def test_long_samples_are_thinned_and_bad_rows_left_out() -> None:
    array = np.ones((3 * ROWS_PER_SAMPLE, 2), np.float32)
    array[3] = np.nan
    gram = Gram()
    gram.update(array)
    assert gram.rows == ROWS_PER_SAMPLE - 1
    assert np.array_equal(matrix(gram), np.ones((2, 2)))


def test_merged_is_as_if_seen_together() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((7, 3))
    parts = [CalibrationStats(grams={"x": Gram()}) for _ in range(3)]
    parts[0].update({"x": a})
    parts[1].update({"x": b})
    found = parts[0].merged(parts[1]).merged(parts[2]).gram("x")
    both = np.concatenate([a, b])
    assert found is not None
    assert np.allclose(found, both.T @ both / 11)
    assert parts[2].gram("x") is None
    assert parts[2].gram("y") is None


def test_features_may_not_change() -> None:
    gram = Gram()
    gram.update(np.ones((2, 3)))
    with pytest.raises(ValueError, match="4 features after 3"):
        gram.update(np.ones((2, 4)))
