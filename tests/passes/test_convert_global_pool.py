"""convert-global-pool: where a reduction replaces a pooling, and where the pooling stays."""

from __future__ import annotations

import pytest

from fcc.passes.convert_global_pool import ConvertGlobalPool
from fcc.testing import check

DROPS = {
    "Squeeze": ("Squeeze(p, a)", {"a": [2, 3]}),
    "Reshape": ("Reshape(p, a)", {"a": [0, 4]}),
    "Flatten": ("Flatten(p)", {}),
}


@pytest.mark.parametrize(("pool", "reduction"), [("GlobalMaxPool", "ReduceMax"), ("GlobalAveragePool", "ReduceMean")])
@pytest.mark.parametrize("drop", DROPS)
def test_becomes_a_reduction(pool: str, reduction: str, drop: str) -> None:
    written, constants = DROPS[drop]
    check(
        ConvertGlobalPool(),
        f"g (float[2,4,3,3] x) => (float[2,4] y) <int64[2] a> {{ p = {pool}(x) y = {written} }}",
        f"g (float[2,4,3,3] x) => (float[2,4] y) {{ y = {reduction}<keepdims = 0>(x, axes) }}",
        constants=constants,
    )


def test_axes_are_an_attribute_below_opset_18() -> None:
    check(
        ConvertGlobalPool(),
        "g (float[N,4,3,3] x) => (float[N,4] y) <int64[2] a> { p = GlobalMaxPool(x) y = Squeeze(p, a) }",
        "g (float[N,4,3,3] x) => (float[N,4] y) { y = ReduceMax<axes = [2, 3], keepdims = 0>(x) }",
        constants={"a": [2, 3]},
        opset=17,
    )


def test_what_comes_from_a_reshape_is_not_blocked() -> None:
    check(
        ConvertGlobalPool(),
        "g (float[N,1,4,9] x) => (float[N,4] y) <int64[4] s, int64[2] a, float l> { r = Reshape(x, s) c = Clip(r, l)"
        " t = Tanh(c) p = GlobalMaxPool(t) y = Squeeze(p, a) }",
        "g (float[N,1,4,9] x) => (float[N,4] y) <float l> { r = Reshape(x, s) c = Clip(r, l) t = Tanh(c)"
        " y = ReduceMax<keepdims = 0>(t, axes) }",
        constants={"s": [-1, 4, 1, 9], "a": [2, 3], "l": 0},
    )
    check(
        ConvertGlobalPool(),
        "g (float[N,4,3,3,3] x) => (float[N,4] y) <float[4,4,3,3,3] w> { c = Conv<pads = [1,1,1,1,1,1]>(x, w)"
        " p = GlobalAveragePool(c) y = Flatten(p) }",
        "g (float[N,4,3,3,3] x) => (float[N,4] y) <float[4,4,3,3,3] w> { c = Conv<pads = [1,1,1,1,1,1]>(x, w)"
        " y = ReduceMean<keepdims = 0>(c, axes) }",
    )


REFUSED = {
    "blocked layout": "g (float[N,4,9,9] x) => (float[N,4] y) <float[4,4,3,3] w> { c = Conv(x, w) r = Relu(c)"
    " p = GlobalMaxPool(r) y = Flatten(p) }",
    "float32": "g (double[N,4,9] x) => (double[N,4] y) { p = GlobalMaxPool(x) y = Flatten(p) }",
    "is not [N, C]": "g (float[N,4,9] x) => (float[1,M] y) { p = GlobalMaxPool(x) y = Flatten<axis = 0>(p) }",
    "result is not [N, C]": "g (float[N,4,9] z, int64[K] s) => (float[N,4] y) { x = Reshape(z, s) p = GlobalMaxPool(x)"
    " y = Flatten(p) }",
    "not known, or 0": "g (float[N,4,9] z) => (float[N,4] y) <int64[1] a, int64[1] b> { x = Slice(z, b, b, a)"
    " p = GlobalMaxPool(x) y = Flatten(p) }",
    "size is not known": "g (float[N,4,L] x) => (float[N,4] y) { p = GlobalMaxPool(x) y = Flatten(p) }",
    "has other users": "g (float[N,4,9] x) => (float[N,4] y, float[N,4,1] z) { p = GlobalMaxPool(x) y = Flatten(p)"
    " z = Relu(p) }",
}


@pytest.mark.parametrize(("because", "before"), REFUSED.items(), ids=REFUSED)
def test_stays(because: str, before: str) -> None:
    check(ConvertGlobalPool(), before, None, because=because, constants={"a": 2, "b": 0})


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets_keep_the_pooling(target: str) -> None:
    before = "g (float[N,4,9] x) => (float[N,4] y) { p = GlobalMaxPool(x) y = Flatten(p) }"
    check(ConvertGlobalPool(), before, None, because="as fast as", target=target)
