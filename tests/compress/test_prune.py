"""Redundant rows: exact, first representative, NaN equal to nothing."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcc.compress.prune import constant_rows, dead_rows, duplicate_rows, scaled_duplicate_rows

SMALL = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, float("nan")]),
)


@given(SMALL)
def test_duplicates_against_the_definition(weight: NDArray[np.float32]) -> None:
    expected = [next((j for j in range(i) if np.array_equal(weight[i], weight[j])), i) for i in range(len(weight))]
    assert duplicate_rows(weight).tolist() == expected


@given(SMALL)
def test_constant_rows_against_the_definition(weight: NDArray[np.float32]) -> None:
    assert constant_rows(weight).tolist() == [bool((row == 0).all()) for row in weight]


def test_dead_rows_need_a_zero_bias() -> None:
    weight = np.array([[0.0, -0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    assert dead_rows(weight).tolist() == [True, True, False, True]
    assert dead_rows(weight, np.array([0.0, 2.0, 0.0, np.nan])).tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, ml_dtypes.bfloat16])
def test_dtypes(dtype: type) -> None:
    weight: NDArray[Any] = np.array([[1, 2], [0, 0], [1, 2], [2, 1]], dtype)
    assert duplicate_rows(weight).tolist() == [0, 1, 0, 3]
    assert constant_rows(weight).tolist() == [False, True, False, False]


def test_filters_are_flattened() -> None:
    weight = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
    weight[2] = weight[0]
    assert duplicate_rows(weight).tolist() == [0, 1, 0]


def test_positive_multiples() -> None:
    row = np.random.default_rng(0).normal(size=64).astype(np.float32)
    other = np.roll(row, 1)
    weight = np.stack([row, row * 4, other, row * np.float32(0.3), -row, row])
    representative, factor = scaled_duplicate_rows(weight)
    assert representative.tolist() == [0, 0, 2, 0, 4, 0]
    np.testing.assert_allclose(factor, [1, 4, 1, 0.3, 1, 1], rtol=1e-6)


def test_near_multiples_are_none() -> None:
    row = np.ones(4, np.float32)
    close = row.copy()
    close[3] += 1e-5
    assert scaled_duplicate_rows(np.stack([row, close])).representative.tolist() == [0, 1]


def test_multiples_of_nothing() -> None:
    weight = np.array([[0, 0], [0, 0], [np.nan, 1], [np.nan, 1], [np.inf, 1], [np.inf, 1]], np.float32)
    representative, factor = scaled_duplicate_rows(weight)
    assert representative.tolist() == list(range(6))
    assert (factor == 1).all()


@given(hnp.arrays(np.float32, (6, 3), elements=st.floats(-8, 8, width=16)))
def test_reported_multiples_are_multiples(weight: NDArray[np.float32]) -> None:
    representative, factor = scaled_duplicate_rows(weight)
    assert (factor > 0).all()
    assert (representative <= np.arange(6)).all()
    np.testing.assert_allclose(weight, factor[:, None] * weight[representative], rtol=3e-7)
