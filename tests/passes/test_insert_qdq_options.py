"""insert-qdq: which layers, ranges by histogram, GPTQ and corrected biases; what they ask calibration for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.calibrate import CalibrationStats, histogram_key
from fcc.compress.quantize import bias_shift, is_pair_safe, quantize_weight
from fcc.errors import PipelineError
from fcc.frontend import read
from fcc.passes import BY_NAME, _qdq_watch
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.rewrite.pipeline import parse
from fcc.target import get_target

CHAIN = (
    "g (float[N,8] x) => (float[N,4] y) <float[8,6] w, float[6] b, float[6,4] v, float[4] c>"
    " { t = Gemm(x, w, b) u = Relu(t) y = Gemm(u, v, c) }"
)
CONV = "g (float[N,4,6] x) => (float[N,6,5] y) <float[6,2,3] w> { y = Conv<group=2, strides=[1], pads=[1,0]>(x, w) }"


def prepared(text: str) -> tuple[ir.Module, PassContext]:
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    return module, PassContext(get_target("cpu"), Log(strict=True, explain=frozenset({"insert-qdq"})))


def calibrated(p: InsertQdq, module: ir.Module, ctx: PassContext, tensors: dict[str, Any]) -> CalibrationStats:
    """Statistics of tensors given as a list of samples each."""
    stats = CalibrationStats()
    for name, samples in tensors.items():
        for sample in samples:
            stats.update({name: sample})
    for key, w in p.watch(module, ctx, stats).items():
        for sample in tensors[w.tensor]:
            w.empty.update(sample)
        stats.watched[key] = w.empty
    return stats


def applied(p: InsertQdq, text: str, tensors: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    module, ctx = prepared(text)
    stats = calibrated(p, module, ctx, tensors)
    run_pass(p, module, replace(ctx, stats=stats))
    ir.verify(module)
    arrays = {k: ir.Module.constant(v) for k, v in module.graph.initializers.items()}
    return {k: a for k, a in arrays.items() if a is not None}


def samples(shape: tuple[int, ...], count: int = 40) -> list[Any]:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((shape[-1], shape[-1])) / 4
    return [(rng.standard_normal(shape) @ mix + 1).astype(np.float32) for _ in range(count)]


DATA = {"x": samples((3, 8)), "u": [np.maximum(s, 0) for s in samples((3, 6))]}


def test_layers_can_be_named() -> None:
    module, ctx = prepared(CHAIN)
    assert InsertQdq().layers(module, ctx) == ["t", "y"]
    assert InsertQdq(only="y").layers(module, ctx) == ["y"]
    assert InsertQdq(exclude="y").layers(module, ctx) == ["t"]
    assert "w/int" not in applied(InsertQdq(only="y"), CHAIN, DATA)
    assert "v/int" in applied(InsertQdq(only="y"), CHAIN, DATA)
    cuda = replace(ctx, target=get_target("cuda"))
    assert InsertQdq().layers(module, cuda) == []
    assert InsertQdq(gptq=True).watch(module, cuda, CalibrationStats()) == {}


def test_ranges_come_from_histograms() -> None:
    tailed = {**DATA, "x": [*DATA["x"] * 40, np.array([[20.0] + [0.0] * 7], np.float32)]}
    plain, clipped = (applied(InsertQdq(ranges=r), CHAIN, tailed) for r in ("minmax", "mse"))
    assert plain["x/scale"] == pytest.approx((20 - min(s.min() for s in DATA["x"])) / 255, rel=1e-4)
    assert clipped["x/scale"] < 0.95 * plain["x/scale"]
    assert clipped["u/scale"] <= plain["u/scale"]
    module, ctx = prepared(CHAIN)
    seen = CalibrationStats()
    seen.update({"x": tailed["x"][0]})
    assert list(InsertQdq(ranges="mse").watch(module, ctx, seen)) == [histogram_key("x")]  # u was not seen
    seen.update({"u": np.array([np.nan])})
    assert list(InsertQdq(ranges="mse").watch(module, ctx, seen)) == [histogram_key("x")]
    assert InsertQdq().watch(module, ctx, seen) == {}


def test_a_method_that_does_not_exist() -> None:
    with pytest.raises(PipelineError, match="no value 'median'"):
        InsertQdq(ranges="median")
    (p,) = parse("insert-qdq{ranges=mse,gptq=true,correct=true,only=y}", BY_NAME).passes()
    assert p == InsertQdq(ranges="mse", gptq=True, correct=True, only="y")
    assert str(p) == "insert-qdq{only=y,ranges=mse,gptq=True,correct=True}"


def test_gptq_lowers_the_error_of_the_outputs() -> None:
    plain, found = (applied(InsertQdq(gptq=g), CHAIN, DATA) for g in (False, True))
    source = {k: np.asarray(ir.Module.constant(v)) for k, v in prepared(CHAIN)[0].graph.initializers.items()}
    for weight, x in (("w", DATA["x"]), ("v", DATA["u"])):
        rows = np.concatenate(x).astype(np.float64)
        lost = [
            np.linalg.norm(rows @ (source[weight] - a[f"{weight}/int"] * a[f"{weight}/scale"])) for a in (plain, found)
        ]
        assert lost[1] < 0.8 * lost[0]
        assert np.array_equal(plain[f"{weight}/scale"], found[f"{weight}/scale"])


def test_gptq_of_a_padded_grouped_convolution() -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((4, 4))
    x = [
        np.einsum("ij,njl->nil", mix, rng.standard_normal((2, 4, 6)).cumsum(axis=2)).astype(np.float32)
        for _ in range(40)
    ]
    plain, found = (applied(InsertQdq(gptq=g), CONV, {"x": x, "y": [np.ones(1)]}) for g in (False, True))
    (source,) = (np.asarray(ir.Module.constant(v)) for v in prepared(CONV)[0].graph.initializers.values())
    lost = []
    for arrays in (plain, found):
        difference = source - arrays["w/int"] * arrays["w/scale"][:, None, None]
        rows = np.lib.stride_tricks.sliding_window_view(np.pad(np.concatenate(x), ((0, 0), (0, 0), (1, 0))), 3, 2)
        parts = [np.einsum("nclk,mck->nml", rows[:, 2 * g : 2 * g + 2], difference[3 * g : 3 * g + 3]) for g in (0, 1)]
        lost.append(np.linalg.norm(parts))
    assert lost[1] < 0.8 * lost[0]


@pytest.mark.parametrize("text", [CHAIN, CHAIN.replace(", b)", ")").replace(", float[6] b", "")])
def test_biases_take_the_mean_error(text: str) -> None:
    plain, found = (applied(InsertQdq(correct=c), text, DATA) for c in (False, True))
    source = {k: np.asarray(ir.Module.constant(v)) for k, v in prepared(text)[0].graph.initializers.items()}
    q = quantize_weight(source["w"], 1, pair_safe=True)
    mean = np.concatenate(DATA["x"]).mean(axis=0).astype(np.float64)
    shift = bias_shift(source["w"], q, 1, mean)
    name = "b" if "b" in source else "w"
    key = f"{name}/int" if name == "b" else "w/int_1"
    before = plain["b/int"] * plain["b/scale"].astype(np.float64) if name == "b" else 0.0
    biases = [a for k, a in found.items() if a.dtype == np.int32 and a.shape == (6,) and a.any()]
    assert len(biases) == 1, key
    scale = found["x/scale"].astype(np.float64) * found["w/scale"].astype(np.float64)
    assert np.allclose(biases[0] * scale, before + shift, atol=1.01 * scale.max())
    assert np.abs(shift).max() > 2 * scale.max()


def test_a_matmul_without_bias_is_not_corrected() -> None:
    text = "g (float[N,8] x) => (float[N,4] y) <float[8,4] w> { y = MatMul(x, w) }"
    plain, found = (applied(InsertQdq(correct=c), text, {"x": DATA["x"]}) for c in (False, True))
    assert plain.keys() == found.keys()


def test_a_shift_that_does_not_fit_is_left_out() -> None:
    """An input of tiny scale and a mean far outside it: 2^31 steps of the bias are not there."""
    from fcc.passes._qdq_emit import Activation, _corrected

    value = ir.Value(name="s", const_value=ir.tensor(np.array(1e-9, np.float32)))
    parts = quantize_weight(np.ones((2, 1)) / 1e3, 0, pair_safe=True)
    found = _corrected(
        np.array([1.0, 2.0]) * 1e-6, np.array([1e9, 1e-6]), Activation(value, value, value, value), parts
    )
    assert found == pytest.approx([1e-6, 3e-6])


def test_moments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    module, ctx = prepared(CHAIN)

    def asked() -> list[str]:
        return list(InsertQdq(gptq=True).watch(module, ctx, CalibrationStats()))

    assert asked() == ["moments of the inputs of t", "moments of the inputs of y"]
    monkeypatch.setattr(_qdq_watch, "MAX_MOMENTS", 70)
    assert asked() == ["moments of the inputs of t"]
    monkeypatch.setattr(_qdq_watch, "MAX_INPUTS", 7)
    assert asked() == ["moments of the inputs of y"]
    grouped, _ = prepared(CONV)
    monkeypatch.setattr(_qdq_watch, "MAX_MOMENTS", 71)
    assert list(InsertQdq(gptq=True).watch(grouped, ctx, CalibrationStats())) == []
    monkeypatch.setattr(_qdq_watch, "MAX_MOMENTS", 72)
    assert len(InsertQdq(gptq=True).watch(grouped, ctx, CalibrationStats())) == 1


@pytest.mark.parametrize("attributes", ['auto_pad="SAME_UPPER"', "pads=[-1,0]"])
def test_paddings_that_are_not_known_give_no_moments(attributes: str) -> None:
    text = CONV.replace("pads=[1,0]", attributes).replace("4,6] x", "4,L] x").replace("6,5] y", "6,M] y")
    module, ctx = prepared(text)
    assert list(InsertQdq(gptq=True).watch(module, ctx, CalibrationStats())) == []


@pytest.mark.parametrize("gptq", [False, True])
def test_one_scale_per_weight(gptq: bool) -> None:
    found = applied(InsertQdq(per_tensor="Gemm", gptq=gptq, correct=True), CHAIN, DATA)
    several = applied(InsertQdq(), CHAIN, DATA)
    for weight in ("w", "v"):
        assert found[f"{weight}/scale"].shape == found[f"{weight}/zero_point"].shape == ()
        assert found[f"{weight}/scale"] == several[f"{weight}/scale"].max()
        assert is_pair_safe(found[f"{weight}/int"], 1).all()
    assert applied(InsertQdq(per_tensor="y"), CHAIN, DATA)["w/scale"].shape == (6,)
    assert found["b/scale"] == pytest.approx(found["x/scale"] * found["w/scale"])
    assert found["b/scale"].shape == ()


def test_one_scale_per_weight_runs_as_integers(quantize: Any) -> None:
    q = quantize(CHAIN, per_tensor="Gemm")
    assert q.kernels() == {"QuantizeLinear": 1, "QGemm": 2}
    assert q.runtime_error() == pytest.approx(q.runtime_error(optimize=False), rel=0.05)
    assert q.runtime_error() < 0.03
    conv = quantize(
        "g (float[N,3,8] x) => (float[N,4,6] y) <float[4,3,3] w, float[4] b> { y = Conv(x, w, b) }", per_tensor="y"
    )
    assert conv.kernels()["QLinearConv"] == 1
    assert conv.runtime_error() < 0.03
