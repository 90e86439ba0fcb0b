from typing import Any

import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.convert_gather import ConvertGather
from fcc.passes.convert_split import ConvertSplit
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

P = ConvertGather()
IO = "g (float[4,8,6] x) => (float[{}] y)"
CONSTANTS: dict[str, Any] = {
    **{"i3": 3, "m1": -1, "v3": [3], "v4": [4], "a0": [0], "a1": [1], "a2": [2], "a12": [1, 2], "two": [[3]]},
}
DECLARED = "<int64 i3, int64 m1, int64[1] v3, int64[1] v4, int64[1] a0, int64[1] a1, int64[1] a2, int64[2] a12, int64[1,1] two, int64[{}] k>"


def bounds(module: Any) -> list[list[int]]:
    (node,) = [n for n in module.nodes() if n.op_type == "Slice"]
    return [v.const_value.numpy().tolist() for v in node.inputs[1:]]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([1, 2, 3, 4], [[1], [5], [1]]),
        ([0, 2, 4, 6], [[0], [7], [1], [2]]),
        ([-5, -4, -3, -2], [[3], [7], [1]]),
        ([-4, -3, -2, -1], [[4], [8], [1]]),
        ([4, 5, 6, 7], [[4], [8], [1]]),
    ],
)
def test_ranges_of_columns(indices: list[int], expected: list[list[int]]) -> None:
    io = IO.format("4,4,6")
    after = f"{io} {{ y = Slice(x, s, e, a{', k' if len(expected) > 3 else ''}) }}"
    module = check(
        P, before=f"{io} <int64[4] k> {{ y = Gather<axis=-2>(x, k) }}", after=after, constants={"k": indices}
    )
    assert bounds(module) == expected


@pytest.mark.parametrize(
    ("axis", "indices", "because"),
    [
        (0, [0, 1, 2, 3], "copied as fast"),
        (1, [3, 2, 1, 0], "do not rise in equal steps"),
        (1, [1, 1, 1, 1], "do not rise in equal steps"),
        (1, [0, 1, 2, 4], "do not rise in equal steps"),
        (1, [-2, -1, 0, 1], "the indices wrap around"),
        (1, [0, 1, 2], "no constant vector of 4 or more"),
    ],
)
def test_other_indices_stay(axis: int, indices: list[int], because: str) -> None:
    io = IO.format("A,B,C")
    text = f"{io} <int64[{len(indices)}] k> {{ y = Gather<axis={axis}>(x, k) }}"
    check(P, before=text, after=None, because=because, constants={"k": indices})


@pytest.mark.parametrize("indices", [[0, 2, 4, 6], [4, 5, 6, 7], [-8, -7, -6, -5], [-6, -4, -2, 0]])
def test_indices_beyond_the_axis_stay(indices: list[int]) -> None:
    module = read(
        model_from(
            "g (float[4,6] x) => (float[4,4] y) <int64[4] k> { y = Gather<axis=1>(x, k) }", 21, {"k": indices}, 0
        )
    )
    shapes.infer(module)
    assert run_pass(P, module, PassContext(get_target("cpu"), Log(strict=True))) == 0


def test_indices_that_are_no_vector_or_no_constant_stay() -> None:
    text = "g (float[4,8] x) => (float[4,2,2] y) <int64[2,2] k> { y = Gather<axis=1>(x, k) }"
    check(P, before=text, after=None, because="no constant vector", constants={"k": [[0, 1], [2, 3]]})
    text = "g (float[4,8] x, int64[4] k) => (float[4,4] y) { y = Gather<axis=1>(x, k) }"
    check(P, before=text, after=None, because="no constant vector")
    text = "g (float[4,N] x) => (float[4,4] y) <int64[4] k> { y = Gather<axis=1>(x, k) }"
    check(
        P,
        before=text,
        after=None,
        because="the size of the axis is not known",
        constants={"k": [0, 1, 2, 3]},
        sizes={"N": 5},
    )


# -- one index ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "body", "after"),
    [
        ("4,6", "g = Gather<axis=1>(x, v3) y = Squeeze(g, a1)", "y = Gather<axis=1>(x, i)"),
        ("8,6", "g = Gather<axis=0>(x, v3) y = Squeeze(g, a0)", "y = Gather<axis=0>(x, i)"),
        ("4,8", "g = Slice(x, v3, v4, a2) y = Squeeze(g, a2)", "y = Gather<axis=2>(x, i)"),
        ("4,1,6", "g = Gather<axis=1>(x, i3) y = Unsqueeze(g, a1)", "y = Gather<axis=1>(x, i)"),
        ("8,6", "g = Gather(x, v3) y = Squeeze(g, a0)", "y = Gather<axis=0>(x, i)"),
        ("1,8,6", "g = Gather(x, i3) y = Unsqueeze(g, a0)", "y = Gather(x, i)"),
    ],
)
def test_one_index(shape: str, body: str, after: str) -> None:
    io = IO.format(shape)
    module = check(
        P, before=f"{io} {DECLARED.format(1)} {{ {body} }}", after=f"{io} {{ {after} }}", constants=CONSTANTS
    )
    (node,) = module.nodes()
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    assert node.inputs[1].const_value.numpy().reshape(()) == 3


@pytest.mark.parametrize(
    ("shape", "body", "because"),
    [
        ("4,6", "g = Gather(x, v3) h = Transpose<perm=[1,0,2]>(g) y = Squeeze(h, a1)", "nobody else uses"),
        ("8,6", "g = Gather(x, a0) y = Squeeze(g, a1)", "not the one of a single constant index"),
        (
            "4,8",
            "g = Slice(x, a0, a1, a2) h = Slice(g, a0, a1, a1) y = Squeeze(h, a2)",
            "not the one of a single constant index",
        ),
        ("4,2,6", "g = Gather<axis=1>(x, a12) y = Identity(g)", "no constant vector"),
        (
            "4,6",
            "g = Slice(x, a1, v4, a1) h = Slice(g, a0, a1, a1) y = Squeeze(h)",
            "it squeezes one axis of no Gather",
        ),
        (
            "4,6",
            "g = Gather<axis=1>(x, v3) h = Neg(g) y = Squeeze(h, a1)",
            "of no Gather or Slice that nobody else uses",
        ),
        ("1,4,6", "g = Gather<axis=1>(x, i3) y = Unsqueeze(g, a0)", "the new axis is not the one"),
        (
            "4,1,6",
            "g = Slice(x, v3, v4, a1) h = Squeeze(g, a1) y = Unsqueeze(g, a0) z = Identity(h)",
            "nobody else uses",
        ),
        ("4,1,6", "g = Gather<axis=1>(x, v3) h = Relu(g) s = Squeeze(g, a1) y = Unsqueeze(s, a1)", "nobody else uses"),
    ],
)
def test_one_index_that_stays(shape: str, body: str, because: str) -> None:
    text = f"{IO.format('A,B,C')} {DECLARED.format(1)} {{ {body} }}"
    check(P, before=text, after=None, because=because, constants=CONSTANTS)


@pytest.mark.parametrize(("kind", "node"), [("1", "Squeeze(g, a1)"), ("2", "Squeeze(g, a1)"), ("", "Unsqueeze(g, a1)")])
def test_an_index_that_is_computed_or_several_stays(kind: str, node: str) -> None:
    text = (
        f"g (float[4,8,6] x, int64[{kind}] i) => (float[A,B] y) <int64[1] a1> {{ g = Gather<axis=1>(x, i) y = {node} }}"
    )
    text = text.replace("int64[]", "int64").replace("float[A,B]", "float[A,B,C]" if "Un" in node else "float[A,B]")
    because = "the new axis is not the one" if "Un" in node else "not the one of a single constant index"
    check(P, before=text, after=None, because=because, constants=CONSTANTS)


def test_an_index_of_an_outer_graph_stays() -> None:
    text = (
        "g (float[4,8] x, bool c) => (float[4] y) <int64[1] i, int64[1] a> { t = Gather<axis=1>(x, i) "
        "y = If (c) <then_branch = p () => (float[4] u) { u = Squeeze(t, a) }, else_branch = q () => (float[4] v) "
        "{ s = Squeeze(t, a) v = Neg(s) }> }"
    )
    check(P, before=text, after=None, because="nobody else uses", constants={"i": 2, "a": 1})


# -- one part of a Split -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("part", "expected"), [("p", [[0], [2], [1]]), ("q", [[2], [3], [1]]), ("r", [[3], [8], [1]])])
def test_one_part(part: str, expected: list[list[int]]) -> None:
    io = IO.format("4,C,6")
    text = f"{io} <int64[3] sizes> {{ p, q, r = Split<axis=-2>(x, sizes) y = Neg({part}) }}"
    after = f"{io} {{ t = Slice(x, s, e, a) y = Neg(t) }}"
    module = check(ConvertSplit(), before=text, after=after, constants={"sizes": [2, 1, 5]})
    assert bounds(module) == expected


def test_a_part_that_is_the_output() -> None:
    io = "g (float[4,7] x) => (float[4,2] y)"
    text = f"{io} <int64[2] n> {{ p, y = Split<axis=1>(x, n) }}"
    module = check(ConvertSplit(), before=text, after=f"{io} {{ y = Slice(x, s, e, a) }}", constants={"n": [5, 2]})
    assert bounds(module) == [[5], [7], [1]]


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("p, q, r = Split<axis=1>(x, sizes) y = Concat<axis=1>(r, p)", "not exactly one"),
        ("y = Split<axis=1>(x, all)", "not exactly one"),
        ("p, q, r = Split<axis=1>(x, open) y = Neg(p)", "a size along the axis is not known"),
    ],
)
def test_other_splits_stay(body: str, because: str) -> None:
    text = f"g (float[4,8,6] x, int64[3] open) => (float[A,B,C] y) <int64[3] sizes, int64[1] all> {{ {body} }}"
    check(ConvertSplit(), before=text, after=None, because=because, constants={"sizes": [2, 1, 5], "all": [8]})
