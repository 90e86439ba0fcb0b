"""Bounds on what a model loses, from samples that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from fcc.data.dataset import open_data
from fcc.data.spec import Feeds, Outputs, TensorSpec
from fcc.parity import metric
from fcc.parity.certify import MOST, certify
from fcc.report import Report

F32 = np.dtype(np.float32)


def figures(*given: Any) -> Any:
    found = certify(*given)
    assert found is not None
    return found


def feeds(count: int, width: int = 4, rows: int = 1) -> list[Feeds]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((rows, width)).astype(np.float32)} for _ in range(count)]


def same(f: Feeds) -> Outputs:
    return {"y": f["x"]}


def scaled(f: Feeds) -> Outputs:
    return {"y": f["x"] * (1 + 0.02 * np.abs(f["x"]))}


def turned(f: Feeds) -> Outputs:
    """Another largest element where the first is below -1."""
    return {"y": np.where(f["x"][:, :1] < -1, -f["x"], f["x"])}


def test_the_bound_of_a_relative_error_covers_other_samples() -> None:
    found, large = figures(same, scaled, feeds(100), metric("rel")), figures(same, scaled, feeds(1500), metric("rel"))
    assert found.figure < large.figure * 1.2
    assert large.figure < found.bound < 1.3 * large.figure
    assert large.bound - large.figure < found.bound - found.figure
    assert (found.units, found.confidence) == (100, 0.95)


def test_agreement_is_bounded_exactly_where_a_sample_is_one_decision() -> None:
    found = figures(same, turned, feeds(200), metric("agreement"))
    misses = round(found.figure * 200)
    assert 0 < misses < 60
    assert found.bound == pytest.approx(1 - beta.ppf(0.05, 200 - misses, misses + 1))
    none = figures(same, same, feeds(300), metric("agreement"))
    assert (none.figure, none.bound) == (0.0, pytest.approx(0.00994, abs=1e-5))


def test_rows_of_a_sample_depend_on_each_other() -> None:
    found = figures(same, turned, feeds(50, rows=20), metric("agreement"))
    alone = figures(same, turned, feeds(50), metric("agreement"))
    assert 0 < found.figure < found.bound < alone.bound
    clean = figures(same, same, feeds(50, rows=20), metric("agreement"))
    assert clean.bound == pytest.approx(1 - 0.05 ** (1 / 50))  # of 50 samples, not of 1000 rows


def test_more_plans_judged_on_the_same_samples_widen_the_bound() -> None:
    one, five = (figures(same, turned, feeds(200), metric("agreement"), tries) for tries in (1, 5))
    assert five.confidence == pytest.approx(0.99)
    assert five.bound > one.bound


@pytest.mark.parametrize("name", ["sqnr", "max_abs", "operator:ne", "agreement"])
def test_other_metrics(name: str) -> None:
    kind = metric(name)
    width = 1 if name == "operator:ne" else 4
    found = figures(same, scaled, feeds(40, width), kind)
    if name == "max_abs":
        assert found.bound is None
        assert not found.keeps(kind, 1e9)
        return
    assert found.bound is not None
    rel = figures(same, scaled, feeds(40, width), metric("rel"))
    if name == "sqnr":
        assert found.figure == pytest.approx(-20 * np.log10(rel.figure))
        assert found.bound == pytest.approx(-20 * np.log10(rel.bound))
        assert found.keeps(kind, 20.0)
        assert not found.keeps(kind, found.figure)
    else:
        assert found.figure <= found.bound


def test_sequences_of_a_model_with_state_are_the_units() -> None:
    specs = [TensorSpec("x", F32, (1, 4)), TensorSpec("s", F32, (1, 4))]

    def stream() -> Iterator[list[Feeds]]:
        for k in range(6):
            yield feeds(5 + k)

    data = open_data(stream, specs, state={"t": "s"})

    def loop(f: Any) -> Outputs:
        return {"y": f["x"] + f["s"], "t": f["s"] + 1}

    def drifting(f: Any) -> Outputs:
        return {"y": f["x"] + f["s"], "t": f["s"] + 1.01}

    found = figures(loop, drifting, data, metric("rel"))
    assert found.units == 6
    assert found.figure > 0.005
    agreed = figures(loop, drifting, data, metric("agreement"))
    assert agreed.figure == 0.0


def test_nothing_to_certify() -> None:
    assert certify(same, same, [], metric("rel")) is None

    def one_number(f: Feeds) -> Outputs:
        return {"y": f["x"][:, :1] * 9}

    assert certify(one_number, one_number, feeds(3), metric("agreement")) is None


def test_at_most_so_many_samples() -> None:
    data = open_data({"x": np.ones((MOST + 5, 1, 4), np.float32)}, [TensorSpec("x", F32, (1, 4))])
    found = figures(same, same, data, metric("rel"))
    assert found.units == MOST


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "rel at most 0.02 at 95 % (40 unseen samples)"),
        ({"budget": 0.03, "ok": True}, "unseen samples): keeps the budget 0.03"),
        ({"budget": 0.01, "ok": False}, ": more samples would be needed to certify the budget 0.01"),
        ({"tries": 5, "confidence": 0.99}, "at 95 % (40 unseen samples, 5 plans judged on them)"),
        ({"metric": "sqnr", "bound": 31.0}, "sqnr at least 31 at 95 %"),
        ({"bound": None, "metric": "max_abs"}, "max_abs 0.01, not exceeded by 92.78 % of samples at 95 %"),
    ],
)
def test_it_is_said_in_words(row: dict[str, Any], says: str) -> None:
    base = {"metric": "rel", "figure": 0.01, "bound": 0.02, "confidence": 0.95, "units": 40, "tries": 1}
    report = Report(certified={**base, "budget": None, "ok": None, **row})
    assert says in report.certainty
    assert says in report.to_markdown()
