"""Feeds at the edges: which values, of which inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc.data.adversarial import FILLS, adversarial
from fcc.ir.text import parse

TEXT = "g (float[2,3] x, float16[4] h, int64[2] i, float[9,3] t) => (float[2,3] y, float16[4] z) { y = Exp(x) z = Neg(h) u = Gather(t, i) }"
BASE: dict[str, np.ndarray[Any, Any]] = {
    "x": np.ones((2, 3), np.float32),
    "h": np.ones(4, np.float16),
    "i": np.array([1, 2]),
    "t": np.ones((9, 3), np.float32),
}


def test_floats_are_at_an_edge_and_the_rest_stays() -> None:
    found = adversarial(parse(TEXT), BASE)
    assert list(found) == list(FILLS)
    for feed in found.values():
        assert {n: (a.dtype, a.shape) for n, a in feed.items()} == {n: (a.dtype, a.shape) for n, a in BASE.items()}
        np.testing.assert_array_equal(feed["i"], BASE["i"])


@pytest.mark.parametrize("name", ["x", "h"])
def test_every_edge_is_what_it_says(name: str) -> None:
    found = {k: v[name] for k, v in adversarial(parse(TEXT), BASE).items()}
    tiny, largest = np.finfo(found["zeros"].dtype).tiny, np.finfo(found["zeros"].dtype).max
    assert not found["zeros"].any()
    assert not np.signbit(found["zeros"]).any()
    assert np.signbit(found["negative zeros"]).all()
    assert found["denormals"].any()
    assert np.abs(found["denormals"]).max() < tiny
    assert (np.abs(found["saturating"]) >= 15).all()
    assert set(np.abs(found["extremes"]).astype(np.float64).ravel()) == {1e6 if name == "x" else 1e3}
    assert all(np.abs(a).max() <= largest for a in found.values())
    assert len(np.unique(found["constant"])) == 1


def test_the_same_seed_gives_the_same() -> None:
    a, b, c = (adversarial(parse(TEXT), BASE, seed)["saturating"]["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_a_model_without_floats_has_none() -> None:
    module = parse("g (int64[2] x) => (int64[2] y) { y = Neg(x) }")
    assert adversarial(module, {"x": np.array([1, 2])}) == {}
