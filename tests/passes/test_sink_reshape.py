"""sink-reshape: fewer Reshapes around operators that work along the last axes (generated: test_sink_transpose)."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.passes.sink_reshape import SinkReshape
from fcc.testing import check

FLAT, BACK = {"s": [6, 8], "t": [2, 3, 8]}, "<int64[2] s, int64[3] t"


def test_a_pair_cancels_around_elementwise_operators() -> None:
    check(
        SinkReshape(),
        f"g (float[2,3,8] x) => (float[2,3,8] y) {BACK}, float[8] b, float[1,1] c, float w> {{ r = Reshape(x, s)"
        " p = Add(r, b) q = Mul(p, c) u = Sub(w, q) y = Reshape(u, t) }",
        "g (float[2,3,8] x) => (float[2,3,8] y) { p = Add(x, b) q = Mul(p, c) y = Sub(w, q) }",
        constants=FLAT,
    )


def test_a_residual_stream_of_gemms_stays_flat() -> None:
    check(
        SinkReshape(),
        f"""g (float[6,8] x, float[8,8] k) => (float[6,8] y) {BACK}, float[8] b> {{
            g1 = Gemm(x, k) v = Reshape(g1, t) n = LayerNormalization(v, b) f = Reshape(n, s) g2 = Gemm(f, k)
            w = Reshape(g2, t) a = Add(w, v) m = Softmax<axis=2>(a) h = Reshape(m, s) y = Gemm(h, k) }}""",
        """g (float[6,8] x, float[8,8] k) => (float[6,8] y) {
            v = Gemm(x, k) n = LayerNormalization<axis=-1>(v, b) w = Gemm(n, k)
            a = Add(w, v) m = Softmax<axis=-1>(a) y = Gemm(m, k) }""",
        constants=FLAT,
    )


def test_dynamic_sizes_and_the_kin_of_reshape() -> None:
    check(
        SinkReshape(),
        "g (float[N,1,4] x, float[4,5] k) => (float[N,1,4,2] y, float[N,1,3,2] z) <int64[1] a, int64[2] s> {"
        " r = Squeeze(x, a) m = MatMul(r, k) u = ReduceMax<keepdims=1>(m, a2) y = Unsqueeze(u, a) }".replace(
            "float[N,1,4,2] y, float[N,1,3,2] z", "float[N,1,1] y"
        ).replace("int64[2] s", "int64[1] a2"),
        "g (float[N,1,4] x, float[4,5] k) => (float[N,1,1] y) { m = MatMul(x, k) y = ReduceMax<keepdims=1>(m, c) }",
        constants={"a": 1, "a2": 1},
    )


def test_split_and_concat_along_a_kept_axis() -> None:
    check(
        SinkReshape(),
        "g (float[2,3,8] x) => (float[2,3,8] y) <int64[2] s, int64[3] t, int64[2] e> { r = Reshape(x, s)"
        " p, q = Split<axis=1>(r, e) u = Relu(p) c = Concat<axis=1>(q, u) y = Reshape(c, t) }",
        "g (float[2,3,8] x) => (float[2,3,8] y) { p, q = Split<axis=-1>(x, e) u = Relu(p) y = Concat<axis=-1>(q, u) }",
        constants={**FLAT, "e": [5, 3]},
    )


@pytest.mark.parametrize(("shape", "given"), [("4,2", "8"), ("4,1", "8"), ("3,4,2", "3,8"), ("1,4,2", "8")])
def test_a_constant_over_split_axes_is_laid_out_as_they_were(shape: str, given: str) -> None:
    """The bias [heads, size] of a projection that Keras splits into heads before it adds."""
    module = check(
        SinkReshape(),
        f"g (float[N,3,8] x) => (float[N,3,8] y) <int64[4] s, int64[3] t, float[{shape}] b> {{ r = Reshape(x, s)"
        " a = Add(r, b) y = Reshape(a, t) }",
        "g (float[N,3,8] x) => (float[N,3,8] y) { y = Add(x, c) }",
        constants={"s": [0, 0, 4, 2], "t": [0, 0, 8]},
    )
    (found,) = module.graph.initializers.values()
    assert found.shape is not None
    assert ",".join(map(str, found.shape)) == given


def test_a_constant_of_the_whole_shape_follows() -> None:
    check(
        SinkReshape(),
        "g (float[2,3,8] x) => (float[2,3,8] y) <int64[1] s, int64[3] t, float[48] b> { r = Reshape(x, s)"
        " p = Add(r, b) y = Reshape(p, t) }",
        "g (float[2,3,8] x) => (float[2,3,8] y) { y = Add(x, c) }",
        constants={"s": 48, "t": [2, 3, 8]},
    )


def test_a_transpose_of_kept_axes() -> None:
    """The Unsqueeze moves to the Reshape in front, which gives its shape at once."""
    check(
        SinkReshape(),
        "g (float[N,6,4] x) => (float[N,1,3,8] y) <int64[3] s, int64[1] a, float[8] k> { r = Reshape(x, s)"
        " p = Transpose<perm=[0,2,1]>(r) n = LayerNormalization(p, k) y = Unsqueeze(n, a) }",
        "g (float[N,6,4] x) => (float[N,1,3,8] y) { r = Reshape(x, s) p = Transpose<perm=[0,1,3,2]>(r)"
        " y = LayerNormalization<axis=-1>(p, k) }",
        constants={"s": [-1, 8, 3], "a": 1},
    )
    check(
        SinkReshape(),
        "g (float[2,3,4,5] x) => (float[6,5,4] y) <int64[3] s, int64[3] t> { p = Transpose<perm=[0,1,3,2]>(x)"
        " q = Relu(p) r = Reshape(q, s) y = Identity(r) }",
        None,
        constants={"s": [6, 5, 4]},
    )
    check(
        SinkReshape(),
        "g (float[2,3,4,5] x) => (float[2,3,5,4] y) <int64[3] s, int64[4] t> { r = Reshape(x, s)"
        " p = Transpose<perm=[0,2,1]>(r) y = Reshape(p, t) }",
        "g (float[2,3,4,5] x) => (float[2,3,5,4] y) { y = Transpose<perm=[0,1,3,2]>(x) }",
        constants={"s": [6, 4, 5], "t": [2, 3, 5, 4]},
    )


def test_a_reshape_in_front_gives_the_other_shape() -> None:
    check(
        SinkReshape(),
        "g (float[2,3,8] x) => (float[1,1,8] y) <int64[2] s, int64[3] t, int64[1] a> { r = Reshape(x, s)"
        " p = ReduceSum<keepdims=1>(r, a) y = Reshape(p, t) }",
        "g (float[2,3,8] x) => (float[1,1,8] y) { r = Reshape(x, s) y = ReduceSum<keepdims=1>(r, a) }",
        constants={"s": [6, 8], "t": [1, 1, 8], "a": 0},
    )
    check(
        SinkReshape(),
        "g (float[N,M,8] x) => (float[N,M,1,2,4] y) <int64[4] s, int64[1] a> { r = Reshape(x, s)"
        " p = Softmax<axis = 3>(r) y = Unsqueeze(p, a) }",
        "g (float[N,M,8] x) => (float[N,M,1,2,4] y) { r = Reshape(x, s) y = Softmax<axis = -1>(r) }",
        constants={"s": [0, 0, 2, 4], "a": 2},
    )


DROPPED = "g (float[{}] x) => (float[{}] y) <int64[4] s, int64[2] a> {{ r = Reshape(x, s) y = {}<keepdims=0>({}, a) }}"


@pytest.mark.parametrize(
    ("stored", "main", "axes", "out", "found"),
    [
        ("N,1,5,8", [-1, 5, 1, 8], [2, 3], "N,5", [-3, -1]),
        ("N,5,8", [-1, 5, 1, 8], [-2, -1], "N,5", [-1]),
        ("N,5,8", [-1, 5, 1, 8], [1, 3], "N,1", None),
        ("1,5,8", [5, 1, 8, 1], [0, 3], "1,8", [-2]),
        ("5,1,1,8", [1, 5, 8, 1], [0, 2], "5,1", [-2, -1]),
    ],
)
def test_a_reduction_that_drops_its_axes(
    stored: str, main: list[int], axes: list[int], out: str, found: list[int] | None
) -> None:
    before = DROPPED.format(stored, out, "ReduceMax", "r")
    constants = {"s": main, "a": axes}
    if found is None:
        check(SinkReshape(), before, None, constants=constants)
        return
    after = f"g (float[{stored}] x) => (float[{out}] y) <int64[{len(found)}] b> {{ y = ReduceMax<keepdims=0>(x, b) }}"
    module = check(SinkReshape(), before, after, constants=constants)
    (value,) = module.graph.initializers.values()
    assert value.const_value is not None
    assert value.const_value.numpy().tolist() == found


def test_a_reduction_of_axes_of_size_1_alone_reduces_some_axis() -> None:
    before = DROPPED.format("5,8", "5,8", "ReduceL1", "r")
    check(SinkReshape(), before, None, constants={"s": [1, 5, 1, 8], "a": [0, 2]})


def test_a_reduction_that_drops_axes_of_a_joined_one_stays() -> None:
    before = DROPPED.format("2,3,8", "6", "ReduceMax", "r")
    check(SinkReshape(), before, None, constants={"s": [6, 2, 2, 2], "a": [2, 3]})


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "an operand that broadcasts over the joined axes": (
        f"g (float[2,3,8] x, float[6,1] b) => (float[2,3,8] y) {BACK}> {{ r = Reshape(x, s) p = Add(r, b)"
        " y = Reshape(p, t) }",
        FLAT,
    ),
    "a constant over joined axes of unknown size": (
        "g (float[N,6] x) => (float[N,6] y) <int64[2] s, int64[2] t, float[3] b> { r = Reshape(x, s) p = Add(r, b)"
        " y = Reshape(p, t) }",
        {"s": [-1, 3], "t": [-1, 6]},
    ),
    "a large constant over the joined axes": (
        "g (float[65,64,2] x) => (float[65,64,2] y) <int64[2] s, int64[3] t, float[4160,1] b> { r = Reshape(x, s)"
        " p = Add(r, b) y = Reshape(p, t) }",
        {"s": [4160, 2], "t": [65, 64, 2]},
    ),
    "a Softmax along a joined axis": (
        f"g (float[2,3,8] x) => (float[2,3,8] y) {BACK}> {{ r = Reshape(x, s) p = Softmax<axis=0>(r)"
        " y = Reshape(p, t) }",
        FLAT,
    ),
    "a Concat along a joined axis": (
        f"g (float[2,3,8] x) => (float[4,3,8] y) {BACK}> {{ r = Reshape(x, s) p = Concat<axis=0>(r, r)"
        " y = Reshape(p, t) }",
        {"s": [6, 8], "t": [4, 3, 8]},
    ),
    "a reduction along a joined axis": (
        f"g (float[2,3,8] x) => (float[1,8,1] y) {BACK}, int64[1] a> {{ r = Reshape(x, s)"
        " p = ReduceSum<keepdims=1>(r, a) y = Reshape(p, t) }",
        {"s": [6, 8], "t": [1, 8, 1], "a": 0},
    ),
    "a Transpose of a joined axis": (
        f"g (float[2,3,8] x) => (float[4,2,6] y) {BACK}> {{ r = Reshape(x, s) p = Transpose<perm=[1,0]>(r)"
        " y = Reshape(p, t) }",
        {"s": [6, 8], "t": [4, 2, 6]},
    ),
    "a Reshape in front that others need": (
        f"g (float[2,3,8] x) => (float[1,6,8] y, float[6,8] z) {BACK}> {{ r = Reshape(x, s) p = Relu(r)"
        " y = Reshape(p, t) z = Exp(r) }",
        {"s": [6, 8], "t": [1, 6, 8]},
    ),
    "a Reshape in front that is an output": (
        f"g (float[2,3,8] x) => (float[1,6,8] y, float[6,8] r) {BACK}> {{ r = Reshape(x, s) p = Relu(r)"
        " y = Reshape(p, t) }",
        {"s": [6, 8], "t": [1, 6, 8]},
    ),
    "a Reshape in front that cannot give the other shape": (
        "g (float[N,M,8] x) => (float[N,1,M,2,4] y) <int64[4] s, int64[5] t> { r = Reshape(x, s) p = Relu(r)"
        " y = Reshape(p, t) }",
        {"s": [0, 0, 2, 4], "t": [0, 1, -1, 2, 4]},
    ),
    "an operator with axes of fixed meaning": (
        f"g (float[2,3,8] x) => (float[2,3,8] y) {BACK}> {{ r = Reshape(x, s) p = CumSum(r, a)"
        " y = Reshape(p, t) }".replace("<int64[2] s", "<int64 a, int64[2] s"),
        {**FLAT, "a": 0},
    ),
    "one Reshape that nothing meets": (
        f"g (float[2,3,8] x) => (float[6,8] y) {BACK}> {{ r = Reshape(x, s) y = Relu(r) }}",
        FLAT,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    text, constants = REFUSED[name]
    check(SinkReshape(), text, None, constants=constants)


def test_a_constant_is_reshaped_at_run_time_where_a_size_is_a_symbol() -> None:
    head = "g (float[2,S,8] x) => (float[2,3,8] y) <int64[1] s, int64[3] t, float[48] b>"
    check(
        SinkReshape(),
        f"{head} {{ r = Reshape(x, s) p = Add(r, b) y = Reshape(p, t) }}",
        "g (float[2,S,8] x) => (float[2,3,8] y) { r = Reshape(c, d) a = Add(x, r) y = Reshape(a, e) }",
        constants={"s": 48, "t": [2, 3, 8]},
        sizes={"S": 3},
    )


def test_a_reshape_of_a_constant_to_another_number_of_elements_stays() -> None:
    text = """g (float[2,3,8] x) => (float[2,3,8] y) <int64[2] s, int64[3] t, float[8] g, float[1,8] h> {
        r = Reshape(x, s) b = LayerNormalization(g, h) y = Reshape(b, t) }"""
    check(SinkReshape(), text, None, constants={"s": [6, 8], "t": [2, 3, 8]})
