"""Second moments of pairs of rows: streamed, merged in order, means and products exact."""

from __future__ import annotations

import itertools
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.compress.moments import Gathered, Moments, Product, merged

Array = np.ndarray[Any, Any]


def rows(count: int, groups: int = 2, m: int = 3, n: int = 4, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((count, groups, m)) * 3 + 1e4,
        rng.standard_normal((count, groups, n)) - 7,
        np.arange(count) % 3,
    )


def streamed(x: Array, y: Array, fold: Array, cuts: list[int], folds: int) -> Moments:
    edges = [0, *sorted({c for c in cuts if 0 < c < len(x)}), len(x)]
    parts = [Moments.of(x[a:b], y[a:b], fold[a:b], folds) for a, b in itertools.pairwise(edges)]
    return reduce(lambda a, b: a.merged(b), [p for p in parts if p is not None])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(1, 39), max_size=4), st.sampled_from([0, 4]))
def test_pieces_give_what_the_whole_gives(count: int, cuts: list[int], folds: int) -> None:
    x, y, fold = rows(count)
    found = streamed(x, y, fold, cuts, folds)
    for centred in (True, False):
        a, b = (x - x.mean(axis=0), y - y.mean(axis=0)) if centred else (x, y)
        np.testing.assert_allclose(
            found.xx.moment(centred), np.einsum("rgi,rgj->gij", a, a) / count, rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(
            found.xy.moment(centred), np.einsum("rgi,rgj->gij", a, b) / count, rtol=1e-9, atol=1e-6
        )
        np.testing.assert_allclose(found.energy(centred), (b**2).sum(axis=(0, 2)) / count, rtol=1e-9, atol=1e-9)
    assert (found.xx.count, found.sizes, len(found.folds)) == (count, (2, 3, 4), folds)
    for i, part in enumerate(found.folds):
        own = y[fold == i]
        if part is None:
            assert not len(own)
        else:
            assert part.count == len(own)
            np.testing.assert_allclose(part.moment(False), np.einsum("rgi,rgj->gij", own, own) / len(own), rtol=1e-9)


def test_rows_that_are_not_finite_are_left_out_with_their_partner() -> None:
    x, y, fold = rows(6)
    x[1, 0, 2], y[4, 1, 0] = np.nan, np.inf
    found, kept = Moments.of(x, y, fold, 4), [0, 2, 3, 5]
    clean = Moments.of(x[kept], y[kept], fold[kept], 4)
    assert found is not None
    assert clean is not None
    assert found.xx.count == 4
    np.testing.assert_array_equal(found.xy.total, clean.xy.total)
    assert Moments.of(x[1:2], y[1:2], fold[1:2], 4) is None


def test_large_means_do_not_swallow_small_deviations() -> None:
    x = 1e8 + np.array([-1.0, 1.0, -1.0, 1.0]).reshape(4, 1, 1)
    one = Product.of(x[:2], x[:2]).merged(Product.of(x[2:], x[2:]))
    assert one.moment()[0, 0, 0] == pytest.approx(1.0, rel=1e-6)


def test_gathered_by_key_and_merged_with_none() -> None:
    x, y, fold = rows(5)
    own = Moments.of(x, y, fold, 0)
    assert own is not None
    a, b = Gathered(), Gathered()
    a.add("p", own)
    a.add("q", None)
    b.add("p", own)
    both = a.merged(b).found
    assert list(both) == ["p"]
    assert both["p"].xx.count == 10
    assert a.found["p"].xx.count == 5
    assert merged([None, None]) is None
    assert merged([None, own, own]).xx.count == 10
