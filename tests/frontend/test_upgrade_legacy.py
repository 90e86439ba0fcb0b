"""Opset 1 to 6: every adapter, against what the older operator is defined to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import defs, parser
from onnx.reference import ReferenceEvaluator
from onnx_ir import to_proto

from fcc.errors import LoadError
from fcc.frontend import read
from fcc.frontend.adapters import ADAPTERS
from fcc.frontend.compatible import incompatibility, versions_between

F = np.float32
X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(F)
B = np.array([1.0, -2.0, 0.5], F)


def model(text: str, opset: int) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 3, opset_import: ["" : {opset}]> g {text}')


def ran(text: str, opset: int, feeds: dict[str, Any], at: int = 13) -> list[Any]:
    """Return what the raised model gives, by onnx's own evaluator."""
    module = read(model(text, opset))
    assert module.opset() == at, module.notes
    proto = to_proto(module.model)
    onnx.checker.check_model(proto, full_check=True)
    return list(ReferenceEvaluator(proto).run(None, feeds))


@pytest.mark.parametrize(
    ("op", "expected"),
    [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)],
)
@pytest.mark.parametrize("opset", [1, 6])
def test_broadcasting_aligns_with_the_axis(op: str, expected: Any, opset: int) -> None:
    hint = ", consumed_inputs=[0,0]" if opset < 6 else ""
    for axis in (1, -2):
        text = f"(float[2,3,4] x, float[3] b) => (float[2,3,4] y) {{ y = {op}<broadcast=1, axis={axis}{hint}>(x, b) }}"
        np.testing.assert_array_equal(ran(text, opset, {"x": X, "b": B})[0], expected(X, B[:, None]))


def test_an_axis_may_leave_several_behind_or_none() -> None:
    text = "(float[2,3,4] x, float[2] b) => (float[2,3,4] y) { y = Add<broadcast=1, axis=0>(x, b) }"
    np.testing.assert_array_equal(ran(text, 6, {"x": X, "b": B[:2]})[0], X + B[:2, None, None])
    text = "(float[2,3,4] x, float[3,4] b) => (float[2,3,4] y) { y = Add<broadcast=1, axis=1>(x, b) }"
    np.testing.assert_array_equal(ran(text, 6, {"x": X, "b": X[1]})[0], X + X[1])


def test_without_an_axis_the_last_ones_are_aligned() -> None:
    text = "(float[2,3,4] x, float[4] b) => (float[2,3,4] y) { y = Sub<broadcast=1>(x, b) }"
    np.testing.assert_array_equal(ran(text, 6, {"x": X, "b": X[0, 0]})[0], X - X[0, 0])


def test_an_axis_without_broadcasting_says_nothing() -> None:
    text = "(float[3] x, float[3] b) => (float[3] y) { y = Add<axis=0>(x, b) }"
    np.testing.assert_array_equal(ran(text, 6, {"x": B, "b": B})[0], B + B)


@pytest.mark.parametrize(
    ("op", "kind", "result", "expected"),
    [
        ("Greater", "float", "bool", np.greater),
        ("Less", "float", "bool", np.less),
        ("Pow", "float", "float", lambda a, b: np.power(np.abs(a), b)),
        ("And", "bool", "bool", np.logical_and),
        ("Or", "bool", "bool", np.logical_or),
        ("Xor", "bool", "bool", np.logical_xor),
        ("Equal", "int32", "bool", np.equal),
    ],
)
def test_comparisons_and_logic_broadcast_alike(op: str, kind: str, result: str, expected: Any) -> None:
    dtype = {"float": F, "bool": np.bool_, "int32": np.int32}[kind]
    x: Any = np.abs(X).astype(dtype)
    b: Any = B > 0 if kind == "bool" else B.astype(dtype)
    text = f"({kind}[2,3,4] x, {kind}[3] b) => ({result}[2,3,4] y) {{ y = {op}<broadcast=1, axis=1>(x, b) }}"
    np.testing.assert_allclose(ran(text, 4, {"x": x, "b": b})[0], expected(x, b[:, None]), rtol=1e-6)


def test_slopes_are_one_per_channel_or_one_for_all() -> None:
    text = "(float[2,3,4] x, float[{n}] s) => (float[2,3,4] y) {{ y = PRelu(x, s) }}"
    expected = np.where(X > 0, X, X * B[:, None])
    np.testing.assert_array_equal(ran(text.format(n=3), 6, {"x": X, "s": B})[0], expected)
    np.testing.assert_array_equal(ran(text.format(n=1), 6, {"x": X, "s": B[:1]})[0], np.where(X > 0, X, X * B[0]))
    flat = "(float[2,3] x, float[3] s) => (float[2,3] y) { y = PRelu<consumed_inputs=[0,0]>(x, s) }"
    np.testing.assert_array_equal(ran(flat, 1, {"x": X[..., 0], "s": B})[0], expected[..., 0])


HINTED = "Abs Ceil Elu Exp Floor HardSigmoid LeakyRelu Neg Reciprocal Relu Sigmoid Tanh"


@pytest.mark.parametrize("op", HINTED.split())
def test_memory_hints_go(op: str) -> None:
    text = "(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}{hint}(x) }}"
    hinted = ran(text.format(op=op, hint="<consumed_inputs=[0]>"), 1, {"x": X})[0]
    np.testing.assert_array_equal(hinted, ran(text.format(op=op, hint=""), 13, {"x": X})[0])


@pytest.mark.parametrize("op", ["Max", "Mean", "Min", "Sum"])
def test_memory_hints_of_variadic_operators_go(op: str) -> None:
    text = f"(float[3] a, float[3] b) => (float[3] y) {{ y = {op}<consumed_inputs=[0,0]>(a, b) }}"
    expected = {"Max": np.maximum(B, B[::-1]), "Min": np.minimum(B, B[::-1])}
    expected |= {"Sum": B + B[::-1], "Mean": (B + B[::-1]) / 2}
    np.testing.assert_array_equal(ran(text, 1, {"a": B, "b": B[::-1].copy()})[0], expected[op])


ONE: dict[str, tuple[int, str, dict[str, Any], Any]] = {
    "cast": (1, '(float[3] x) => (int32[3] y) { y = Cast<to="INT32">(x) }', {"x": B}, B.astype(np.int32)),
    "cast-lower": (1, '(float[3] x) => (int64[3] y) { y = Cast<to="int64">(x) }', {"x": B}, B.astype(np.int64)),
    "clip": (1, "(float[3] x) => (float[3] y) { y = Clip<max=0.75, consumed_inputs=[0]>(x) }", {"x": B}, B.clip(None, 0.75)),
    "clip-6": (6, "(float[3] x) => (float[3] y) { y = Clip<min=-1.0>(x) }", {"x": B}, B.clip(-1)),
    "concat": (1, "(float[2,3] x) => (float[2,6] y) { y = Concat(x, x) }", {"x": X[..., 0]}, np.hstack([X[..., 0]] * 2)),
    "concat-axis": (
        1,
        "(float[2,3] x) => (float[4,3] y) { y = Concat<axis=0>(x, x) }",
        {"x": X[..., 0]},
        np.vstack([X[..., 0]] * 2),
    ),
    "dropout": (1, "(float[3] x) => (float[3] y) { y = Dropout<is_test=1, consumed_inputs=[0]>(x) }", {"x": B}, B),
    "dropout-6": (6, "(float[3] x) => (float[3] y) { y = Dropout<is_test=1>(x) }", {"x": B}, B),
    "pad": (1, "(float[3] x) => (float[6] y) { y = Pad<paddings=[1,2]>(x) }", {"x": B}, np.pad(B, (1, 2))),
    "reshape": (
        1,
        "(float[2,3,4] x) => (float[2,12] y) { y = Reshape<shape=[0,-1], consumed_inputs=[0]>(x) }",
        {"x": X},
        X.reshape(2, 12),
    ),
    "selu": (
        1,
        "(float[3] x) => (float[3] y) { y = Selu<consumed_inputs=[0]>(x) }",
        {"x": B},
        1.0506999492645264 * np.where(B > 0, B, 1.673200011253357 * np.expm1(B)),
    ),
    "selu-given": (
        1,
        "(float[3] x) => (float[3] y) { y = Selu<alpha=2.0, gamma=3.0>(x) }",
        {"x": B},
        3 * np.where(B > 0, B, 2 * np.expm1(B)),
    ),
    "gemm": (
        6,
        "(float[2,3] x, float[3,3] w, float[3] c) => (float[2,3] y) { y = Gemm<broadcast=1>(x, w, c) }",
        {"x": X[..., 0], "w": X[0, :, :3], "c": B},
        X[..., 0] @ X[0, :, :3] + B,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_one(name: str) -> None:
    opset, text, feeds, expected = ONE[name]
    np.testing.assert_allclose(ran(text, opset, feeds)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "body"),
    [
        ("", "a, b = Split<split=[1,2]>(x)"),
        ("", "a, b = Split<axis=0, split=[1,2]>(x)"),
        (" <float[2] s = {1, 2}>", "a, b = Split(x, s)"),
    ],
)
def test_split_is_along_the_first_axis(sizes: str, body: str) -> None:
    found = ran(f"(float[3] x) => (float[1] a, float[2] b){sizes} {{ {body} }}", 1, {"x": B})
    assert [f.tolist() for f in found] == [[1.0], [-2.0, 0.5]]


def test_batchnorm_in_test_mode() -> None:
    for opset, hint in ((1, ", consumed_inputs=[0,0,0,1,1]"), (6, "")):
        text = f"""(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y)
            {{ y = BatchNormalization<is_test=1, epsilon=0.25{hint}>(x, s, b, m, v) }}"""
        s, b, m, v = B, B + 1, B - 1, B * B
        session = ort.InferenceSession(to_proto(read(model(text, opset)).model).SerializeToString())
        found = session.run(None, {"x": X, "s": s, "b": b, "m": m, "v": v})[0]
        expected = (X - m[:, None]) / np.sqrt(v + 0.25)[:, None] * s[:, None] + b[:, None]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scales_of_upsample() -> None:
    text = "(float[1,1,2,2] x) => (float[1,1,4,6] y) { y = Upsample<height_scale=2.0, width_scale=3.0>(x) }"
    x = X[:1, :1, :4].reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(ran(text, 1, {"x": x})[0], x.repeat(2, 2).repeat(3, 3))


def test_lp_pool() -> None:
    text = "(float[2,3,4] x) => (float[2,3,3] y) { y = LpPool<p=1.0, kernel_shape=[2]>(x) }"
    module = read(model(text, 1))
    (node,) = module.nodes()
    assert (module.opset(), node.attributes.get_int("p")) == (13, 1)


def test_global_lp_pool() -> None:
    (node,) = read(model("(float[2,3,4] x) => (float[2,3,1] y) { y = GlobalLpPool<p=3.0>(x) }", 1)).nodes()
    assert node.attributes.get_int("p") == 3
    (node,) = read(model("(float[2,3,4] x) => (float[2,3,1] y) { y = GlobalLpPool(x) }", 1)).nodes()
    assert node.attributes.get_int("p") == 2


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrences_lose_the_flag_of_their_output(op: str, gates: int) -> None:
    extra = ", linear_before_reset=0" if op == "GRU" else ""
    text = f"""(float[2,1,3] x, float[1,{gates * 2},3] w, float[1,{gates * 2},2] r) => (float[2,1,1,2] y)
        {{ y = {op}<hidden_size=2, output_sequence=1{extra}>(x, w, r) }}"""
    module = read(model(text, 6))
    (node,) = module.nodes()
    assert module.opset() == 13
    assert "output_sequence" not in node.attributes


def test_gru_1_runs_forward() -> None:
    text = """(float[2,1,3] x, float[1,6,3] w, float[1,6,2] r) => (float[2,1,1,2] y)
        { y, h = GRU<hidden_size=2, output_sequence=1>(x, w, r) }"""
    (node,) = read(model(text, 1)).nodes()
    assert node.attributes.get_string("direction") == "forward"


@pytest.mark.parametrize(
    ("opset", "text", "because"),
    [
        (6, "(float[3] x) => (float[3] y) { y = Dropout(x) }", "it trains"),
        (6, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = BatchNormalization(x, s, s, s, s) }", "it trains"),
        (1, '(float[3] x) => (float[3] y) { y = Cast<to="DECIMAL">(x) }', "names no element type"),
        (1, "(float[3] x) => (float[3] y) { y = Reshape(x) }", "has no shape"),
        (1, "(float[3] x, float[2] s) => (float[1] a, float[2] b) { a, b = Split(x, s) }", "sizes are not constant"),
        (1, "(float[3] x, float t, float a) => (float[6] y) { y = Tile(x, t, a) }", "repeats along one axis"),
        (1, "(float[2,3,4] x) => (float[2,3,1] y) { y = GlobalLpPool<p=1.5>(x) }", "no whole number"),
        (1, "(float[2,3,4] x) => (float[2,3,4] y) { y = LpPool(x) }", "no kernel_shape"),
        (6, "(float[2,3,4] x, float[3,4] s) => (float[2,3,4] y) { y = PRelu(x, s) }", "neither one number nor one per"),
        (6, "(float[3] x, float[3] s) => (float[3] y) { y = PRelu(x, s) }", "neither one number nor one per"),
    ],
)
def test_what_has_no_newer_form_is_refused(opset: int, text: str, because: str) -> None:
    with pytest.raises(LoadError, match=f"opset {opset}, and .*{because}"):
        read(model(text, opset))


@pytest.mark.parametrize(
    "body", ["u = Unknown.F(x) y = Add<broadcast=1, axis=1>(u, b)", "u = Unknown.F(x) y = PRelu(u, b)"]
)
def test_unknown_ranks_are_refused(body: str) -> None:
    proto = model(f"(float[2,3,4] x, float[3] b) => (float[2,3,4] y) {{ {body} }}", 6)
    proto.opset_import.add(domain="Unknown", version=1)
    with pytest.raises(LoadError, match="ranks of its inputs are not known"):
        read(proto)


def test_what_stops_at_7_is_raised_to_7() -> None:
    """Its mask keeps a Dropout from opset 10."""
    text = "(float[3] x, float[3] b) => (float[3] y, float[3] m) { a = Add<broadcast=1>(x, b) y, m = Dropout<is_test=1>(a) }"
    module = read(model(text, 6))
    assert module.opset() == 7
    assert "opset 7 is kept" in module.notes[0]
    assert [dict(n.attributes) for n in module.nodes()] == [{}, {}]


def test_every_op_can_be_raised_from_1_or_says_why() -> None:
    names = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    silent = []
    for name in names:
        for start in range(1, 7):
            for version in versions_between(name, start, 7):
                known = any(s.since == version for s in ADAPTERS.get(name, ()))
                if not known and incompatibility(name, version):
                    silent.append((name, version))
    assert silent == []
