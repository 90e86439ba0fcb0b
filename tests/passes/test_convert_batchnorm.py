import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.convert_batchnorm import ConvertBatchNorm
from fcc.testing import check


def text(kind: str = "float", shape: str = "N,3,4,4", n: int = 3) -> str:
    stats = ", ".join(f"float[{n}] {name}" for name in ("s", "t", "m", "var"))
    return (
        f"g ({kind}[{shape}] x) => ({kind}[{shape}] y) <{stats}> "
        "{ y = BatchNormalization<epsilon=0.1>(x, s, t, m, var) }"
    )


def test_mul_and_add() -> None:
    check(
        ConvertBatchNorm(always=True),
        before=text(),
        after="g (float[N,3,4,4] x) => (float[N,3,4,4] y) { p = Mul(x, s) y = Add(p, t) }",
    )


def test_mul_alone() -> None:
    check(
        ConvertBatchNorm(always=True),
        before=text(),
        after="g (float[N,3,4,4] x) => (float[N,3,4,4] y) { y = Mul(x, s) }",
        constants={"t": 0, "m": 0},
    )


UNIT = {"s": 1, "var": 1, "m": -1, "t": 0}


def test_add_alone() -> None:
    check(
        ConvertBatchNorm(always=True),
        before=text().replace("0.1", "0.0"),
        after="g (float[N,3,4,4] x) => (float[N,3,4,4] y) { y = Add(x, t) }",
        constants=UNIT,
    )


def test_nothing_left_to_compute() -> None:
    before = text().replace("0.1", "0.0").replace("{ y", "{ a").replace(" }", " y = Relu(a) }")
    check(
        ConvertBatchNorm(),
        before=before,
        after="g (float[N,3,4,4] x) => (float[N,3,4,4] y) { y = Relu(x) }",
        constants={**UNIT, "m": 0},
    )


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_one_kernel_is_faster_than_two(target: str) -> None:
    check(ConvertBatchNorm(), before=text(), after=None, because="is faster than Mul and Add", target=target)


def test_target_without_the_kernel() -> None:
    check(
        ConvertBatchNorm(),
        before=text("bfloat16"),
        after="g (bfloat16[N,3,4,4] x) => (bfloat16[N,3,4,4] y) { p = Mul(x, s) y = Add(p, t) }",
        target="cuda",
    )


def test_target_without_any_of_the_kernels_keeps_it() -> None:
    check(ConvertBatchNorm(), before=text("bfloat16"), after=None, because="of Mul takes")


@pytest.mark.parametrize(
    ("constants", "reason"),
    [({"var": -1}, "not positive"), ({"s": np.nan}, "not finite"), ({"s": 1e6}, "leaves the range of FLOAT16")],
)
def test_numbers_that_cannot_be_written(constants: dict[str, float], reason: str) -> None:
    check(ConvertBatchNorm(always=True), before=text("float16"), after=None, because=reason, constants=constants)


def test_training_mode_stays() -> None:
    check(
        ConvertBatchNorm(always=True),
        before=text().replace("{ y", "{ y, a, b").replace("epsilon=0.1", "training_mode=1"),
        after=None,
        because="training-mode",
    )


def test_overridable_statistics_stay() -> None:
    check(
        ConvertBatchNorm(always=True),
        before="g (float[N,1] x, float[1] s = {2}) => (float[N,1] y) <float[1] t = {1}, float[1] m = {1}, "
        "float[1] var = {1}> { y = BatchNormalization(x, s, t, m, var) }",
        after=None,
        because="'scale' is not constant",
    )


def test_integers_which_onnx_does_not_allow_stay() -> None:
    check(ConvertBatchNorm(always=True), before=text("int64"), after=None, because="INT64 is not converted")


def test_vector_stays() -> None:
    check(ConvertBatchNorm(always=True), before=text("float", "4", 1), after=None, because="below 2")


def test_unknown_rank_stays() -> None:
    check(
        ConvertBatchNorm(always=True),
        before=text()
        .replace("float[N,3,4,4] x", "float[N,3] u, int64[R] r")
        .replace("=> (float[N,3,4,4] y", "=> (float y")
        .replace("{ y", "{ x = Reshape(u, r) y"),
        after=None,
        because="rank of the input is not known",
    )


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 4), spatial=st.lists(st.integers(0, 3), max_size=3), seed=st.integers(0, 1000))
def test_every_shape(n: int, spatial: list[int], seed: int) -> None:
    shape = ",".join(map(str, [2, n, *spatial]))
    check(
        ConvertBatchNorm(always=True),
        before=text("float", shape, n),
        after=f"g (float[{shape}] x) => (float[{shape}] y) {{ p = Mul(x, s) y = Add(p, t) }}",
        seed=seed,
    )
