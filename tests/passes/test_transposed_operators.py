"""sink-transpose and sink-reshape cross every operator of their tables, one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes._permutations import NARY, UNARY
from fcc.passes.sink_reshape import SinkReshape
from fcc.passes.sink_transpose import SinkTranspose
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

KINDS = {
    **dict.fromkeys(("And", "Or", "Xor", "Not"), "bool"),
    **dict.fromkeys(("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), "uint8"),
}
ATTRIBUTES = {"BitShift": '<direction="LEFT">', "Cast": "<to=11>"}
RESULTS = {
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"), "bool"),
    "Cast": "double",
}
TO, BACK = "Transpose<perm=[0,2,3,1]>", "Transpose<perm=[0,3,1,2]>"


def elementwise(op: str, p: Pass) -> list[str]:
    kind, attributes = KINDS.get(op, "float"), ATTRIBUTES.get(op, "")
    moves = (TO, BACK) if p.name == "sink-transpose" else ("Reshape", "Reshape")
    more = ("", "") if p.name == "sink-transpose" else (", s", ", t")
    body = f"a = {moves[0]}(x{more[0]}) d = {moves[0]}(z{more[0]}) "
    body += f"b = {op}{attributes}({'a' if op in UNARY else 'q, a, d' if op == 'Where' else 'a, d'}) y = {moves[1]}(b{more[1]})"
    out = RESULTS.get(op, kind)
    where = f", bool[{'2,4,5,3' if p.name == 'sink-transpose' else '6,20'}] q" if op == "Where" else ""
    text = (
        f"g ({kind}[2,3,4,5] x, {kind}[2,3,4,5] z{where}) => ({out}[2,3,4,5] y) "
        f"<int64[2] s = {{6, 20}}, int64[4] t = {{2, 3, 4, 5}}> {{ {body} }}"
    )
    module = read(model_from(text, opset=22))
    shapes.infer(module)
    run_pass(p, module, PassContext(get_target("cpu"), Log(strict=True)))
    return sorted(n.op_type for n in module.graph if n.outputs[0].uses() or n.outputs[0].is_graph_output())


@pytest.mark.parametrize("op", [op for op in (*UNARY, *NARY) if op != "Where"])
@pytest.mark.parametrize("p", [SinkTranspose(), SinkReshape()], ids=str)
def test_elementwise(p: Pass, op: str) -> None:
    assert elementwise(op, p) == [op]


def test_where_takes_a_third_operand_along() -> None:
    assert elementwise("Where", SinkTranspose()) == ["Transpose", "Where"]
    assert elementwise("Where", SinkReshape()) == ["Reshape", "Where"]


IO = "g (float[N,3,4,5] x) => (float[{out}] y)"
A = f"a = {TO}(x)"  # [N,4,5,3]
WHOLE = "N,3,4,5"
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    # what is computed from a; its result; what is left; constants
    "reduce, keeping": (f"b = ReduceMax(a, i) y = {BACK}(b)", "N,1,4,5", "y = ReduceMax(x, c)", {"i": [3]}),
    "reduce from the end": (f"b = ReduceMax(a, i) y = {BACK}(b)", "N,3,4,1", "y = ReduceMax(x, c)", {"i": [-2]}),
    "reduce, dropping": ("y = ReduceSum<keepdims=0>(a, i)", "N,4,5", "y = ReduceSum<keepdims=0>(x, c)", {"i": [3]}),
    "reduce all": ("y = ReduceMin<keepdims=0>(a)", "", "y = ReduceMin<keepdims=0>(x)", {}),
    "reduce two": ("y = ReduceMean<keepdims=0>(a, i)", "N,3", "y = ReduceMean<keepdims=0>(x, c)", {"i": [1, 2]}),
    "arg": ("y = ArgMax<axis=3,keepdims=0>(a)", "N,4,5", "y = ArgMax<axis=1,keepdims=0>(x)", {}),
    "arg, keeping": (f"b = ArgMin<axis=-1>(a) y = {BACK}(b)", "N,1,4,5", "y = ArgMin<axis=1>(x)", {}),
    "tile": (f"b = Tile(a, i) y = {BACK}(b)", "N,9,4,10", "y = Tile(x, c)", {"i": [1, 1, 2, 3]}),
    "pad": (f"b = Pad(a, i) y = {BACK}(b)", "N,6,5,7", "y = Pad(x, c)", {"i": [0, 1, 0, 3, 0, 0, 2, 0]}),
    "pad some": (f"b = Pad(a, i, , j) y = {BACK}(b)", "N,4,7,5", "y = Pad(x, i, , c)", {"i": [1, 2, 0, 1], "j": [-1, 1]}),
    "slice": (f"b = Slice(a, i, j, k) y = {BACK}(b)", "N,2,4,5", "y = Slice(x, i, j, c)", {"i": [1], "j": [3], "k": [-1]}),
    "slice in order": (f"b = Slice(a, i, j) y = {BACK}(b)", "N,3,2,5", "y = Slice(x, i, j, c)", {"i": [0, 1], "j": [99, 3]}),
    "pick": ("y = Gather<axis=3>(a, m)", "N,4,5", "y = Gather<axis=1>(x, m)", {"m": 2}),
    "pick from the end": ("y = Gather<axis=-1>(a, m)", "N,4,5", "y = Gather<axis=1>(x, m)", {"m": 1}),
    "gather": (f"b = Gather<axis=3>(a, i) y = {BACK}(b)", "N,2,4,5", "y = Gather<axis=1>(x, i)", {"i": [2, 0]}),
    "softmax": (f"b = Softmax<axis=1>(a) y = {BACK}(b)", WHOLE, "y = Softmax<axis=2>(x)", {}),
    "softmax from the end": (f"b = Softmax<axis=-3>(a) y = {BACK}(b)", WHOLE, "y = Softmax<axis=2>(x)", {}),
    "unsqueeze": ("b = Unsqueeze(a, i) y = Transpose<perm=[0,4,2,1,3]>(b)", "N,3,1,4,5", "y = Unsqueeze(x, i)", {"i": [2]}),
    "cumulate": (f"b = CumSum(a, m) y = {BACK}(b)", WHOLE, "", {"m": 1}),
}  # fmt: skip


def declared(constants: dict[str, Any]) -> str:
    rows = [f"int64{f'[{len(v)}]' if isinstance(v, list) else ''} {k}" for k, v in constants.items()]
    return f"<{', '.join(rows)}>" if rows else ""


@pytest.mark.parametrize("name", CASES)
def test_operators_with_axes(name: str) -> None:
    body, out, after, constants = CASES[name]
    io = IO.format(out=out).replace("(float[", "(int64[" if "Arg" in body else "(float[")
    io = io.replace("g (int64", "g (float")
    check(
        SinkTranspose(),
        f"{io} {declared(constants)} {{ {A} {body} }}",
        f"{io} {{ {after} }}" if after else None,
        constants=constants,
    )


TWO = "g (float[N,3,4,5] x, float[{z}] z) => (float[{out}] y{more})"
PAIRS: dict[str, tuple[str, str, str]] = {
    "concat": (f"d = {TO}(z) b = Concat<axis=3>(a, d) y = {BACK}(b)", "N,6,4,5", "y = Concat<axis=1>(x, z)"),
    "concat from the end": (f"d = {TO}(z) b = Concat<axis=-3>(a, d) y = {BACK}(b)", "N,3,8,5", "y = Concat<axis=2>(x, z)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_operators_with_two_operands(name: str) -> None:
    body, out, after = PAIRS[name]
    io = TWO.format(z=WHOLE, out=out, more="")
    check(SinkTranspose(), f"{io} {{ {A} {body} }}", f"{io} {{ {after} }}")


def test_split() -> None:
    io = "g (float[N,3,4,5] x) => (float[N,1,4,5] y, float[N,2,4,5] z)"
    check(
        SinkTranspose(),
        f"{io} <int64[2] s> {{ {A} b, d = Split<axis=3>(a, s) y = {BACK}(b) z = {BACK}(d) }}",
        f"{io} {{ y, z = Split<axis=1>(x, s) }}",
        constants={"s": [1, 2]},
    )


def test_squeeze() -> None:
    io = "g (float[N,1,4,5] x) => (float[N,4,5] y)"
    check(
        SinkTranspose(),
        f"{io} <int64[1] i> {{ {A} y = Squeeze(a, i) }}",
        f"{io} {{ y = Squeeze(x, c) }}",
        constants={"i": -1},
    )


SWAP = "Transpose<perm=[1,0,2,3]>"


@pytest.mark.parametrize(
    ("x", "z", "out", "moves", "body", "after"),
    [
        ("A,3,4,5", "A,3,5,2", "A,3,4,2", SWAP, "d = {m}(z) b = MatMul(a, d)", "y = MatMul(x, z)"),
        ("A,3,5", "5,2", "A,3,2", "Transpose<perm=[1,0,2]>", "b = MatMul(a, z)", "y = MatMul(x, z)"),
        ("A,3,5", "5", "A,3,5", "Transpose<perm=[1,0,2]>", "b = LayerNormalization(a, z)", "y = LayerNormalization(x, z)"),
        ("A,3,5", "5", "A,3,5", "Transpose<perm=[1,0,2]>", "b = LayerNormalization<axis=2>(a, z)", "y = LayerNormalization<axis=2>(x, z)"),
        ("A,3,5", "5", "A,3,5", "Transpose<perm=[1,0,2]>", "b = Softmax(a)", "y = Softmax<axis=2>(x)"),
    ],
)  # fmt: skip
def test_last_axes(x: str, z: str, out: str, moves: str, body: str, after: str) -> None:
    io = f"g (float[{x}] x, float[{z}] z) => (float[{out}] y)"
    check(
        SinkTranspose(),
        f"{io} {{ a = {moves}(x) {body.format(m=moves)} y = {moves}(b) }}",
        f"{io} {{ {after} }}",
    )


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ("b = MatMul(a, w) y = Transpose<perm=[0,2,1]>(b)", "N,3,4"),  # the axis that is multiplied
        ("b = LayerNormalization(a, v) y = Transpose<perm=[0,2,1]>(b)", "N,3,4"),  # the normalized axis
        ("b = Softmax<axis=2>(a) y = Transpose<perm=[0,2,1]>(b)", "N,3,4"),  # the innermost axis
        ("b = ReduceSum<keepdims=1>(a, k) y = Transpose<perm=[0,2,1]>(b)", "N,3,1"),  # computed axes
        ("b = Tile(a, r) y = Transpose<perm=[0,2,1]>(b)", "N,P,Q"),  # computed repeats
        ("b = Gather<axis=1>(a, m) y = Transpose<perm=[0,3,1,2]>(b)", "N,3,2,2"),  # indices of two axes
        ("b = Add(a, u) y = Transpose<perm=[0,2,1]>(b)", "N,3,4"),  # a computed operand of a lower rank
    ],
)
def test_what_is_not_crossed(body: str, out: str) -> None:
    text = (
        f"g (float[N,3,4] x, int64[1] k, int64[3] r, float[3] u) => (float[{out}] y) "
        f"<float[3,3] w, float[3] v, int64[2,2] m> {{ a = Transpose<perm=[0,2,1]>(x) {body} }}"
    )
    check(SinkTranspose(), text, None)


VIEW = "g (float[2,3,8] x, float[2,3,8] z) => (float[{out}] y{more})"
VIEWS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    # what is computed from r [6, 8]; the result; what is left; constants
    "layer norm": ("b = LayerNormalization(r, g) y = Reshape(b, t)", "2,3,8", "y = LayerNormalization<axis=-1>(x, g)", {}),
    "layer norm by number": ("b = LayerNormalization<axis=1>(r, g) y = Reshape(b, t)", "2,3,8", "y = LayerNormalization<axis=-1>(x, g)", {}),
    "softmax": ("b = Softmax(r) y = Reshape(b, t)", "2,3,8", "y = Softmax<axis=-1>(x)", {}),
    "softmax by number": ("b = Softmax<axis=1>(r) y = Reshape(b, t)", "2,3,8", "y = Softmax<axis=-1>(x)", {}),
    "reduce": ("b = ReduceMean(r, i) y = Reshape(b, t)", "2,3,1", "y = ReduceMean(x, c)", {"i": -1, "t": [2, 3, 1]}),
    "reduce by number": ("b = ReduceMean(r, i) y = Reshape(b, t)", "2,3,1", "y = ReduceMean(x, c)", {"i": 1, "t": [2, 3, 1]}),
    "matmul": ("b = MatMul(r, w) y = Reshape(b, t)", "2,3,5", "y = MatMul(x, w)", {"t": [2, 3, 5]}),
    "concat": ("q = Reshape(z, s) b = Concat<axis=1>(r, q) y = Reshape(b, t)", "2,3,16", "y = Concat<axis=-1>(x, z)", {"t": [2, 3, 16]}),
    "a row": ("b = Mul(r, g) y = Reshape(b, t)", "2,3,8", "y = Mul(x, g)", {}),
    "a row of a matrix": ("b = Mul(r, h) y = Reshape(b, t)", "2,3,8", "y = Mul(x, c)", {}),
    "a column": ("b = Mul(r, k) y = Reshape(b, t)", "2,3,8", "y = Mul(x, c)", {}),
    "reduce the joined axis": ("b = ReduceMean(r, i) y = Reshape(b, t)", "1,1,8", "q = Reshape(x, c) y = ReduceMean(q, d)", {"i": 0, "t": [1, 1, 8]}),
    "a number": ("b = Mul(r, f) y = Reshape(b, t)", "2,3,8", "y = Mul(x, f)", {}),
}  # fmt: skip
KEPT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "softmax along the joined axis": ("b = Softmax<axis=0>(r) y = Reshape(b, t)", "2,3,8", {}),
    "layer norm of both": ("b = LayerNormalization<axis=0>(r, v) y = Reshape(b, t)", "2,3,8", {}),
    "reduce all": ("b = ReduceMean(r) y = Reshape(b, t)", "1,1,1", {"t": [1, 1, 1]}),
    "reduce and drop": ("b = ReduceMean<keepdims=0>(r, i) y = Reshape(b, t)", "2,3", {"i": 1, "t": [2, 3]}),
    "concat along the joined axis": ("q = Reshape(z, s) b = Concat<axis=0>(r, q) y = Reshape(b, t)", "4,3,8", {"t": [4, 3, 8]}),
    "repeated rows": ("b = Mul(r, p) y = Reshape(b, t)", "2,1,3,8", {"t": [2, 1, 3, 8]}),
}  # fmt: skip
HELD = "int64[2] s, int64[{n}] t, int64[1] i, float[8] g, float[1,8] h, float f, float[8,5] w, float[6,8] v, float[6,6] o, float[6,1] k, float[2,6,8] p"


def view(body: str, out: str, constants: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {"s": [6, 8], "t": [2, 3, 8], "i": 0, **constants}
    io = VIEW.format(out=out, more="")
    return f"{io} <{HELD.format(n=len(given['t']))}> {{ r = Reshape(x, s) {body} }}", given


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str) -> None:
    body, out, after, constants = VIEWS[name]
    text, given = view(body, out, constants)
    check(SinkReshape(), text, f"{VIEW.format(out=out, more='')} {{ {after} }}", constants=given)


@pytest.mark.parametrize("name", KEPT)
def test_views_that_stay(name: str) -> None:
    body, out, constants = KEPT[name]
    if name == "repeated rows":
        out, constants = "2,2,3,8", {"t": [2, 2, 3, 8]}
    text, given = view(body, out, constants)
    check(SinkReshape(), text, None, constants=given)


def test_a_split_of_a_view() -> None:
    io = "g (float[2,3,8] x) => (float[2,3,3] y, float[2,3,5] z)"
    check(
        SinkReshape(),
        f"{io} <int64[2] s, int64[3] t, int64[3] u, int64[2] k> "
        "{ r = Reshape(x, s) b, d = Split<axis=1>(r, k) y = Reshape(b, t) z = Reshape(d, u) }",
        f"{io} {{ y, z = Split<axis=-1>(x, k) }}",
        constants={"s": [6, 8], "t": [2, 3, 3], "u": [2, 3, 5], "k": [3, 5]},
    )


def test_a_transpose_to_another_order_is_turned() -> None:
    io = "g (float[N,3,4] x, float[N,4,3] z) => (float[3,N,4] y)"
    check(
        SinkTranspose(),
        f"{io} {{ a = Transpose<perm=[0,2,1]>(x) b = Relu(a) y = Transpose<perm=[2,0,1]>(b) }}",
        f"{io} {{ b = Relu(x) y = Transpose<perm=[1,0,2]>(b) }}",
    )


@pytest.mark.parametrize(
    ("body", "out", "more"),
    [
        ("b = Slice(a, i, j, k) y = {t}(b)", "P,Q,R", ", int64[1] k"),
        ("b = Pad(a, k6) y = {t}(b)", "P,Q,R", ", int64[6] k6"),
        ("b = Pad(a, j2, , k) y = {t}(b)", "P,Q,R", ", int64[1] k"),
        ("b = Unsqueeze(a, k) y = Transpose<perm=[0,1,3,2]>(b)", "P,Q,R,S", ", int64[1] k"),
        ("y = Squeeze(a)", "3,4", ""),
        ("y = Squeeze(a, k)", "3,4", ", int64[1] k"),
        ("b, m = LayerNormalization(a, v) y = {t}(b) u = Relu(m)", "1,3,4", ""),
        ("b = ReduceSum<noop_with_empty_axes=1>(a) y = {t}(b)", "1,3,4", ""),
        ("b = QuantizeLinear<axis=1>(a, v4) y = {t}(b)", "1,3,4", ""),
    ],
)
def test_operands_that_are_not_known(body: str, out: str, more: str) -> None:
    kind = "uint8" if "Quantize" in body else "float"
    head = f"g (float[1,3,4] x{more}) => ({kind}[{out}] y" + (", float[1,4,1] u" if "u =" in body else "") + ")"
    text = (
        f"{head} <float[3] v, float[4] v4, int64[1] i, int64[1] j, int64[2] j2> "
        f"{{ a = Transpose<perm=[0,2,1]>(x) {body.format(t='Transpose<perm=[0,2,1]>')} }}"
    )
    check(SinkTranspose(), text, None, constants={"i": 0, "j": 1, "j2": [0, 1]})


def test_axes_as_attributes() -> None:
    io = "g (float[N,3,4,5] x) => (float[N,1,4,5] y)"
    check(
        SinkTranspose(),
        f"{io} {{ {A} b = ReduceMax<axes=[3]>(a) y = {BACK}(b) }}",
        f"{io} {{ y = ReduceMax<axes=[1]>(x) }}",
        opset=13,
    )


@pytest.mark.parametrize("scale", ["float", "float[1]"])
def test_quantization_per_tensor(scale: str) -> None:
    io = "g (float[1,3,4] x) => (float[1,3,4] y)"
    move = "Transpose<perm=[0,2,1]>"
    check(
        SinkTranspose(),
        f"{io} <{scale} s> {{ a = {move}(x) q = QuantizeLinear(a, s) d = DequantizeLinear(q, s) y = {move}(d) }}",
        f"{io} {{ q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }}" if scale == "float" else None,
        constants={"s": 0.5},
    )
