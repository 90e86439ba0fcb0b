"""fold-space-to-depth: blocks in the channels of a convolution, however they came there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.fold_space_to_depth import FoldSpaceToDepth
from fcc.testing import check

P = FoldSpaceToDepth()
IO = "g (float[N,3,8,12] x) => (float[N,5,{0}] y)"
CONV = "Conv<pads=[1,0,2,1], strides=[1,2], kernel_shape=[3,2]>"
WIDE = "Conv<pads=[2,0,4,2], strides=[2,4], kernel_shape=[6,4]>"
SIZE = "5,3"


def holds(
    move: str,
    after: str | None,
    more: str = "",
    conv: str = CONV,
    io: str = IO.format(SIZE),
    weight: str = "5,12,3,2",
    **options: Any,
) -> None:
    declared = f"float[{weight}] w, float[5] b" + (f", {more}" if more else "")
    new = None if after is None else f"{io} {{ y = {after}(x, v, b) }}"
    check(P, before=f"{io} <{declared}> {{ {move} y = {conv}(t, w, b) }}", after=new, **options)


def test_space_to_depth() -> None:
    holds("t = SpaceToDepth<blocksize=2>(x)", WIDE)


def test_without_attributes() -> None:
    holds(
        "t = SpaceToDepth<blocksize=2>(x)",
        "Conv<pads=[0,0,0,0], strides=[2,2], kernel_shape=[6,4]>",
        conv="Conv",
        io=IO.format("2,5"),
    )


@pytest.mark.parametrize("perm", ["0,1,3,5,2,4", "0,3,5,1,2,4", "0,5,1,3,2,4"])
def test_reshapes(perm: str) -> None:
    """In any order of channel, row and column: pixel_unshuffle, SpaceToDepth, and what else there is."""
    holds(f"r = Reshape(x, six) p = Transpose<perm=[{perm}]>(r) t = Reshape(p, four)", WIDE, "int64[6] six, int64[4] four",
          constants={"six": [0, 3, 4, 2, 6, 2], "four": [-1, 12, 4, 6]})  # fmt: skip


def test_blocks_along_one_axis() -> None:
    holds("r = Reshape(x, five) p = Transpose<perm=[0,3,1,2,4]>(r) t = Reshape(p, four)",
          "Conv<pads=[2,0,4,1], strides=[2,2], kernel_shape=[6,2]>", "int64[5] five, int64[4] four",
          io=IO.format("5,6"), weight="5,6,3,2", constants={"five": [0, 3, 4, 2, 12], "four": [-1, 6, 4, 12]})  # fmt: skip


SLICES = " ".join(f"s{i}{j} = Slice(x, o{i}{j}, ends, axes, steps)" for i in range(2) for j in range(2))
STARTS: dict[str, Any] = {f"o{i}{j}": [i, j] for i in range(2) for j in range(2)} | {
    "ends": [99, 99],
    "axes": [2, 3],
    "steps": [2, 2],
}
SLICED = ", ".join(f"int64[2] {k}" for k in STARTS)


@pytest.mark.parametrize("order", ["s00, s10, s01, s11", "s11, s00, s10, s01"])
def test_focus(order: str) -> None:
    holds(f"{SLICES} t = Concat<axis=1>({order})", WIDE, SLICED, constants=STARTS)


def test_focus_by_two_slices_each() -> None:
    rows = " ".join(f"r{i} = Slice(x, a{i}, end, row, step)" for i in range(2))
    both = " ".join(f"s{i}{j} = Slice(r{i}, a{j}, end, column, step)" for i in range(2) for j in range(2))
    holds(f"{rows} {both} t = Concat<axis=1>(s00, s10, s01, s11)", WIDE,
          "int64[1] a0, int64[1] a1, int64[1] end, int64[1] row, int64[1] column, int64[1] step",
          constants={"a0": 0, "a1": 1, "end": 2**40, "row": 2, "column": -1, "step": 2})  # fmt: skip


@pytest.mark.parametrize(
    ("order", "starts", "because"),
    [
        ("s00, s10, s01, s01", {}, "missing, or there twice"),
        ("s00, s10, s01, x2", {}, "no blocks"),
        ("s00, s10, s01, s11", {"ends": [6, 99]}, "no blocks"),
    ],
)
def test_other_slices_stay(order: str, starts: dict[str, Any], because: str) -> None:
    io = "g (float[N,3,8,12] x, float[N,3,4,6] x2) => (float[N,5,A,B] y)"
    holds(
        f"{SLICES} t = Concat<axis=1>({order})", None, SLICED, io=io, because=because, constants={**STARTS, **starts}
    ) if because else None


def test_slices_along_other_axes_stay() -> None:
    io = "g (float[N,3,8,12] x) => (float[N,5,A,B] y)"
    join = "t = Concat<axis=3>(s0, s1)"
    holds(f"s0 = Slice(x, a0, end, row, step) s1 = Slice(x, a1, end, row, step) {join}", None,
          "int64[1] a0, int64[1] a1, int64[1] end, int64[1] row, int64[1] step", io=io, weight="5,3,3,2", because="no blocks",
          constants={"a0": 0, "a1": 1, "end": 99, "row": 2, "step": 2})  # fmt: skip


def test_sizes_that_the_blocks_do_not_divide_stay() -> None:
    io = "g (float[N,3,7,12] x) => (float[N,5,A,B] y)"
    pieces = " ".join(f"s{j} = Slice(x, a{j}, end, column, step)" for j in range(2))
    holds(f"{pieces} t = Concat<axis=1>(s0, s1)", None, "int64[1] a0, int64[1] a1, int64[1] end, int64[1] column, int64[1] step",
          io=io.replace("7,12", "8,A"), weight="5,6,3,2", because="no blocks", constants={"a0": 0, "a1": 1, "end": 2**40, "column": 3, "step": 2},
          sizes={"A": 6})  # fmt: skip


@pytest.mark.parametrize(
    ("move", "conv", "weight", "because"),
    [
        ("t = SpaceToDepth<blocksize=2>(x)", "Conv<group=2>", "5,6,3,2", "grouped"),
        ("t = SpaceToDepth<blocksize=2>(x)", "Conv<dilations=[1,2]>", "5,12,3,2", "dilated"),
        ("t = SpaceToDepth<blocksize=2>(x)", 'Conv<auto_pad="SAME_UPPER">', "5,12,3,2", "its own padding"),
        ("t = SpaceToDepth<blocksize=2>(x) u = Neg(t)", "Conv", "5,12,3,2", "the blocks have other users"),
        ("t = SpaceToDepth<blocksize=2>(x) u = Neg(w)", "Conv", "5,12,3,2", "the weight has other users"),
        ("t = SpaceToDepth<blocksize=2>(x)", "Conv<kernel_shape=[3,3]>", "5,12,3,2", "neither its kernel_shape nor"),
        ("t = SpaceToDepth<blocksize=2>(x)", "Conv", "5,6,3,2", "nor the blocks"),
        ("t = SpaceToDepth<blocksize=1>(x)", "Conv", "5,3,3,2", "no blocks"),
        ("t = Relu(x)", "Conv", "5,3,3,2", "no blocks"),
        (
            "r = Reshape(x, six) p = Transpose<perm=[0,1,2,4,3,5]>(r) t = Reshape(p, four)",
            "Conv",
            "5,12,3,2",
            "no blocks",
        ),
    ],
)
def test_refusals(move: str, conv: str, weight: str, because: str) -> None:
    io = "g (float[N,3,8,12] x) => (float[N,5,A,B] y)"
    if "u = " in move:
        io = io.replace("y)", "y, float[C,D,E,F] u)")
    if "group" in conv:
        io, weight = io.replace("N,5", "N,4"), "4,6,3,2"
    before = f"{io} <float[{weight}] w, float[{4 if 'group' in conv else 5}] b, int64[6] six, int64[4] four> {{ {move} y = {conv}(t, w, b) }}"
    check(P, before=before, after=None, because=because, constants={"six": [0, 3, 4, 2, 6, 2], "four": [-1, 12, 4, 6]})


@given(data=st.data())
@settings(max_examples=30)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    n, c, m, dy, dx, h, w, k, q, s = (d(st.integers(1, 3)) for _ in range(10))
    h, w = h + k, w + q
    if dy * dx == 1:
        return
    pads = [d(st.integers(0, 2)) for _ in range(4)]
    order = d(st.permutations([1, 3, 5]))
    rows, columns = (h + pads[0] + pads[2] - k) // s + 1, (w + pads[1] + pads[3] - q) // s + 1
    io = f"g (float[{n},{c},{h * dy},{w * dx}] x) => (float[{n},{m},{rows},{columns}] y)"
    before = f"""{io} <float[{m},{c * dy * dx},{k},{q}] w, int64[6] six, int64[4] four> {{ r = Reshape(x, six)
        p = Transpose<perm=[0,{",".join(map(str, order))},2,4]>(r) t = Reshape(p, four)
        y = Conv<pads=[{",".join(map(str, pads))}], strides=[{s},{s}]>(t, w) }}"""
    wide = [p * (dy, dx)[i % 2] for i, p in enumerate(pads)]
    after = f"""{io} {{ y = Conv<pads=[{",".join(map(str, wide))}], strides=[{s * dy},{s * dx}],
        kernel_shape=[{k * dy},{q * dx}]>(x, v) }}"""
    check(
        P,
        before=before,
        after=after,
        constants={"six": [n, c, h, dy, w, dx], "four": [n, c * dy * dx, h, w]},
        seed=d(st.integers(0, 9)),
    )
