"""prune-channels: redundant channels go without a trace, since readers are refitted; others are refused with reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.moments import Moments, Product
from fcc.compress.rows import written
from fcc.errors import OptionError
from fcc.frontend import read
from fcc.passes import _pools
from fcc.passes._pruning import Pruning, _least
from fcc.passes.prune_channels import PruneChannels
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

pytest.importorskip("onnxruntime")
from fcc.runtime.paired import Request, accumulate

Array = np.ndarray[Any, Any]
HALF = PruneChannels(ratio=0.5)


def loaded(text: str, constants: dict[str, Any]) -> ir.Module:
    module = read(testing.model_from(text, 21, constants, 0))
    shapes.infer(module)
    return module


def gathered(text: str, constants: dict[str, Any], p: PruneChannels = HALF, parts: int = 2) -> dict[str, Any]:
    """What calibration sees of every reader, the graph being its own reference."""
    source, module = testing.model_from(text, 21, constants, 0), loaded(text, constants)
    rng, dims = np.random.default_rng(0), {"N": 6}
    weights = {t.name for t in source.graph.initializer}
    given = [v for v in source.graph.input if v.name not in weights]
    feeds = [{v.name: testing.random_input(v.type.tensor_type, rng, dims) for v in given} for _ in range(48)]
    readings = [r for pool in p.pools(module, PassContext(get_target("cpu"))) for r in pool.readings]
    requests = [
        Request(r.view.name, r.view.x.name or "", r.rows, r.view.name, written(r.view), parts=parts) for r in readings
    ]
    model = source.SerializeToString()
    return dict(accumulate(model, model, requests, feeds))


def pruned(text: str, *, p: PruneChannels = HALF, tolerance: float = 5e-3, parts: int = 2, **constants: Any) -> Any:
    """Prune, and return the shapes of the constants that each node reads, by its output; outputs stay the same."""
    stats = gathered(text, constants, p, parts)
    after = text.split("<", 1)[0] + text[text.index("{") :]
    module = check(p, text, after, constants=constants, stats=stats, tolerance=tolerance)
    found: dict[str, list[Any]] = {}
    for node in module.nodes():
        arrays = [a for v in node.inputs[1:] if (a := ir.Module.constant(v)) is not None]
        if arrays:
            found[node.outputs[0].name or ""] = [a.tolist() if a.dtype == np.int64 else a.shape for a in arrays]
    return found


def double(*shape: int, axis: int, seed: int = 0) -> Array:
    """Seeded weights of which the second half along an axis is twice the first half, in another order."""
    array = np.random.default_rng(seed + sum(shape)).standard_normal(shape) / shape[1 - axis if len(shape) > 1 else 0]
    rows = np.moveaxis(array, axis, 0)
    half = len(rows) // 2
    rows[half:] = 2 * rows[:half][::-1]
    return array.astype(np.float32)


MLP = """g (float[N,6] x) => (float[N,5] y) <float[6,16] u, float[16] a, float[16,5] w, float[5] b>
{ s = Gemm(x, u, a) r = Relu(s) y = Gemm(r, w, b) }"""
MLP_WEIGHTS: dict[str, Any] = {"u": double(6, 16, axis=1), "a": double(16, axis=0)}


@pytest.mark.parametrize("parts", [1, 2])
def test_gemm(parts: int) -> None:
    found = pruned(MLP, parts=parts, **MLP_WEIGHTS)
    assert found == {"s": [(6, 8), (8,)], "y": [(8, 5), (5,)]}


@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 2e-3), ("float16", 3e-2)])
def test_other_types(dtype: str, tolerance: float) -> None:
    found = pruned(MLP.replace("float[", f"{dtype}["), tolerance=tolerance, **MLP_WEIGHTS)
    assert found == {"s": [(6, 8), (8,)], "y": [(8, 5), (5,)]}


def test_reader_with_alpha_beta_and_a_transposed_weight() -> None:
    text = MLP.replace("float[16,5] w", "float[5,16] w").replace("Gemm(r", "Gemm<alpha=0.5, beta=3.0, transB=1>(r")
    stats = gathered(text, MLP_WEIGHTS)
    module = check(
        HALF,
        text,
        "g (float[N,6] x) => (float[N,5] y) { s = Gemm(x, u, a) r = Relu(s) y = Gemm<transB=1>(r, w, b) }",
        constants=MLP_WEIGHTS,
        stats=stats,
        tolerance=5e-3,
    )
    assert ir.dims_of(list(module.graph)[-1].inputs[1]) == (5, 8)


def test_matmul_with_and_without_a_bias() -> None:
    text = """g (float[2,N,6] x) => (float[2,N,5] y) <float[6,16] u, float[16,5] w, float[5] b>
    { s = MatMul(x, u) r = Relu(s) t = MatMul(r, w) y = Add(b, t) }"""
    assert pruned(text, u=MLP_WEIGHTS["u"])["t"] == [(8, 5)]
    bare = text.replace(" y = Add(b, t)", "").replace("t = MatMul", "y = MatMul").replace(", float[5] b", "")
    assert pruned(bare, u=MLP_WEIGHTS["u"]) == {"s": [(6, 8)], "y": [(8, 5)]}


def test_channels_that_stand_still_move_into_the_bias() -> None:
    """Constant channels are no multiple of others: only a new bias can take them over."""
    u, a = MLP_WEIGHTS["u"].copy(), MLP_WEIGHTS["a"].copy()
    u[:, 8:], a[8:] = 0, np.arange(1, 9)
    assert pruned(MLP, u=u, a=a)["y"] == [(8, 5), (5,)]
    no_bias = MLP.replace("Gemm(r, w, b)", "Gemm(r, w)").replace(", float[5] b", "")
    stats = gathered(no_bias, {"u": u, "a": a})
    after = "g (float[N,6] x) => (float[N,5] y) { s = Gemm(x, u, a) r = Relu(s) y = Gemm(r, w, b) }"
    check(HALF, no_bias, after, constants={"u": u, "a": a}, stats=stats, tolerance=5e-3)


def test_convolutions_through_pointwise_depthwise_and_pooling() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,4,4,4] y) <float[16,3,3,3] u, float[16] a, float[16,1,3,3] d,
    float[4,16,3,3] w, float[4] b>
    { s = Conv<pads=[1,1,1,1]>(x, u, a) r = Relu(s) t = Conv<group=16, pads=[1,1,1,1]>(r, d) m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)
      y = Conv<pads=[1,1,1,1]>(m, w, b) }"""
    d = double(16, 1, 3, 3, axis=0)
    d[8:] = d[7::-1]  # equal filters behind channels that are multiples
    stats_text = text.split("<", 1)[0] + text[text.index("{") :].replace("group=16", "group=8")
    constants = {"u": double(16, 3, 3, 3, axis=0), "a": double(16, axis=0), "d": d}
    module = check(HALF, text, stats_text, constants=constants, stats=gathered(text, constants), tolerance=1e-2)
    assert [ir.dims_of(n.inputs[1]) for n in module.graph if n.op_type == "Conv"] == [
        (8, 3, 3, 3),
        (8, 1, 3, 3),
        (4, 8, 3, 3),
    ]


FLAT = """g (float[N,3,4,4] x) => (float[N,5] y) <float[16,3,3,3] u, float[5,144] w, float[5] b>
{ s = Conv<pads=[0,0,1,1]>(x, u) r = Relu(s) f = Flatten(r) y = Gemm<transB=1>(f, w, b) }"""


@pytest.mark.parametrize("limit", [4096, 100])
def test_flattened_channels_go_as_blocks(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an input too wide for a matrix, what each channel adds to the outputs is fitted instead."""
    monkeypatch.setattr(_pools, "MAX_INPUTS", limit)
    w = np.random.default_rng(0).standard_normal((5, 16, 9)).astype(np.float32)
    w[:, 8:] = w[:, 7::-1]
    found = pruned(FLAT, u=double(16, 3, 3, 3, axis=0), w=w.reshape(5, 144), tolerance=2e-2)
    assert found == {"s": [(8, 3, 3, 3)], "y": [(5, 72), (5,)]}


def test_too_wide_even_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pools, "MAX_INPUTS", 40)
    check(HALF, FLAT, None, because="144 x 5 is too large for least squares", stats={})


CONCAT = """g (float[N,6] x) => (float[N,5] y) <float[6,16] u, float[6,3] v, float[19,5] w, float[5] b>
{ s = Gemm(x, u) t = MatMul(x, v) c = Concat<axis=1>(t, s) y = Gemm(c, w, b) }"""


@pytest.mark.parametrize("turned", [False, True])
def test_branches_of_a_concat_keep_what_is_not_pruned(turned: bool) -> None:
    u = double(6, 16, axis=1)
    found = pruned(CONCAT, p=PruneChannels(ratio=0.5, only="s"), u=u[:, ::-1] if turned else u)
    assert found == {"s": [(6, 8)], "t": [(6, 3)], "y": [(11, 5), (5,)]}


RESIDUAL = """g (float[N,6] x) => (float[N,5] y, float[N,4] z) <float[6,16] u, float[16] a, float[16,16] v, float[16] b,
float[16,5] w, float[5] c, float[16,4] o>
{ s = Gemm(x, u, a) t = Gemm(s, v, b) m = Add(s, t) y = Gemm(m, w, c) z = MatMul(m, o) }"""


def test_layers_that_are_added_go_together_and_all_readers_are_refitted() -> None:
    """The layer in the middle reads the channels and writes them."""
    v = double(16, 16, axis=1)
    found = pruned(RESIDUAL, u=double(6, 16, axis=1), a=double(16, axis=0), v=v, b=double(16, axis=0), tolerance=1e-2)
    assert found == {"s": [(6, 8), (8,)], "t": [(8, 8), (8,)], "y": [(8, 5), (5,)], "z": [(8, 4)]}


def test_units_of_several_channels_need_no_round_number() -> None:
    """Heads of 8 channels: three of four may stay."""
    text = """g (float[N,6] x) => (float[N,5] y) <float[6,32] u, int64[3] i, float[32,5] w, int64[2] j>
    { s = MatMul(x, u) h = Reshape(s, i) k = Softmax<axis=2>(h) f = Reshape(k, j) y = MatMul(f, w) }"""
    u = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)
    u[:, 24:] = u[:, :8]
    p = PruneChannels(ratio=0.75)
    found = pruned(text, p=p, u=u, i=[-1, 4, 8], j=[-1, 32])
    assert found == {"s": [(6, 24)], "h": [[-1, 3, 8]], "f": [[-1, 24]], "y": [(24, 5)]}


def test_energy_keeps_what_it_needs() -> None:
    """16 of 24 channels are copies."""
    u = np.random.default_rng(0).standard_normal((6, 24)).astype(np.float32)
    u[:, 8:16], u[:, 16:] = u[:, :8], 3 * u[:, :8]
    text = MLP.replace("16", "24")
    found = pruned(text, p=PruneChannels(energy=0.999), u=u, a=0.0)
    assert found["s"] == [(6, 8), (8,)]
    narrow: dict[str, Any] = {"u": np.eye(6, 24, dtype=np.float32) + np.eye(6, 24, 6, dtype=np.float32) * 3, "a": 0.5}
    narrow["w"] = np.eye(24, 5, dtype=np.float32) + np.eye(24, 5, -9, dtype=np.float32)
    assert pruned(text, p=PruneChannels(energy=0.5), tolerance=10.0, **narrow)["s"][0] == (6, 8)


@dataclass(frozen=True)
class Curve(Pruning):
    """Loses as many of the squares as channels go."""

    @property
    def error(self) -> float:
        return float(np.sqrt(self.count / self.pool.total))


@pytest.mark.parametrize("step", [1, 4, 8])
@pytest.mark.parametrize("total", [8, 13, 16, 20, 31])
def test_energy_finds_the_fewest_channels_by_bisection(total: int, step: int) -> None:
    pool: Any = SimpleNamespace(total=total, step=step)
    nothing: Any = None
    for least in range(step, total, step):
        most = Curve(pool, nothing, (), nothing, total - least)
        able = [total, *(n for n in range(total - 1, least - 1, -1) if n % step == 0)]
        for energy in (0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.99):
            want = min((n for n in able if n / total >= energy - 1e-12), default=total)
            assert total - _least(most, energy - 1e-12).count == want


def test_energy_that_needs_every_channel() -> None:
    text = (
        MLP.replace("float[6,16] u", "float[6,16] u").replace("float[N,6]", "float[N,16]").replace("[6,16]", "[16,16]")
    )
    text = text.replace("float[N,5]", "float[N,16]").replace("[16,5]", "[16,16]").replace("float[5] b", "float[16] b")
    constants = {"u": np.eye(16), "w": np.eye(16), "a": 1.0}
    p = PruneChannels(energy=0.99)
    stats = gathered(text, constants, p)
    check(p, text, None, because="energy 0.99 needs all 16 channels, in steps of 8", constants=constants, stats=stats)


def test_half_as_many_are_kept_by_the_report_row() -> None:
    module = loaded(MLP, MLP_WEIGHTS)
    stats = gathered(MLP, MLP_WEIGHTS)
    ctx = PassContext(get_target("cpu"), Log(strict=True), stats=stats)
    assert run_pass(HALF, module, ctx) == 1
    (row,) = ctx.log.layers
    assert (row["name"], row["channels"], row["of"], row["layers"], row["held_out"]) == ("s", 8, 16, ["s"], True)
    assert row["what"].startswith("8 of 16 channels stay, output error ")
    assert row["output_error"] < 1e-2
    assert row["fitted_curve"][0] == [16, pytest.approx(0, abs=1e-2)]
    assert row["fitted_curve"][-1][0] == 8


def test_blocks_of_channels_that_kernels_like() -> None:
    """A Conv of 48 channels keeps a multiple of 16, one of 24 a multiple of 8."""
    text = """g (float[N,3,4,4] x) => (float[N,5,4,4] y) <float[{0},3,1,1] u, float[5,{0},1,1] w>
    {{ s = Conv(x, u) r = Relu(s) y = Conv(r, w) }}"""
    for channels, kept in ((48, 32), (24, 16)):
        (pool,) = HALF.pools(loaded(text.format(channels), {}), PassContext(get_target("cpu")))
        assert pool.kept(channels * 0.5) == kept


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (MLP.replace("16", "8"), "8 channels are no more than what should stay, in steps of 8"),
        (MLP, "there are no statistics of 'y'"),
        (MLP.replace("(float[N,5] y)", "(float[N,5] y, float[N,16] r)"), "output 'r'"),
        (
            """g (float[N,3,4,4] x) => (float[N,5,4,4] y) <float[16,3,1,1] u, float[16,5,1,1] w>
            { s = Conv(x, u) r = Relu(s) y = ConvTranspose(r, w) }""",
            "read by ConvTranspose 'y', which cannot be refitted",
        ),
        (
            MLP.replace("float[5] b", "float[6,5] b").replace("[N,", "[6,"),
            "which reads its channels, is no constant row",
        ),
        (
            MLP.replace(", float[5] b>", ">").replace("float[N,6] x)", "float[N,6] x, float[5] b)"),
            "which reads its channels, is no constant row",
        ),
        ("g (float[N,6] x, float[6,16] u) => (float[N,16] y) { y = MatMul(x, u) }", "the weight is not constant"),
    ],
)
def test_stays(text: str, because: str) -> None:
    check(HALF, text, None, because=because, stats={})


def test_readers_with_weights_or_statistics_that_mean_nothing() -> None:
    stats = gathered(MLP, MLP_WEIGHTS)
    check(HALF, MLP, None, because="holds NaN", constants={**MLP_WEIGHTS, "w": np.nan}, stats=stats)
    wider = MLP.replace("16", "24")
    check(HALF, wider, None, because="no statistics of 'y'", stats=stats)
    bad: list[Moments] = [replace(m, xx=Product(m.xx.count, m.xx.a, m.xx.b, -m.xx.total)) for m in stats["y"]]
    check(HALF, MLP, None, because="degenerate", constants=MLP_WEIGHTS, stats={"y": bad})


def test_a_part_of_a_split_does_not_vanish() -> None:
    """All channels of the second part are zero, but something must be left of it."""
    text = """g (float[N,6] x) => (float[N,4] y, float[N,4] z) <float[6,16] u, int64[2] i, float[8,4] v, float[8,4] w>
    { s = MatMul(x, u) p, q = Split<axis=1>(s, i) y = MatMul(p, v) z = MatMul(q, w) }"""
    u = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    u[:, 8:] = 0
    constants = {"u": u, "i": [8, 8]}
    stats = gathered(text, constants)
    check(HALF, text, None, because="all channels of 'q' would go", constants=constants, stats=stats)


def test_without_statistics_nothing_is_tried() -> None:
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(HALF, loaded(MLP, {}), ctx) == 0
    assert "needs calibration data" in ctx.log.refused[0].reason


@pytest.mark.parametrize("given", [{}, {"ratio": 0.5, "energy": 0.5}, {"ratio": 1.0}, {"energy": 0.0}])
def test_options_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="one of ratio and energy"):
        PruneChannels(**given)


def test_one_elimination_serves_every_ratio_and_other_readers_have_their_own() -> None:
    """What was found for the strongest ratio is kept with the statistics; the graph that comes of it is the same."""
    wide = MLP.replace("6,16", "6,32").replace("[16", "[32")
    constants = {"u": double(6, 32, axis=1), "a": double(32, axis=0)}
    stats = gathered(wide, constants)

    def weights(ratio: float, known: dict[str, Any], **more: Any) -> list[Array]:
        module = loaded(wide, constants | more)
        ctx = PassContext(get_target("cpu"), Log(strict=True), stats=known)
        run_pass(PruneChannels(ratio=ratio), module, ctx)
        return [np.asarray(ir.Module.constant(v)) for n in module.graph for v in n.inputs[1:] if v is not None]

    fresh = {r: weights(r, gathered(wide, constants)) for r in (0.25, 0.5, 0.75)}
    for ratio in (0.5, 0.25, 0.75, 0.5):  # the second is more than what is known, the others less
        for one, other in zip(weights(ratio, stats), fresh[ratio], strict=True):
            np.testing.assert_array_equal(one, other)
    changed = {"w": np.diag(np.r_[np.ones(5), np.zeros(27)])[:, :5].astype(np.float32)}
    again = weights(0.5, gathered(wide, constants), **changed)
    assert all(np.array_equal(a, b) for a, b in zip(weights(0.5, stats, **changed), again, strict=True))
