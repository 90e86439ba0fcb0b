"""Timing reports what it measured; how fast is not asserted."""

from __future__ import annotations

import math

import numpy as np
import onnx.parser
import pytest

from fcc.errors import DataError
from fcc.runtime import Session, measure, open_session, time_ratio

FEEDS = {"x": np.ones(8, np.float32)}


@pytest.fixture(scope="module")
def session() -> Session:
    text = '<ir_version: 8, opset_import: ["": 17]> f (float[8] x) => (float[8] y) { y = Exp(x) }'
    return open_session(onnx.parser.parse_model(text).SerializeToString())


def test_pairs_are_counted_even_without_time(session: Session) -> None:
    timing = time_ratio(session, session, FEEDS, budget_s=0)
    assert timing.pairs == 5
    assert min(timing.a_us, timing.b_us, timing.ratio) > 0
    assert timing.noise >= 0
    assert math.isfinite(timing.noise)


def test_measure_is_positive(session: Session) -> None:
    assert measure(session, FEEDS, budget_s=0) > 0


def test_bad_feeds_are_reported(session: Session) -> None:
    with pytest.raises(DataError):
        time_ratio(session, session, {"x": np.ones(3, np.float32)}, budget_s=0)
