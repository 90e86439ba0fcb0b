"""Lossy passes in topological order: who reads whom, what is compared with what, and that order pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcc
from fcc import ir, testing
from fcc.analysis import shapes
from fcc.driver import Driver
from fcc.frontend import read
from fcc.options import Options
from fcc.passes.factorize_linear import FactorizeLinear
from fcc.refit import Reference, request_of, waves

pytest.importorskip("onnxruntime")

TEXT = """g (float[N,48] x, bool c) => (float[N,40] y, float[N,40] z) <float[48,48] a, float[48,40] b, float[48,40] d, float[40,40] e>
{ h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) q = MatMul(x, d)
  z = If(c) <then_branch = t () => (float[N,40] p) { p = Add(q, y) }, else_branch = f () => (float[N,40] o) { o = MatMul(q, e) }> }"""


def loaded(text: str, **constants: Any) -> ir.Module:
    module = read(testing.model_from(text, 21, constants, 0))
    shapes.infer(module)
    return module


def views(module: ir.Module) -> list[Any]:
    return FactorizeLinear(rank=4).layers(module)


def test_layers_of_a_wave_do_not_read_each_other() -> None:
    module = loaded(TEXT)
    assert [[v.name for v in wave] for wave in waves(module, views(module))] == [["h", "q"], ["y"]]


def test_layers_that_nested_graphs_are_read_by_wait() -> None:
    """u is read by a layer inside a branch, whose result feeds another one."""
    text = """g (float[N,48] x, bool c) => (float[N,40] y) <float[48,48] a, float[48,40] b>
    { u = MatMul(x, a) v = If(c) <then_branch = t () => (float[N,48] p) { p = Neg(u) },
      else_branch = f () => (float[N,48] o) { o = Relu(u) }> y = MatMul(v, b) }"""
    module = loaded(text)
    assert [[v.name for v in wave] for wave in waves(module, views(module))] == [["u"], ["y"]]


def test_waves_are_cut_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcc.refit.MEMORY", 100)
    module = loaded(TEXT)
    assert [[v.name for v in wave] for wave in waves(module, views(module))] == [["h"], ["q"], ["y"]]


def feeds(count: int = 40) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((12, 48)).astype(np.float32)
    return [
        {"x": rng.standard_normal((4, 12)).astype(np.float32) @ mix, "c": np.array(i % 2 > 0)} for i in range(count)
    ]


def test_y_is_of_the_original_or_of_the_model_where_that_has_another_width() -> None:
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,5] a, float[5,3] b> { h = MatMul(x, a) y = MatMul(h, b) }"
    before = loaded(text, a=1.0, b=1.0)
    after = loaded(text.replace("float[4,5] a, float[5,3] b", "float[4,2] a, float[2,3] b"), a=2.0, b=2.0)
    layers = views(after) or [v for n in after.graph if (v := view_of(n))]
    fit = [{"x": np.eye(4, dtype=np.float32)}]
    with Reference(Driver(Options(), testing.model_from(text, 21, {}, 0)), before, fit) as reference:
        found = reference.moments(after, [request_of(v) for v in layers])
    assert found["h"].xy.b[0].tolist() == [2, 2]  # of the model itself: rows of two
    assert found["y"].xy.b[0].tolist() == [5, 5, 5]  # of the original
    assert found["y"].xx.a[0].tolist() == [2, 2]


def view_of(node: ir.Node) -> Any:
    from fcc.analysis.projection import projection_of

    return projection_of(node)


def test_low_rank_with_data_beats_the_weights_alone_and_reaches_branches() -> None:
    model = testing.model_from(TEXT, 21, {}, 0)
    how: dict[str, Any] = {"low_rank": "rank=14", "data": feeds(60)[40:], "force": True}
    fitted = fcc.compile(model, calibration=feeds(), **how).report
    plain = fcc.compile(model, **how).report

    before, after = (next(r.error for r in x.parity if r.phase == "lossy" and r.output == "y") for x in (plain, fitted))
    assert after < before / 2
    measures = {row["name"]: ["output_error" in row, "weight_error" in row] for row in fitted.layers}
    assert measures == {"h": [True, False], "q": [True, False], "y": [True, False], "o": [False, True]}
    assert all("weight_error" in row for row in plain.layers)


def test_an_executor_gives_the_same_model() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = testing.model_from(TEXT, 21, {}, 0)
    with ThreadPoolExecutor(2) as pool:
        for how in ({"low_rank": "rank=14"}, {"prune": 0.5}):
            here, there = (
                fcc.compile(model, calibration=feeds(80), force=True, executor=e, **how).to_bytes()
                for e in (None, pool)
            )
            assert here == there


def test_pools_are_pruned_in_turn_each_against_the_original() -> None:
    """Two hidden layers: the reader of the first is the second, with fewer outputs by then only in the model."""
    rng = np.random.default_rng(0)

    def redundant(m: int, n: int) -> Any:
        w = rng.standard_normal((m, n)) / m**0.5
        w[:, n // 2 :] = 2 * w[:, : n // 2]
        return w

    text = """g (float[N,12] x) => (float[N,5] y) <float[12,32] a, float[32,16] b, float[16,5] d>
    { h = MatMul(x, a) r = Relu(h) s = MatMul(r, b) t = Relu(s) y = MatMul(t, d) }"""
    model = testing.model_from(text, 21, {"a": redundant(12, 32), "b": redundant(32, 16)}, 0)
    data = [{"x": rng.standard_normal((4, 12)).astype(np.float32)} for _ in range(90)]
    report = fcc.compile(model, prune=0.5, calibration=data).report
    assert [(r["name"], r["channels"], r["of"]) for r in report.layers] == [("h", 16, 32), ("s", 8, 16)]
    assert max(r.error for r in report.parity if r.phase == "lossy") < 1e-2


def test_weights_left_to_be_computed_at_save_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """-O2 folds a scale into the weight; large ones are computed when the file is written."""
    monkeypatch.setattr("fcc.passes._fold.EAGER", 0)
    text = """g (float[N,12] x) => (float[N,5] y) <float[12,16] a, float[16] s, float[16,5] d>
    { h = MatMul(x, a) m = Mul(h, s) r = Relu(m) y = MatMul(r, d) }"""
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((32, 12)).astype(np.float32)} for _ in range(30)]
    model = testing.model_from(text, 21, {}, 0)
    assert any(isinstance(v.const_value, ir.LazyTensor) for v in fcc.optimize(model).graph.initializers.values())
    report = fcc.compile(model, prune=0.5, calibration=data, force=True).report
    assert [(r["channels"], r["of"]) for r in report.layers] == [(8, 16)]
