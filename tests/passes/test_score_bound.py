"""The bound on scores of normalized inputs: no score exceeds it, it is that of the formula, and it is known where it should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._score_bound import score_bound
from fcc.testing import model_from

TEXT = """g (float[2,3,6] x, float[6] gi, float[6] bi, float[6,8] wi, float[2,3,8] xi) => (float[2,3,8] q, float[2,3,8] k)
    <float[6] g1, float[6] b1, float[6] g2, float[1] g3, float[1] b3, float[6,8] w, float[6,8] v, float[8] c, float[8] d, float[8,6] t, float[6,24] all,
     float[24] bias, int64[3] thirds = {{8,8,8}}, int64[2] flat = {{6,8}}, int64[2] flatin = {{6,6}}, int64[3] back = {{2,3,8}}, int64[3] wide = {{2,3,24}},
     int64[3] other = {{3,2,8}}, int64[2] rows = {{1,1}}, float[6,8] bad, float inf, float[6] nan, int64[3] swap = {{6,3,2}}, float[3,6,8] cube> {{ {body} }}"""
NORM = "n = LayerNormalization(x, g1, b1) "
PLAIN = NORM + "q = MatMul(n, w) k = MatMul(n, v)"
CONSTANTS: dict[str, Any] = {"bad": np.full((6, 8), np.inf, np.float32), "nan": np.full(6, np.nan, np.float32)}


def bound(body: str, heads: int = 2, scale: float = 0.5) -> tuple[float | None, ir.Module]:
    module = read(model_from(TEXT.format(body=body), 21, CONSTANTS, 0))
    shapes.infer(module)
    q, k = module.graph.outputs
    return score_bound(q, k, heads, scale), module


def constant(module: ir.Module, name: str) -> np.ndarray[Any, Any]:
    value = next(v for g in module.graphs() for v in g.initializers.values() if v.name == name)
    found = ir.Module.constant(value)
    assert found is not None
    return found.astype(np.float64)


def norms(gamma: Any, beta: Any, weight: Any, bias: Any, heads: int = 2) -> list[float]:
    """The formula, head by head."""
    found = []
    for part, b in zip(
        np.split(weight, heads, 1), np.split(np.broadcast_to(bias, weight.shape[1]), heads), strict=True
    ):
        scaled = gamma[:, None] * part
        moved = scaled - scaled.mean(0)
        found.append(np.sqrt(len(gamma)) * np.linalg.norm(moved, 2) + np.linalg.norm(beta @ part + b))
    return found


KNOWN = {
    "MatMul": (PLAIN, ("w", None), ("v", None)),
    "Add": (NORM + "a = MatMul(n, w) q = Add(a, c) e = MatMul(n, v) k = Add(d, e)", ("w", "c"), ("v", "d")),
    "Gemm": (
        NORM + "f = Reshape(n, flatin) a = Gemm(f, w, c) q = Reshape(a, back) e = Gemm(f, v, d) k = Reshape(e, back)",
        ("w", "c"), ("v", "d")),
    "Split": (NORM + "a = MatMul(n, all) q, k, u = Split<axis = 2>(a, thirds)", ("all0", None), ("all1", None)),
    "Split of the last": (NORM + "a = MatMul(n, all) u, q, k = Split<axis = -1>(a, thirds)", ("all1", None), ("all2", None)),
    "Split of sums": (
        NORM + "m = MatMul(n, all) a = Add(m, bias) q, u, k = Split<axis = -1>(a, thirds)", ("all0", "bias0"), ("all2", "bias2")),
    "no offset": ("n = LayerNormalization<axis = -1>(x, g1) q = MatMul(n, w) k = MatMul(n, v)", ("w", None), ("v", None)),
    "axis 2": ("n = LayerNormalization<axis = 2>(x, g1) q = MatMul(n, w) k = MatMul(n, v)", ("w", None), ("v", None)),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_known(name: str, heads: int) -> None:
    body, *sides = KNOWN[name]
    found, module = bound(body, heads, -0.5)
    assert found is not None
    gamma, beta = constant(module, "g1"), constant(module, "b1") if "b1" in body else np.zeros(6)

    def of(text: str | None) -> Any:
        if text is None:
            return 0.0
        whole = constant(module, text.rstrip("012")) if text[-1] in "012" else constant(module, text)
        return np.split(whole, 3, -1)[int(text[-1])] if text[-1] in "012" else whole

    both = [norms(gamma, beta, of(w), of(b), heads) for w, b in sides]
    assert np.isclose(found, 0.5 * max(a * b for a, b in zip(*both, strict=True)))
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    feeds = {
        v.name: x if v.name == "x" else np.zeros([d for d in ir.dims_of(v) or () if isinstance(d, int)], np.float32)
        for v in module.graph.inputs
    }
    q, k = ReferenceEvaluator(serde.serialize_model(module.model)).run(None, feeds)
    parts = [np.stack(np.split(v.reshape(6, 8), heads, 1)) for v in (q, k)]
    assert 0.5 * np.abs(np.einsum("hid,hjd->hij", *parts)).max() <= found


UNKNOWN = {
    "no layer": NORM + "q = MatMul(n, w) k = Identity(xi)",
    "no layer on the left": NORM + "q = Neg(xi) k = MatMul(n, w)",
    "no normalization": "n = Neg(x) q = MatMul(n, w) k = MatMul(n, v)",
    "an input": "q = MatMul(x, w) k = MatMul(x, v)",
    "another normalization": "n = RMSNormalization(x, g1) q = MatMul(n, w) k = MatMul(n, v)",
    "other axes": "n = LayerNormalization<axis = 1>(x, cube2, cube2) q = MatMul(n, w) k = MatMul(n, v)",
    "a computed scale": "n = LayerNormalization(x, gi, b1) q = MatMul(n, w) k = MatMul(n, v)",
    "a computed offset": "n = LayerNormalization(x, g1, bi) q = MatMul(n, w) k = MatMul(n, v)",
    "one scale for all": "n = LayerNormalization(x, g3, b1) q = MatMul(n, w) k = MatMul(n, v)",
    "one offset for all": "n = LayerNormalization(x, g1, b3) q = MatMul(n, w) k = MatMul(n, v)",
    "computed weights": NORM + "q = MatMul(n, w) k = MatMul(n, wi)",
    "infinite weights": NORM + "q = MatMul(n, bad) k = MatMul(n, v)",
    "an offset that is no number": "n = LayerNormalization(x, g1, nan) q = MatMul(n, w) k = MatMul(n, v)",
    "an activation": NORM + "a = MatMul(n, w) q = Relu(a) k = MatMul(n, v)",
    "a sum of two layers": NORM + "a = MatMul(n, w) e = MatMul(n, v) q = Add(a, e) k = MatMul(n, v)",
    "rows of a Split": NORM + "a = MatMul(n, w) e, q = Split<axis = 0>(a, rows) k = MatMul(n, v)",
    "other features behind": NORM + "a = MatMul(n, all) q = Reshape(a, other) k = MatMul(n, v)",
    "other features in front": "s = Reshape(x, swap) m = Transpose(s) n = LayerNormalization(m, g1, b1) f = Reshape(n, swap) h = Reshape(f, flatin) "
                               "a = MatMul(h, w) q = Reshape(a, back) k = Reshape(a, back)",
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown(name: str) -> None:
    body = UNKNOWN[name].replace("cube2", "g36").replace("float[3,6,8] cube", "float[3,6] g36")
    text = TEXT.replace("float[3,6,8] cube", "float[3,6] g36")
    module = read(model_from(text.format(body=body), 23, CONSTANTS, 0))
    shapes.infer(module)
    q, k = module.graph.outputs
    assert score_bound(q, k, 2, 0.5) is None
