"""lower-sequences and lower-shape-chains."""

from __future__ import annotations

import pytest

from fcc.backends.lower_sequences import LowerSequences
from fcc.backends.lower_shape_chains import LowerShapeChains
from fcc.testing import check

SPLIT = (
    "g (float[N,6] x) => (float[N,a] y, float[N,b] z) <int64{shape} s, int64 i, int64 j>"
    " {{ q = SplitToSequence<axis={axis}>(x, s) y = SequenceAt(q, i) z = SequenceAt(q, j) }}"
)
AFTER = "g (float[N,6] x) => (float[N,a] y, float[N,b] z) { y, u, z = Split<axis=1>(x, c0) }"


@pytest.mark.parametrize(("sizes", "j"), [([1, 2, 3], 2), ([1, 2, 3], -1)])
def test_parts_of_listed_sizes(sizes: list[int], j: int) -> None:
    before = SPLIT.format(shape="[3]", axis=1)
    check(LowerSequences(), before=before, after=AFTER, constants={"s": sizes, "i": 0, "j": j})


def test_parts_of_one_size_with_a_shorter_last_one() -> None:
    module = check(
        LowerSequences(),
        before=SPLIT.format(shape="", axis=1),
        after="g (float[N,6] x) => (float[N,a] y, float[N,b] z) { y, z = Split<axis=1>(x, c0) }",
        constants={"s": 4, "i": 0, "j": 1},
    )
    sizes = next(iter(module.graph)).inputs[1]
    found = module.constant(sizes)
    assert found is not None
    assert found.tolist() == [4, 2]


def test_a_part_read_twice() -> None:
    check(
        LowerSequences(),
        before=SPLIT.format(shape="[2]", axis=1),
        after="g (float[N,6] x) => (float[N,a] y, float[N,b] z) { y, u = Split<axis=1>(x, c0) z = Identity(y) }",
        constants={"s": [2, 4], "i": 0, "j": -2},
    )


@pytest.mark.parametrize("keepdims", [0, 1])
def test_without_sizes_every_part_is_one_wide(keepdims: int) -> None:
    shape = "N" if keepdims == 0 else "N,1"
    before = (
        f"g (float[N,2] x) => (float[{shape}] y) <int64 i>"
        f" {{ q = SplitToSequence<axis=1,keepdims={keepdims}>(x) y = SequenceAt(q, i) }}"
    )
    tail = "a, b = Split<axis=1>(x, c0) y = Squeeze(b, c1)" if keepdims == 0 else "a, y = Split<axis=1>(x, c0)"
    after = f"g (float[N,2] x) => (float[{shape}] y) {{ {tail} }}"
    check(LowerSequences(), before=before, after=after, constants={"i": 1})


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("q = SplitToSequence<axis=1>(x, s) y = SequenceAt(q, i) n = SequenceLength(q)", "more than SequenceAt"),
        ("q = SplitToSequence<axis=0>(x) y = SequenceAt(q, i) n = Identity(i)", "not known"),
        ("q = SplitToSequence<axis=1>(x, s) y = SequenceAt(q, n0) n = Identity(i)", "not a constant"),
        ("q = SplitToSequence<axis=1>(x, s) y = SequenceAt(q, far) n = Identity(i)", "not a constant"),
    ],
)
def test_sequences_that_stay(body: str, because: str) -> None:
    before = f"g (float[N,6] x, int64 n0) => (float[a,b] y, int64 n) <int64[2] s, int64 i, int64 far> {{ {body} }}"
    check(LowerSequences(), before=before, after=None, because=because, constants={"s": [2, 4], "i": 0, "far": 2})


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
