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


@pytest.mark.parametrize("operands", ["one, b, one", "zero, b, two", "b, b, one", "zero, b, b"])
def test_ranges_that_do_not_count_up_from_zero_stay(operands: str) -> None:
    before = f"""g (float[batch,4] x) => (int64[n] y) <int64 zero, int64 one, int64 two> {{
        s = Shape(x) b = Gather(s, zero) y = Range({operands}) }}"""
    check(LowerShapeChains(), before=before, after=None, constants={"zero": 0, "one": 1, "two": 2})
