from typing import Any

import numpy as np
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.evaluate import evaluate, symbolic
from fcc.analysis.shape_rules import broadcast, capped, reaches_end
from fcc.ir.text import parse

N = ir.Dim.symbol("N")


def node(text: str, opset: int = 21) -> ir.Node:
    module = parse(
        f'<ir_version: 10, opset_import: ["" : {opset}]>\ng (int64[A] a, int64[B] b) => (int64[C] c) {{ {text} }}'
    )
    shapes.infer(module)
    return next(iter(module.graph))


def objects(*items: Any) -> np.ndarray[Any, Any]:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


def result(text: str, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> list[Any] | None:
    found = symbolic(node(text), [a, b])
    return None if found is None else found.tolist()


def test_division_truncates_toward_zero_in_object_arrays() -> None:
    assert result("c = Div(a, b)", objects(-3, 3), np.array([2, -2])) == [-1, -1]


def test_division_of_a_symbol_that_may_be_negative_is_unknown() -> None:
    assert result("c = Div(a, b)", objects(N - 5), np.array([2])) is None
    assert result("c = Div(a, b)", objects(N * 4), np.array([2])) == [N * 2]


def test_division_by_zero_is_unknown() -> None:
    assert result("c = Div(a, b)", objects(3), np.array([0])) is None


@pytest.mark.parametrize(
    ("op", "a", "b", "expected"),
    [
        ("Equal", N - 5, -1, None),
        ("Equal", N, -1, [False]),
        ("Equal", N, 0, None),
        ("Equal", N + 1, 0, [False]),
        ("Equal", N + 1, N, [False]),
        ("Equal", N, N, [True]),
        ("Less", N, 0, [False]),
        ("Less", N, 1, None),
        ("Less", -1, N, [True]),
        ("LessOrEqual", N, N, [True]),
        ("Greater", N + 1, N, [True]),
        ("Greater", 0, N, [False]),
        ("GreaterOrEqual", N, 0, [True]),
    ],
)
def test_comparisons_answer_only_what_holds_for_every_size(op: str, a: Any, b: Any, expected: Any) -> None:
    found = symbolic(_compare(op), [objects(a), objects(b)])
    assert (None if found is None else found.tolist()) == expected


def _compare(op: str) -> ir.Node:
    module = parse(f"g (int64[A] a, int64[B] b) => (bool[C] c) {{ c = {op}(a, b) }}")
    return next(iter(module.graph))


def test_extremes_of_symbols_need_an_order() -> None:
    assert result("c = Max(a, b)", objects(N, N), objects(0, N + 2)) == [N, N + 2]
    assert result("c = Min(a, b)", objects(N, N), objects(0, N + 2)) == [0, N]
    assert result("c = Max(a, b)", objects(N), objects(1)) is None


def test_modulo_of_a_symbol() -> None:
    assert result("c = Mod(a, b)", objects(N * 4, 7), np.array([2, 4])) == [0, 3]
    assert result("c = Mod(a, b)", objects(N - 1), np.array([2])) is None


def test_axes_may_be_an_attribute() -> None:
    found = evaluate(node("c = Unsqueeze<axes=[0]>(a)", opset=11), [np.array([1, 2])], 11)
    assert found is not None
    assert found[0].shape == (1, 2)


def test_overflow_raises_no_warning_and_wraps() -> None:
    found = evaluate(node("c = Mul(a, b)"), [np.array([2**62]), np.array([4])], 21)
    assert found is not None
    assert found[0].tolist() == [0]


def test_elements_that_leave_the_type_are_unknown() -> None:
    module = parse(f"g (float[{2**40},{2**40}] x) => (int64 c) {{ c = Size(x) }}")
    shapes.infer(module)
    assert shapes.elements(module.graph.outputs[0]) is None


def test_an_overridable_initializer_keeps_its_declared_shape() -> None:
    module = parse("g (float[N] x, float[M] w) => (int64[1] s) <float[2] w = {1, 2}> { s = Shape(w) }")
    shapes.infer(module)
    found = shapes.elements(module.graph.outputs[0])
    assert found is not None
    assert found.tolist() == [ir.Dim.symbol("M")]


def test_inference_keeps_what_was_known_of_an_axis() -> None:
    module = parse("g (float[A,B] x, bool[A] k) => (float[3,B] y) { y = Compress<axis=0>(x, k) }")
    shapes.infer(module)
    assert ir.dims_of(module.graph.outputs[0]) == (3, ir.Dim.symbol("B"))


def test_gather_elements_takes_fewer_rows_than_the_data_has() -> None:
    module = parse("g (int64[3,70] a, int64[2,80] b) => (int64[2,80] c) { c = GatherElements<axis=-1>(a, b) }")
    data, index = np.arange(210).reshape(3, 70), np.arange(160).reshape(2, 80) % 70 - 3
    found = evaluate(next(iter(module.graph)), [data, index], 21)
    assert found is not None
    assert np.array_equal(found[0], [[data[i, index[i, j]] for j in range(80)] for i in range(2)])


@pytest.mark.parametrize(("reverse", "expected"), [(0, [1, 3, 6]), (1, [6, 5, 3])])
def test_cumulative_sum(reverse: int, expected: list[int]) -> None:
    module = parse(f"g (int64[3] a, int64 b) => (int64[3] c) {{ c = CumSum<reverse={reverse}>(a, b) }}")
    found = evaluate(next(iter(module.graph)), [np.array([1, 2, 3]), np.array(-1)], 21)
    assert found is not None
    assert found[0].tolist() == expected


def test_gather_nd() -> None:
    module = parse("g (int64[2,3] a, int64[2,1] b) => (int64[2,3] c) { c = GatherND(a, b) }")
    data = np.arange(6).reshape(2, 3)
    rows = evaluate(next(iter(module.graph)), [data, np.array([[1], [-2]])], 21)
    cells = evaluate(next(iter(module.graph)), [data, np.array([[1, 2], [0, 1]])], 21)
    assert rows is not None
    assert cells is not None
    assert rows[0].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert cells[0].tolist() == [5, 1]
    with pytest.raises(ValueError, match="out of range"):
        evaluate(next(iter(module.graph)), [data, np.array([[2], [0]])], 21)


@pytest.mark.parametrize(
    ("end", "dims", "expected"),
    [
        (4, (4, N), True),
        (3, (4, N), False),
        (10**9, (N, 512, 256), True),
        (10**9, (N, 4), False),
        (2**31 - 1, (N,), True),
        (N, (N,), True),
        (N + 1, (N,), True),
        (N - 1, (N,), False),
        (None, (N,), False),
    ],
)
def test_an_index_that_reaches_the_end(end: Any, dims: Any, expected: bool) -> None:
    assert reaches_end(end, dims, 0) is expected


def test_a_mask_cut_to_the_length_broadcasts_to_the_length() -> None:
    module = parse(
        """g (float[B,T,T] x, bool[1,64,64] mask) => (float[C,D,E] y) <
            int64[1] o = {0}, int64[1] one = {1}, int64[1] two = {2}, float z = {0}> {
            t = Shape<start=1, end=2>(x) r = Slice(mask, o, t, one) c = Slice(r, o, t, two) y = Where(c, x, z) }"""
    )
    shapes.infer(module)
    length = ir.Dim.symbol("T")
    assert ir.dims_of(module.graph.outputs[0]) == (ir.Dim.symbol("B"), length, length)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (N, capped(64, N), N),
        (capped(64, N), N, N),
        (N, capped(64, N * 2), None),
        (N * 2 + 1, capped(64, N * 2 + 1), N * 2 + 1),
        (capped(64, N), capped(32, N), None),
        (N, ir.Dim.symbol("M"), None),
        (4, N, 4),
        (1, N, N),
        (0, N, None),
    ],
)
def test_broadcast_of_symbols(a: Any, b: Any, expected: Any) -> None:
    assert broadcast((a,), (b,)) == (expected,)
