"""Linear forms and sums of products are what they say: arithmetic on them equals arithmetic on rows of numbers."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes._cells import same
from fcc.passes._forms import Form, constant, joined, rows
from fcc.passes._terms import Algebra, Sum

Array = np.ndarray[Any, Any]
SIZES = {"x": 3, "h": 4}
FUNCTIONS: dict[str, Callable[[Array], Array]] = {"Tanh": np.tanh, "Sigmoid": lambda v: 1 / (1 + np.exp(-v))}


def values(seed: int = 0) -> dict[Hashable, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((2, n)) for name, n in SIZES.items()}


def of_form(form: Form, given: dict[Hashable, Array]) -> Array:
    total = np.broadcast_to(form.bias, (2, form.width)).copy()
    for source in form.sources():
        row = of_sum(source, given) if isinstance(source, Sum) else given[source]
        total += row @ form.dense(source, row.shape[1])
    return total


def of_sum(a: Sum, given: dict[Hashable, Array]) -> Array:
    total = np.zeros((2, a.width))
    for product, form in a.terms.items():
        part = of_form(form, given)
        for atom in product:
            part = part * FUNCTIONS[atom.kind](of_sum(atom.of, given))
        total = total + part
    return total


@st.composite
def forms(draw: st.DrawFn, width: int) -> Form:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    found = constant(rng.standard_normal(width))
    for source in draw(st.lists(st.sampled_from(list(SIZES)), max_size=3)):
        part = rows(source, SIZES[source])
        start = draw(st.integers(0, SIZES[source] - 1))
        part = part.columns(start, draw(st.integers(start + 1, SIZES[source])))
        if draw(st.booleans()) or part.width != width:
            part = part.times(rng.standard_normal((part.width, width)))
        found = found.plus(part)
    return found


@settings(max_examples=60)
@given(forms(4), forms(4), st.integers(0, 3), st.integers(1, 4))
def test_forms(a: Form, b: Form, start: int, size: int) -> None:
    given_rows, rng = values(), np.random.default_rng(1)
    x, y = of_form(a, given_rows), of_form(b, given_rows)
    stop = min(4, start + size)
    matrix, row = rng.standard_normal((4, 5)), rng.standard_normal(4)
    for found, expected in (
        (a.plus(b), x + y),
        (a.columns(start, stop), x[:, start:stop]),
        (a.times(matrix), x @ matrix),
        (a.scaled(row), x * row),
        (joined([a, b]), np.concatenate([x, y], axis=1)),
        (joined([a, b]).columns(2, 7), np.concatenate([x, y], axis=1)[:, 2:7]),
        (joined([a, b]).times(rng.standard_normal((8, 2))), None),
    ):
        if expected is not None:
            assert np.allclose(of_form(found, given_rows), expected)
    assert a.scaled(np.zeros(4)).is_zero
    assert constant(np.zeros(4)).is_zero
    assert not constant(np.array([0.0, 1.0])).is_zero
    assert a.is_constant == (list(a.sources()) == [])
    assert of_form(a.without(["x"]), given_rows | {"x": np.zeros((2, 3))}).shape == x.shape
    zeroed = given_rows | {"x": np.zeros((2, 3))}
    assert np.allclose(of_form(a.without(["x"]), given_rows), of_form(a, zeroed))
    assert a.reach("h") <= 4


def test_columns_of_a_form_reach_as_far_as_they_are_taken() -> None:
    form = rows("h", 4).columns(1, 3)
    assert form.reach("h") == 3
    assert form.reach("x") == 0
    assert form.columns(1, 2).reach("h") == 3
    assert form.columns(0, 1).reach("h") == 2
    assert form.columns(2, 2).is_zero


def test_a_constant_of_one_column_stands_for_many() -> None:
    one = constant(np.array([2.0]))
    wide = one.widened(3)
    assert wide is not None
    assert wide.bias.tolist() == [2, 2, 2]
    assert rows("x", 1).widened(3) is None
    assert constant(np.ones(2)).widened(3) is None
    same_width = rows("x", 3)
    assert same_width.widened(3) is same_width


@st.composite
def sums(draw: st.DrawFn, algebra: Algebra, depth: int = 2) -> Sum:
    found = algebra.linear(draw(forms(4)))
    for _ in range(draw(st.integers(0, 2)) if depth else 0):
        inner = algebra.activation(draw(st.sampled_from(list(FUNCTIONS))), draw(sums(algebra, depth - 1)))
        factor = draw(st.sampled_from(["plain", "state", "number"]))
        other = {
            "plain": algebra.linear_row(np.ones(4)),
            "state": algebra.rows("h", 4),
            "number": algebra.linear_row(np.array([draw(st.sampled_from([-1.0, 0.5]))])),
        }[factor]
        part = algebra.times(inner, other)
        assert part is not None
        total = algebra.plus(found, part)
        assert total is not None
        found = total
    return found


ALGEBRA = Algebra()


@settings(max_examples=60)
@given(sums(ALGEBRA), sums(ALGEBRA), st.integers(0, 3), st.integers(1, 4))
def test_sums(a: Sum, b: Sum, start: int, size: int) -> None:
    given_rows, rng = values(), np.random.default_rng(1)
    x, y = of_sum(a, given_rows), of_sum(b, given_rows)
    stop = min(4, start + size)
    matrix, row = rng.standard_normal((4, 5)), rng.standard_normal(4)
    found: list[tuple[Sum | None, Array]] = [
        (ALGEBRA.plus(a, b), x + y),
        (ALGEBRA.scaled(a, row), x * row),
        (ALGEBRA.scaled(a, np.array([-1.0])), -x),
        (ALGEBRA.multiplied(a, matrix), x @ matrix),
        (ALGEBRA.columns(a, start, stop), x[:, start:stop]),
        (ALGEBRA.joined([a, b]), np.concatenate([x, y], axis=1)),
        (ALGEBRA.columns(ALGEBRA.joined([a, b]), 4, 8), y),
        (ALGEBRA.columns(ALGEBRA.columns(ALGEBRA.joined([a, b]), 2, 7), 1, 4), np.concatenate([x, y], 1)[:, 3:6]),
        (ALGEBRA.without(a, ["h"]), of_sum(a, given_rows | {"h": np.zeros((2, 4))})),
        (
            ALGEBRA.without(ALGEBRA.multiplied(a, matrix), ["x"]),
            of_sum(a, given_rows | {"x": np.zeros((2, 3))}) @ matrix,
        ),
    ]
    product = ALGEBRA.times(a, b)
    if product is not None:
        found.append((product, x * y))
    for one, expected in found:
        assert one is not None
        assert np.allclose(of_sum(one, given_rows), expected)
        assert one.width == expected.shape[1]
    names = {s for s in a.sources()}
    assert names <= {"x", "h"}
    assert (a.row is not None) == (not any(a.terms) and not names)


def test_the_columns_of_several_sums_side_by_side_are_those_sums_again() -> None:
    algebra = Algebra()
    a = algebra.activation("Tanh", algebra.rows("h", 4))
    both = algebra.joined([a, algebra.rows("x", 3)])
    assert algebra.columns(both, 0, 4) is a
    assert algebra.columns(both, 1, 3) is algebra.columns(a, 1, 3)
    assert algebra.columns(a, 0, 4) is a


@pytest.mark.parametrize("widths", [(1, 4), (4, 1)])
def test_what_does_not_broadcast(widths: tuple[int, int]) -> None:
    algebra = Algebra()
    a, b = (algebra.rows(f"s{w}", w) for w in widths)
    assert algebra.plus(a, b) is None
    assert algebra.times(algebra.activation("Tanh", a), algebra.activation("Tanh", b)) is None
    assert algebra.times(a, algebra.linear_row(np.ones(4))) is None or widths == (4, 1)


def test_rows_are_not_multiplied_by_rows() -> None:
    algebra = Algebra()
    assert algebra.times(algebra.rows("h", 4), algebra.rows("h", 4)) is None


# -- equality ----------------------------------------------------------------------------------------------------------
def cell(algebra: Algebra, x: str = "x", factor: float = 1.0, shift: float = 0.0, kind: str = "Tanh") -> Sum:
    weight = np.arange(12.0).reshape(3, 4) * factor
    inner = algebra.plus(algebra.multiplied(algebra.rows(x, 3), weight), algebra.linear_row(np.full(4, shift)))
    assert inner is not None
    gate = algebra.activation(kind, inner)
    found = algebra.times(gate, algebra.activation("Sigmoid", algebra.rows("h", 4)))
    assert found is not None
    return found


def test_equal_sums_of_other_objects_are_the_same() -> None:
    a, b = cell(Algebra()), cell(Algebra())
    assert same(a, b, {})
    assert same(cell(Algebra()), cell(Algebra(), "v"), {"x": "v"})
    assert same(cell(Algebra()), cell(Algebra(), factor=1 + 1e-7), {})


@pytest.mark.parametrize("change", [{"x": "v"}, {"factor": 1.01}, {"shift": 0.01}, {"kind": "Sigmoid"}])
def test_other_sums_are_not(change: dict[str, Any]) -> None:
    assert not same(cell(Algebra()), cell(Algebra(), **change), {})


def test_more_or_fewer_terms_are_another_sum() -> None:
    algebra = Algebra()
    a = cell(algebra)
    more = algebra.plus(a, algebra.rows("h", 4))
    twice = algebra.times(a, algebra.activation("Tanh", algebra.rows("h", 4)))
    assert more is not None
    assert twice is not None
    for other in (more, twice, algebra.columns(a, 0, 3)):
        assert not same(a, other, {})
        assert not same(other, a, {})
    opaque = algebra.multiplied(a, np.eye(4))
    assert same(opaque, algebra.multiplied(cell(Algebra()), np.eye(4)), {})
    assert not same(opaque, algebra.multiplied(cell(Algebra(), shift=1.0), np.eye(4)), {})
    assert not same(opaque, algebra.multiplied(a, 2 * np.eye(4)), {})
