"""fuse-depth-to-space: pixel shuffle in both orders, and back."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.passes.fuse_depth_to_space import FuseDepthToSpace
from fcc.testing import check

BODY = "{{ a = Reshape(x, s) b = Transpose<perm={perm}>(a) y = Reshape(b, t) }}"
FORMS = {
    "DCR": ("float[N,12,4,5] x", "float[N,3,8,10] y", [0, 2, 2, 3, 4, 5], [0, 3, 4, 1, 5, 2], [0, 3, 8, 10]),
    "CRD": ("float[N,12,4,5] x", "float[N,3,8,10] y", [0, 3, 2, 2, 4, 5], [0, 1, 4, 2, 5, 3], [0, 3, 8, 10]),
    "back": ("float[N,3,8,10] x", "float[N,12,4,5] y", [0, 3, 4, 2, 5, 2], [0, 3, 5, 1, 2, 4], [0, 12, 4, 5]),
    "float16": ("float16[2,12,4,5] x", "float16[2,3,8,10] y", [2, 3, 2, 2, 4, 5], [0, 1, 4, 2, 5, 3], [2, 3, 8, 10]),
}
NODES = {
    "DCR": 'DepthToSpace<blocksize=2, mode="DCR">(x)',
    "CRD": 'DepthToSpace<blocksize=2, mode="CRD">(x)',
    "back": "SpaceToDepth<blocksize=2>(x)",
    "float16": 'DepthToSpace<blocksize=2, mode="CRD">(x)',
}


@pytest.mark.parametrize("name", FORMS)
def test_recovers(name: str) -> None:
    x, y, six, perm, four = FORMS[name]
    check(
        FuseDepthToSpace(),
        f"g ({x}) => ({y}) <int64[6] s, int64[4] t> " + BODY.format(perm=perm),
        f"g ({x}) => ({y}) {{ y = {NODES[name]} }}",
        constants={"s": six, "t": four},
    )


REFUSED: dict[str, tuple[str, str, list[int], list[int], list[int], str]] = {
    "another order": (
        "float[1,12,4,5] x",
        "float[1,3,8,10] y",
        [1, 3, 2, 2, 4, 5],
        [0, 1, 4, 3, 5, 2],
        [1, 3, 8, 10],
        "order",
    ),
    "an oblong block": (
        "float[1,18,4,5] x",
        "float[1,3,8,15] y",
        [1, 3, 2, 3, 4, 5],
        [0, 1, 4, 2, 5, 3],
        [1, 3, 8, 15],
        "square",
    ),
    "other axes cut": (
        "float[1,3,16,5] x",
        "float[1,3,8,10] y",
        [1, 3, 2, 2, 4, 5],
        [0, 1, 4, 2, 5, 3],
        [1, 3, 8, 10],
        "joined",
    ),
    "other axes joined": (
        "float[1,12,4,5] x",
        "float[1,24,2,5] y",
        [1, 3, 2, 2, 4, 5],
        [0, 1, 4, 2, 5, 3],
        [1, 24, 2, 5],
        "joined",
    ),
    "back, other axes joined": (
        "float[1,3,8,10] x",
        "float[1,4,12,5] y",
        [1, 3, 4, 2, 5, 2],
        [0, 3, 5, 1, 2, 4],
        [1, 4, 12, 5],
        "joined",
    ),
    "integers": (
        "int64[1,12,4,5] x",
        "int64[1,3,8,10] y",
        [1, 3, 2, 2, 4, 5],
        [0, 1, 4, 2, 5, 3],
        [1, 3, 8, 10],
        "kernel",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    x, y, six, perm, four, because = REFUSED[name]
    text = f"g ({x}) => ({y}) <int64[6] s, int64[4] t> " + BODY.format(perm=perm)
    check(FuseDepthToSpace(), text, None, because=because, constants={"s": six, "t": four})


def test_a_shuffle_of_channels_stays() -> None:
    constants: dict[str, Any] = {"s": [1, 2, 3, 4, 5], "t": [1, 6, 4, 5]}
    check(
        FuseDepthToSpace(),
        "g (float[1,6,4,5] x) => (float[1,6,4,5] y) <int64[5] s, int64[4] t> "
        "{ a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t) }",
        None,
        because="4 axes as 6",
        constants=constants,
    )
