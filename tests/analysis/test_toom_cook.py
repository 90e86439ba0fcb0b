"""F(m, r) in exact arithmetic, and its error in float32."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.analysis.toom_cook import POINTS, UNIT, toom_cook

TILES = [(n - r + 1, r) for n in POINTS for r in range(2, 8) if n - r + 1 >= 2]


@pytest.mark.parametrize(("m", "r"), TILES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_is_a_correlation_exactly(m: int, r: int, data: st.DataObject) -> None:
    n, f = m + r - 1, toom_cook(m, r)
    number = st.fractions(-8, 8, max_denominator=16)
    d = data.draw(st.lists(number, min_size=n, max_size=n))
    g = data.draw(st.lists(number, min_size=r, max_size=r))
    products = [
        sum(a * b for a, b in zip(f.g[i], g, strict=True)) * sum(a * b for a, b in zip(f.b[i], d, strict=True))
        for i in range(n)
    ]
    y = [sum(f.a[i][j] * products[i] for i in range(n)) for j in range(m)]
    assert y == [sum(d[j + k] * g[k] for k in range(r)) for j in range(m)]


@pytest.mark.parametrize(("m", "r"), TILES)
def test_shapes_and_what_floats_hold_exactly(m: int, r: int) -> None:
    n, f = m + r - 1, toom_cook(m, r)
    assert [len(f.a), len(f.g), len(f.b)] == [n, n, n]
    assert {len(row) for row in f.a} == {m}
    assert {len(row) for row in f.g} == {r}
    assert {len(row) for row in f.b} == {n}
    for x in (x for row in (*f.a, *f.b) for x in row):
        assert Fraction(float(np.float32(float(x)))) == x
    assert set(f.a[UNIT]) == {Fraction(1)}


@pytest.mark.parametrize(("m", "r"), TILES)
@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_error_in_float32(m: int, r: int, mean: float) -> None:
    rng, f = np.random.default_rng(m * r), toom_cook(m, r)
    a, g, b = (np.asarray(x, np.float64).astype(np.float32) for x in (f.a, f.g, f.b))
    d = (rng.standard_normal((64, m + r - 1, 100)) + mean).astype(np.float32)
    w = rng.standard_normal((8, 64, r)).astype(np.float32)
    products = np.matmul(np.einsum("nr,ocr->noc", g, w), np.einsum("nk,ckt->nct", b, d))
    y = np.einsum("nm,not->otm", a, products)
    assert y.dtype == np.float32
    windows = np.stack([d[:, j : j + r] for j in range(m)]).astype(np.float64)
    exact = np.einsum("mckt,ock->otm", windows, w.astype(np.float64))
    assert np.abs(y - exact).max() <= 4e-6 * np.abs(exact).max()


GROWTH = {4: 1.3, 5: 2.2, 6: 3.25, 7: 5.35, 8: 6.85}


@pytest.mark.parametrize("n", POINTS)
def test_growth_of_rounding(n: int) -> None:
    """Standard deviation of an output, products of transformed unit inputs and weights rounded alike, worst output."""
    for r in range(3, 8):
        if n - r + 1 >= 2:
            f = toom_cook(n - r + 1, r)
            a, g, b = (np.asarray(x, np.float64) for x in (f.a, f.g, f.b))
            variance = ((a**2) * ((g**2).sum(1) * (b**2).sum(1))[:, None]).sum(0)
            assert np.sqrt(variance.max() / r) <= GROWTH[n]
