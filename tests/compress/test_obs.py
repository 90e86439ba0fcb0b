"""Backward elimination is the exact greedy, and the repair the least squares of what stays."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.compress.moments import Moments
from fcc.compress.obs import RIDGE, Reader, eliminate, repaired

Array = np.ndarray[Any, Any]


def reader(
    features: int = 6,
    outputs: int = 3,
    per: int = 1,
    seed: int = 0,
    moves: bool = True,
    parts: int = 1,
    rows: int = 400,
) -> tuple[Reader, Array, Array]:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((features, features)) * np.logspace(0, -1, features)
    x = np.maximum(rng.standard_normal((rows, features)) @ mix + 0.5, 0)
    w = rng.standard_normal((features, outputs))
    y = x @ w + rng.standard_normal(outputs) + 0.05 * rng.standard_normal((rows, outputs))
    found = [Moments.of(x[i::parts, None], y[i::parts, None], np.arange(len(x[i::parts])), 0) for i in range(parts)]
    return Reader(w, np.arange(features) // per, [m for m in found if m is not None], moves), x, y


def left(x: Array, y: Array, w: Array, moves: bool) -> float:
    """The best ||x V - y||^2 / ||y||^2 with a ridge towards w."""
    a, b = (x - x.mean(axis=0), y - y.mean(axis=0)) if moves else (x, y)
    g = a.T @ a / len(a)
    v = np.linalg.solve(g + RIDGE * np.trace(g) / max(len(g), 1) * np.eye(len(g)), a.T @ b / len(a) + 0 * w)
    return float(np.sum((a @ v - b) ** 2) / np.sum(b**2))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.booleans(), st.sampled_from([1, 2, 3]))
def test_the_first_to_go_is_the_one_missed_least(seed: int, moves: bool, per: int) -> None:
    one, x, y = reader(seed=seed, moves=moves, per=per)
    found = eliminate([one], 6 // per, 6 // per - 1)
    errors = [left(x[:, one.units != u], y, one.weight[one.units != u], moves) for u in range(6 // per)]
    assert errors[int(found.order[0])] <= min(errors) * 1.05 + 1e-4
    assert found.errors[1] ** 2 == pytest.approx(errors[int(found.order[0])], rel=0.1, abs=2e-3)
    assert found.errors[0] ** 2 == pytest.approx(left(x, y, one.weight, moves), rel=0.1, abs=2e-3)


def test_downdates_are_those_of_the_smaller_problem() -> None:
    """The error told after k removals is that of the repair without them."""
    one, _, _ = reader(features=12, per=2)
    found = eliminate([one], 6, 1)
    assert sorted(found.order.tolist() + [u for u in range(6) if u not in found.order]) == list(range(6))
    assert len(found.order) == 5
    assert all(a <= b for a, b in itertools.pairwise(found.errors))
    for k in range(6):
        repair = repaired(one, ~np.isin(one.units, found.order[:k]))
        assert found.errors[k] == pytest.approx(repair.error, rel=0.03, abs=1e-3)
        assert (repair.held_out, repair.ridge) == (False, RIDGE)


def test_several_readers_agree_on_what_goes() -> None:
    one, x, _ = reader(features=4)
    weights = np.eye(4)
    weights[2] = 0

    def reads(w: Array) -> Reader:
        moments = Moments.of(x[:, None], (x @ w)[:, None], np.arange(len(x)), 0)
        assert moments is not None
        return Reader(w, np.arange(4), [moments])

    first = reads(weights[:, [0, 1]] * 1e3)
    second = reads(np.eye(4)[:, [3]] * 1e-3)
    assert eliminate([first, second], 4, 3).order.tolist() == [2]
    assert one.moves


def test_features_of_no_unit_stay_and_units_without_features_cost_nothing() -> None:
    one, _, _ = reader(features=6)
    units = np.array([-1, 0, 2, -1, 3, 3])
    found = eliminate([Reader(one.weight, units, one.parts)], 4, 1)
    assert found.order[0] == 1
    assert found.errors[1] == found.errors[0]
    assert len(found.order) == 3


def test_many_features_go_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _, _ = reader(features=80, outputs=5, rows=2000)
    exact = eliminate([one], 80, 20)
    monkeypatch.setattr("fcc.compress.obs._LARGE", 10)
    monkeypatch.setattr("fcc.compress.obs._STEPS", 8)
    found = eliminate([one], 80, 20)
    assert len(set(found.order.tolist())) == 60
    assert len(found.errors) == 61
    assert found.errors[-1] < 1.3 * exact.errors[-1]
    repair = repaired(one, ~np.isin(one.units, found.order))
    assert found.errors[-1] == pytest.approx(repair.error, rel=0.05)


@pytest.mark.parametrize("moves", [True, False])
def test_repairs_by_least_squares(moves: bool) -> None:
    one, x, y = reader(moves=moves, parts=2)
    stays = np.array([True, False, True, True, False, True])
    repair = repaired(one, stays)
    a = np.concatenate([x[:, stays], np.ones((len(x), 1))], axis=1) if moves else x[:, stays]
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    np.testing.assert_allclose(repair.weight, best[:4], atol=0.05)
    centred = y - y.mean(axis=0) if moves else y
    lost = np.linalg.norm(a @ best - y) / np.linalg.norm(centred)
    assert repair.error == pytest.approx(lost, rel=0.1)
    assert repair.held_out
    if moves:
        assert repair.bias is not None
        np.testing.assert_allclose(
            (x[:, stays] @ repair.weight + repair.bias).mean(axis=0), y.mean(axis=0), rtol=1e-9, atol=1e-9
        )
    else:
        assert repair.bias is None


def test_few_samples_are_not_trusted() -> None:
    """With fewer rows than features least squares fits noise: the ridge that left-out samples choose is large."""
    rng = np.random.default_rng(0)
    x, fresh = rng.standard_normal((30, 60)), rng.standard_normal((500, 60))
    w = rng.standard_normal((60, 4))
    parts = [Moments.of(x[i::2, None], (x @ w)[i::2, None], np.arange(15), 0) for i in range(2)]
    one = Reader(w, np.arange(60), [m for m in parts if m is not None])
    stays = np.arange(60) < 50
    repair = repaired(one, stays)
    assert repair.ridge >= 0.1
    assert repair.bias is not None
    lost = np.linalg.norm(fresh[:, stays] @ repair.weight + repair.bias - fresh @ w) / np.linalg.norm(fresh @ w)
    assert lost < 0.55
    assert repair.error == pytest.approx(lost, rel=0.5)


def test_a_mean_that_moves_between_parts_counts() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((200, 3)), np.ones((3, 1))
    x[100:] += 5
    y = x @ w
    parts = [Moments.of(x[i, None], y[i, None], np.arange(100), 0) for i in (slice(100), slice(100, 200))]
    made = repaired(Reader(w, np.arange(3), [m for m in parts if m is not None]), np.array([True, False, True]))
    assert made.error > 0.5


def test_outputs_that_never_move_cost_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((50, 4))
    still = Moments.of(x[:, None], np.ones((50, 1, 2)), np.arange(50), 0)
    assert still is not None
    one = Reader(np.ones((4, 2)), np.arange(4), [still])
    assert eliminate([one], 4, 2).errors.tolist() == [0, 0, 0]
    assert repaired(one, np.array([True, True, False, False])).error == 0


def test_degenerate_moments_are_an_error() -> None:
    one, _, _ = reader()
    bad = one.parts[0]
    flipped = Moments(type(bad.xx)(bad.xx.count, bad.xx.a, bad.xx.b, -bad.xx.total), bad.xy, bad.power)
    with pytest.raises(np.linalg.LinAlgError):
        eliminate([Reader(one.weight, one.units, [flipped])], 6, 3)


def test_less_is_the_beginning_of_more() -> None:
    one, _, _ = reader(features=12)
    most, some = eliminate([one], 12, 2), eliminate([one], 12, 7)
    found = most.until(7, 12)
    np.testing.assert_array_equal(found.order, some.order)
    np.testing.assert_array_equal(found.errors, some.errors)
