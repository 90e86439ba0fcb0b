"""merge-chains: what is turned over twice stands as it stood."""

import pytest

from fcc.passes.merge_chains import MergeChains
from fcc.testing import check

TEXT = """g (float[{t},3] x) => (float[{t},3] y) <int64[1] s = {{{s}}}, int64[1] e = {{{e}}}, int64[1] a = {{{a}}},
    int64[1] k = {{-1}}, int64[1] s2 = {{{s2}}}, int64[1] e2 = {{{e2}}}, int64[1] a2 = {{{a2}}}, int64[1] k2 = {{{k2}}}> {{
    m = Slice(x, s, e, a, k) n = Slice(m, s2, e2, a2, k2) y = Neg(n) }}"""
BACK = -(2**63) + 1
ALL = {"s": -1, "e": BACK, "a": 0, "s2": -1, "e2": BACK, "a2": 0, "k2": -1, "t": "T"}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"a": -2},
        {"a2": -2},
        {"e2": -(2**31)},
        {"t": 4, "s": 3},
        {"t": 4, "s2": 9, "e": -5},
        {"a": 1, "a2": 1, "s": 2, "e2": -4},
    ],
)
def test_twice_along_one_axis(how: dict[str, object]) -> None:
    t = how.get("t", "T")
    check(
        MergeChains(),
        TEXT.format(**(ALL | how)),
        f"g (float[{t},3] x) => (float[{t},3] y) {{ y = Neg(x) }}",
        tolerance=0,
    )


@pytest.mark.parametrize(
    "how",
    [
        {"a2": 1},
        {"k2": -2},
        {"k2": 1, "s2": 0, "e2": 2**31},
        {"s2": -2},
        {"e2": -2},
        {"s": 3},
        {"t": 4, "s": 2},
        {"t": 4, "e": -4},
    ],
)
def test_stays(how: dict[str, object]) -> None:
    text = TEXT.format(**(ALL | how)).replace(",3] y)", ",M] y)").replace("(float[T,M] y)", "(float[L,M] y)")
    check(MergeChains(), text.replace("float[4,M]", "float[L,M]"), None, because="do not turn one axis over twice")
