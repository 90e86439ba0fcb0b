"""Layouts: a value is what its layout makes of the source, through every operator that is gone through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._axes import Layout, layouts
from fcc.testing import model_from

VECTORS: dict[str, Any] = {
    "i0": [0], "i1": [1], "i2": [2], "i4": [4], "m1": [-1], "far": [2**40], "s24": [4, 6], "s2322": [2, 3, 2, 2], "s234": [2, 3, 4],
    "s64": [6, 4], "s83": [8, 3], "s2134": [2, 1, 3, 4], "e": [2, 5, 3, 4], "e3": [7, 2, 3, 4], "t": [1, 2, 3], "t1": [1, 1, 3], "both": [0, 1],
    "starts": [0, 0], "ends": [1, 2], "axes": [0, 1], "pairs": [[0, 1], [2, 3]], "over": [[0, 1], [1, 2], [2, 3]], "back": [[1, 0], [3, 2]],
    "uneven": [[0, 1], [2, 2]], "still": [[0, 1], [0, 1]], "one": [[0, 1, 2, 3]], "three": [3], "ones": [1, 1, 1, 1], "halves": [2, 2], "parts": [1, 3],
}  # fmt: skip
NUMBERS: dict[str, Any] = {
    "k1": 1,
    "km": -1,
    "two": 2.0,
    "nil": 0.0,
    "inf": float("inf"),
    "row": [1.0, 2.0, 3.0, 4.0],
    "wide": [[[[2.0]]]],
}


def declared() -> str:
    found = [f"int64{list(np.shape(v))} {n}" for n, v in VECTORS.items()]
    found += [f"{'int64' if isinstance(v, int) else 'float'}{list(np.shape(v))} {n}" for n, v in NUMBERS.items()]
    return ", ".join(found).replace("[] ", "[] ").replace("int64[] ", "int64 ").replace("float[] ", "float ")


def graph(body: str) -> ir.Module:
    text = f"g (float[2,3,4] x, float[1,2,4,6] img, float[1,2,H,6] tall, float[1,2,4,W] long, int64[1] any, float[2,3,N] u, float[2,1,1] thin, float anyf) => (float[] y) <{declared()}> {{ {body} }}"
    module = read(model_from(text, 21, VECTORS | NUMBERS, 0))
    shapes.infer(module)
    return module


def laid(layout: Layout, source: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Evaluate a layout, element by element."""
    sizes: Any = layout.sizes
    order = [f for axis in layout.axes for f in axis]
    places = dict(
        zip(order, np.indices([sizes[f] for f in order]).reshape(len(order), -1) if order else [], strict=True)
    )
    places |= {f: np.asarray(i) for f, i in layout.fixed.items()}
    index = []
    for axis in layout.source:
        at: Any = 0
        for f in axis:
            at = at + places[f] * layout.steps[f] if f in layout.steps else at * sizes[f] + places[f]
        index.append(at)
    shape = [int(np.prod([sizes[f] for f in axis])) for axis in layout.axes]
    found = layout.scale * source[tuple(index)]
    return np.broadcast_to(found, (int(np.prod(shape)),)).reshape(shape)


THROUGH = {
    "Reshape": "y = Reshape(x, s64)",
    "Reshape that splits": "y = Reshape(x, s2322)",
    "Reshape there and back": "a = Reshape(x, s64) y = Reshape(a, s2322)",
    "Flatten": "y = Flatten<axis = 2>(x)",
    "Unsqueeze and Squeeze": "a = Unsqueeze(x, i1) b = Transpose<perm = [1, 0, 2, 3]>(a) y = Squeeze(b, i0)",
    "Transpose": "y = Transpose<perm = [2, 0, 1]>(x)",
    "Transpose by default": "y = Transpose(x)",
    "Expand": "a = Unsqueeze(x, i1) y = Expand(a, e)",
    "Expand in front": "y = Expand(x, e3)",
    "Tile": "y = Tile(x, t)",
    "Tile of one axis": "y = Tile(x, t1)",
    "Gather one": "y = Gather<axis = 1>(x, k1)",
    "Gather from the end": "y = Gather<axis = -1>(x, km)",
    "Gather one and keep it": "y = Gather<axis = 2>(x, i1)",
    "Gather of joined axes": "a = Reshape(x, s64) y = Gather<axis = 0>(a, i4)",
    "Gather windows": "y = Gather<axis = 2>(x, pairs)",
    "Gather windows that overlap": "y = Gather<axis = 2>(x, over)",
    "SpaceToDepth": "y = SpaceToDepth<blocksize = 2>(img)",
    "Split": "a, y = Split<axis = 2>(x, halves)",
    "Split of four": "a, b, y, c = Split<axis = -1>(x, ones)",
    "Slice": "y = Slice(x, i2, i4, i2)",
    "Slice in front": "y = Slice(x, i0, i2, i2)",
    "Slice from the end": "y = Slice(x, m1, far, i2)",
    "every other": "y = Slice(x, i1, far, i2, i2)",
    "Mul": "y = Mul(x, two)",
    "Mul turned": "a = Mul(two, x) y = Transpose(a)",
    "Div": "y = Div(x, two)",
}  # fmt: skip


@pytest.mark.parametrize("name", THROUGH)
def test_through(name: str) -> None:
    module = graph(THROUGH[name])
    y = module.graph.outputs[0]
    *_, (source, layout, nodes) = layouts(y)
    assert source.producer() is None
    assert len(nodes) == sum(1 for _ in module.graph)
    rng = np.random.default_rng(0)
    feeds = {
        v.name: rng.standard_normal([d if isinstance(d, int) else 4 for d in ir.dims_of(v) or ()]).astype(np.float32)
        for v in module.graph.inputs
    }
    feeds["any"] = np.array([1], np.int64)
    (found,) = ReferenceEvaluator(serde.serialize_model(module.model)).run(None, feeds)
    assert np.allclose(laid(layout, feeds[source.name].astype(np.float64)), found)


STOPS = {
    "another operator": "a = Neg(x) y = Transpose(a)",
    "Expand to what is computed": "s = Concat<axis = 0>(any, any, any) y = Expand(thin, s)",
    "Tile by what is computed": "a = Concat<axis = 0>(any, any, any) y = Tile(x, a)",
    "Gather of what is computed": "y = Gather<axis = 1>(x, any)",
    "Gather of two": "y = Gather<axis = 1>(x, both)",
    "Gather one along a symbol": "y = Gather<axis = 2>(u, k1)",
    "windows turned over": "y = Gather<axis = 2>(x, back)",
    "windows of no form": "y = Gather<axis = 2>(x, uneven)",
    "windows that stand": "y = Gather<axis = 2>(x, still)",
    "one window": "y = Gather<axis = 2>(x, one)",
    "windows of joined axes": "a = Reshape(x, s64) b = Transpose(a) y = Gather<axis = 1>(b, pairs)",
    "parts of other lengths": "a, y = Split<axis = 2>(x, parts)",
    "Slice along two axes": "y = Slice(x, starts, ends, axes)",
    "Slice that starts between": "y = Slice(x, i1, three, i2)",
    "Slice of what is no part": "y = Slice(x, i0, three, i2)",
    "Slice to what is computed": "y = Slice(x, i0, any, i2)",
    "Slice along a symbol": "y = Slice(u, i0, i2, i2)",
    "every other of axes that do not divide so": "a = Reshape(x, s64) y = Slice(a, i0, far, i0, i2)",
    "every other of three": "y = Slice(x, i0, far, i1, i2)",
    "every other from two on": "y = Slice(x, i2, far, i2, i2)",
    "times nothing": "y = Mul(x, nil)",
    "times infinity": "y = Mul(x, inf)",
    "times a row": "y = Mul(x, row)",
    "times a number with more axes": "y = Mul(x, wide)",
    "times what is computed": "y = Mul(x, anyf)",
    "a number by x": "y = Div(two, x)",
    "SpaceToDepth of rows that are not known": "y = SpaceToDepth<blocksize = 2>(tall)",
    "SpaceToDepth of columns that are not known": "y = SpaceToDepth<blocksize = 2>(long)",
    "Reshape to what is computed": "a = Concat<axis = 0>(any, m1) y = Reshape(x, a)",
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_stops(name: str) -> None:
    module = graph(STOPS[name])
    y = module.graph.outputs[0]
    found = list(layouts(y))
    assert all(source.producer() is not None for source, _, _ in found)


def test_a_chain_has_a_largest_length() -> None:
    body = "a0 = Mul(x, two) " + " ".join(f"a{k + 1} = Mul(a{k}, two)" for k in range(20)) + " y = Transpose(a20)"
    found = list(layouts(graph(body).graph.outputs[0]))
    assert len(found) == 17
    assert found[-1][1].scale == 2.0**15
