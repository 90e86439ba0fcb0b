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


def test_every_user_pads_itself() -> None:
    io = "g (float[N,2,5,6] x) => (float[N,3,6,7] y, float[N,3,6,7] z)"
    check(
        FoldPad(),
        before=f"{io} <float[3,2,2,2] w, float[3,2,2,2] v, int64[8] p> {{ t = Pad(x, p) y = Conv(t, w) z = Conv(t, v) }}",
        after=f"{io} {{ y = Conv<pads=[1,1,1,1]>(x, w) z = Conv<pads=[1,1,1,1]>(x, v) }}",
        constants={"p": [0, 0, 1, 1, 0, 0, 1, 1]},
    )


def test_stays_when_the_padded_value_is_an_output() -> None:
    text = graph("t = Pad(x, p) y = Conv(t, w)").replace("6,8] y)", "6,8] y, float[N,2,7,9] t)")
    check(FoldPad(), before=text, after=None, because="has other users", constants={"p": [0, 0, 1, 1, 0, 0, 1, 2]})


def test_stays_when_the_amounts_are_not_constant() -> None:
    text = "g (float[N,2,5,6] x, int64[8] p) => (float[N,3,H,W] y) <float[3,2,2,2] w> { t = Pad(x, p) y = Conv(t, w) }"
    check(FoldPad(), before=text, after=None, because="'pads' is not constant")


# -- pooling -----------------------------------------------------------------------------------------------------------
POOL = "g (float[N,2,6,7] x) => (float[N,2,H,W] y)"


def pooled(
    body: str, after: str | None, because: str = "", value: float = 0.0, pads: Any = (0, 0, 1, 0, 0, 0, 1, 2)
) -> None:
    check(
        FoldPad(),
        before=f"{POOL} <int64[8] p, float v> {{ {body} }}",
        after=None if after is None else f"{POOL} {{ {after} }}",
        because=because,
        constants={"p": pads, "v": value},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            "t = Pad(x, p, v) y = {}<kernel_shape=[2,3]>(t)",
            "y = {}<kernel_shape=[2,3], pads=[1,0,1,2], count_include_pad=1>(x)",
        ),
        (
            "t = Pad(x, p) y = {}<kernel_shape=[4,4], pads=[1,1,1,1], strides=[2,2], count_include_pad=1>(t)",
            "y = {}<kernel_shape=[4,4], strides=[2,2], pads=[2,1,2,3], count_include_pad=1>(x)",
        ),
        (
            "t = Pad(x, p) y = {}<kernel_shape=[2,3], pads=[0,0,0,0]>(t)",
            "y = {}<kernel_shape=[2,3], pads=[1,0,1,2], count_include_pad=1>(x)",
        ),
    ],
)
def test_average_pooling(body: str, after: str) -> None:
    pooled(body.format("AveragePool"), after.format("AveragePool"))


@pytest.mark.parametrize(
    ("body", "value", "after"),
    [
        (
            "t = Pad(x, p, v) y = MaxPool<kernel_shape=[2,3]>(t)",
            float("-inf"),
            "y = MaxPool<kernel_shape=[2,3], pads=[1,1,1,1]>(x)",
        ),
        (
            "t = Pad(x, p, v) y = MaxPool<kernel_shape=[2,3]>(t)",
            -3.4028234663852886e38,
            "y = MaxPool<kernel_shape=[2,3], pads=[1,1,1,1]>(x)",
        ),
        (
            "r = Relu(x) t = Pad(r, p) y = MaxPool<kernel_shape=[3,4], pads=[1,1,1,1]>(t)",
            0.0,
            "r = Relu(x) y = MaxPool<kernel_shape=[3,4], pads=[2,2,2,2]>(r)",
        ),
        (
            "r = Tanh(x) t = Pad(r, p, v) y = MaxPool<kernel_shape=[2,3]>(t)",
            -1.0,
            "r = Tanh(x) y = MaxPool<kernel_shape=[2,3], pads=[1,1,1,1]>(r)",
        ),
    ],
)
def test_max_pooling(body: str, value: float, after: str) -> None:
    """Symmetric: the reference evaluator confuses the axes of others; those are in the rows of peers.md."""
    pooled(body, after, value=value, pads=[0, 0, 1, 1, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("body", "value", "because"),
    [
        ("t = Pad(x, p) y = MaxPool<kernel_shape=[2,3]>(t)", 0.0, "writes 0, and the input may be -3.40282e+38"),
        (
            "r = Tanh(x) t = Pad(r, p, v) y = MaxPool<kernel_shape=[2,3]>(t)",
            -0.5,
            "writes -0.5, and the input may be -1",
        ),
        ("t = Pad(x, p, v) y = AveragePool<kernel_shape=[2,3]>(t)", 1.0, "another value than 0"),
        ("t = Pad(x, p) y = AveragePool<kernel_shape=[2,3], ceil_mode=1>(t)", 0.0, "may leave the padded input"),
        ("t = Pad(x, p) y = AveragePool<kernel_shape=[4,4], pads=[1,1,1,1]>(t)", 0.0, "does not count its own padding"),
        ("t = Pad(x, p) y = AveragePool<kernel_shape=[2,2]>(t)", 0.0, "in the padding alone"),
        (
            "t = Pad(x, p) y = AveragePool<kernel_shape=[2,3], pads=[1,0,0,0], count_include_pad=1>(t)",
            0.0,
            "in the padding alone",
        ),
        ("t = Pad(x, p) y = AveragePool<kernel_shape=[2,3], dilations=[2,1]>(t)", 0.0, "in the padding alone"),
        (
            't = Pad(x, p) y = AveragePool<kernel_shape=[2,3], auto_pad="SAME_LOWER">(t)',
            0.0,
            "AveragePool computes its own padding",
        ),
        ('t = Pad<mode="reflect">(x, p) y = AveragePool<kernel_shape=[2,3]>(t)', 0.0, "repeats or reflects"),
    ],
)
def test_pooling_that_keeps_its_pad(body: str, value: float, because: str) -> None:
    pooled(body, None, because, value)


def test_pooling_keeps_pads_of_channels_and_cuts() -> None:
    text = POOL.replace("2,H,W", "C,H,W") + " <int64[8] p> { t = Pad(x, p) y = AveragePool<kernel_shape=[2,3]>(t) }"
    check(
        FoldPad(), before=text, after=None, because="batch or the channels", constants={"p": [0, 1, 0, 0, 0, 0, 0, 0]}
    )
    check(FoldPad(), before=text, after=None, because="cuts off", constants={"p": [0, 0, 1, -1, 0, 0, 0, 0]})


def test_indices_of_a_max_pooling_change() -> None:
    text = (
        "g (float[N,2,6,7] x) => (float[N,2,H,W] y, int64[N,2,H,W] i) <int64[8] p> "
        "{ r = Relu(x) t = Pad(r, p) y, i = MaxPool<kernel_shape=[2,3]>(t) }"
    )
    check(FoldPad(), before=text, after=None, because="output 1", constants={"p": [0, 0, 1, 0, 0, 0, 1, 2]})


def test_integers_keep_their_pad() -> None:
    text = (
        "g (uint8[N,2,6,7] x) => (uint8[N,2,H,W] y) <int64[8] p> { t = Pad(x, p) y = MaxPool<kernel_shape=[2,3]>(t) }"
    )
    check(
        FoldPad(),
        before=text,
        after=None,
        because="lowest number of the type",
        constants={"p": [0, 0, 1, 0, 0, 0, 1, 2]},
    )
