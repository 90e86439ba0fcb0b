"""Metrics by name and from the user's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcc.errors import OptionError
from fcc.parity import METRICS, metric


def test_names() -> None:
    assert set(METRICS) == {"rel", "agreement", "sqnr", "max_abs"}
    assert metric("rel") is METRICS["rel"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("agrement", "did you mean 'agreement'"),
        ("no_such_module:f", "cannot load the metric"),
        ("math:no_such_function", "has no function"),
        ("math:pi", "has no function"),
        ("absent.py:f", "cannot load the metric"),
    ],
)
def test_unknown_ones(name: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        metric(name)


def test_own_function_from_a_module() -> None:
    mine = metric("operator:ne")
    assert mine.call({"y": 1}, {"y": 2}) == 1.0
    assert mine.value((), [1.0, 0.0]) == 0.5


def test_failing_function_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(a, b):\n    raise KeyError('y')\n")
    with pytest.raises(OptionError, match="KeyError"):
        metric(f"{tmp_path}/bad.py:f").call({}, {})
