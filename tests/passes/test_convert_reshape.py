import pytest

from fcc.passes.convert_reshape import ConvertReshape
from fcc.testing import check

P = ConvertReshape()
ONE = {"one": 1, "z": 0, "t": 2, "m": -1}
SHAPE = "<int64[1] one, int64[1] z, int64[1] t, int64[1] m> { n = Shape<start=0, end=1>(x) s = Shape<start=1, end=2>(x)"


@pytest.mark.parametrize(
    ("io", "entries", "after"),
    [
        ("g (float[N,S] x) => (float[N,1,1,S] y)", "n, one, one, s", "y = Unsqueeze(x, [1, 2])"),
        ("g (float[N,S] x) => (float[1,N,S,1] y)", "one, n, s, one", "y = Unsqueeze(x, [0, 3])"),
        ("g (float[N,S,1] x) => (float[N,S] y)", "n, s", "y = Squeeze(x, [2])"),
        ("g (float[N,S,1,1] x) => (float[N,S,1] y)", "n, s, one", "y = Squeeze(x, [2])"),
        ("g (float[N,S,1] x) => (float[N,1,S,1] y)", "n, one, s, one", "y = Unsqueeze(x, [1])"),
        ("g (float[N,S,1,2,1] x) => (float[N,S,1,2] y)", "n, s, one, t", "y = Squeeze(x, [4])"),
        ("g (float[N,S,1,2] x) => (float[N,S,1,1,2,1] y)", "n, s, one, one, t, one", "y = Unsqueeze(x, [2, 5])"),
    ],
)
def test_axes_of_size_1(io: str, entries: str, after: str) -> None:
    left = after.replace("[", "c").split("c")[0]
    module = check(
        P, before=f"{io} {SHAPE} r = Concat<axis=0>({entries}) y = Reshape(x, r) }}",
        after=f"{io} {SHAPE.split('>', 1)[1]} r = Concat<axis=0>({entries}) {left}c) }}", constants=ONE,
    )  # fmt: skip
    node = next(n for n in module.nodes() if n.op_type in ("Squeeze", "Unsqueeze"))
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    assert str(node.inputs[1].const_value.numpy().tolist()) == after[after.index("[") : -1]


@pytest.mark.parametrize(
    ("io", "entries", "because"),
    [
        ("g (float[N,S] x) => (float[S,1,N] y)", "s, one, n", "it does more"),
        ("g (float[N,S] x) => (float[N,S] y)", "n, s", "it does more"),
        ("g (float[N,4] x) => (float[N,2,2] y)", "n, t, t", "it does more"),
        ("g (float[N,S,1] x) => (float[1,N,S] y)", "one, n, s", "it does more"),
        ("g (float[N,S] x, int64[3] f) => (float[N,1,S] y)", "", "it does more"),
    ],
)
def test_refusals(io: str, entries: str, because: str) -> None:
    body = f"r = Concat<axis=0>({entries}) y = Reshape(x, r)" if entries else "y = Reshape(x, f)"
    check(P, before=f"{io} {SHAPE} {body} }}", after=None, because=because, constants=ONE)


def test_constant_shapes_stay() -> None:
    check(P, before="g (float[N,3] x) => (float[N,1,3] y) <int64[3] r> { y = Reshape(x, r) }", after=None,
          because="the shape is constant", constants={"r": [-1, 1, 3]})  # fmt: skip


def test_older_opsets_stay() -> None:
    check(P, before="""<ir_version: 5, opset_import: ["" : 10]> g (float[N,S] x, float[1,1,3,3] u, float[4] w)
        => (float[N,1,S] y, float[A,B,C,D] v) <int64[1] one, int64 i, int64 j> {
        v = Resize(u, w) t = Shape(x) n = Gather<axis=0>(t, i) m = Gather<axis=0>(t, j) n1 = Unsqueeze<axes=[0]>(n)
        m1 = Unsqueeze<axes=[0]>(m) r = Concat<axis=0>(n1, one, m1) y = Reshape(x, r) }""",
          after=None, because="opset below 13", constants={"one": 1, "i": 0, "j": 1})  # fmt: skip
