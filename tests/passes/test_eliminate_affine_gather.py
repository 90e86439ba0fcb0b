import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.eliminate_affine_gather import EliminateAffineGather
from fcc.testing import check

P = EliminateAffineGather()
CHAIN = (
    "n = Shape<start=0, end=1>(m) nb = Squeeze(n) r = Range(zero, nb, one) u = Unsqueeze(r, axes) "
    "s = Mul({mul}) i = Add({add}) f = Flatten<axis=2>(m) y = Gather<axis=0>(f, i)"
)
DECLARED = "<int64 zero, int64 one, int64[3] axes, int64[1] k, int64[1,1,1,6] j>"
VALUES = {"zero": 0, "one": 1, "axes": np.array([1, 2, 3]), "k": 6, "j": np.arange(6).reshape(1, 1, 1, 6)}
IO = "g (float[B,6] m) => (float[B,1,1,6,1] y)"


def chain(mul: str = "u, k", add: str = "j, s") -> str:
    return f"{IO} {DECLARED} {{ {CHAIN.format(mul=mul, add=add)} }}"


@pytest.mark.parametrize("mul", ["u, k", "k, u"])
@pytest.mark.parametrize("add", ["j, s", "s, j"])
@pytest.mark.parametrize("size", [1, 3])
def test_index_of_a_padding_mask(mul: str, add: str, size: int) -> None:
    after = chain(mul, add).replace(DECLARED, "").replace("Gather<axis=0>(f, i)", "Reshape(f, t)")
    check(P, before=chain(mul, add), after=after, constants=VALUES, sizes={"B": size})


def test_axes_of_size_1_that_come_and_go() -> None:
    declared = DECLARED.replace("int64[3] axes", "int64[4] axes, int64[1] first")
    text = chain().replace("u = Unsqueeze(r, axes)", "e = Unsqueeze(r, axes) u = Squeeze(e, first)")
    check(
        P,
        before=text.replace(DECLARED, declared),
        after=text.replace(DECLARED, "").replace("Gather<axis=0>(f, i)", "Reshape(f, t)"),
        constants={**VALUES, "axes": np.array([0, 2, 3, 4]), "first": 0},
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_constant_indices(data: st.DataObject) -> None:
    d = data.draw
    shape = d(st.lists(st.integers(1, 3), max_size=3))
    size = int(np.prod(shape))
    lead: list[int | str] = d(st.sampled_from([[], [2], ["N"]]))
    tail: list[int] = d(st.sampled_from([[], [3], [1, 2]]))
    array = np.arange(size).reshape(shape)
    wrong = d(st.sampled_from(["", "offset", "swap", "stride"])) if size > 1 else ""
    if wrong == "swap":
        array = array.reshape(-1)[::-1].reshape(shape).copy()
    broken = {"offset": array - 1, "stride": array * 0}.get(wrong, array)
    axis = len(lead) - (len(lead) + 1 + len(tail)) * d(st.integers(0, 1))
    kind = d(st.sampled_from(["int64", "int32"]))
    x, y = [*lead, size, *tail], [*lead, *shape, *tail]
    io = f"g (float[{','.join(map(str, x))}] x) => (float{'[' + ','.join(map(str, y)) + ']' if y else ''} y)"
    index = f"{kind}{'[' + ','.join(map(str, shape)) + ']' if shape else ''} i"
    check(
        P,
        before=f"{io} <{index}> {{ y = Gather<axis={axis}>(x, i) }}",
        after=None if wrong else f"{io} {{ y = Reshape(x, s) }}",
        constants={"i": broken},
    )


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"zero": 1}, "not 0, 1, 2"),
        ({"one": 2}, "not 0, 1, 2"),
        ({"k": 5}, "not 0, 1, 2"),
        ({"j": np.arange(1, 7).reshape(1, 1, 1, 6)}, "not 0, 1, 2"),
        ({"j": np.array([0, 1, 2, 3, 5, 4]).reshape(1, 1, 1, 6)}, "not affine"),
    ],
)
def test_other_indices_stay(change: dict[str, object], because: str) -> None:
    more = {"zero": "Add(n1, zero)", "one": "Mul(n1, one)"}.get(next(iter(change)), "Identity(n1)")
    text = chain().replace("nb = Squeeze(n)", f"n1 = Squeeze(n) nb = {more}")
    check(P, before=text, after=None, because=because, constants={**VALUES, **change})


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("g (float[7] x) => (float[6] y) <int64[6] i> { y = Gather(x, i) }", "not known to be as many"),
        ("g (float[N] x) => (float[6] y) <int64[6] i> { y = Gather(x, i) }", "not known to be as many"),
        ("g (float[6] x, int64[6] i) => (float[6] y) { y = Gather(x, i) }", "not affine"),
        ("g (float[6] x) => (float[0] y) <int64[0] i> { y = Gather(x, i) }", "not affine"),
        ("g (float[A,B,6] x) => (float[A,B,2,3] y) <int64[2,3] i> { y = Gather<axis=2>(x, i) }", ""),
    ],
)
def test_refusals(text: str, because: str) -> None:
    values: dict[str, object] = {"i": np.arange(6).reshape(2, 3) if "[2,3] i" in text else np.arange(6)}
    if "[0] i" in text:
        values = {"i": np.zeros(0)}
    after = None if because else text.split("<int64")[0] + "{ y = Reshape(x, s) }"
    check(P, before=text, after=after, because=because, constants=values)


def test_symbol_that_may_be_one_is_not_repeated() -> None:
    check(
        P,
        before="g (float[N] z, float[M] x) => (float[K] y) <int64 zero, int64 one, int64[6] j> "
        "{ n = Shape(z) s = Squeeze(n) r = Range(zero, s, one) i = Add(r, j) y = Gather(x, i) }",
        after=None,
        because="not affine",
        constants={"zero": 0, "one": 1, "j": 0},
    )


def test_indices_used_elsewhere_stay() -> None:
    check(
        P,
        before="g (float[6] x, float[6] z) => (float[2,3] y, float[2,3] w) <int64[2,3] i> "
        "{ y = Gather(x, i) w = Gather(z, i) }",
        after="g (float[6] x, float[6] z) => (float[2,3] y, float[2,3] w) { y = Reshape(x, s) w = Reshape(z, t) }",
        constants={"i": np.arange(6).reshape(2, 3)},
    )
