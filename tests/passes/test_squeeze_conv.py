from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.squeeze_conv import SqueezeConv
from fcc.testing import check

C: dict[str, Any] = {"three": [3], "two": [2]}
AXES = ", int64[1] three, int64[1] two"


def test_an_axis_behind() -> None:
    check(
        SqueezeConv(),
        before=f"g (float[N,4,9] x) => (float[N,6,7] y) <float[6,4,3,1] w, float[6] b{AXES}> "
        "{ u = Unsqueeze(x, three) c = Conv<kernel_shape = [3, 1]>(u, w, b) y = Squeeze(c, three) }",
        after="g (float[N,4,9] x) => (float[N,6,7] y) <float[6] b, int64[1] three> "
        "{ c = Conv<kernel_shape = [3]>(x, w, b) v = Unsqueeze(c, a) y = Squeeze(v, three) }",
        constants=C,
    )


def test_an_axis_in_front_and_every_attribute() -> None:
    check(
        SqueezeConv(),
        before=f"g (float[N,4,19] x) => (float[N,6,9] y) <float[6,2,1,3] w{AXES}> {{ u = Unsqueeze(x, two) "
        "c = Conv<group = 2, kernel_shape = [1, 3], strides = [1, 2], dilations = [5, 2], pads = [0, 2, 0, 1]>(u, w) "
        "y = Squeeze(c, two) }",
        after="g (float[N,4,19] x) => (float[N,6,9] y) <int64[1] two> { c = Conv<group = 2, kernel_shape = [3], "
        "strides = [2], dilations = [2], pads = [2, 1]>(x, w) v = Unsqueeze(c, a) y = Squeeze(v, two) }",
        constants=C,
    )


def test_through_a_transpose() -> None:
    """channels last in, as tf2onnx writes a one-dimensional convolution."""
    check(
        SqueezeConv(),
        before=f"g (float[N,9,4] x) => (float[N,6,7] y) <float[6,4,3,1] w{AXES}> {{ u = Unsqueeze(x, three) "
        "t = Transpose<perm = [0, 2, 1, 3]>(u) c = Conv(t, w) y = Squeeze(c, three) }",
        after="g (float[N,9,4] x) => (float[N,6,7] y) <int64[1] three> "
        "{ t = Transpose<perm = [0, 2, 1]>(x) c = Conv(t, w) v = Unsqueeze(c, a) y = Squeeze(v, three) }",
        constants=C,
    )


@pytest.mark.parametrize(
    ("axis", "perm", "expected", "behind"),
    [(2, "0, 3, 1, 2", "0, 2, 1", "three"), (2, "0, 3, 2, 1", "0, 2, 1", "two"), (1, "0, 3, 1, 2", "0, 2, 1", "two")],
)
def test_an_axis_that_the_transpose_moves(axis: int, perm: str, expected: str, behind: str) -> None:
    kernel = "6,4,3,1" if behind == "three" else "6,4,1,3"
    check(
        SqueezeConv(),
        before=f"g (float[N,9,4] x) => (float[N,6,7] y) <float[{kernel}] w, int64[1] k{AXES}> {{ u = Unsqueeze(x, k) "
        f"t = Transpose<perm = [{perm}]>(u) c = Conv(t, w) y = Squeeze(c, {behind}) }}",
        after=f"g (float[N,9,4] x) => (float[N,6,7] y) <int64[1] {behind}> "
        f"{{ t = Transpose<perm = [{expected}]>(x) c = Conv(t, w) v = Unsqueeze(c, a) y = Squeeze(v, {behind}) }}",
        constants={**C, "k": [axis]},
    )


@pytest.mark.parametrize(
    ("x", "front", "conv", "behind", "w", "y", "reason"),
    [
        ("N,4,9", "Unsqueeze(x, three)", "<pads = [0, 1, 0, 1]>", "Squeeze(c, two)", "6,4,9,2", "N,6,2", "left alone"),
        (
            "N,4,9",
            "Unsqueeze(x, three)",
            "<pads = [0, 1, 0, 1]>",
            "Slice(c, two, three)",
            "6,4,3,1",
            None,
            "left alone",
        ),
        ("N,4,9", "Unsqueeze(x, three)", "<strides = [1, 2]>", "Squeeze(c, three)", "6,4,3,1", "N,6,7", "left alone"),
        ("N,4,9,1", "Identity(x)", "", "Squeeze(c, three)", "6,4,3,1", "N,6,7", "no Unsqueeze"),
        ("N,4,9", "Unsqueeze(x, three)", "", "Relu(c)", "6,4,3,1", "N,6,7,1", "no Squeeze"),
        ("N,4,9", "Unsqueeze(x, three)", "", "Squeeze(c)", "6,4,3,1", "N,6,7", "no Squeeze"),
        ("N,4,9", "Unsqueeze(x, two)", "", "Squeeze(c, two)", "6,4,1,3", "N,6,7", ""),
        ("N,4", "Unsqueeze(x, both)", "", "Squeeze(c, both)", "6,4,1,1", "N,6", "no Unsqueeze"),
    ],
)
def test_other_convolutions_stay(
    x: str, front: str, conv: str, behind: str, w: str, y: str | None, reason: str
) -> None:
    done = reason == ""
    out = f"float[{y}] y" if y else "float y"
    check(
        SqueezeConv(),
        before=f"g (float[{x}] x) => ({out}) <float[{w}] w{AXES}, int64[2] both> "
        f"{{ u = {front} c = Conv{conv}(u, w) y = {behind} }}",
        after=f"g (float[{x}] x) => ({out}) <int64[1] two> {{ c = Conv(x, w) v = Unsqueeze(c, a) y = Squeeze(v, two) }}"
        if done
        else None,
        because=reason,
        constants={**C, "both": [2, 3]},
    )


@pytest.mark.parametrize(
    "before",
    [
        "g (float[N,4,9] x) => (float[N,6,7] y, float[N,6,7,1] c) <float[6,4,3,1] w, int64[1] three> "
        "{ u = Unsqueeze(x, three) c = Conv(u, w) y = Squeeze(c, three) }",
        "g (float[N,4,9] x) => (float[N,6,7] y, float[N,6,7,1] z) <float[6,4,3,1] w, int64[1] three> "
        "{ u = Unsqueeze(x, three) c = Conv(u, w) y = Squeeze(c, three) z = Relu(c) }",
        "g (float[N,4,9] x, float[6,4,3,1] w) => (float[N,6,7] y) <int64[1] three> "
        "{ u = Unsqueeze(x, three) c = Conv(u, w) y = Squeeze(c, three) }",
        "g (float[N,9,4] x) => (float[N,6,7] y, float[N,4,9,1] z) <float[6,4,3,1] w, int64[1] three> "
        "{ u = Unsqueeze(x, three) t = Transpose<perm = [0, 2, 1, 3]>(u) c = Conv(t, w) y = Squeeze(c, three) "
        "z = Relu(t) }",
    ],
)
def test_values_that_others_need_stay(before: str) -> None:
    check(SqueezeConv(), before=before, after=None, constants=C)


@pytest.mark.parametrize(
    ("x", "front"),
    [
        ("N,4,9,1", ""),
        ("N,9,1,4", "t = Transpose<perm = [0, 3, 1, 2]>(x)"),
        (
            "N,9,4",
            "u = Unsqueeze(x, three) s = Transpose<perm = [0, 2, 3, 1]>(u) t = Transpose<perm = [0, 1, 3, 2]>(s)",
        ),
    ],
)
def test_an_axis_that_no_unsqueeze_made(x: str, front: str) -> None:
    check(
        SqueezeConv(),
        before=f"g (float[{x}] x) => (float[N,6,7] y) <float[6,4,3,1] w{AXES}> "
        f"{{ {front} c = Conv({'t' if front else 'x'}, w) y = Squeeze(c, three) }}",
        after=None,
        because="no Unsqueeze",
        constants=C,
    )


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([2, 3]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from(["N", "1", "2"]),
)
def test_random_convolutions(
    axis: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], group: int, bias: bool, batch: str
) -> None:
    """Generated attributes on the axis that stays; ``check`` compares the outputs of both graphs."""

    def pair(a: int, b: int) -> str:
        return f"[{a}, {b}]" if axis == 3 else f"[{b}, {a}]"

    first, last = pads
    before, after = pair(first, 0), pair(last, 0)
    length = (9 + first + last - dilation * (kernel - 1) - 1) // stride + 1
    shape = f"4,{4 // group},{kernel},1" if axis == 3 else f"4,{4 // group},1,{kernel}"
    declared, operand = (", float[4] b", ", b") if bias else ("", "")
    check(
        SqueezeConv(),
        before=f"g (float[{batch},4,9] x) => (float[{batch},4,{length}] y) <float[{shape}] w, int64[1] k{declared}> "
        f"{{ u = Unsqueeze(x, k) c = Conv<group = {group}, strides = {pair(stride, 1)}, "
        f"dilations = {pair(dilation, 1)}, pads = {before[:-1]}, {after[1:]}>(u, w{operand}) y = Squeeze(c, k) }}",
        after=f"g (float[{batch},4,9] x) => (float[{batch},4,{length}] y) <int64[1] k{declared}> "
        f"{{ c = Conv<group = {group}, strides = [{stride}], dilations = [{dilation}], pads = [{first}, {last}]>"
        f"(x, w{operand}) v = Unsqueeze(c, a) y = Squeeze(v, k) }}",
        constants={"k": [axis]},
    )
