"""Lowerings: what they become, how exact they are, and when they leave an op alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.backends.lower_activations import LowerActivations
from fcc.backends.lower_contrib import LowerContrib, LowerSimplified
from fcc.backends.lower_normalization import LowerNormalization
from fcc.backends.lower_reductions import LowerReductions
from fcc.backends.lower_trigonometry import LowerTrigonometry
from fcc.backends.node_facts import support_of
from fcc.frontend import read
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

ort = pytest.importorskip("onnxruntime")

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'


def lowered(text: str, p: Pass, target: str, opset: int) -> tuple[onnx.ModelProto, onnx.ModelProto, ir.Module]:
    module = read(onnx.parser.parse_model(HEADER.format(opset=opset) + text))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(target=get_target(target), log=Log(strict=True))
    assert run_pass(p, module, ctx) == 1, ctx.log.refused
    ir.verify(module)
    after = serde.serialize_model(module.model)
    onnx.checker.check_model(after)
    again = PassContext(target=ctx.target, log=Log(strict=True))
    assert run_pass(p, module, again) == 0
    for node in module.nodes():
        assert support_of(node, module, ctx.target).refusal is None, node
    return before, after, module


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


SMALL = [1e-30, 1e-7, 1e-5, 1e-3]
TRIGONOMETRY: dict[str, tuple[Any, list[float]]] = {
    "Tan": (np.tan, [*SMALL, 0.7, 1.5]),
    "Sinh": (np.sinh, [*SMALL, 0.5, 10.0, 88.9, 89.2, 100.0, np.inf]),
    "Cosh": (np.cosh, [*SMALL, 0.5, 10.0, 88.9, 89.2, 100.0, np.inf]),
    "Asinh": (np.arcsinh, [*SMALL, 0.3, 1.0, 1e7, 1e20, 3e38, np.inf]),
    "Acosh": (np.arccosh, [0.5, 1.0, 1.000001, 1.5, 100.0, 1e20, 3e38, np.inf]),
    "Atanh": (np.arctanh, [*SMALL, 0.5, 0.99999, 1.0, 1.5]),
    "Atan": (np.arctan, [*SMALL, 0.4, 0.5, 1.0, 1.1, 2.5, 1e10, np.inf]),
    "Asin": (np.arcsin, [*SMALL, 0.5, 0.7, 0.9999, 1.0, 1.1]),
    "Acos": (np.arccos, [*SMALL, 0.5, 0.7, 0.9999, 1.0, 1.1]),
}


@pytest.mark.parametrize("op", TRIGONOMETRY)
@pytest.mark.parametrize("opset", [13, 22])
def test_trigonometry_is_within_four_ulp(op: str, opset: int) -> None:
    exact, points = TRIGONOMETRY[op]
    x = np.array([*points, *(-p for p in points), 0.0, np.nan], np.float32)
    _, after, _ = lowered(f"g (float[N] x) => (float[N] y) {{ y = {op}(x) }}", LowerTrigonometry(), "cuda", opset)
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64)).astype(np.float32)
    (found,) = run(after, {"x": x})
    finite = np.isfinite(wanted)
    assert np.array_equal(found[~finite], wanted[~finite], equal_nan=True)
    assert np.all(np.abs(found[finite] - wanted[finite]) <= 4 * np.spacing(np.abs(wanted[finite])))


@pytest.mark.parametrize("op", ["Sinh", "Cosh", "Asinh", "Acosh", "Atanh"])
def test_hyperbolic_functions_of_doubles(op: str) -> None:
    exact, points = TRIGONOMETRY[op]
    x = np.array([*points, *(-p for p in points), 1e200, -1e200, 0.0, np.nan])
    _, after, _ = lowered(f"g (double[N] x) => (double[N] y) {{ y = {op}(x) }}", LowerTrigonometry(), "cuda", 22)
    with np.errstate(all="ignore"):
        wanted = exact(x)
    (found,) = run(after, {"x": x})
    finite = np.isfinite(wanted)
    assert np.array_equal(found[~finite], wanted[~finite], equal_nan=True)
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-14)


def test_trigonometry_keeps_double_where_the_polynomial_is_too_short() -> None:
    check(
        LowerTrigonometry(),
        before="g (double[N] x) => (double[N] y) { y = Atan(x) }",
        after=None,
        because="not double",
        target="cuda",
    )


def test_what_has_a_kernel_stays() -> None:
    check(
        LowerTrigonometry(),
        before="g (float[N] x) => (float[N] y) { y = Tan(x) }",
        after=None,
        because="cpu has a kernel",
    )


X = "float[2,6,5,7] x"
ACTIVATIONS = [
    ("Swish", "", "cuda", 24, ["Sigmoid", "Mul"]),
    ("Swish", "<alpha=1.5>", "cpu", 24, ["Mul", "Sigmoid", "Mul"]),
    ("Swish", "", "tensorrt", 24, ["Sigmoid", "Mul"]),
    ("Mish", "", "cuda", 18, ["Softplus", "Tanh", "Mul"]),
    ("HardSwish", "", "cpu", 14, ["HardSigmoid", "Mul"]),
    ("Celu", "", "cuda", 13, ["Elu"]),
    ("Celu", "<alpha=2.0>", "cuda", 13, ["Div", "Elu", "Mul"]),
    ("Elu", "<alpha=1.3>", "cuda", 22, ["Exp", "Sub", "Mul", "Greater", "Where"]),
    ("Selu", "", "cuda", 22, ["Exp", "Sub", "Mul", "Greater", "Where", "Mul"]),
    ("ThresholdedRelu", "<alpha=0.3>", "cuda", 22, ["Greater", "Where"]),
]


@pytest.mark.parametrize(("op", "attributes", "target", "opset", "expected"), ACTIVATIONS)
def test_activations(op: str, attributes: str, target: str, opset: int, expected: list[str]) -> None:
    text = f"g ({X}) => (float[2,6,5,7] y) {{ y = {op}{attributes}(x) }}"
    before, after, module = lowered(text, LowerActivations(), target, opset)
    assert [n.op_type for n in module.nodes()] == expected
    assert_same(before, after)


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, limit: float = 5e-6) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        v.name: rng.standard_normal([d.dim_value or 3 for d in v.type.tensor_type.shape.dim]).astype(np.float32)
        for v in before.graph.input
    }
    for a, b in zip(run(before, feeds), run(after, feeds), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.abs(a.astype(np.float64) - b).max() <= limit * max(1.0, np.abs(a).max())


def test_celu_with_negative_alpha_stays() -> None:
    text = "g (float[4] x) => (float[4] y) { y = Celu<alpha=-1.0>(x) }"
    check(LowerActivations(), before=text, after=None, because="alpha is not positive", target="cuda")


def test_an_operator_newer_than_the_kernel_tables_stays() -> None:
    text = "g (bfloat16[4] x) => (bfloat16[4] y) { y = Celu<alpha=2.0>(x) }"
    check(LowerActivations(), before=text, after=None, because="no table says", opset=28, target="cuda")


def test_cast_like_becomes_cast() -> None:
    check(
        LowerActivations(),
        before="g (int64[N] x, float[M] l) => (float[N] y) { y = CastLike(x, l) }",
        after="g (int64[N] x, float[M] l) => (float[N] y) { y = Cast<to=1>(x) }",
    )


REDUCTIONS = [
    ("Hardmax", "<axis=1>", 13),
    ("Hardmax", "", 13),
    ("LpPool", "<kernel_shape=[2,3],pads=[1,0,0,1],strides=[2,1]>", 13),
    ("LpPool", "<kernel_shape=[2,3],p=1>", 18),
    ("LpPool", "<kernel_shape=[2,3],p=3>", 18),
    ("GlobalLpPool", "", 13),
    ("GlobalLpPool", "<p=3>", 18),
]


@pytest.mark.parametrize(("op", "attributes", "opset"), REDUCTIONS)
def test_reductions(op: str, attributes: str, opset: int) -> None:
    text = f"g ({X}) => (float[a,b,c,d] y) {{ y = {op}{attributes}(x) }}"
    before, after, _ = lowered(text, LowerReductions(), "cuda", opset)
    assert_same(before, after)


def test_hardmax_marks_the_first_of_equal_maxima() -> None:
    _, after, _ = lowered("g (float[2,3] x) => (float[2,3] y) { y = Hardmax(x) }", LowerReductions(), "cuda", 13)
    (found,) = run(after, {"x": np.array([[1, 5, 5], [0, 0, 0]], np.float32)})
    assert found.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_mean_is_a_sum_over_broadcast_operands() -> None:
    text = "g (float[2,3] x, float[3] z) => (float[2,3] y) { y = Mean(x, z, x) }"
    before, after, module = lowered(text, LowerReductions(), "cuda", 13)
    assert [n.op_type for n in module.nodes()] == ["Add", "Add", "Div"]
    assert_same(before, after)


@pytest.mark.parametrize(
    ("node", "because"),
    [
        ("LpPool<kernel_shape=[2,2], ceil_mode=1>", "ceil_mode"),
        ('LpPool<kernel_shape=[2,2], auto_pad="SAME_UPPER">', "SAME_"),
        ("LpPool<kernel_shape=[2,2], dilations=[2,2]>", "dilations"),
        ("LpPool<kernel_shape=[2,2], p=0>", "p is below 1"),
        ("GlobalLpPool<p=0>", "p is below 1"),
    ],
)
def test_pools_that_average_cannot_express_stay(node: str, because: str) -> None:
    text = f"g ({X}) => (float[a,b,c,d] y) {{ y = {node}(x) }}"
    check(LowerReductions(), before=text, after=None, because=because, opset=18, target="cuda")


def test_hardmax_over_an_unknown_size_stays() -> None:
    text = "g (float[2,N] x) => (float[2,N] y) { y = Hardmax(x) }"
    check(LowerReductions(), before=text, after=None, because="not known", target="cuda")


GROUPS = (
    "g (float[{shape}] x, float[{k}] s, float[{k}] z) => (float[{shape}] y)"
    " {{ y = GroupNormalization<num_groups=3,epsilon=0.01>(x, s, z) }}"
)


@pytest.mark.parametrize("shape", ["2,6,5,7", "N,6,5,7", "N,6,H,W"])
@pytest.mark.parametrize(("target", "opset"), [("cpu", 18), ("cpu", 21), ("cuda", 21), ("cuda", 22)])
def test_group_normalization(shape: str, target: str, opset: int) -> None:
    text = GROUPS.format(shape=shape, k=3 if opset < 21 else 6)
    before, after, module = lowered(text, LowerNormalization(), target, opset)
    kinds = [n.op_type for n in module.nodes()]
    assert ("InstanceNormalization" in kinds) == ((target, opset) != ("cuda", 22))
    assert ("Shape" in kinds) == ("H" in shape)
    assert_same(before, after)


def test_group_normalization_folds_constant_scale_and_bias_into_their_broadcast_form() -> None:
    check(
        LowerNormalization(),
        before="g (float[N,4,2] x) => (float[N,4,2] y) <float[4] s, float[4] z>"
        " { y = GroupNormalization<num_groups=2,epsilon=0.5>(x, s, z) }",
        after="g (float[N,4,2] x) => (float[N,4,2] y) {"
        " a = Reshape(x, c0) b = InstanceNormalization<epsilon=0.5>(a, c1, c2) c = Reshape(b, c3)"
        " d = Mul(c, c4) y = Add(d, c5) }",
    )


def test_group_normalization_of_half_computes_its_statistics_in_float() -> None:
    text = GROUPS.format(shape="2,6,5,7", k=6).replace("float[", "float16[")
    _, after, module = lowered(text, LowerNormalization(), "cuda", 21)
    assert [n.op_type for n in module.nodes()].count("Cast") == 2
    assert after.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_instance_normalization_of_opset_22_on_cuda() -> None:
    text = "g (float[N,6,H,W] x, float[6] s, float[6] z) => (float[N,6,H,W] y) { y = InstanceNormalization(x, s, z) }"
    before, after, _ = lowered(text, LowerNormalization(), "cuda", 22)
    assert_same(before, after)


M = "com.microsoft."
CONTRIB = [
    ("float[2,3,4] x", f"y = {M}Gelu(x)", 13),
    ("float[2,3,4] x", f"y = {M}Gelu(x)", 20),
    ("float[2,3,4] x, float[4] b", f"y = {M}BiasGelu(x, b)", 13),
    ("float[2,3,4] x, float[4] b", f"y = {M}FastGelu(x, b)", 13),
    ("float[2,3,4] x", f"y = {M}FastGelu(x)", 20),
    ("float[2,3,4] x", f"y = {M}QuickGelu<alpha=1.3>(x)", 13),
    ("float[2,3,4] x, float[2,5,4] b", f"y = {M}FusedMatMul<alpha=0.5,transB=1>(x, b)", 13),
    ("float[2,4,3] x, float[2,4,5] b", f"y = {M}FusedMatMul<transA=1>(x, b)", 13),
    ("float[3,4] x, float[4,5] b, float[5] c", f'y = {M}FusedGemm<activation="Relu",alpha=0.5>(x, b, c)', 13),
    (
        "float[1,2,5,5] x, float[3,2,3,3] w, float[3] b, float[1,3,3,3] z",
        f'y = {M}FusedConv<activation="LeakyRelu",activation_params=[0.2],kernel_shape=[3,3]>(x, w, b, z)',
        13,
    ),
    (
        "float[1,2,5,5] x, float[3,2,3,3] w, float[3] b",
        f'y = {M}FusedConv<activation="Clip",activation_params=[0.0,1.0],kernel_shape=[3,3]>(x, w, b)',
        13,
    ),
    (
        "float[2,3,4] x, float[2,3,4] s, float[4] g, float[4] b, float[4] c",
        f"y, m, v, total = {M}SkipLayerNormalization<epsilon=0.1>(x, s, g, b, c)",
        17,
    ),
    (
        "float[2,3,4] x, float[2,3,4] s, float[4] g, float[4] b, float[4] c",
        f"y, m, v, total = {M}SkipLayerNormalization<epsilon=0.1>(x, s, g, b, c)",
        13,
    ),
    ("float[2,3,4] x, float[2,3,4] s, float[4] g", f"y = {M}SkipLayerNormalization(x, s, g)", 16),
    ("float[2,3,4] x, float[2,3,4] s, float[4] g", f"y = {M}SkipSimplifiedLayerNormalization(x, s, g)", 23),
    (
        "float[2,3,4] x, float[2,3,4] s, float[4] g",
        f"y = {M}SkipSimplifiedLayerNormalization<epsilon=0.1>(x, s, g)",
        17,
    ),
]


@pytest.mark.parametrize(("inputs", "node", "opset"), CONTRIB)
def test_contrib_ops_get_their_standard_spelling(inputs: str, node: str, opset: int) -> None:
    outputs = "float[a,b,c] y, float[d,e,f] total" if "total" in node else "float y"
    text = f"g ({inputs}) => ({outputs}) {{ {node} }}"
    before, after, module = lowered(
        text.replace("float y", f"float[{rank_of(inputs)}] y"), LowerContrib(), "tensorrt", opset
    )
    assert all(n.domain == "" for n in module.nodes())
    assert_same(before, after)


def rank_of(inputs: str) -> str:
    first = inputs.split("[")[1].split("]")[0]
    return ",".join(f"o{i}" for i in range(first.count(",") + 1))


def test_fused_matmul_with_transposed_batch_stays() -> None:
    text = f"g (float[2,3,4] x, float[2,4,5] b) => (float[a,b,c] y) {{ y = {M}FusedMatMul<transBatchA=1>(x, b) }}"
    check(LowerContrib(), before=text, after=None, because="batch axes", target="tensorrt")


def test_contrib_ops_stay_where_the_target_has_them() -> None:
    text = f"g (float[2,3] x) => (float[2,3] y) {{ y = {M}QuickGelu(x) }}"
    check(LowerContrib(), before=text, after=None, because="cpu has a kernel", target="cpu")


def test_simplified_layer_normalization() -> None:
    node = "SimplifiedLayerNormalization<axis=-1,epsilon=0.1>"
    text = f"g (float[2,3,4] x, float[4] s) => (float[2,3,4] y) {{ y = {node}(x, s) }}"
    module = ir.Module(serde.deserialize_model(onnx.parser.parse_model(HEADER.format(opset=17) + text)))
    before = serde.serialize_model(module.clone().model)
    assert run_pass(LowerSimplified(), module, PassContext(target=get_target("tensorrt"), log=Log(strict=True))) == 1
    assert_same(before, serde.serialize_model(module.model))


@pytest.mark.parametrize(
    ("p", "inputs", "node"),
    [
        (LowerContrib(), "float[2,3,4] b, float[4] x", f"y = {M}BiasGelu(x, b)"),
        (LowerContrib(), "float[2,3,4] b, float[4] x", f"y = {M}FastGelu(x, b)"),
        (LowerContrib(), "float[5] b, float[2,3,4] x", f"y = {M}FastGelu(x, b)"),
        (LowerContrib(), "float[2,2,5,5] x, float[3,2,3,3] w, float[3] b, float[2,3,1,9] z", f"y = {M}FusedConv(x, w, b, z)"),
        (LowerSimplified(), "float[2,3,4] s, float[4] x", "y = SimplifiedLayerNormalization<axis=-1>(x, s)"),
    ],
)  # fmt: skip
def test_operands_that_would_widen_the_result(p: Pass, inputs: str, node: str) -> None:
    rank = {"4": "4", "2,3,4": "2,3,4"}.get(inputs.split("] x")[0].split("[")[-1], "2,3,3,3")
    check(p, f"g ({inputs}) => (float[{rank}] y) {{ {node} }}", None, because="does not broadcast", target="tensorrt")


@pytest.mark.parametrize("groups", [0, 4])
def test_channels_that_are_no_groups_stay(groups: int) -> None:
    text = (
        f"g (float[2,6,5] x, float[6] s) => (float[2,6,5] y) {{ y = GroupNormalization<num_groups={groups}>(x, s, s) }}"
    )
    check(LowerNormalization(), text, None, because="the channels are no groups", target="cuda")


def test_scale_and_bias_of_one_number_stay() -> None:
    """onnxruntime's function spreads it over the groups, which InstanceNormalization does not."""
    io = "g (float[2,6,5] x, float[3] s, float[1] b) => (float[2,6,5] y)"
    text = f"{io} {{ y = GroupNormalization<num_groups=3>(x, s, b) }}"
    check(LowerNormalization(), text, None, because="not known to be one number a group", target="cuda", opset=18)


def test_group_normalization_of_mixed_types_stays() -> None:
    text = "g (float16[2,6,5] x, float[6] s) => (float16[2,6,5] y) { y = GroupNormalization<num_groups=2>(x, s, s) }"
    check(LowerNormalization(), text, None, because="another element type", target="cuda")


def test_inputs_of_unknown_type_stay() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { u = com.example.Unknown(x) y = Mish(u) }"
    module = read(onnx.parser.parse_model(HEADER.format(opset=21).replace("]>", ', "com.example": 1]>') + text))
    shapes.infer(module)
    ctx = PassContext(target=get_target("cpu"), log=Log(strict=True))
    assert run_pass(LowerActivations(), module, ctx) == 0
    assert [r.reason for r in ctx.log.refused] == ["the element type of the input is not known"]
