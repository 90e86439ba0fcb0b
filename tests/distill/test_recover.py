"""Distillation of compressed models: what is trained, that it helps, that it is kept only then, and refusals."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import torch

import fcc
from fcc import ir
from fcc.compress.certificate import certificate
from fcc.compress.quantize import is_pair_safe
from fcc.distill import recover
from fcc.distill.program import Program, tensors
from fcc.distill.train import Batch, Settings, energies, fine_tune
from fcc.distill.weights import weights_of
from fcc.driver import Driver
from fcc.ir.text import model_of, parse
from fcc.models import path
from fcc.models.mlp import mlp
from fcc.options import Options
from fcc.plan import Plan

WIDTH = 48
HOW: dict[str, Any] = {"force": True, "allow_growth": True}


def data(count: int = 200, seed: int = 1) -> dict[str, Any]:
    basis, rng = np.random.default_rng(0).standard_normal((8, WIDTH)) / 3, np.random.default_rng(seed)
    return {"x": (rng.standard_normal((count, 8)) @ basis).astype(np.float32)[:, None]}


@pytest.fixture(scope="module")
def model() -> Any:
    return mlp(batch="N", sizes=(WIDTH, 64, 64, 8), seed=1)


def compiled(model: Any, distill: Any = True, **more: Any) -> Any:
    return fcc.compile(model, **{"calibration": data(), "data": data(60, 2), "distill": distill, **HOW, **more})


def lossy(found: Any) -> float:
    (row,) = (r for r in found.report.parity if r.phase == "lossy")
    return float(row.error)


def test_the_error_falls_on_data_that_nothing_was_fitted_to(model: Any) -> None:
    plain, found = compiled(model, None, low_rank=0.4), compiled(model, low_rank=0.4)
    row = found.report.distilled
    assert row["kept"]
    assert row["after"] < row["before"]
    assert lossy(found) < lossy(plain)
    assert row["best"] <= row["epochs"] <= 24
    assert row["parameters"] > 0
    note = next(n for n in found.report.notes if n.startswith("distillation: "))
    assert f"error {row['before']:.3g} -> {row['after']:.3g} after {row['best']} of" in note
    assert note.endswith(" s, kept")
    assert found.report.layers == plain.report.layers
    assert plain.report.distilled == {}


def test_the_same_again_also_from_a_plan(model: Any) -> None:
    first = compiled(model, {"epochs": 3}, low_rank=0.4)
    assert compiled(model, {"epochs": 3}, low_rank=0.4).to_bytes() == first.to_bytes()
    assert first.plan.lossy["distill"] == {"epochs": 3, "rate": 0.01}
    assert compiled(model, None, plan=first.plan).to_bytes() == first.to_bytes()


def test_weights_stay_where_it_does_not_help(model: Any) -> None:
    plain, found = compiled(model, None, low_rank=0.4), compiled(model, {"rate": 0.9, "epochs": 1}, low_rank=0.4)
    row = found.report.distilled
    assert not row["kept"]
    assert row["before"] == row["after"]
    assert any("not better on samples it was not fitted to: the weights stay" in n for n in found.report.notes)
    assert found.to_bytes() == plain.to_bytes()


def test_what_torch_finds_better_and_the_runtime_does_not_is_undone(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter((0.1, 0.2))
    monkeypatch.setattr(recover, "_error", lambda *_: next(errors))
    plain, found = compiled(model, None, low_rank=0.4), compiled(model, low_rank=0.4)
    assert found.report.distilled["best"] > 0
    assert (found.report.distilled["before"], found.report.distilled["after"]) == (0.1, 0.2)
    assert not found.report.distilled["kept"]
    assert found.to_bytes() == plain.to_bytes()


def test_level_3_recovers_what_it_chose(model: Any) -> None:
    how: dict[str, Any] = {"opt_level": 3, "objective": "size", "budget": 0.3, "precision": "fp32"}
    plain, found = compiled(model, None, **how), compiled(model, **how)
    assert found.report.distilled["kept"]
    assert found.to_bytes() != plain.to_bytes()
    assert found.report.decision == {**plain.report.decision, "distill": {"epochs": 24, "rate": 0.01}}
    assert len(found.report.layers) == len(plain.report.layers)
    assert found.emitted.size <= plain.emitted.size + 200


def test_level_3_leaves_the_choice_where_it_does_not_help(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"opt_level": 3, "objective": "size", "budget": 0.3, "precision": "fp32"}
    plain = compiled(model, None, **how)
    monkeypatch.setattr(recover, "_error", lambda *_: 0.1)
    found = compiled(model, **how)
    assert found.to_bytes() == plain.to_bytes()
    assert found.report.decision == plain.report.decision
    assert not found.report.distilled["kept"]


def distilled(text: str, samples: dict[str, Any], opset: int = 17, **more: Any) -> tuple[Any, Any, ir.Module]:
    """Distil a module against a copy with other weights; return the original, what came of it, and the module."""
    driver = Driver(Options(calibration=samples, **more), model_of(text, opset, seed=0))
    original = driver.load()
    module = Driver(Options(), model_of(text, opset, seed=1)).load()
    from fcc.data.dataset import open_data
    from fcc.data.spec import inputs_of

    outputs = [v.name or "" for v in original.graph.outputs]
    fit = open_data(samples, inputs_of(original), state=more.get("state"), outputs=outputs)
    return original, recover.distill(driver, original, module, fit, Settings(epochs=20, rate=0.05)), module


def x(count: int, *shape: int) -> Any:
    return np.random.default_rng(3).standard_normal((count, *shape)).astype(np.float32)


def test_every_kind_of_weight_is_trained() -> None:
    text = """agraph (float[1,4,6] x) => (float[1,3,5] y) <float[5,4,3] w, float[5] b, float[4] s, float[4] t,
        float[4] mean, float[4] var, float[5,3] v, float[3] c, float[3] p> {
        n = InstanceNormalization(x, s, t)
        h = Conv<pads=[1,0]>(n, w, b)  q = Transpose<perm=[0,2,1]>(h)  m = MatMul(q, v)  a = Add(m, c)
        r = PRelu(a, p)  y = Transpose<perm=[0,2,1]>(r) }"""
    _, found, module = distilled(text, {"x": x(60, 1, 4, 6)})
    assert found.kept
    assert found.after < 0.7 * found.before
    names = {w.value.name for w in weights_of(Program(module))}
    assert names == {"w", "b", "s", "t", "v", "c", "p"}


def test_recurrent_layers_and_state_that_goes_round() -> None:
    text = """agraph (float[1,1,4] x, float[1,1,3] h) => (float[1,1,1,3] y, float[1,1,3] hn)
        <float[1,9,4] w, float[1,9,3] r, float[1,18] b> {
        y, hn = GRU<hidden_size=3, linear_before_reset=1>(x, w, r, b, , h) }"""
    _, found, _ = distilled(text, {"x": x(90, 1, 1, 4)}, state={"hn": "h"})
    assert found.kept
    assert found.after < 0.7 * found.before


def test_a_shared_weight_is_one_parameter() -> None:
    text = (
        """agraph (float[1,4] x) => (float[1,4] y) <float[4,4] w> { h = MatMul(x, w)  r = Tanh(h)  y = MatMul(r, w) }"""
    )
    _, found, module = distilled(text, {"x": x(60, 1, 4)})
    assert (found.kept, found.weights, found.parameters) == (True, 1, 16)
    assert sum(1 for v in module.graph.initializers.values()) == 1


def test_overridable_weights_and_integers_are_not_trained() -> None:
    text = """agraph (float[1,4] x, float[4,4] w) => (float[1,4] y) <float[4,4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}>
        { y = MatMul(x, w) }"""
    module = Driver(Options(), model_of(text, 17)).load()
    assert weights_of(Program(module)) == []


QDQ = """<ir_version: 10, opset_import: ["" : 21]> g (float[1,4] x) => (float[1,2] y)
    <float sx = {0.02}, uint8 zx = {128}, int8[4,2] w = {127,-3,1,90,-60,40,5,30}, float[2] sw = {0.01,0.02}, int8[2] zw = {0,0}> {
    q = QuantizeLinear(x, sx, zx)  d = DequantizeLinear(q, sx, zx)  v = DequantizeLinear<axis=1>(w, sw, zw)
    y = MatMul(d, v) }"""


def test_integers_stay_on_their_grid_and_in_their_sums() -> None:
    program = Program(parse(QDQ))
    (weight,) = weights_of(program)
    start = np.array([[127, -3], [1, 90], [-60, 40], [5, 30]], np.int8)
    assert weight.value.name == "w"
    assert np.array_equal(weight.array(start), start)
    with torch.no_grad():
        weight.parameter.add_(torch.tensor([[0.004, 0.012], [0.09, 9.0], [-9.0, 0.0], [0.0, 0.0]]))
    moved = weight.array(start)
    assert not np.array_equal(weight.tensor().detach().numpy()[:, 0], start[:, 0])
    assert np.array_equal(moved[:, 0], start[:, 0])  # 127 + 10 would leave the sums that kernels hold exactly
    assert moved[:, 1].tolist() == [-2, 127, 40, 30]
    assert is_pair_safe(moved, 1).all()


def test_gradients_pass_through_quantization() -> None:
    program = Program(parse(QDQ))
    (weight,) = weights_of(program)
    feeds = {"x": torch.tensor([[1.0, -1.0, 0.5, 9.0]], requires_grad=True)}
    program(feeds, {weight.value: weight.tensor()})["y"].sum().backward()
    assert (weight.parameter.grad != 0).all()
    assert feeds["x"].grad is not None
    assert feeds["x"].grad[0, :3].ne(0).all()
    assert feeds["x"].grad[0, 3] == 0  # 9 is beyond the range


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_int8_recovers_and_keeps_its_certificate(name: str) -> None:
    fit, test = (dict(np.load(path(f"digits_{part}.npz"))) for part in ("calibration", "test"))
    plain, found = (
        fcc.compile(
            path(name).read_bytes(),
            plan=Plan("cpu", lossy={"precision": "int8", "recipe": {}, **more}),
            calibration=fit,
            data=test,
            **HOW,
        )
        for more in ({}, {"distill": {"epochs": 12}})
    )
    assert found.report.distilled["kept"]
    assert lossy(found) < 0.9 * lossy(plain)
    assert "exact in 16-bit pair sums" in certificate(found.module)["fcc.int8"]


def test_operators_without_a_form_are_named() -> None:
    text = "agraph (float[1,2,2] x) => (float[1] y) <float[2,2] w> { m = MatMul(x, w)  y = Det(m) }"
    _, found, _ = distilled(text, {"x": x(9, 1, 2, 2)})
    assert str(found) == "distillation: not done, no form in torch for Det"


@pytest.mark.parametrize(
    ("text", "count", "why"),
    [
        ("agraph (float[1,2] x) => (float[1,2] y) { y = Relu(x) }", 9, "no weight of a layer is float32, float64"),
        (
            "agraph (float[1,2] x) => (float[1,2] y) <float[2,2] w> { y = MatMul(x, w) }",
            2,
            "it takes at least 3 samples",
        ),
        (
            "agraph (float[1,2] x) => (int32[1,2] y) <float[2,2] w> { m = MatMul(x, w)  y = Cast<to=6>(m) }",
            9,
            "no output is a float other than zero",
        ),
    ],
)
def test_what_cannot_be_distilled_says_why(text: str, count: int, why: str) -> None:
    _, found, _ = distilled(text, {"x": x(count, 1, 2)})
    assert not found.kept
    assert why in str(found)


def test_nothing_is_done_where_torch_and_the_runtime_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "agraph (float[1,2] x) => (float[1,2] y) <float[2,2] w> { y = MatMul(x, w) }"
    monkeypatch.setattr(recover, "AGREES", -1.0)
    _, found, _ = distilled(text, {"x": x(9, 1, 2)})
    assert str(found).startswith("distillation: not done, torch differs from onnxruntime by ")


def test_rows_are_joined_only_where_the_model_takes_any_number(model: Any) -> None:
    joined = parse('<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }')
    assert recover._free(joined)
    for text in (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }',
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x, float[M] z) => (float[N,2] y) { y = Relu(x) }',
    ):
        assert not recover._free(parse(text))
    feeds = [{"x": np.full((1, n), k, np.float32)} for k, n in enumerate((2, 2, 2, 3, 3))]
    found = list(recover._joined(feeds, 2))  # type: ignore[arg-type]
    assert [(f["x"].shape, n) for f, n in found] == [((2, 2), 2), ((1, 2), 1), ((2, 3), 2)]
    assert found[0][0]["x"].tolist() == [[0, 0], [1, 1]]


def test_the_best_epoch_is_kept_and_training_stops() -> None:
    program = Program(
        parse(
            '<ir_version: 10, opset_import: ["" : 21]> g (float[1,1] x) => (float[1,1] y) <float[1,1] w = {2}> { y = MatMul(x, w) }'
        )
    )
    weights = weights_of(program)
    fit = [Batch({"x": torch.ones(1, 1)}, {"y": torch.full((1, 1), 5.0)})]
    held = [Batch({"x": torch.ones(1, 1)}, {"y": torch.full((1, 1), 2.0)})]
    seen: list[tuple[int, int]] = []
    history = fine_tune(
        program, weights, fit, held, Settings(epochs=30, patience=3), lambda n, of: seen.append((n, of))
    )
    assert history.best == 0
    assert len(history.errors) == 16  # five rates, three epochs each
    assert weights[0].parameter.item() == 2
    assert seen == [(n, 30) for n in range(1, 16)]
    assert energies([*fit, *held]) == {"y": 29.0}


def test_feeds_that_may_not_be_written_are_copied() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    made = tensors({"x": array})["x"]
    made += 1
    assert array.tolist() == [1, 1, 1]
    assert made.tolist() == [2, 2, 2]


@pytest.mark.zoo
@pytest.mark.skipif("FCC_ZOO" not in os.environ, reason="no models (set FCC_ZOO)")
@pytest.mark.parametrize("name", ["bert_ts", "digits28_cnn", "lstm_ts", "magika_standard_v3_3", "silero_vad"])
def test_real_models_are_what_onnxruntime_computes(name: str) -> None:
    from fcc.parity import Judge
    from fcc.recipe import outputs_of

    driver = Driver(Options(), os.path.join(os.environ["FCC_ZOO"], "models", f"{name}.onnx"))
    judge: Any = Judge.of(driver.load(), seed=0)
    feeds = dict(next(iter(judge.feeds())))

    def compare(module: ir.Module, *_: Any) -> None:
        program = Program(module)
        assert weights_of(program)
        (expected,) = outputs_of(driver, module, [feeds])
        with torch.no_grad():
            found = program(tensors(feeds))
        for key, y in expected.items():
            np.testing.assert_allclose(found[key].numpy(), y, rtol=1e-3, atol=1e-4 * np.abs(y).max())

    driver.replay(lossy=compare)
