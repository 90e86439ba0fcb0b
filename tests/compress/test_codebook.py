"""Codebooks: exact where they can be, near the least error elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fcc.compress import codebook


def error(array: NDArray[np.float32], found: codebook.Codebook) -> float:
    return float(np.linalg.norm(array - found.entries[found.indices]) / np.linalg.norm(array))


def test_few_values_are_kept_exactly() -> None:
    array = np.random.default_rng(0).choice(np.linspace(-3, 5, 256), (40, 30)).astype(np.float32)
    found = codebook.fit(array)
    assert np.array_equal(found.entries[found.indices], array)
    assert found.indices.shape == array.shape
    assert found.indices.dtype == np.uint8
    assert np.all(np.diff(found.entries) > 0)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_one_value(value: float) -> None:
    found = codebook.fit(np.full((3, 4), value, np.float32))
    assert found.entries.tolist() == [value]
    assert not found.indices.any()


def test_error_of_normal_weights_is_near_the_least() -> None:
    """The least error of 2^8 levels for a normal density is sqrt(sqrt(3) pi / 2) / 2^8 (Panter and Dite)."""
    array = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    least = np.sqrt(np.sqrt(3) * np.pi / 2) / 256
    found = codebook.fit(array)
    assert len(found.entries) == 256
    assert error(array, found) < 1.02 * least
    assert found.indices.min() == 0
    assert found.indices.max() == 255


def test_every_element_takes_its_nearest_entry() -> None:
    array = np.random.default_rng(1).laplace(size=5000).astype(np.float32)
    entries, indices = codebook.fit(array)
    nearest = np.abs(array[:, None].astype(np.float64) - entries).argmin(axis=1)
    taken = np.abs(array - entries[indices])
    assert np.all(taken <= np.abs(array - entries[nearest]) * (1 + 1e-5) + 1e-9)


def test_outliers_have_entries() -> None:
    array = np.append(np.random.default_rng(2).standard_normal(10000), [100.0, -80.0]).astype(np.float32)
    entries, indices = codebook.fit(array)
    assert np.abs(entries[indices] - array)[-2:].max() < 1.0


def test_a_large_tensor_is_fitted_to_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(3).standard_normal(200_000).astype(np.float32)
    whole = error(array, codebook.fit(array))
    monkeypatch.setattr(codebook, "SAMPLE", 50_000)
    assert error(array, codebook.fit(array)) < 1.2 * whole
