"""Confidence bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fcc.allocate import agreement_bound, mean_bound
from fcc.errors import OptionError


def test_all_of_300_alike() -> None:
    assert agreement_bound(300, 300) == pytest.approx(0.05 ** (1 / 300))
    assert agreement_bound(600, 600) == pytest.approx(0.995, abs=1e-4)
    assert agreement_bound(0, 5) == 0.0


@given(st.integers(1, 50), st.data())
def test_the_bound_is_where_the_tail_has_the_rest_of_the_confidence(samples: int, data: st.DataObject) -> None:
    agreeing = data.draw(st.integers(1, samples))
    bound = agreement_bound(agreeing, samples, 0.9)
    assert 0 < bound < agreeing / samples
    assert binom.sf(agreeing - 1, samples, bound) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize(("agreeing", "samples", "confidence"), [(3, 2, 0.9), (-1, 2, 0.9), (0, 0, 0.9), (1, 2, 1.0)])
def test_counts_that_do_not_fit(agreeing: int, samples: int, confidence: float) -> None:
    with pytest.raises(OptionError):
        agreement_bound(agreeing, samples, confidence)


def test_a_mean_is_bounded_from_above_and_drawn_from_its_seed() -> None:
    rng = np.random.default_rng(0)
    errors, sizes = rng.exponential(0.01, 50), rng.exponential(1.0, 50)
    figure = float(np.sqrt(errors.sum() / sizes.sum()))
    bound = mean_bound(errors, sizes)
    assert figure < bound < 1.5 * figure
    assert bound == mean_bound(errors, sizes)
    assert bound != mean_bound(errors, sizes, seed=1)
    assert mean_bound(errors, sizes, 0.5) < bound
    assert mean_bound([0.04], [1.0]) == pytest.approx(0.2)


def test_outputs_of_zeros() -> None:
    assert mean_bound([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert mean_bound([1.0], [0.0]) == np.inf


def test_no_samples() -> None:
    for errors, sizes in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(OptionError, match="say nothing"):
            mean_bound(errors, sizes)
