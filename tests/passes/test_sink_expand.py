import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.sink_expand import SinkExpand
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

P = SinkExpand()
IO = "g (float[N,4,3] x, float[N,1,2] g, float[N,4,2] z) => (float[N,4,5] y)"
DECLARED = "<float[5,5] w, float[7,5] w7, float[5] b, int64[3] shape, int64[1] two>"
EXPAND = "s = Shape<start=0, end=2>(x) f = Concat<axis=0>(s, two) e = Expand(g, f)"


def rewritten(body: str, after: str | None, because: str = "", io: str = IO) -> None:
    check(
        P,
        before=f"{io} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants={"shape": [1, 4, 2], "two": 2},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            "j = Concat<axis=2>(x, e) m = MatMul(j, w) y = Add(m, b)",
            "o = MatMul(g, v) p = Add(o, b2) m = MatMul(x, u) y = Add(m, p)",
        ),
        ("j = Concat<axis=-1>(e, x) y = MatMul(j, w)", "o = MatMul(g, v) m = MatMul(x, u) y = Add(m, o)"),
        (
            "j = Concat<axis=2>(z, e, x) y = MatMul(j, w7)",
            "o = MatMul(g, v) k = Concat<axis=2>(z, x) m = MatMul(k, u) y = Add(m, o)",
        ),
    ],
)
def test_repeated_features(body: str, after: str) -> None:
    start = EXPAND.rpartition(" e = ")[0] + " "
    rewritten(f"{EXPAND} {body}", f"{start}{after}")


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (f"{EXPAND} j = Concat<axis=2>(x, e) m = MatMul(j, w) n = ReduceSum(e) y = Add(m, n)", "nobody else uses"),
        ("j = Concat<axis=2>(x, z) y = MatMul(j, w)", "nobody else uses"),
        (
            f"{EXPAND} j = Concat<axis=2>(x, e) m = MatMul(j, w) n = ReduceSum(j) y = Add(m, n)",
            "the Concat has other users",
        ),
        (
            f"{EXPAND} h = ReduceSum<keepdims=1>(x) i = Concat<axis=0>(s, two) k = Expand(h, i) j = Concat<axis=2>(x, k) y = MatMul(j, w)",
            "nobody else uses",
        ),
    ],
)
def test_what_stays(body: str, because: str) -> None:
    rewritten(body, None, because)


CONV = "float[1,3,4,5] x, float[1,2,1,1] g"


def conv(
    body: str, after: str | None, because: str = "", sizes: str = "float[6,5,1,1] w", out: str = "1,6,4,5"
) -> None:
    """Check a Conv behind the join of x and a repeated g."""
    io = f"g ({CONV}) => (float[{out}] y)"
    check(
        P,
        before=f"{io} <{sizes}, float[6] b, int64[4] shape> {{ e = Expand(g, shape) {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants={"shape": [1, 2, 4, 5]},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            "j = Concat<axis=1>(x, e) y = Conv(j, w, b)",
            "o = Conv(g, v, b2) m = Conv(x, u) y = Add(m, o)",
        ),
        (
            "j = Concat<axis=-3>(e, x) y = Conv<kernel_shape=[1,1]>(j, w)",
            "o = Conv<kernel_shape=[1,1]>(g, v) m = Conv<kernel_shape=[1,1]>(x, u) y = Add(m, o)",
        ),
    ],
)
def test_repeated_channels(body: str, after: str) -> None:
    conv(body, after)


@pytest.mark.parametrize(
    ("body", "sizes", "out", "because"),
    [
        ("y = Conv<pads=[1,1,1,1]>(j, w)", "float[6,5,3,3] w", "1,6,4,5", "kernel is larger than 1"),
        ("y = Conv<strides=[2,2]>(j, w)", "float[6,5,1,1] w", "1,6,2,3", "stride is not 1"),
        ("y = Conv<pads=[1,1,1,1]>(j, w)", "float[6,5,1,1] w", "1,6,6,7", "input is padded"),
    ],
)
def test_layers_that_mix_rows_stay(body: str, sizes: str, out: str, because: str) -> None:
    conv(f"j = Concat<axis=1>(x, e) {body}", None, because, sizes, out)


def test_one_of_two_repeated_parts() -> None:
    io = "g (float[1,1,3] x, float[1,1,2] g) => (float[1,4,5] y)"
    text = (
        f"{io} <float[5,5] w, int64[3] shape, int64[3] full> "
        "{ e = Expand(g, shape) f = Expand(x, full) j = Concat<axis=2>(f, e) y = MatMul(j, w) }"
    )
    after = f"{io} {{ f = Expand(g, full) o = MatMul(x, v) m = MatMul(f, u) y = Add(m, o) }}"
    check(P, before=text, after=after, constants={"shape": [1, 4, 2], "full": [1, 4, 3]})


def test_rows_that_are_not_known_stay() -> None:
    io = "g (float[N,T,3] x, float[N,1,2] g, int64[3] s) => (float[N,T,5] y)"
    text = f"{io} <float[5,5] w> {{ e = Expand(g, s) j = Concat<axis=2>(x, e) y = MatMul(j, w) }}"
    module = read(model_from(text, 21, {}, 0))
    shapes.infer(module)
    log = Log(strict=True, explain=frozenset({P.name}))
    assert run_pass(P, module, PassContext(target=get_target("cpu"), log=log)) == 0
    assert [r.reason for r in log.refused] == ["the rows of the Expand are not known"]


def test_rows_that_may_differ_stay() -> None:
    io = "g (float[N,T,3] x, float[M,T,2] z, float[1,1,2] g) => (float[N,T,5] y)"
    text = f"{io} <float[7,5] w, int64[1] two> {{ {EXPAND} j = Concat<axis=2>(x, z, e) y = MatMul(j, w) }}"
    check(
        P,
        before=text,
        after=None,
        because="not known to have all rows",
        sizes={"N": 2, "M": 2},
        constants={"two": 2},
    )


def test_matrices_and_other_layers_are_no_site() -> None:
    text = "g (float[4,3] x, float[1,2] g) => (float[4,5] y) <float[5,5] w, int64[2] s> { e = Expand(g, s) j = Concat<axis=1>(x, e) y = MatMul(j, w) }"
    check(P, before=text, after=None, because="fewer rows", constants={"s": [4, 2]})
