import pytest

from fcc.passes.convert_sequences import ConvertSequences
from fcc.testing import check

HEAD = "g (float[N,6] x) => (float[N,{n}] y) <int64 i = {{{i}}}, {split}> {{ s = SplitToSequence<axis={axis}>(x, k)"


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(("split", "count", "i", "n"), [("int64 k = {4}", 2, 1, 2), ("int64[3] k = {1,2,3}", 3, -1, 3)])
def test_becomes_split(axis: int, split: str, count: int, i: int, n: int) -> None:
    outputs = [f"o{j}" for j in range(count)]
    outputs[i] = "p"
    check(
        ConvertSequences(),
        HEAD.format(n=n, i=i, split=split, axis=axis) + " p = SequenceAt(s, i) y = Relu(p) }",
        f"g (float[N,6] x) => (float[N,{n}] y) {{ {', '.join(outputs)} = Split<axis={axis}>(x, c) y = Relu(p) }}",
    )


def test_without_keepdims_the_axis_is_squeezed() -> None:
    check(
        ConvertSequences(),
        """g (float[2,N] x) => (float[N] y, float[N] z) <int64 i = {0}, int64 j = {1}>
        { s = SplitToSequence<axis=0, keepdims=0>(x) y = SequenceAt(s, i) z = SequenceAt(s, j) }""",
        """g (float[2,N] x) => (float[N] y, float[N] z)
        { a, b = Split<axis=0>(x, c) y = Squeeze(a, d) z = Squeeze(b, e) }""",
    )


def test_axis_is_0_by_default_and_the_last_piece_is_the_rest() -> None:
    check(
        ConvertSequences(),
        """g (float[5,N] x) => (float[2,N] y, float[1,N] z) <int64 i = {-3}, int64 j = {2}, int64 k = {2}>
        { s = SplitToSequence(x, k) y = SequenceAt(s, i) z = SequenceAt(s, j) }""",
        "g (float[5,N] x) => (float[2,N] y, float[1,N] z) { y, a, z = Split<axis=0>(x, c) }",
    )


def test_keepdims_does_not_count_where_sizes_are_given() -> None:
    head = "g (float[N,6] x) => (float[N,3] y) <int64 i = {1}, int64 k = {3}>"
    check(
        ConvertSequences(),
        head + " { s = SplitToSequence<axis=1, keepdims=0>(x, k) y = SequenceAt(s, i) }",
        head + " { a, y = Split<axis=1>(x, c) }",
    )


def test_as_many_pieces_as_allowed() -> None:
    head = "g (float[N,64] x) => (float[N,1] y) <int64 i = {0}>"
    outputs = ", ".join(["y", *(f"o{i}" for i in range(63))])
    check(
        ConvertSequences(),
        head + " { s = SplitToSequence<axis=1>(x) y = SequenceAt(s, i) }",
        head + f" {{ {outputs} = Split<axis=1>(x, c) }}",
    )


def test_one_piece_is_the_input() -> None:
    check(
        ConvertSequences(),
        "g (float[N,6] x) => (float[N,6] y) <int64 i = {0}, int64 k = {6}> "
        "{ s = SplitToSequence<axis=1>(x, k) p = SequenceAt(s, i) y = Relu(p) }",
        "g (float[N,6] x) => (float[N,6] y) { p = Identity(x) y = Relu(p) }",
    )


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (
            "g (float[N,6] x, int64 i) => (float[N,3] y) <int64 k = {3}> "
            "{ s = SplitToSequence<axis=1>(x, k) y = SequenceAt(s, i) }",
            "other than by a constant position",
        ),
        (
            "g (float[N,6] x) => (float[N,3] y, int64 n) <int64 k = {3}, int64 i = {0}> "
            "{ s = SplitToSequence<axis=1>(x, k) y = SequenceAt(s, i) n = SequenceLength(s) }",
            "SequenceLength",
        ),
        (
            "g (float[N,6] x) => (float[M,6] y) <int64 k = {3}, int64 i = {0}> "
            "{ s = SplitToSequence<axis=0>(x, k) y = SequenceAt(s, i) }",
            "size along the axis is not known",
        ),
        (
            "g (float[N,6] x, int64 k) => (float[N,M] y) <int64 i = {0}> "
            "{ s = SplitToSequence<axis=1>(x, k) y = SequenceAt(s, i) }",
            "not constant",
        ),
        (
            "g (float[N,6] x) => (float[N,3] y) <int64 k = {3}, int64 i = {2}> "
            "{ s = SplitToSequence<axis=1>(x, k) y = SequenceAt(s, i) }",
            "position 2 is outside 2 pieces",
        ),
        (
            "g (float[N,65] x) => (float[N,1] y) <int64 i = {2}> { s = SplitToSequence<axis=1>(x) y = SequenceAt(s, i) }",
            "65 pieces are more than 64",
        ),
        (
            "g (float[N,128] x) => (float[N,1] y) <int64 i = {2}> "
            "{ s = SplitToSequence<axis=1>(x) y = SequenceAt(s, i) }",
            "128 pieces",
        ),
        (
            "g (float[N,6] x) => (seq(float[N,3]) s) <int64 k = {3}> { s = SplitToSequence<axis=1>(x, k) }",
            "graph output",
        ),
        (
            """g (float[2,6] x, bool c) => (float[2,3] y) <int64 k = {3}, int64 i = {0}> { s = SplitToSequence<axis=1>(x, k)
            y = If (c) <then_branch = t () => (float[2,3] u) { u = SequenceAt(s, i) },
            else_branch = e () => (float[2,3] v) { v = SequenceAt(s, i) }> }""",
            "another graph",
        ),
    ],
)
def test_stays(text: str, because: str) -> None:
    check(ConvertSequences(), text, None, because=because)


SPLIT = (
    "g (float[N,6] x) => (float[N,a] y, float[N,b] z) <int64{shape} s, int64 i, int64 j>"
    " {{ q = SplitToSequence<axis={axis}>(x, s) y = SequenceAt(q, i) z = SequenceAt(q, j) }}"
)
AFTER = "g (float[N,6] x) => (float[N,a] y, float[N,b] z) { y, u, z = Split<axis=1>(x, c0) }"


@pytest.mark.parametrize(("sizes", "j"), [([1, 2, 3], 2), ([1, 2, 3], -1)])
def test_parts_of_listed_sizes(sizes: list[int], j: int) -> None:
    before = SPLIT.format(shape="[3]", axis=1)
    check(ConvertSequences(), before=before, after=AFTER, constants={"s": sizes, "i": 0, "j": j})


def test_parts_of_one_size_with_a_shorter_last_one() -> None:
    module = check(
        ConvertSequences(),
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
        ConvertSequences(),
        before=SPLIT.format(shape="[2]", axis=1),
        after="g (float[N,6] x) => (float[N,a] y, float[N,b] z) { y, u = Split<axis=1>(x, c0) z = Identity(y) }",
        constants={"s": [2, 4], "i": 0, "j": -2},
    )


def test_an_absent_split_operand_is_no_split() -> None:
    check(
        ConvertSequences(),
        before="""g (float[N,2] x) => (float[N] y) <int64 i> {
          q = SplitToSequence<axis=1, keepdims=0>(x, ) y = SequenceAt(q, i) }""",
        after="g (float[N,2] x) => (float[N] y) { a, b = Split<axis=1>(x, c0) y = Squeeze(b, c1) }",
        constants={"i": 1},
    )


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (HEAD.format(n=1, i=0, split="int64[2] k = {1,2}", axis=1) + " y = SequenceAt(s, i) }", "do not add up"),
        (HEAD.format(n=1, i=0, split="int64 k = {0}", axis=1) + " y = SequenceAt(s, i) }", "a piece has no size"),
        (
            HEAD.format(n=1, i=0, split="int64[2] k = {1,5}", axis=1) + " y = SequenceAt(s, k) }",
            "other than by a constant position",
        ),
    ],
)
def test_sequences_that_cannot_be(text: str, because: str) -> None:
    check(ConvertSequences(), text, None, because=because)
