"""Options of distillation, with and without torch."""

from __future__ import annotations

from typing import Any

import pytest

import fcc
from fcc import distill
from fcc.errors import CalibrationError, OptionError
from fcc.models.mlp import mlp
from fcc.options import parse_distill


def test_defaults_and_parts() -> None:
    assert parse_distill(None) is None
    assert parse_distill(False) is None
    assert parse_distill(True) == {"epochs": 24, "rate": 0.01}
    assert parse_distill({"epochs": 3}) == {"epochs": 3, "rate": 0.01}


@pytest.mark.parametrize("given", [{"epochs": 0}, {"epochs": 1.5}, {"rate": 1}, {"rate": 0}, {"steps": 3}])
def test_what_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="distill takes epochs= of at least 1 and rate= between 0 and 1"):
        parse_distill(given)


def test_without_torch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match="distillation needs torch, which is not installed") as error:
        fcc.compile(mlp(batch=1), low_rank=0.5, distill=True)
    assert error.value.hint == 'pip install "fcc[torch]"'


def test_it_needs_something_to_recover_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "find_spec", lambda _: object())
    with pytest.raises(OptionError, match="--distill recovers what lossy steps lose, and there is none"):
        fcc.compile(mlp(batch=1), distill=True)
    with pytest.raises(CalibrationError, match="--distill needs calibration data and there is none"):
        fcc.compile(mlp(batch=1), low_rank=0.5, distill=True)
