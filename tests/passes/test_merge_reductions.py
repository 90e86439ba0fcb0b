"""merge-reductions: one pass over the data where two were, over the same elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.passes.merge_reductions import MergeReductions
from fcc.testing import check

KINDS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


def axes_of(module: ir.Module) -> list[int]:
    (node,) = module.graph
    found = ir.Module.constant(node.inputs[1])
    assert found is not None
    return list(found.tolist())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.permutations(range(4)), st.integers(1, 2), st.booleans(), st.booleans())
def test_any_two_reductions(kind: str, order: list[int], count: int, keep: bool, negative: bool) -> None:
    dims: list[int | str] = [2, "N", 3, 4]
    first, second = sorted(order[:count]), sorted(order[count : count + 1])
    left = [a for a in range(4) if a not in first]
    given_second = second if keep else [left.index(a) for a in second]
    rank = 4 if keep else len(left)
    if negative:
        given_second = [a - rank for a in given_second]
    gone = {*first, *second}
    out = [1 if a in gone else d for a, d in enumerate(dims) if keep or a not in gone]
    head = f"g (float[2,N,3,4] x) => (float[{','.join(map(str, out))}] y) "
    k = int(keep)
    module = check(
        MergeReductions(),
        head
        + f"<int64[{len(first)}] a, int64[1] b> {{ t = {kind}<keepdims={k}>(x, a) y = {kind}<keepdims={k}>(t, b) }}",
        head + f"{{ y = {kind}<keepdims={k}>(x, c) }}",
        constants={"a": first, "b": given_second},
    )
    assert axes_of(module) == sorted(gone)


@pytest.mark.parametrize("scale", ["y = Mul(t, n)", "y = Mul(n, t)"])
@pytest.mark.parametrize("shape", ["float n", "float[1] n", "float[1,1] n"])
def test_a_scaled_sum_is_a_mean(scale: str, shape: str) -> None:
    check(
        MergeReductions(),
        f"g (float[N,3,7] x) => (float[N,1,1] y) <int64[2] a, {shape}> {{ t = ReduceSum<keepdims=1>(x, a) {scale} }}",
        "g (float[N,3,7] x) => (float[N,1,1] y) { y = ReduceMean<keepdims=1>(x, c) }",
        constants={"a": [1, 2], "n": np.float32(1 / 21)},
    )


def test_a_divided_sum_is_a_mean() -> None:
    check(
        MergeReductions(),
        "g (float[N,3,7] x) => (float[N,3] y) <int64[1] a, float n> { t = ReduceSum<keepdims=0>(x, a) y = Div(t, n) }",
        "g (float[N,3,7] x) => (float[N,3] y) { y = ReduceMean<keepdims=0>(x, c) }",
        constants={"a": [-1], "n": 7},
    )


def test_axes_are_an_attribute_before_opset_18() -> None:
    check(
        MergeReductions(),
        "g (float[N,3,7] x) => (float[N] y) { t = ReduceMean<axes=[2], keepdims=0>(x)"
        " y = ReduceMean<axes=[1], keepdims=0>(t) }",
        "g (float[N,3,7] x) => (float[N] y) { y = ReduceMean<axes=[1,2], keepdims=0>(x) }",
        opset=17,
    )


SUM = "t = ReduceSum<keepdims=1>(x, a)"
REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "the first is used": (
        f"g (float[2,3] x) => (float[1,1] y, float[1,3] t) <int64[1] a, int64[1] b> {{ {SUM}"
        " y = ReduceSum<keepdims=1>(t, b) }",
        "graph output",
        {"a": 0, "b": 1},
    ),
    "keepdims differ": (
        f"g (float[2,3] x) => (float[1] y) <int64[1] a, int64[1] b> {{ {SUM} y = ReduceSum<keepdims=0>(t, b) }}",
        "one keeps",
        {"a": 0, "b": 1},
    ),
    "axes are not known": (
        f"g (float[2,3] x, int64[1] a) => (float[1,1] y) <int64[1] b> {{ {SUM} y = ReduceSum<keepdims=1>(t, b) }}",
        "not known",
        {"b": 1},
    ),
    "it may reduce nothing": (
        f"g (float[2,3] x) => (float[1,3] y) <int64[1] a> {{ {SUM} y = ReduceSum<noop_with_empty_axes=1>(t) }}",
        "none",
        {"a": 0},
    ),
    "a mean over an axis twice": (
        "g (float[2,3] x) => (float[1,3] y) <int64[1] a> { t = ReduceMean<keepdims=1>(x, a)"
        " y = ReduceMean<keepdims=1>(t, a) }",
        "twice",
        {"a": 0},
    ),
    "another factor": (
        f"g (float[N,3] x) => (float[N,1] y) <int64[1] a, float n> {{ {SUM} y = Mul(t, n) }}",
        "no mean",
        {"a": 1, "n": 0.3},
    ),
    "a factor that is not the quotient but the count": (
        f"g (float[N,3] x) => (float[N,1] y) <int64[1] a, float n> {{ {SUM} y = Mul(t, n) }}",
        "no mean",
        {"a": 1, "n": 3},
    ),
    "the sum divides": (
        f"g (float[N,3] x) => (float[N,1] y) <int64[1] a, float n> {{ {SUM} y = Div(n, t) }}",
        "",
        {"a": 1, "n": 3},
    ),
    "a size that is not known": (
        f"g (float[N,3] x) => (float[1,3] y) <int64[1] a, float n> {{ {SUM} y = Mul(t, n) }}",
        "size",
        {"a": 0, "n": 0.5},
    ),
    "several factors": (
        f"g (float[N,3] x) => (float[N,2] y) <int64[1] a, float[2] n> {{ {SUM} y = Mul(t, n) }}",
        "no number",
        {"a": 1, "n": 1 / 3},
    ),
    "a factor that adds an axis": (
        f"g (float[N,3] x) => (float[1,N,1] y) <int64[1] a, float[1,1,1] n> {{ {SUM} y = Mul(t, n) }}",
        "no number",
        {"a": 1, "n": 1 / 3},
    ),
    "integers": (
        f"g (int64[N,3] x) => (int64[N,1] y) <int64[1] a, int64 n> {{ {SUM} y = Div(t, n) }}",
        "integers",
        {"a": 1, "n": 3},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    text, because, constants = REFUSED[name]
    check(MergeReductions(), text, None, because=because, constants=constants)


def test_everything_is_reduced_without_axes() -> None:
    check(
        MergeReductions(),
        "g (float[2,N,3] x) => (float[1,1,1] y) <int64[1] a> { t = ReduceMax(x, a) y = ReduceMax(t) }",
        "g (float[2,N,3] x) => (float[1,1,1] y) { y = ReduceMax<keepdims=1>(x, c) }",
        constants={"a": 1},
    )


@pytest.mark.parametrize("scale", ["y = Mul(t, n)", "y = Mul(n, t)"])
def test_a_mean_times_its_count_is_a_sum(scale: str) -> None:
    text = f"g (float[N,3,7] x) => (float[N] y) <int64[2] a, float n> {{ t = ReduceMean<keepdims=0>(x, a) {scale} }}"
    after = "g (float[N,3,7] x) => (float[N] y) { y = ReduceSum<keepdims=0>(x, c) }"
    check(MergeReductions(), text, after, constants={"a": [1, 2], "n": 21.0})
    check(MergeReductions(), text, None, because="the factor is not 21", constants={"a": [1, 2], "n": 20.0})
    check(MergeReductions(), text, None, because="the factor is not 21", constants={"a": [1, 2], "n": 1 / 21})


def test_a_mean_divided_by_its_count_stays() -> None:
    text = "g (float[N,3] x) => (float[N] y) <int64[1] a, float n> { t = ReduceMean<keepdims=0>(x, a) y = Div(t, n) }"
    check(MergeReductions(), text, None, because="expected ReduceSum", constants={"a": [1], "n": 3.0})


def test_means_of_integers_stay() -> None:
    body = "{ t = ReduceMean<keepdims=0>(x, a) y = ReduceMean<keepdims=0>(t, a) }"
    text = f"g (int64[2,3,2] x) => (int64[2] y) <int64[1] a> {body}"
    check(MergeReductions(), text, None, because="rounded otherwise", constants={"a": 0})
