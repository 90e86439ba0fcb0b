from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.compress.rank_screen import largest_rank, surely_full
from fcc.errors import OptionError
from fcc.frontend import read
from fcc.passes._exact_factors import decompose
from fcc.passes.factorize_linear import FactorizeLinear
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

GEMM = "g (float[N,48] x) => (float[N,40] y) <float[48,40] w, float[40] b> {{ {} }}"


def low(m: int, n: int, rank: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    product: np.ndarray[Any, Any] = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) / rank**0.5
    return product.astype(np.float32)


# Rank 22, one above the limit; its small singular values deceive the screen.
GRADED = (np.linalg.qr(low(48, 22, 22))[0] * np.logspace(0, -5, 22)) @ np.linalg.qr(low(40, 22, 22, 1))[0].T


def test_gemm() -> None:
    module = check(
        FactorizeLinear(),
        before=GEMM.format("y = Gemm<alpha=0.5, beta=2.0>(x, w, b)"),
        after="g (float[N,48] x) => (float[N,40] y) { h = Gemm(x, a) y = Gemm<beta=2.0>(h, c, b) }",
        constants={"w": low(48, 40, 5)},
    )
    arrays = [ir.Module.constant(v) for v in module.graph.initializers.values()]
    assert sorted(a.shape for a in arrays if a is not None) == [(5, 40), (40,), (48, 5)]


def test_an_output_that_is_zero_stays_zero_and_an_input_may_be_idle() -> None:
    w = low(48, 40, 5)
    w[:, 7] = w[3] = 0
    module = check(
        FactorizeLinear(),
        before=GEMM.format("y = Gemm(x, w, b)"),
        after="g (float[N,48] x) => (float[N,40] y) { h = Gemm(x, a) y = Gemm(h, c, b) }",
        constants={"w": w},
    )
    (outer,) = (a for v in module.graph.initializers.values() if (a := ir.Module.constant(v)) is not None and a.shape == (5, 40))  # fmt: skip
    assert not outer[:, 7].any()
    assert outer.any(axis=0).sum() == 39


def test_gemm_transposed_without_bias() -> None:
    check(
        FactorizeLinear(),
        before="g (float[N,48] x) => (float[N,40] y) <float[40,48] w> { y = Gemm<transB=1>(x, w) }",
        after="g (float[N,48] x) => (float[N,40] y) { h = Gemm<transB=1>(x, a) y = Gemm<transB=1>(h, c) }",
        constants={"w": low(40, 48, 3)},
    )


def test_matmul_of_rank_three_with_its_bias() -> None:
    check(
        FactorizeLinear(),
        before="g (float[B,S,48] x) => (float[B,S,40] y) <float[48,40] w, float[40] b>"
        " { t = MatMul(x, w) y = Add(b, t) }",
        after="g (float[B,S,48] x) => (float[B,S,40] y) { h = MatMul(x, a) t = MatMul(h, c) y = Add(t, b) }",
        constants={"w": low(48, 40, 5)},
    )


def test_matmul_whose_product_escapes_leaves_the_bias_outside() -> None:
    check(
        FactorizeLinear(),
        before="g (float[N,48] x) => (float[N,40] y, float[N,40] t) <float[48,40] w, float[40] b>"
        " { t = MatMul(x, w) y = Add(t, b) }",
        after="g (float[N,48] x) => (float[N,40] y, float[N,40] t) { h = MatMul(x, a) t = MatMul(h, c) y = Add(t, b) }",
        constants={"w": low(48, 40, 5)},
    )


def test_pointwise_conv() -> None:
    check(
        FactorizeLinear(),
        before="g (float[N,48,4,3] x) => (float[N,40,4,3] y) <float[40,48,1,1] w, float[40] b>"
        ' { y = Conv<auto_pad="SAME_UPPER", kernel_shape=[1,1], dilations=[2,2]>(x, w, b) }',
        after="g (float[N,48,4,3] x) => (float[N,40,4,3] y) { h = Conv(x, a) y = Conv(h, c, b) }",
        constants={"w": low(40, 48, 5)[:, :, None, None]},
    )


def test_inside_a_branch() -> None:
    check(
        FactorizeLinear(),
        before="g (bool c, float[2,48] x) => (float[2,40] y) <float[48,40] w> {"
        " y = If(c) <then_branch = t () => (float[2,40] p) { p = MatMul(x, w) },"
        " else_branch = e () => (float[2,40] q) { q = Slice(x, a, b, d) }> }".replace(
            " w>", " w, int64[1] a, int64[1] b, int64[1] d>"
        ),
        after="g (bool c, float[2,48] x) => (float[2,40] y) {"
        " y = If(c) <then_branch = t () => (float[2,40] p) { h = MatMul(x, v) p = MatMul(h, w) },"
        " else_branch = e () => (float[2,40] q) { q = Slice(x, a, b, d) }> }",
        constants={"w": low(48, 40, 5), "a": 0, "b": 40, "d": 1},
    )


def test_float16() -> None:
    rng = np.random.default_rng(0)
    w = np.repeat(rng.standard_normal((6, 40)), 8, axis=0)
    check(
        FactorizeLinear(),
        before="g (float16[N,48] x) => (float16[N,40] y) <float16[48,40] w> { y = MatMul(x, w) }",
        after="g (float16[N,48] x) => (float16[N,40] y) { h = MatMul(x, a) y = MatMul(h, b) }",
        constants={"w": w},
    )


def test_small_outputs_keep_their_digits() -> None:
    """Columns 1e9 apart: a decomposition that looks at the whole alone would lose the small ones."""
    scales = np.where(np.arange(40) % 2, 1e-5, 1e4)
    module = check(
        FactorizeLinear(),
        before="g (float[N,48] x) => (float[N,40] y) <float[48,40] w> { y = MatMul(x, w) }",
        after="g (float[N,48] x) => (float[N,40] y) { h = MatMul(x, a) y = MatMul(h, b) }",
        constants={"w": low(48, 40, 5) * scales},
    )
    first, second = (ir.Module.constant(n.inputs[1]) for n in module.nodes())
    assert first is not None
    assert second is not None
    product = first.astype(np.float64) @ second
    expected = low(48, 40, 5) * scales
    assert np.all(np.linalg.norm(product - expected, axis=0) < 1e-5 * np.linalg.norm(expected, axis=0))


@pytest.mark.parametrize(
    ("before", "constants", "because"),
    [
        (GEMM.format("y = Gemm(x, w, b)"), {}, "full rank"),
        (GEMM.format("y = Gemm(x, w, b)"), {"w": GRADED}, "too high"),
        (GEMM.format("y = Gemm(x, w, b)"), {"w": 0.0}, "is zero"),
        (GEMM.format("y = Gemm(x, w, b)"), {"w": np.nan}, "NaN"),
        (
            "g (float[48,N] x) => (float[N,40] y) <float[48,40] w> { y = Gemm<transA=1>(x, w) }",
            {"w": low(48, 40, 5)},
            "transA",
        ),
        (
            "g (float[N,40,48] x) => (float[N,40,40] y, float[48,40] z) <float[48,40] w>"
            " { y = MatMul(x, w) z = Neg(w) }",
            {"w": low(48, 40, 5)},
            "other users",
        ),
        (
            "g (float[N,8] x) => (float[N,6] y) <float[8,6] w> { y = MatMul(x, w) }",
            {"w": low(8, 6, 1)},
            "no smaller",
        ),
        (
            "g (float[N,48,4,4] x) => (float[N,40,4,4] y) <float[40,48,3,3] w> { y = Conv<pads=[1,1,1,1]>(x, w) }",
            {"w": 1.0},
            "kernel",
        ),
        ("g (float[N,48] x, float[48,40] w) => (float[N,40] y) { y = MatMul(x, w) }", {}, "not constant"),
        (
            "g (float[N,48] x, float[48,40] w = {}) => (float[N,40] y) {{ y = MatMul(x, w) }}".format(
                "{" + ",".join(["1"] * 1920) + "}"
            ),
            {},
            "not constant",
        ),
        (
            "g (int32[N,48] x) => (int32[N,40] y) <int32[48,40] w> { y = MatMul(x, w) }",
            {"w": 1},
            "the weight is INT32",
        ),
    ],
)
def test_stays(before: str, constants: dict[str, Any], because: str) -> None:
    check(FactorizeLinear(), before=before, after=None, constants=constants, because=because)


def test_by_ratio_is_reported_and_not_repeated() -> None:
    module = read_text(GEMM.format("y = Gemm(x, w, b)"))
    for p, factors in ((FactorizeLinear(ratio=0.5), 2), (FactorizeLinear(ratio=0.5), 2)):
        ctx = PassContext(target=get_target("cpu"), log=Log(strict=True, explain=frozenset({p.name})))
        applied = run_pass(p, module, ctx)
        assert sum(n.op_type == "Gemm" for n in module.nodes()) == factors
        if applied:
            (layer,) = ctx.log.layers
            assert layer["name"] == "y"
            assert layer["what"].startswith("rank 8 of 40 x 48, weight error 6.")
            assert 0.6 < layer["weight_error"] < 0.7
    assert any("factor already" in r.reason for r in ctx.log.refused)


def test_by_rank_only_where_parameters_fall() -> None:
    text = GEMM.format("y = Gemm(x, w, b)")
    check(FactorizeLinear(rank=22), before=text, after=None, because="no fewer parameters")
    w = low(48, 40, 21)
    check(
        FactorizeLinear(rank=21),
        before=text,
        after="g (float[N,48] x) => (float[N,40] y) { h = Gemm(x, a) y = Gemm(h, c, b) }",
        constants={"w": w},
    )


def test_a_small_layer_is_left_alone_by_ratio() -> None:
    text = GEMM.format("y = Gemm(x, w, b)")
    check(FactorizeLinear(ratio=0.3), before=text, after=None, because="rank 6 at this ratio is below 8")


def test_exact_depends_on_the_options() -> None:
    assert FactorizeLinear().exact
    assert not FactorizeLinear(rank=4).exact
    assert not FactorizeLinear(ratio=0.5).exact
    assert not FactorizeLinear(energy=0.5).exact


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4, "ratio": 0.5},
        {"rank": 4, "energy": 0.5},
        {"energy": 0.0},
        {"energy": 1.0},
        {"rank": 0},
        {"ratio": 0.0},
        {"ratio": 1.0},
        {"ratio": float("nan")},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        FactorizeLinear(**options)


def read_text(text: str) -> ir.Module:
    from fcc import testing
    from fcc.analysis import shapes

    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    return module


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_the_screen_never_hides_a_low_rank(m: int, n: int, rank: int, seed: int) -> None:
    weight = low(m, n, min(rank, m, n), seed)
    if surely_full(weight, k := largest_rank(m, n)):
        assert np.linalg.matrix_rank(weight) > k
    assert not surely_full(weight, min(rank, m, n))


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 90), st.integers(30, 90), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_products_of_factors_are_found(m: int, n: int, rank: int, seed: int, scaled: bool) -> None:
    rng = np.random.default_rng(seed)
    weight = low(m, n, rank, seed)
    if scaled:
        weight *= 10 ** rng.uniform(-4, 4, (m, 1)).astype(np.float32) * 10 ** rng.uniform(-4, 4, (1, n)).astype(
            np.float32
        )
    pair = decompose(weight.astype(np.float64), np.dtype(np.float32), largest_rank(m, n))
    assert not isinstance(pair, str), pair
    outer, inner = pair
    assert outer.shape[1] <= rank
    error = np.linalg.norm(outer @ inner - weight, axis=1)
    assert np.all(error <= 3e-6 * np.linalg.norm(weight, axis=1))


@given(st.integers(1, 300), st.integers(1, 300))
def test_largest_rank(m: int, n: int) -> None:
    rank = largest_rank(m, n)
    assert rank * (m + n) < m * n <= (rank + 1) * (m + n)
