from typing import Any

import pytest

from fcc.passes.fold_pad import FoldPad
from fcc.testing import check

HEAD = "g (float[N,2,5,6] x) => (float[N,3,6,8] y) <float[3,2,2,2] w, float[3] b, int64[{}] p"


def graph(body: str, more: str = "", count: int = 8) -> str:
    return HEAD.format(count) + f"{more}> {{ {body} }}"


def test_pads_add_up() -> None:
    check(
        FoldPad(),
        before=graph("t = Pad(x, p) y = Conv<pads=[1,0,0,1]>(t, w, b)"),
        after="g (float[N,2,5,6] x) => (float[N,3,6,8] y) { y = Conv<pads=[1,1,1,2]>(x, w, b) }",
        constants={"p": [0, 0, 0, 1, 0, 0, 1, 1]},
    )


def test_axes_and_an_explicit_zero() -> None:
    check(
        FoldPad(),
        before=graph('t = Pad(x, p, v, a) y = Conv<auto_pad="VALID">(t, w)', ", float v, int64[2] a", 4),
        after="g (float[N,2,5,6] x) => (float[N,3,6,8] y) { y = Conv<pads=[1,2,1,1]>(x, w) }",
        constants={"p": [2, 1, 1, 1], "v": 0.0, "a": [-1, 2]},
    )


@pytest.mark.parametrize(
    ("body", "pads", "because"),
    [
        ('t = Pad<mode="edge">(x, p) y = Conv(t, w)', [0, 0, 1, 1, 0, 0, 1, 2], "repeats or reflects"),
        ("t = Pad(x, p, v) y = Conv(t, w)", [0, 0, 1, 1, 0, 0, 1, 2], "another value"),
        ('t = Pad(x, p) y = Conv<auto_pad="SAME_UPPER">(t, w)', [0, 0, 0, 1, 0, 0, 1, 1], "its own padding"),
        ('t = Pad(x, p) y = Conv<auto_pad="VALID",pads=[0,0,1,0]>(t, w)', [0, 0, 0, 1, 0, 0, 1, 1], "its own padding"),
        ("t = Pad(x, p) y = Conv(t, w)", [0, 0, 1, 1, 1, 0, 1, 2], "batch or the channels"),
        ("t = Pad(x, p) y = Conv(t, w)", [0, 0, 1, 1, 0, 1, 1, 2], "batch or the channels"),
        ("t = Pad(x, p) y = Conv(t, w)", [0, 1, 1, 1, 0, 0, 1, 2], "batch or the channels"),
        ("t = Pad(x, p) y = Conv(t, w)", [1, 0, 1, 1, 0, 0, 1, 2], "batch or the channels"),
        ("t = Pad(x, p) y = Conv<pads=[1,0,2,0]>(t, w)", [0, 0, -1, 1, 0, 0, 0, 2], "cuts off"),
    ],
)
def test_stays(body: str, pads: Any, because: str) -> None:
    text = graph(body, ", float v").replace("[N,3,6,8] y", "[B,C,H,W] y")
    check(FoldPad(), before=text, after=None, because=because, constants={"p": pads, "v": 1.0})


def test_stays_when_the_padded_value_has_other_users() -> None:
    text = graph("t = Pad(x, p) y = Conv(t, w) z = Neg(t)").replace("6,8] y)", "6,8] y, float[N,2,7,9] z)")
    check(FoldPad(), before=text, after=None, because="has other users", constants={"p": [0, 0, 1, 1, 0, 0, 1, 2]})


def test_stays_when_the_amounts_are_not_constant() -> None:
    text = "g (float[N,2,5,6] x, int64[8] p) => (float[N,3,H,W] y) <float[3,2,2,2] w> { t = Pad(x, p) y = Conv(t, w) }"
    check(FoldPad(), before=text, after=None, because="'pads' is not constant")
