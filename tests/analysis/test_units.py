"""Disjoint sets of channel numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fcc.analysis.units import Units


def test_new_numbers_stand_alone() -> None:
    units = Units()
    assert units.new(2).tolist() == [0, 1]
    assert units.new(0).tolist() == []
    assert units.new(2).tolist() == [2, 3]
    assert units.find(np.arange(4)).tolist() == [0, 1, 2, 3]
    assert len(units) == 4


def test_the_first_reason_of_a_set_counts() -> None:
    units = Units()
    a, b = units.new(2), units.new(2)
    units.block(b[1:], "first")
    units.block(a, "second")
    units.unite(a, b)
    assert units.reasons() == {1: "first", 0: "second"}


def test_joined_leaves_the_sets_as_they_are() -> None:
    units = Units()
    a, b, _ = units.new(3), units.new(2), units.new(1)
    units.unite(a[2:], b[:1])
    assert units.joined([a, b, np.zeros(0, np.int64)]).tolist() == [0, 0, 0, 0, 0, 5]
    assert units.find(np.arange(6)).tolist() == [0, 1, 2, 2, 4, 5]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_sets_are_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    units = Units()
    units.new(12)
    for a, b in pairs:
        units.unite(np.array([a]), np.array([b]))
    parent = list(range(12))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    assert units.find(np.arange(12)).tolist() == [root(i) for i in range(12)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(8, 15)), min_size=1, max_size=8))
def test_many_at_once(pairs: list[tuple[int, int]]) -> None:
    one, all_ = Units(), Units()
    for units in (one, all_):
        units.new(16)
    for a, b in pairs:
        one.unite(np.array([a]), np.array([b]))
    all_.unite(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    assert one.find(np.arange(16)).tolist() == all_.find(np.arange(16)).tolist()
