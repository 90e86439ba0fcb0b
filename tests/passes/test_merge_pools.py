import pytest

from fcc.passes.merge_pools import MergePools
from fcc.testing import check

P = MergePools()
IO = "g (float[N,3,6,8] x) => (float[{}] y)"
SPACE = "<int64[2] space, int64[2] flat, int64[1] one>"
GIVEN = {"space": [2, 3], "flat": [0, 3], "one": [2]}


def rewritten(shape: str, body: str, after: str | None, because: str = "", target: str = "cpu") -> None:
    io = IO.format(shape)
    check(
        P,
        before=f"{io} {SPACE} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants=GIVEN,
        target=target,
    )


@pytest.mark.parametrize(
    ("attributes", "covers"),
    [
        ("kernel_shape=[2,2], strides=[2,2]", True),
        ("kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", True),
        ("kernel_shape=[3,3]", True),
        ("kernel_shape=[4,4], strides=[4,4], ceil_mode=1", True),
        ("kernel_shape=[4,4], strides=[4,4]", False),
        ("kernel_shape=[1,1], strides=[2,2]", False),
        ("kernel_shape=[2,2], dilations=[2,2]", False),
        ('kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER"', False),
        ('kernel_shape=[2,2], strides=[2,2], auto_pad="VALID", pads=[1,1,1,1]', False),
    ],
)
def test_the_largest_of_windows(attributes: str, covers: bool) -> None:
    body = f"p = MaxPool<{attributes}>(x) y = "
    because = "may leave something out"
    rewritten("N,3,1,1", body + "ReduceMax(p, space)", "y = ReduceMax(x, s)" if covers else None, because)
    rewritten(
        "N,3", body + "ReduceMax<keepdims=0>(p, space)", "y = ReduceMax<keepdims=0>(x, s)" if covers else None, because
    )
    rewritten("N,3,1,1", body + "GlobalMaxPool(p)", "y = GlobalMaxPool(x)" if covers else None, because)


@pytest.mark.parametrize(
    ("shape", "body", "because"),
    [
        (
            "N,3,1,4",
            "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = ReduceMax(p, one)",
            "does not reduce all of space",
        ),
        ("N,3,1,1", "y = GlobalMaxPool(x)", "reduces no MaxPool"),
        (
            "N,3,1,1",
            "p = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x) y = ReduceMax(p, space)",
            "reduces no MaxPool",
        ),
        (
            "N,3,3,4",
            "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) q = GlobalMaxPool(p) y = Add(p, q)",
            "nobody else uses",
        ),
    ],
)
def test_maxima_that_stay(shape: str, body: str, because: str) -> None:
    rewritten(shape, body, None, because)


def test_sizes_that_are_not_known_may_leave_something_out() -> None:
    text = "g (float[N,3,H,8] x) => (float[N,3,1,1] y) { p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = GlobalMaxPool(p) }"
    check(P, before=text, after=None, because="may leave something out", sizes={"H": 5})


@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_one_window(kind: str) -> None:
    rewritten("N,3,1,1", f"y = {kind}Pool<kernel_shape=[6,8], strides=[2,2]>(x)", f"y = Global{kind}Pool(x)")


@pytest.mark.parametrize(
    ("attributes", "because"),
    [
        ("kernel_shape=[6,7]", "the window is not all of space"),
        ("kernel_shape=[6,8], pads=[0,1,0,1]", "it pads or dilates"),
        ('kernel_shape=[6,8], auto_pad="SAME_UPPER"', "it pads or dilates"),
        ('kernel_shape=[6,8], auto_pad="VALID", pads=[0,1,0,1]', "it pads or dilates"),
    ],
)
def test_other_windows_stay(attributes: str, because: str) -> None:
    rewritten("N,3,H,W", f"y = AveragePool<{attributes}>(x)", None, because)


def test_types_without_a_kernel_stay() -> None:
    text = "g (double[N,3,6,8] x) => (double[N,3,1,1] y) { y = MaxPool<kernel_shape=[6,8]>(x) }"
    check(P, before=text, after=None, because="GlobalMaxPool")


def test_indices_of_one_window_stay() -> None:
    text = "g (float[1,3,6,8] x) => (float[1,3,1,1] y, int64[1,3,1,1] i) { y, i = MaxPool<kernel_shape=[6,8]>(x) }"
    check(P, before=text, after=None, because="used")


def test_indices_that_nothing_reads_do_not_matter() -> None:
    text = "g (float[1,3,6,8] x) => (float[1,3,1,1] y) { y, i = MaxPool<kernel_shape=[6,8]>(x) }"
    check(P, before=text, after="g (float[1,3,6,8] x) => (float[1,3,1,1] y) { y = GlobalMaxPool(x) }")
