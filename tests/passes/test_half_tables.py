"""Tables that hold every number twice: what is made of half of them is half of them, and others are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._half_tables import halved
from fcc.rewrite import Rewriter
from fcc.testing import model_from

TEXT = """g (float[3,2] c, float[3,2] d, float[3,W] u, int64[3] at, int64[3,1] at1, int64[3,2] at2, float[3,4] full) => (float[] y, float[] z)
    <float[3,4] twice, float[3,4] each, float[3,4] other, float[3,3] odd, float[4] row, float two = {{2}}, float[1] one = {{1}}, int64[1] i0 = {{0}},
     int64[1] i1 = {{1}}, int64[1] m1 = {{-1}}, int64[1] i2 = {{2}}, int64[3] e = {{1,1,2}}, int64[3] e3 = {{1,1,3}}, int64[3] e4 = {{1,1,4}},
     int64[3] h = {{1,2,1}}, int64[2] r4 = {{0,4}}, int64[2] r6 = {{0,6}}, int64[2] r8 = {{0,8}}, int64[3] f = {{0,1,4}}, int64[2] g2 = {{2,6}}, int64[1] i3 = {{3}},
     int64[1] i4 = {{4}}, int64[3] r22 = {{0,2,2}}, int64[2] t2 = {{1,2}}> {{ z = Identity(c) {body} }}"""
HALF = np.arange(6.0, dtype=np.float32).reshape(3, 2)
CONSTANTS: dict[str, Any] = {
    "twice": np.concatenate([HALF, HALF], axis=1),
    "each": np.repeat(HALF, 2, axis=1),
    "row": np.array([1, 2, 1, 2], np.float32),
}


def table(body: str) -> ir.Module:
    module = read(model_from(TEXT.format(body=body), 21, CONSTANTS, 0))
    shapes.infer(module)
    return module


EXPAND = "a = Unsqueeze(c, {at}) b = Expand(a, {by}) y = Reshape(b, r4)"
HALVES = {
    "a constant": "y = Identity(twice)",
    "a constant row": "y = Identity(row)",
    "joined": "y = Concat<axis = -1>(c, c)",
    "joined along the last axis": "y = Concat<axis = 1>(c, c)",
    "expanded": EXPAND.format(at="i1", by="h"),
    "tiled": "y = Tile(c, t2)",
    "of functions": "a = Concat<axis = 1>(c, c) b = Cos(a) k = Sin(b) n = Neg(k) m = Mul(n, two) l = Mul(one, m) p = Div(l, two) y = Cast<to = 1>(p)",
    "a number by a table": "a = Concat<axis = 1>(c, c) y = Div(two, a)",
    "rows": "a = Concat<axis = 1>(c, c) y = Gather<axis = 0>(a, at)",
    "rows from the end": "a = Concat<axis = 1>(c, c) y = Gather<axis = -2>(a, at)",
    "rows by GatherND": "a = Concat<axis = 1>(c, c) y = GatherND(a, at1)",
    "some rows": "a = Concat<axis = 1>(c, c) y = Slice(a, i1, i3, i0)",
    "turned in front": "a = Concat<axis = 1>(c, c) b = Unsqueeze(a, i0) y = Transpose<perm = [1, 0, 2]>(b)",
    "in another shape": "a = Concat<axis = 1>(c, c) b = Unsqueeze(a, i0) k = Squeeze(b, i0) y = Reshape(k, f)",
}  # fmt: skip
PAIRS = {
    "a constant": "y = Identity(each)",
    "expanded": EXPAND.format(at="m1", by="e"),
    "of functions": EXPAND.format(at="m1", by="e").replace("y =", "k =") + " y = Cos(k)",
}


@pytest.mark.parametrize(
    ("interleaved", "body"), [(False, b) for b in HALVES.values()] + [(True, b) for b in PAIRS.values()]
)
def test_halves(interleaved: bool, body: str) -> None:
    module = table(body)
    y, z = module.graph.outputs
    z.shape = None
    source = y.producer()
    value = source.inputs[0] if source is not None and source.op_type == "Identity" else y
    make = halved(value, interleaved)
    assert make is not None
    node = z.producer()
    assert node is not None
    last = list(module.graph)[-1]
    rw = Rewriter(module, last, "test")
    rw.after(last)
    rw.replace(z, make(rw))
    rw.commit()
    rng = np.random.default_rng(0)
    feeds = {
        "c": rng.standard_normal((3, 2)),
        "d": HALF,
        "u": HALF,
        "at": [2, 0, 1],
        "at1": [[2], [0], [1]],
        "at2": [[0, 1]] * 3,
        "full": np.ones((3, 4)),
    }
    kinds = {n: np.int64 if n.startswith("at") else np.float32 for n in feeds}
    proto = serde.serialize_model(module.model)
    whole, half = ReferenceEvaluator(proto).run(None, {n: np.asarray(a, kinds[n]) for n, a in feeds.items()})
    want = whole[..., ::2] if interleaved else whole[..., : whole.shape[-1] // 2]
    assert np.array_equal(half, want)
    assert np.array_equal(whole, np.repeat(want, 2, -1) if interleaved else np.concatenate([want, want], -1))


NONE: list[tuple[bool, str]] = [
    (True, "y = Concat<axis = -1>(c, c)"),
    (True, "y = Identity(twice)"),
    (True, EXPAND.format(at="i1", by="h")),
    (True, "y = Tile(c, t2)"),
    (False, "y = Identity(each)"),
    (False, "y = Identity(other)"),
    (False, "y = Identity(odd)"),
    (False, "y = Identity(two)"),
    (False, "y = Identity(u)"),
    (False, "y = Identity(full)"),
    (False, EXPAND.format(at="m1", by="e")),
    (False, "a = Unsqueeze(c, i1) b = Expand(a, h) m = Mul(b, two) y = Reshape(m, r4)"),
    (False, "a = Unsqueeze(c, i1) b = Expand(a, e3) k = Unsqueeze(c, m1) y = Tile(k, e4)"),
    (False, "a = Unsqueeze(c, m1) b = Tile(a, e3) y = Reshape(b, r6)"),
    (False, "a = Unsqueeze(c, m1) b = Tile(a, e4) y = Reshape(b, r8)"),
    (False, "y = Concat<axis = 0>(c, c)"),
    (False, "y = Concat<axis = 1>(c, d)"),
    (False, "y = Concat<axis = 1>(c, c, c, c)"),
    (False, "a = Concat<axis = 1>(c, c) y = Mul(a, full)"),
    (False, "a = Concat<axis = 1>(c, c) y = Sqrt(a)"),
    (False, "a = Concat<axis = 1>(c, c) y = Gather<axis = 1>(a, at)"),
    (False, "a = Concat<axis = 1>(c, c) y = Slice(a, i0, i2, i1)"),
    (False, "a = Concat<axis = 1>(c, c) y = Slice(a, i0, i2, m1)"),
    (False, "a = Concat<axis = 1>(c, c) b = Concat<axis = 1>(a, a) y = Slice(b, i1, i3, i1)"),
    (False, "a = Concat<axis = 1>(c, c) y = Transpose<perm = [1, 0]>(a)"),
    (False, "a = Concat<axis = 1>(c, c) y = Transpose(a)"),
    (False, "a = Concat<axis = 1>(c, c) y = Reshape(a, g2)"),
    (False, "a = Concat<axis = 1>(c, c) y = GatherND(a, at2)"),
    (False, "a = Concat<axis = 1>(c, c) y = Reshape(a, r22)"),
    (False, "n0 = Concat<axis = 1>(c, c) " + " ".join(f"n{k + 1} = Neg(n{k})" for k in range(14)) + " y = Neg(n14)"),
]  # fmt: skip


@pytest.mark.parametrize(("interleaved", "body"), NONE)
def test_others(interleaved: bool, body: str) -> None:
    y = table(body).graph.outputs[0]
    source = y.producer()
    value = source.inputs[0] if source is not None and source.op_type == "Identity" else y
    assert halved(value, interleaved) is None
    assert halved(None, interleaved) is None
