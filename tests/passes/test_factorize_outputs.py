"""factorize-linear by what calibration saw: inputs of few directions make low ranks exact; every kind of layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.factorize_linear import FactorizeLinear
from fcc.refit import request_of
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

pytest.importorskip("onnxruntime")
from fcc.runtime.paired import accumulate

Array = np.ndarray[Any, Any]
EIGHT = FactorizeLinear(rank=8)


def loaded(text: str, constants: dict[str, Any] | None = None) -> ir.Module:
    module = read(testing.model_from(text, 21, constants or {}, 0))
    shapes.infer(module)
    return module


def gathered(text: str, constants: dict[str, Any], p: FactorizeLinear) -> dict[str, Any]:
    """What calibration sees of every layer, the graph being its own reference."""
    source, module = testing.model_from(text, 21, constants, 0), loaded(text, constants)
    rng, dims = np.random.default_rng(0), {"N": 6}
    given = [v for v in source.graph.input if v.name not in {t.name for t in source.graph.initializer}]
    feeds = [{v.name: testing.random_input(v.type.tensor_type, rng, dims) for v in given} for _ in range(48)]
    model = source.SerializeToString()
    return dict(accumulate(model, model, [request_of(view) for view in p.layers(module)], feeds))


def factorized(
    text: str, after: str, by: FactorizeLinear = EIGHT, tolerance: float = 1e-4, **constants: Any
) -> list[tuple[int, ...]]:
    """Factorize, and return the shapes of the weights in order; outputs stay the same."""
    stats = gathered(text, constants, by)
    assert stats
    module = check(
        by, text, text.split("<", 1)[0] + "{ " + after + " }", constants=constants, stats=stats, tolerance=tolerance
    )
    found = [ir.dims_of(n.inputs[1]) for n in module.graph if n.op_type in ("Gemm", "MatMul", "Conv", "LSTM", "GRU")]
    return [tuple(int(d) for d in dims or () if isinstance(d, int)) for dims in found]


# x has 48 features along 6 directions, made by a layer in front.
SPREAD: dict[str, Any] = {"p": np.random.default_rng(0).standard_normal((6, 48)).astype(np.float32)}
GEMM = """g (float[N,6] i) => (float[N,40] y) <float[6,48] p, float[{}] w, float[{}] b>
{{ x = MatMul(i, p) y = Gemm{}(x, w, b) }}"""


def test_gemm_with_a_weight_of_full_rank() -> None:
    text = GEMM.format("48,40", "40", "<alpha=0.5, beta=2.0>")
    found = factorized(text, "x = MatMul(i, p) t = Gemm(x, u) y = Gemm(t, v, b)", **SPREAD)
    assert found == [(6, 48), (48, 8), (8, 40)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-5), ("float16", 3e-2)])
def test_other_types(dtype: str, tolerance: float) -> None:
    text = GEMM.format("48,40", "40", "").replace("float[", f"{dtype}[")
    after = "x = MatMul(i, p) t = Gemm(x, u) y = Gemm(t, v, b)"
    assert factorized(text, after, tolerance=tolerance, **SPREAD)[1:] == [(48, 8), (8, 40)]


def test_gemm_transposed_with_one_bias_for_all() -> None:
    text = GEMM.format("40,48", "1", "<transB=1>")
    found = factorized(text, "x = MatMul(i, p) t = Gemm<transB=1>(x, u) y = Gemm<transB=1>(t, v, b)", **SPREAD)
    assert found == [(6, 48), (8, 48), (40, 8)]


def test_gemm_without_a_bias_gets_one() -> None:
    text = GEMM.format("48,40", "1", "").replace(", b)", ")").replace(", float[1] b", "")
    factorized(text, "x = MatMul(i, p) t = Gemm(x, u) y = Gemm(t, v, b)", **SPREAD)


def test_matmul_keeps_its_number_of_nodes_after_it() -> None:
    text = """g (float[3,N,6] i) => (float[3,N,40] y) <float[6,48] p, float[48,40] w>
    { x = MatMul(i, p) y = MatMul(x, w) }"""
    assert factorized(text, "x = MatMul(i, p) t = MatMul(x, u) y = MatMul(t, v)", **SPREAD)[1:] == [(48, 8), (8, 40)]
    biased = text.replace("y = MatMul(x, w)", "m = MatMul(x, w) y = Add(m, b)").replace(" w>", " w, float[40] b>")
    factorized(biased, "x = MatMul(i, p) t = MatMul(x, u) m = MatMul(t, v) y = Add(m, b)", **SPREAD)


CONV = """g (float[N,2,9,8] i) => (float[N,40,5,6] y) <float[12,2,1,1] p, float[40,{},3,2] w{}>
{{ x = Conv(i, p) y = Conv<{}strides=[2,1], pads=[1,0,1,0], dilations=[1,2]>(x, w{}) }}"""


@pytest.mark.parametrize("bias", [False, True])
def test_conv_of_any_kernel(bias: bool) -> None:
    """Patches have 2 * 3 * 2 directions: rank 16 is enough, since pads break the others up at borders."""
    text = CONV.format(12, ", float[40] b" if bias else "", "", ", b" if bias else "")
    p = FactorizeLinear(rank=12)
    constants: dict[str, Any] = {"p": np.random.default_rng(0).standard_normal((12, 2, 1, 1))}
    after = "x = Conv(i, p) t = Conv<strides=[2,1], pads=[1,0,1,0], dilations=[1,2]>(x, u) y = Conv(t, v, b)"
    assert factorized(text, after, p, **constants)[1:] == [(12, 12, 3, 2), (40, 12, 1, 1)]


def test_a_dilated_conv_stays_dilated() -> None:
    text = CONV.format(12, "", "", "").replace("strides=[2,1], pads=[1,0,1,0], dilations=[1,2]", "dilations=[2,1]")
    text = text.replace("float[N,40,5,6]", "float[N,40,5,7]")
    constants: dict[str, Any] = {"p": np.random.default_rng(0).standard_normal((12, 2, 1, 1))}
    after = "x = Conv(i, p) t = Conv<dilations=[2,1]>(x, u) y = Conv(t, v, b)"
    assert factorized(text, after, FactorizeLinear(rank=12), **constants)[1:] == [(12, 12, 3, 2), (40, 12, 1, 1)]


def test_conv_in_groups() -> None:
    text = CONV.format(6, ", float[40] b", "group=2, ", ", b")
    p = FactorizeLinear(rank=12)
    constants: dict[str, Any] = {"p": np.random.default_rng(0).standard_normal((12, 2, 1, 1))}
    after = "x = Conv(i, p) t = Conv<group=2, strides=[2,1], pads=[1,0,1,0], dilations=[1,2]>(x, u)"
    found = factorized(text, after + " y = Conv<group=2>(t, v, b)", p, **constants)
    assert found[1:] == [(24, 6, 3, 2), (40, 12, 1, 1)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("op", "gates", "more"), [("LSTM", 4, ""), ("GRU", 3, ", linear_before_reset=1")])
def test_the_input_of_recurrent_layers(op: str, gates: int, more: str, bias: bool) -> None:
    text = f"""g (float[4,N,6] i) => (float[4,2,N,5] y) <float[6,48] p, float[2,{5 * gates},48] w,
    float[2,{5 * gates},5] r{f", float[2,{10 * gates}] b" if bias else ""}>
    {{ x = MatMul(i, p) y = {op}<hidden_size=5, direction="bidirectional"{more}>(x, w, r{", b" if bias else ""}) }}"""
    after = f'x = MatMul(i, p) t = MatMul(x, u) y = {op}<hidden_size=5, direction="bidirectional"{more}>(t, v, r, b)'
    w = 0.03 * np.random.default_rng(1).standard_normal((2, 5 * gates, 48))
    assert factorized(text, after, w=w, **SPREAD)[1:] == [(48, 8), (2, 5 * gates, 8)]


def test_a_recurrent_layer_of_which_only_a_later_result_is_used() -> None:
    text = """g (float[4,N,48] x) => (float[1,N,32] h) <float[1,128,48] w, float[1,128,32] r>
    { , h = LSTM<hidden_size=32>(x, w, r) }"""
    module, ctx = loaded(text), PassContext(get_target("cpu"), Log(strict=True))
    assert [v.name for v in EIGHT.layers(module)] == ["h"]
    assert run_pass(FactorizeLinear(rank=8, only="h"), module, ctx) == 1


def test_a_recurrent_layer_that_was_factorized_is_not_again() -> None:
    text = """g (float[4,N,48] x) => (float[4,1,N,32] y) <float[1,128,48] w, float[1,128,32] r>
    { y = LSTM<hidden_size=32>(x, w, r) }"""
    module, ctx = (
        loaded(text),
        PassContext(get_target("cpu"), Log(strict=True, explain=frozenset({"factorize-linear"}))),
    )
    assert run_pass(EIGHT, module, ctx) == 1
    assert run_pass(FactorizeLinear(rank=2), module, ctx) == 0
    assert {r.reason for r in ctx.log.refused} == {"it is a factor already"}


def test_layers_whose_bias_cannot_move_go_by_their_weight() -> None:
    text = GEMM.format("48,40", "3,40", "").replace("[N,", "[3,")
    p = FactorizeLinear(rank=8)
    assert [v.name for v in p.layers(loaded(text, SPREAD))] == []
    weight = (np.random.default_rng(0).standard_normal((48, 4)) @ np.random.default_rng(1).standard_normal((4, 40))) / 8
    after = "g (float[3,6] i) => (float[3,40] y) { x = MatMul(i, p) t = Gemm(x, u) y = Gemm(t, v, b) }"
    check(p, text, after, constants={**SPREAD, "w": weight}, stats={}, tolerance=1e-4)


TEXT = GEMM.format("48,40", "40", "")


def test_energy_takes_a_multiple_of_eight() -> None:
    found = factorized(
        TEXT, "x = MatMul(i, p) t = Gemm(x, u) y = Gemm(t, v, b)", FactorizeLinear(energy=0.999), **SPREAD
    )
    assert found[1] == (48, 8)


@pytest.mark.parametrize(
    ("p", "because"),
    [
        (FactorizeLinear(ratio=0.3), "rank 6 at this ratio is below 8"),
        (FactorizeLinear(energy=0.999), "energy 0.999 takes rank 40, which holds no fewer parameters than 40 x 48"),
        (FactorizeLinear(ratio=0.5, fast=True), "1920 parameters are too few to become faster"),
        (FactorizeLinear(ratio=0.5, limit=0.1), "at rank 8 the outputs of the layer would move by 0."),
    ],
)
def test_stays(p: FactorizeLinear, because: str) -> None:
    text = "g (float[N,48] x) => (float[N,40] y) <float[48,40] w, float[40] b> { y = Gemm(x, w, b) }"
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((48, 40)))[0]
    check(p, text, None, because=because, constants={"w": orthogonal}, stats={})


def test_layers_too_small_for_any_rank_by_energy() -> None:
    text = "g (float[N,9] x) => (float[N,9] y) <float[9,9] w> { y = MatMul(x, w) }"
    check(FactorizeLinear(energy=0.9), text, None, because="rank 8, which holds no fewer parameters than 9 x 9")


def test_fast_asks_for_three_quarters() -> None:
    text = "g (float[N,256] x) => (float[N,256] y) <float[256,256] w> { y = MatMul(x, w) }"
    check(FactorizeLinear(rank=104, fast=True), text, None, because="rank 104, which is not expected to be faster")
    assert run_pass(FactorizeLinear(rank=96, fast=True), loaded(text), PassContext(get_target("cpu"))) == 1


def test_only_the_layers_that_are_named() -> None:
    text = """g (float[N,48] x) => (float[N,40] y, float[N,40] z) <float[48,40] w, float[48,40] v>
    { y = MatMul(x, w) z = MatMul(x, v) }"""
    module, ctx = loaded(text), PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(FactorizeLinear(rank=8, only="q+z"), module, ctx) == 1
    assert [layer["name"] for layer in ctx.log.layers] == ["z"]
    assert not ctx.log.refused


def test_degenerate_statistics_are_refused() -> None:
    from dataclasses import replace

    stats = gathered(TEXT, SPREAD, EIGHT)
    xx = stats["y"].xx
    stats["y"] = replace(stats["y"], xx=replace(xx, total=-xx.total))
    check(FactorizeLinear(rank=8, only="y"), TEXT, None, because="degenerate", constants=SPREAD, stats=stats)


def test_the_report_tells_the_spectrum() -> None:
    module = loaded(TEXT, SPREAD)
    ctx = PassContext(get_target("cpu"), Log(strict=True), stats=gathered(TEXT, SPREAD, FactorizeLinear(ratio=0.5)))
    run_pass(FactorizeLinear(ratio=0.5), module, ctx)
    (row,) = ctx.log.layers
    assert (row["name"], row["rank"], row["held_out"]) == ("y", 8, True)
    assert row["what"].startswith("rank 8 of 40 x 48, output error ")
    assert [r for r, _ in row["spectrum"]] == [2, 5, 8, 16]
    assert row["spectrum"][0][1] > 0.3
    assert row["output_error"] == row["spectrum"][2][1] < 1e-3


def test_limit_is_above_zero() -> None:
    from fcc.errors import OptionError

    with pytest.raises(OptionError, match="limit"):
        FactorizeLinear(ratio=0.5, limit=0.0)


def test_spectra_are_kept_with_the_statistics_and_belong_to_one_weight() -> None:
    stats = gathered(TEXT, SPREAD, EIGHT)

    def weights(rank: int, known: dict[str, Any], **more: Any) -> list[Array]:
        module, ctx = loaded(TEXT, {**SPREAD, **more}), PassContext(get_target("cpu"), Log(strict=True), stats=known)
        assert run_pass(FactorizeLinear(rank=rank, only="y"), module, ctx) == 1
        return [np.asarray(ir.Module.constant(v)) for n in module.graph for v in n.inputs[1:] if v is not None]

    def same(one: list[Array], other: list[Array]) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    first, second = weights(8, stats), weights(4, stats)
    assert same(first, weights(8, stats))
    assert same(second, weights(4, gathered(TEXT, SPREAD, EIGHT)))
    other = {"w": np.random.default_rng(5).standard_normal((48, 40)).astype(np.float32)}
    assert same(weights(8, stats, **other), weights(8, gathered(TEXT, SPREAD, EIGHT), **other))
