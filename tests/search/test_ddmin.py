"""Delta debugging: minimal, in order, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fcc.search.ddmin import ddmin

CASES = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=6)))


@given(CASES)
def test_keeps_exactly_what_is_needed(case: tuple[int, set[int]]) -> None:
    total, needed = case
    kept = ddmin(range(total), lambda items: needed <= set(items))
    assert kept == tuple(sorted(needed)) if needed else len(kept) == 1


@given(st.integers(2, 200), st.integers(0, 199))
def test_one_of_many_takes_logarithmic_tries(total: int, at: int) -> None:
    asked = []

    def holds(items: tuple[int, ...]) -> bool:
        asked.append(items)
        return at % total in items

    assert ddmin(range(total), holds) == (at % total,)
    assert len(asked) <= 2 * total.bit_length()


@given(st.lists(st.booleans(), min_size=2, max_size=20), st.integers(1, 7))
def test_no_single_item_can_go_whatever_is_asked(marks: list[bool], modulus: int) -> None:
    def holds(items: tuple[int, ...]) -> bool:
        return sum(marks[i] for i in items) % modulus == sum(marks) % modulus

    kept = ddmin(range(len(marks)), holds)
    assert holds(kept)
    assert len(kept) == 1 or not any(holds(kept[:i] + kept[i + 1 :]) for i in range(len(kept)))


def test_asks_no_more_than_it_may() -> None:
    asked = []

    def holds(items: tuple[int, ...]) -> bool:
        asked.append(items)
        return 3 in items

    assert 3 in ddmin(range(100), holds, tries=3)
    assert len(asked) == 3
    assert ddmin(range(100), holds, tries=0) == tuple(range(100))
