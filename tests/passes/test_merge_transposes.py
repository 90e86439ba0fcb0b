"""merge-transposes, and the algebra of axes that it shares with the attention passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes._axes import layout_of, reshaped
from fcc.passes._rearrange import Steps, _steps
from fcc.passes.merge_transposes import MergeTransposes
from fcc.testing import check

P = MergeTransposes()
STATIC = "g (float[3,2,5,4] x) => (float[3,2,4,5] y) <int64[3] a, int64[4] c>"
ENTRIES = {"a": [-1, 5, 4], "c": [3, 2, 4, 5]}


def test_keys_turned_while_batch_and_heads_are_one_axis() -> None:
    check(P, before=f"{STATIC} {{ f = Reshape(x, a) u = Transpose<perm=[0,2,1]>(f) y = Reshape(u, c) }}",
          after="g (float[3,2,5,4] x) => (float[3,2,4,5] y) { y = Transpose<perm=[0,1,3,2]>(x) }",
          constants=ENTRIES)  # fmt: skip


def test_sizes_as_symbols() -> None:
    check(P, before="""g (float[B,2,S,4] x) => (float[B,2,4,S] y) <int64[1] m, int64[1] h, int64[1] two> {
            b = Shape<start=0, end=1>(x) s = Shape<start=2, end=3>(x) u = Concat<axis=0>(m, s, h) v = Reshape(x, u)
            w = Transpose<perm=[0,2,1]>(v) k = Concat<axis=0>(b, two, h, s) y = Reshape(w, k) }""",
          after="""g (float[B,2,S,4] x) => (float[B,2,4,S] y) {
            b = Shape<start=0, end=1>(x) s = Shape<start=2, end=3>(x) u = Concat<axis=0>(m, s, h)
            k = Concat<axis=0>(b, two, h, s) y = Transpose<perm=[0,1,3,2]>(x) }""",
          constants={"m": -1, "h": 4, "two": 2})  # fmt: skip


def test_heads_of_a_sequence_that_comes_first() -> None:
    """nn.MultiheadAttention: [S, B * N, H] turned, then split."""
    check(P, before="g (float[5,3,8] x) => (float[3,2,5,4] y) <int64[3] a, int64[4] c> "
                    "{ f = Reshape(x, a) u = Transpose<perm=[1,0,2]>(f) y = Reshape(u, c) }",
          after="g (float[5,3,8] x) => (float[3,2,5,4] y) { f = Reshape(x, a) y = Transpose<perm=[1,2,0,3]>(f) }",
          constants={"a": [5, 6, 4], "c": [3, 2, 5, 4]})  # fmt: skip


def test_a_chain_that_cancels() -> None:
    check(P, before="g (float[3,4,5] x) => (float[3,4,5] y) <int64[2] a, int64[3] c, int64[1] i> { e = Exp(x) "
                    "f = Reshape(e, a) u = Transpose(f) v = Unsqueeze(u, i) w = Transpose<perm=[2,0,1]>(v) y = Reshape(w, c) }",
          after="g (float[3,4,5] x) => (float[3,4,5] y) { y = Exp(x) }",
          constants={"a": [12, 5], "c": [3, 4, 5], "i": 1})  # fmt: skip


def test_an_axis_of_one_needs_no_reshape() -> None:
    check(P, before="g (float[1,6,8] x) => (float[1,2,6,4] y) <int64[3] a, int64[4] c> "
                    "{ f = Reshape(x, a) u = Transpose<perm=[1,0,2]>(f) y = Reshape(u, c) }",
          after="g (float[1,6,8] x) => (float[1,2,6,4] y) { f = Reshape(x, a) y = Transpose<perm=[0,2,1,3]>(f) }",
          constants={"a": [6, 2, 4], "c": [1, 2, 6, 4]})  # fmt: skip


def test_a_node_with_other_users_does_not_go() -> None:
    """Two nodes die, and one is needed: the first Reshape stays for its other user."""
    text = STATIC.replace("5] y)", "5] y, float[6,5,4] z)")
    check(P, before=f"{text} {{ f = Reshape(x, a) u = Transpose<perm=[0,2,1]>(f) y = Reshape(u, c) z = Neg(f) }}",
          after="g (float[3,2,5,4] x) => (float[3,2,4,5] y, float[6,5,4] z) "
                "{ f = Reshape(x, a) y = Transpose<perm=[0,1,3,2]>(x) z = Neg(f) }", constants=ENTRIES)  # fmt: skip


REFUSED = "f = Reshape(x, a) u = Transpose<perm=[0,2,1]>(f) y = Reshape(u, c) }"


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        ("g (float[6,4] x) => (float[6,4] y) <int64[2] a, int64[2] c> { f = Reshape(x, a) u = Transpose(f) y = Reshape(u, c) }",
         {"a": [2, 12], "c": [6, 4]}),
        ("g (float[3,2,5,4] x) => (float[6,4,5] y, float[6,5,4] f) <int64[3] a> "
         "{ f = Reshape(x, a) y = Transpose<perm=[0,2,1]>(f) }", {"a": [6, 5, 4]}),
        ("g (float[3,2,5,4] x, int64[4] c) => (float[3,2,4,5] y) <int64[3] a> { " + REFUSED, {"a": [6, 5, 4]}),
        ("g (float[N,2,5,4] x) => (float[M,2,4,5] y) <int64[3] a, int64[4] c> { " + REFUSED, {"a": [2, -1, 4], "c": [-1, 2, 4, 5]}),
        ("g (float[0,2,5,4] x) => (float[0,2,4,5] y) <int64[3] a, int64[4] c> { "
         + REFUSED.replace("Reshape", "Reshape<allowzero=1>"), {"a": [0, 5, 4], "c": [0, 2, 4, 5]}),
    ],
)  # fmt: skip
def test_nothing_shorter(text: str, constants: dict[str, Any]) -> None:
    """Three nodes are needed; the first has other users; sizes are computed, or do not divide; nothing is moved."""
    check(P, before=text, after=None, because="nothing shorter", constants=constants)


def test_an_input_may_not_become_an_output() -> None:
    check(P, before="g (float[3,4] x) => (float[3,4] y) { t = Transpose(x) y = Transpose(t) }", after=None,
          because="may not be an input")  # fmt: skip


# -- the algebra -----------------------------------------------------------------------------------------------------
def moved(x: Any, steps: Steps) -> Any:
    for kind, numbers in steps:
        if kind == "Transpose":
            x = x.transpose(numbers)
        else:
            x = x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(numbers)])
    return x


@given(data=st.data())
@settings(max_examples=40)
def test_any_chain_is_three_nodes_at_most_and_never_more_than_it_was(data: st.DataObject) -> None:
    d = data.draw
    dims = d(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    layout, x, nodes = layout_of(dims), np.arange(int(np.prod(dims))).reshape(dims), 0
    want = x
    for _ in range(d(st.integers(1, 5))):
        if d(st.booleans()):
            perm = d(st.permutations(range(want.ndim)))
            want, layout = want.transpose(perm), replace(layout, axes=tuple(layout.axes[p] for p in perm))
            nodes += 1
            continue
        target, left = [], want.size
        while left > 1:
            target.append(d(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
            left //= target[-1]
        found = reshaped(layout, target)
        if found is not None:
            want, layout, nodes = want.reshape(target), found, nodes + 1
    steps = _steps(layout, list(layout.source), list(layout.axes))
    assert steps is not None
    assert len(steps) <= min(nodes, 3)
    result = moved(x, steps)
    assert result.shape == want.shape
    assert np.array_equal(result, want)
