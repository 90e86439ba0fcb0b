from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcc.passes.fold_zero_products import FoldZeroProducts
from fcc.testing import check


@pytest.mark.parametrize("mul", ["Mul(x, z)", "Mul(z, x)"])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "int8"])
def test_either_operand(mul: str, kind: str) -> None:
    check(
        FoldZeroProducts(),
        before=f"g ({kind} x, {kind} a) => ({kind} y) <{kind} z> {{ p = {mul} y = Add(p, a) }}",
        after=f"g ({kind} x, {kind} a) => ({kind} y) {{ y = Add(c, a) }}",
        constants={"z": 0},
    )


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans())
def test_any_known_shape(dims: list[int], scalar: bool) -> None:
    shape = ",".join(map(str, dims))
    zero = "" if scalar else ",".join("1" if d != 1 else str(d) for d in dims)
    check(
        FoldZeroProducts(),
        before=f"g (int64[{shape}] x, int64[{shape}] a) => (int64[{shape}] y) <int64[{zero}] z> "
        "{ p = Mul(x, z) y = Add(p, a) }",
        after=f"g (int64[{shape}] x, int64[{shape}] a) => (int64[{shape}] y) {{ y = Add(c, a) }}",
        constants={"z": 0},
    )


@pytest.mark.parametrize(
    ("kind", "dims", "zero", "value", "reason"),
    [
        ("float", "3", "", 0, "NaN"),
        ("int64", "N", "", 0, "shape"),
        ("int64", "N,2", "2", 0, "shape"),
        ("int64", "1025", "", 0, "1024"),
        ("int64", "3", "", 1, "not 0"),
        ("int64", "2", "2", [0, 1], "not 0"),
    ],
)
def test_other_products_stay(kind: str, dims: str, zero: str, value: object, reason: str) -> None:
    check(
        FoldZeroProducts(),
        before=f"g ({kind}[{dims}] x) => ({kind}[{dims}] y) <{kind}[{zero}] z> {{ y = Mul(x, z) }}",
        after=None,
        because=reason,
        constants={"z": value},
    )


def test_the_largest_that_is_written_down() -> None:
    check(
        FoldZeroProducts(),
        before="g (int64[1024] x, int64[1024] a) => (int64[1024] y) <int64 z> { p = Mul(x, z) y = Add(p, a) }",
        after="g (int64[1024] x, int64[1024] a) => (int64[1024] y) { y = Add(c, a) }",
        constants={"z": 0},
    )
