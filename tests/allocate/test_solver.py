"""The choice per layer, against all choices."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.allocate import Option, solve
from fcc.allocate.solver import predicted
from fcc.errors import OptionError

KEEP = Option("keep", 10.0, 0.0)
NUMBERS = st.floats(0.001, 10, allow_nan=False)
LAYERS = st.lists(
    st.lists(st.tuples(NUMBERS, st.just(0.0) | st.floats(1e-6, 1)), min_size=0, max_size=3), min_size=1, max_size=4
)


def least(layers: list[list[Option]], budget: float) -> float:
    fits = [c for c in product(*(range(len(x)) for x in layers)) if predicted(layers, c) <= budget]
    return min(sum(x[i].cost for x, i in zip(layers, c, strict=True)) for c in fits)


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.floats(0, 1.5))
def test_no_choice_within_the_budget_costs_less(drawn: list[list[tuple[float, float]]], budget: float) -> None:
    layers = [[KEEP, *(Option("a", c, e) for c, e in options)] for options in drawn]
    chosen = solve(layers, budget)
    assert predicted(layers, chosen) <= budget * (1 + 1e-9)
    cost = sum(x[i].cost for x, i in zip(layers, chosen, strict=True))
    assert cost == pytest.approx(least(layers, budget), rel=1e-6)


def test_squares_add_up() -> None:
    half = Option("half", 5.0, 0.3)
    assert solve([[KEEP, half], [KEEP, half]], 0.43) == [1, 1]
    assert sorted(solve([[KEEP, half], [KEEP, half]], 0.42)) == [0, 1]
    assert predicted([[half], [half]], [0, 0]) == pytest.approx(0.3 * math.sqrt(2))


def test_the_greedy_choice_stands_in_for_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from fcc.allocate import solver as module

    monkeypatch.setattr(module, "_integer_program", lambda *_: None)
    cheap, dear = Option("cheap", 1.0, 0.4), Option("dear", 9.0, 0.3)
    assert solve([[KEEP, dear], [KEEP, cheap]], 0.45) == [0, 1]
    assert solve([[KEEP, dear], [KEEP, cheap]], 0.51) == [1, 1]
    assert solve([[KEEP, Option("mild", 8.0, 0.1), cheap]], 0.2) == [1]
    assert solve([[KEEP, Option("free", 8.0, 0.0)]], 0.0) == [1]


def test_options_that_are_beyond_the_budget_or_no_number_are_out() -> None:
    assert solve([[KEEP, Option("nan", 0.0, math.nan), Option("inf", 0.0, math.inf)]], 100.0) == [0]
    assert solve([], 1.0) == []


def test_bad_problems() -> None:
    with pytest.raises(OptionError, match="no option of error 0"):
        solve([[Option("a", 1.0, 0.1)]], 1.0)
    for budget in (-0.1, math.nan):
        with pytest.raises(OptionError, match="budget"):
            solve([[KEEP]], budget)
