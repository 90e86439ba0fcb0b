"""lower-shape-chains."""

from __future__ import annotations

import pytest

from fcc.backends.lower_shape_chains import LowerShapeChains
from fcc.testing import check

EXPAND = """g (float[batch,4] x) => (float[batch,3] y) <float[1,3] t, int64 zero, int64[1] zeros, int64[1] three> {
    s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, zeros) c = Concat<axis=0>(u, three) y = Expand(t, c) }"""
CONSTANTS = {"zero": 0, "zeros": 0, "three": 3}


def test_expand_over_one_runtime_size() -> None:
    check(
        LowerShapeChains(),
        before=EXPAND,
        after="""g (float[batch,4] x) => (float[batch,3] y) {
            n = Shape<start=0,end=1>(x) z = ConstantOfShape<value = int64[1] {0}>(n) y = Gather<axis=0>(t, z) }""",
        constants=CONSTANTS,
    )


def test_range_up_to_a_runtime_size() -> None:
    check(
        LowerShapeChains(),
        before="""g (float[batch,4] x) => (int64[n] y) <int64 zero, int64 one> {
            s = Shape(x) b = Gather(s, zero) y = Range(zero, b, one) }""",
        after="""g (float[batch,4] x) => (int64[n] y) {
            n = Shape<start=0,end=1>(x) o = ConstantOfShape<value = int64[1] {1}>(n) y = CumSum<exclusive=1>(o, c0) }""",
        constants={"zero": 0, "one": 1},
    )


@pytest.mark.parametrize(
    ("before", "opset", "because"),
    [
        (EXPAND, 13, "before opset 15"),
        ("g (float[n,4] x) => (float[n,4] y) <float[1,4] t> { s = Shape(x) y = Expand(t, s) }", 21, "Shape alone"),
        ("g (float[n,4] x) => (float[3,4] y) <int64[2] s, float[1,4] t> { y = Expand(t, s) }", 21, "not computed"),
        (EXPAND.replace("float[1,3] t", "float[1,1] t"), 21, "more than one size"),
    ],
)
def test_chains_that_stay(before: str, opset: int, because: str) -> None:
    constants = {**CONSTANTS, "s": [3, 4]}
    check(LowerShapeChains(), before=before, after=None, because=because, opset=opset, constants=constants)


def test_ranges_of_int32() -> None:
    check(
        LowerShapeChains(),
        before="""g (float[batch,4] x) => (int32[n] y) <int32 zero, int32 one, int64 axis = {0}> {
            s = Shape(x) b = Gather(s, axis) c = Cast<to=6>(b) y = Range(zero, c, one) }""",
        after="""g (float[batch,4] x) => (int32[n] y) {
            n = Shape<start=0,end=1>(x) o = ConstantOfShape<value = int32[1] {1}>(n) y = CumSum<exclusive=1>(o, c0) }""",
        constants={"zero": 0, "one": 1},
    )


def test_what_is_expanded_stays() -> None:
    check(
        LowerShapeChains(),
        before=EXPAND.replace("float[1,3] t", "float[1,3] t0").replace("{\n", "{ t = Exp(t0)\n"),
        after="""g (float[batch,4] x) => (float[batch,3] y) <float[1,3] t0> { t = Exp(t0)
            n = Shape<start=0,end=1>(x) z = ConstantOfShape<value = int64[1] {0}>(n) y = Gather<axis=0>(t, z) }""",
        constants=CONSTANTS,
    )


def test_the_size_of_an_axis_behind() -> None:
    check(
        LowerShapeChains(),
        before="""g (float[4,batch] x) => (float[3,batch] y) <float[3,1] t, int64 one, int64[1] zeros, int64[1] three> {
            s = Shape(x) b = Gather(s, one) u = Unsqueeze(b, zeros) c = Concat<axis=0>(three, u) y = Expand(t, c) }""",
        after="""g (float[4,batch] x) => (float[3,batch] y) {
            n = Shape<start=1,end=2>(x) z = ConstantOfShape<value = int64[1] {0}>(n) y = Gather<axis=1>(t, z) }""",
        constants={**CONSTANTS, "one": 1},
    )


@pytest.mark.parametrize(
    ("chain", "because"),
    [
        ("y = Range(one, b, one)", "more than one size"),
        ("y = Range(zero, b, two)", "more than one size"),
        ("y = Range(b, b, one)", "more than one size"),
        ("y = Range(zero, b, b)", "more than one size"),
        ("y = Range(i, b, one)", "more than one size"),
        ("y = Range(zero, b, i)", "more than one size"),
        ("j = Neg(i) y = Range(zero, j, one)", "more than one size"),
        ("f = Gather(s, one) y = Range(zero, f, one)", "more than one size"),
        ("d = Mul(b, two) y = Range(zero, d, one)", "no dimension of a tensor at hand"),
        ("y = Range(zero, i, one)", "the size is not computed"),
    ],
)
def test_ranges_that_stay(chain: str, because: str) -> None:
    before = f"""g (float[batch,4] x, int64 i) => (int64[n] y) <int64 zero, int64 one, int64 two> {{
        s = Shape(x) b = Gather(s, zero) {chain} }}"""
    check(LowerShapeChains(), before=before, after=None, because=because, constants={"zero": 0, "one": 1, "two": 2})


@pytest.mark.parametrize("shape", ["3", "batch,3", "2,3"])
def test_expansions_that_stay(shape: str) -> None:
    """Of another rank, or of no axis of size 1."""
    before = EXPAND.replace("(float[batch,4] x)", f"(float[batch,4] x, float[{shape}] t)").replace("float[1,3] t, ", "")
    check(LowerShapeChains(), before=before, after=None, because="more than one size", constants=CONSTANTS)


def test_ranges_of_types_that_cumsum_does_not_take_stay() -> None:
    before = """g (float[batch,4] x) => (int16[n] y) <int16 zero, int16 one, int64 axis = {0}> {
        s = Shape(x) b = Gather(s, axis) c = Cast<to=5>(b) y = Range(zero, c, one) }"""
    check(LowerShapeChains(), before=before, after=None, because="more than", constants={"zero": 0, "one": 1})


def test_a_size_that_only_the_tensor_of_the_chain_has() -> None:
    check(
        LowerShapeChains(),
        before="""g (float[batch,4] x) => (int64[n] y, float[m,4] u) <int64 zero, int64 one> {
            u = Concat<axis=0>(x, x) s = Shape(u) b = Gather(s, zero) y = Range(zero, b, one) }""",
        after="""g (float[batch,4] x) => (int64[n] y, float[m,4] u) { u = Concat<axis=0>(x, x)
            n = Shape<start=0,end=1>(u) o = ConstantOfShape<value = int64[1] {1}>(n) y = CumSum<exclusive=1>(o, c0) }""",
        constants={"zero": 0, "one": 1},
    )


def test_chains_with_absent_operands_and_values_read_twice() -> None:
    check(
        LowerShapeChains(),
        before="""g (float[batch,4] x) => (float[batch,3] y) <float[1,3] t, int64[1] zeros, int64[1] ones, int64[1] three> {
            s = Shape(x) b = Slice(s, zeros, ones, , ones) d = Add(b, b) e = Sub(d, b) c = Concat<axis=0>(e, three)
            y = Expand(t, c) }""",
        after="""g (float[batch,4] x) => (float[batch,3] y) {
            n = Shape<start=0,end=1>(x) z = ConstantOfShape<value = int64[1] {0}>(n) y = Gather<axis=0>(t, z) }""",
        constants={**CONSTANTS, "ones": 1},
        opset=15,
    )
