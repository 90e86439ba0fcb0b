"""Why operators do not compute on values stored otherwise: each condition of the rules of Transposes and of Views."""

from __future__ import annotations

import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._permutations import Transposes, moved_constant
from fcc.passes._regions import Carried
from fcc.passes._views import Views
from fcc.testing import model_from

TEXT = """g (float[2,3,4] x, float[2,3,4] z, float[3,4] m, float[4,5] w, float[2,4,3] v, int64[1] any, float[N,3,4] u, float[] all, int8[2,3,4] q,
    float[4] s4) => (float[] y) <float[4] row, float[1,1,1,4] deep, float[70,70] big, int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i3 = {{3}},
    int64[1] m1 = {{-1}}, int64[2] i01 = {{0,1}}, int64[2] i02 = {{0,2}}, int64[6] pads = {{0,0,1,0,0,1}}, int64[4] few = {{0,1,0,1}}, int64[3] times = {{1,2,1}},
    int64[2] two, int64[2,1] table, int64 k = {{1}}, float scale = {{0.5}}, int8 zero = {{0}}, float[3] scales, int8[3] zeros, float[3,4] beside> {{ {body} }}"""


def last(body: str) -> ir.Node:
    module = read(model_from(TEXT.format(body=body), 21, {}, 0))
    shapes.infer(module)
    node = module.graph.outputs[0].producer()
    assert node is not None
    return node


TURNED = (0, 2, 1)
ROTATED = (2, 0, 1)
TRANSPOSED: list[tuple[str, tuple[int, ...], str]] = [
    ("y = Add(x, m)", TURNED, "axes it does not have"),
    ("y = ReduceSum(x, any)", TURNED, "the axes are not known"),
    ("y = ReduceSum<noop_with_empty_axes = 1>(x)", TURNED, "reduces none"),
    ("y = ReduceSum(x, i3)", TURNED, "the axes are not known"),
    ("y = ReduceSum(x, i01)", TURNED, "would not be adjacent"),
    ("y = Squeeze(t) t = Unsqueeze(x, i0)", (0, 1, 3, 2), "the axes are not known"),
    ("y = Squeeze(t, any) t = Unsqueeze(x, i0)", (0, 1, 3, 2), "the axes are not known"),
    ("y = Unsqueeze(x, any)", TURNED, "the axes are not known"),
    ("y = Softmax(x)", TURNED, "innermost axis"),
    ("y = Softmax<axis = 2>(x)", TURNED, "innermost axis"),
    ("y = Slice(x, any, i3)", TURNED, "the axes are not known"),
    ("y = Slice(x, i0, i3, any)", TURNED, "the axes are not known"),
    ("y = Pad(x, p) p = Concat<axis = 0>(any, any, any, any, any, any)", TURNED, "the pads are not known"),
    ("y = Pad(x, few, scale, any2) any2 = Concat<axis = 0>(any, any)", TURNED, "the axes are not known"),
    ("y = Tile(x, t) t = Concat<axis = 0>(any, any, any)", TURNED, "the repeats are not known"),
    ("y = Gather<axis = 1>(x, table)", TURNED, "several axes"),
    ("y = MatMul(x, v)", TURNED, "axes that are multiplied"),
    ("y = MatMul(x, v)", ROTATED, "axes that are multiplied"),
    ("y = MatMul(x, w)", TURNED, "axes that are multiplied"),
    ("y = MatMul(m, w)", (1, 0), "axes that are multiplied"),
    ("y = LayerNormalization(x, row)", TURNED, "along the last axis"),
    ("y = LayerNormalization<axis = 1>(x, beside)", (1, 0, 2), "along the last axis"),
    ("y, mean = LayerNormalization(x, row)", (1, 0, 2), "further outputs"),
    ("y = QuantizeLinear<axis = 1>(x, scales, zeros)", TURNED, "a scale per channel"),
    ("y = NonZero(x)", TURNED, "axes of fixed meaning"),
    ("y = com.test.Neg(x)", TURNED, "axes of fixed meaning"),
]


def reordered(body: str) -> str:
    """Put what is written behind y in front of it."""
    first, _, rest = body.partition(") ")
    return f"{rest} {first})" if rest else body


@pytest.mark.parametrize(("body", "perm", "because"), TRANSPOSED)
def test_not_on_permuted_axes(body: str, perm: tuple[int, ...], because: str) -> None:
    found = Transposes().carried(last(reordered(body)), 0, perm)
    assert isinstance(found, str)
    assert because in found


CARRIED = {
    "y = ReduceSum(x, i01)": (0, 1, 2),
    "y = ReduceSum(x, i02)": TURNED,
    "y = ReduceSum(x)": ROTATED,
    "y = Softmax<axis = 1>(x)": ROTATED,
    "y = MatMul(x, w)": (1, 0, 2),
    "y = LayerNormalization<axis = 2>(x, row)": (1, 0, 2),
    "y = Gather<axis = 1>(x, two)": ROTATED,
    "y = Tile(x, times)": ROTATED,
    "y = QuantizeLinear(x, scale, zero)": ROTATED,
    "y = Add(x, scale)": ROTATED,
}


@pytest.mark.parametrize("body", CARRIED)
def test_on_permuted_axes(body: str) -> None:
    found = Transposes().carried(last(body), 0, CARRIED[body])
    assert isinstance(found, Carried)


def test_constants_that_are_not_moved() -> None:
    node = last("a = Add(x, deep) b = Add(w, row) c = MatMul(big, big) d = Neg(row) y = Sum(a, scale)")
    values = {v.name: v for v in node.graph.initializers.values()}  # type: ignore[union-attr]
    assert moved_constant(values["deep"], TURNED) is None
    assert moved_constant(values["big"], (1, 0)) is None
    moved = moved_constant(values["row"], TURNED)
    assert moved is not None
    assert moved.shape == (4, 1)


FLAT: tuple[int, ...] = (6, 4)
VIEWED: list[tuple[str, tuple[int, ...], str]] = [
    ("y = Add(x, all)", FLAT, "the operand is repeated"),
    ("y = Add(x, t) t = Unsqueeze(m, i0)", FLAT, "axes that are laid out anew"),
    ("y = Softmax<axis = 1>(x)", FLAT, "an axis that is laid out anew"),
    ("y = Softmax<axis = -2>(x)", FLAT, "an axis that is laid out anew"),
    ("y = Concat<axis = 2>(x, t) t = Slice(z, any, any, i0)", FLAT, "other leading axes"),
    ("y = ReduceSum(x, any)", FLAT, "the axes are not known"),
    ("y = ReduceSum(x)", FLAT, "the axes are not known"),
    ("y = ReduceSum<keepdims = 0>(x, m1)", FLAT, "an axis that is laid out anew"),
    ("y = ReduceSum(x, i1)", FLAT, "an axis that is laid out anew"),
    ("y = MatMul(x, v)", FLAT, "no matrix along a kept axis"),
    ("y = MatMul(x, w)", (24,), "no matrix along a kept axis"),
    ("y = MatMul(x, w)", (3, 8), "no matrix along a kept axis"),
    ("y = Transpose<perm = [1, 0, 2]>(x)", FLAT, "it moves an axis"),
    ("y = NonZero(x)", FLAT, "does not work on the last axes alone"),
    ("y = com.test.Neg(x)", FLAT, "does not work on the last axes alone"),
    ("y = Neg(all)", FLAT, "does not work on the last axes alone"),
    ("y = Add(m, x)", (12,), "the operand is repeated"),
]


@pytest.mark.parametrize(("body", "layout", "because"), VIEWED)
def test_not_on_other_shapes(body: str, layout: tuple[int, ...], because: str) -> None:
    found = Views().carried(last(reordered(body)), 0, layout)
    assert isinstance(found, str)
    assert because in found


def test_what_is_no_view() -> None:
    views = Views()
    for body in ("y = com.test.Reshape(x, any)", "y = Neg(x)", "y = Reshape(x, i1)"):
        assert not views.moves(last(body))
    assert views.moves(last("y = Unsqueeze(x, i0)"))
    assert views.moves(last("y = Reshape(x, any)"))
    node = last("y = Neg(x)")
    x = node.inputs[0]
    assert x is not None
    assert views.fits(x, FLAT)
    assert not views.fits(x, (0, 4))
    assert isinstance(views.before(last("y = com.test.Neg(x)"), FLAT), str)
    assert isinstance(views.before(last("y = Neg(all)"), FLAT), str)
    assert isinstance(views.before(last("y = Softmax<axis = 1>(x)"), FLAT), str)
    assert not isinstance(views.before(node, FLAT), str)
    assert not isinstance(views.before(last("y = Softmax(x)"), FLAT), str)
