"""Lint: every node a provider lacks, with its reason; profiles and options that depend on sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from fcc.analysis import shapes
from fcc.backends import LintRow, get_backend
from fcc.backends.lint import by_reason
from fcc.backends.profiles import profile
from fcc.errors import OptionError
from fcc.frontend import read
from fcc.ir import Module
from fcc.rewrite import Log, PassContext
from fcc.target import get_target

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "their.domain" : 1]>\n'


def module_of(text: str, opset: int = 21, **constants: object) -> Module:
    proto = onnx.parser.parse_model(HEADER.format(opset=opset) + text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    module = read(proto)
    shapes.infer(module)
    return module


def lint(text: str, target: str, opset: int = 21, **constants: object) -> list[LintRow]:
    return get_backend(get_target(target)).lint(module_of(text, opset, **constants))


def reasons(rows: Sequence[LintRow], severity: str = "error") -> list[str]:
    return [r.reason for r in rows if r.severity == severity]


TAN = "g (float[4] x) => (float[4] y) { y = Tan(x) }"


def test_a_missing_kernel_is_an_error_with_the_node() -> None:
    (row,) = lint(TAN, "cuda")
    assert (row.node, row.severity) == ("Tan_y", "error")
    assert "no CUDA kernel for Tan" in row.reason
    assert lint(TAN, "cpu") == []
    assert lint(TAN, "tensorrt") == []


def test_element_types_are_judged() -> None:
    text = "g (float16[2,3] x, float16[3,2] w) => (float16[2,2] y) { y = MatMul(x, w) }"
    assert any("not float16" in r for r in reasons(lint(text, "cpu")))
    assert lint(text, "cuda") == []


def test_nested_graphs_are_looked_into() -> None:
    text = """g (bool c, float[4] x) => (float[4] y) {
        y = If (c) <then_branch = t () => (float[4] a) { a = Tan(x) }, else_branch = e () => (float[4] b) { b = Neg(x) }> }"""
    assert [r.node for r in lint(text, "cuda")] == ["Tan_a"]


def test_restrictions_on_attributes() -> None:
    text = (
        "g (float[3,1,2] x, float[1,6,2] w, float[1,6,2] r) => (float[3,1,1,2] y) { y = GRU<hidden_size=2>(x, w, r) }"
    )
    assert reasons(lint(text, "cuda")) == ["GRU: linear_before_reset must be 1"]
    assert lint(text.replace("hidden_size=2", "hidden_size=2,linear_before_reset=1"), "cuda") == []


def test_unknown_domains_and_contrib_ops() -> None:
    text = "g (float[4] x) => (float[4] y) { y = their.domain.Magic(x) }"
    for target in ("cpu", "cuda", "tensorrt"):
        assert reasons(lint(text, target)), target
    gelu = "g (float[4] x) => (float[4] y) { y = com.microsoft.Gelu(x) }"
    assert lint(gelu, "cuda") == []
    assert reasons(lint(gelu, "tensorrt")) == ["TensorRT takes standard ONNX ops only, not com.microsoft::Gelu"]


def test_an_opset_beyond_the_window_is_said_and_kept() -> None:
    text = "g (float[4] x) => (float[4] y) { y = Relu(x) }"
    (row,) = lint(text, "tensorrt", opset=25)
    assert "opset 25 is outside 9 to 24" in row.reason
    assert lint(text, "cuda", opset=25) == []


QDQ = """g (float[4] x) => (float[4] y) {
    z = Constant<value = int8 {0}>() q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""


def test_static_int8_on_cuda_is_a_warning() -> None:
    rows = lint(QDQ, "cuda", s=np.float32(0.1))
    assert [r.severity for r in rows] == ["warning"]
    assert "1 QuantizeLinear" in rows[0].reason


def test_tensorrt_takes_symmetric_int8_only() -> None:
    assert reasons(lint(QDQ, "tensorrt", s=np.float32(0.1))) == []
    uneven = QDQ.replace("int8 {0}", "int8 {3}")
    assert any("zero point must be 0" in r for r in reasons(lint(uneven, "tensorrt", s=np.float32(0.1))))
    unsigned = QDQ.replace("int8 {0}", "uint8 {0}")
    assert any("uint8" in r for r in reasons(lint(unsigned, "tensorrt", s=np.float32(0.1))))


def test_data_dependent_ops_on_tensorrt() -> None:
    rows = lint("g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }", "tensorrt")
    assert reasons(rows, "warning") == ["NonZero has data-dependent shapes and is left to CUDA"]
    module = module_of("g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }")
    options = get_backend(get_target("tensorrt")).emit(module).provider_options["TensorrtExecutionProvider"]
    assert "NonZero" in options["trt_op_types_to_exclude"]


def test_copies_around_a_node_on_the_cpu_are_a_warning() -> None:
    text = "g (float[2,8,8] x) => (float[2,8,8] y) { a = Sin(x) d = Det(a) e = Unsqueeze(d, k) y = Mul(a, e) }"
    (row,) = [r for r in lint(text, "cuda", k=np.array([1, 2])) if r.severity == "warning"]
    assert row.node == "Det_d"
    assert row.reason == "Det runs on the CPU: 2 copies between device and host (520 bytes), no CUDA graph"
    assert not [r for r in lint(text, "cpu", k=np.array([1, 2])) if r.severity == "warning"]


def test_several_engines_are_a_warning() -> None:
    text = "g (float[2,8,8] x) => (float[2,8,8] y) { a = Sin(x) d = Det(a) e = Unsqueeze(d, k) y = Mul(a, e) }"
    rows = lint(text, "tensorrt", k=np.array([1, 2]))
    assert "TensorRT runs 2 subgraphs, cut by Det" in reasons(rows, "warning")
    end = "g (float[2,8,8] x) => (float[2] y) { a = Sin(x) y = Det(a) }"
    assert not [r for r in reasons(lint(end, "tensorrt"), "warning") if "subgraphs" in r]


def test_rows_group_by_reason() -> None:
    rows = [LintRow("a", "r"), LintRow("b", "r"), LintRow("c", "s")]
    assert by_reason(rows) == {"r": ["a", "b"], "s": ["c"]}


def test_legalize_removes_what_it_can_express_and_reports_the_rest() -> None:
    module = module_of("g (float[4,4] x) => (float[4,4] y, float z) { y = Tan(x) z = Det(x) }")
    backend = get_backend(get_target("cuda"))
    ctx = PassContext(target=backend.target, log=Log(strict=True))
    backend.legalize(module, ctx)
    assert [n.op_type for n in module.nodes()] == ["Sin", "Cos", "Div", "Det"]
    assert [r.pass_name for r in ctx.log.applied] == ["lower-trigonometry"]
    assert reasons(backend.lint(module)) == ["no CUDA kernel for Det"]


def test_legalize_admits_what_the_gate_admits() -> None:
    module = module_of(TAN)
    backend = get_backend(get_target("cuda"))
    backend.legalize(module, PassContext(target=backend.target, log=Log(skip=frozenset({("lower-trigonometry", "y")}))))
    assert [n.op_type for n in module.nodes()] == ["Tan"]


DYNAMIC = "g (float[batch,3,h,h] x, float[batch] l, float[7] fixed) => (float[batch,3,h,h] y) { y = Relu(x) }"


def test_profiles_name_every_dynamic_input() -> None:
    module = module_of(DYNAMIC)
    assert profile(module, {}, {"batch": 8, "x": (8, 3, 32, 32)}, {"batch": 16, "h": 64}) == {
        "trt_profile_min_shapes": "x:8x3x32x32,l:8",
        "trt_profile_opt_shapes": "x:8x3x32x32,l:8",
        "trt_profile_max_shapes": "x:16x3x64x64,l:16",
    }
    assert profile(module, {}, {}, {})["trt_profile_opt_shapes"] == "x:1x3x1x1,l:1"
    assert profile(module_of("g (float[2] x) => (float[2] y) { y = Relu(x) }"), {}, {}, {}) == {}


@pytest.mark.parametrize(
    ("usual", "high", "message"),
    [
        ({"z": 3}, {}, "no input or symbol"),
        ({"x": (1, 3)}, {}, "does not fit"),
        ({"x": (1, 4, 8, 8)}, {}, "does not fit"),
        ({"batch": 8}, {"batch": 4}, "not in order"),
    ],
)
def test_profiles_that_make_no_sense(usual: dict[str, object], high: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        profile(module_of(DYNAMIC), {}, usual, high)  # type: ignore[arg-type]
