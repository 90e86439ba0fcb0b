"""convert-fp16 with statistics: what overflows, vanishes or divides by nothing in the data stays float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import fp16_pass
from fcc.compress.calibrate import CalibrationStats
from fcc.errors import PipelineError, TargetError
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


class Half:
    """A model in float16, by the ranges that one sample had, or without."""

    def __init__(self, text: str, x: Any, *, blind: bool = False, **constants: Any) -> None:
        proto = onnx.parser.parse_model(HEADER + text)
        for name, array in constants.items():
            array = np.asarray(array)
            array = array if array.dtype == np.int64 else array.astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        self.feeds = {"x": np.asarray(x, np.float32)}
        module = read(proto)
        shapes.infer(module)
        before = serde.serialize_model(module.clone().model)
        p, self.log = fp16_pass(), Log(strict=True)
        names = p.tensors(module)
        stats = None if blind else self._seen(before, names)
        run_pass(p, module, PassContext(get_target("cuda"), self.log, stats=stats))
        ir.verify(module)
        self.kinds = {v.name: v.dtype.name for n in module.graph for v in n.outputs if v.dtype is not None}
        self.module = module
        with np.errstate(all="ignore"):
            (self.y0,) = ReferenceEvaluator(before).run(["y"], self.feeds)
            (self.y,) = ReferenceEvaluator(serde.serialize_model(module.model)).run(["y"], self.feeds)

    def _seen(self, model: onnx.ModelProto, names: list[str]) -> CalibrationStats:
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        del tapped.graph.output[:]
        del tapped.graph.value_info[:]
        tapped.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in self.feeds)
        found = dict(
            zip([o.name for o in tapped.graph.output], ReferenceEvaluator(tapped).run(None, self.feeds), strict=True)
        )
        stats = CalibrationStats()
        stats.update({n: found[n] if n in found else self.feeds[n] for n in names})
        return stats

    @property
    def error(self) -> float:
        return float(np.abs(self.y - self.y0).max() / np.abs(self.y0).max())

    def note(self, reason: str) -> str:
        (found,) = (n for n in self.log.notes if reason in n)
        return found


LINE = np.linspace(-4, 4, 32).reshape(2, 16)
EYE = np.eye(16)


def test_squares_beyond_the_range_stay_float_up_to_their_root() -> None:
    text = """g (float[2,16] x) => (float[2,16] y) {
        a = MatMul(x, w) b = Mul(a, a) m = ReduceMean(b, axes) r = Sqrt(m) n = Div(a, r) y = MatMul(n, e) }"""
    constants = {"w": EYE * 200, "e": EYE, "axes": np.array([1], np.int64)}
    blind, seen = (Half(text, LINE, blind=b, **constants) for b in (True, False))
    assert not np.isfinite(blind.error) or blind.error > 0.1
    assert seen.error < 2e-3
    assert {seen.kinds[v] for v in ("b", "m")} == {"FLOAT"}
    assert seen.kinds["a"] == "FLOAT16"
    assert "b 6.4e+05" in seen.note("float32, its values leave the range of float16 in the data")


def test_a_product_that_overflows_and_its_softmax_stay_float() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) s = Softmax(a) y = MatMul(s, e) }"
    blind, seen = (Half(text, LINE, blind=b, w=EYE * 3e4, e=EYE) for b in (True, False))
    assert not np.isfinite(blind.y).all()
    assert seen.error < 2e-3
    assert seen.kinds["a"] == "FLOAT"
    assert "1 MatMul, 1 Softmax (a 1.2e+05)" in seen.note("leave the range of float16 in the data")


def test_what_comes_near_the_limit_counts_and_what_stays_away_does_not() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) y = Relu(a) }"
    near, away = Half(text, LINE, w=EYE * 8200), Half(text, LINE, w=EYE * 8100)
    assert "1 MatMul, 1 Relu" in near.note("leave the range")
    assert away.log.notes == ["float16: 2 of 2 float nodes"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_either_sign_overflows(sign: float) -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) y = Relu(a) }"
    assert "1 MatMul, 1 Relu" in Half(text, np.abs(LINE), w=EYE * 2e4 * sign).note("leave the range")


def test_values_that_vanish_stay_float() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) b = Mul(a, a) y = MatMul(b, v) }"
    blind, seen = (Half(text, LINE, blind=b, w=EYE * 1e-4, v=EYE * 1e4) for b in (True, False))
    assert blind.error > 0.05
    assert seen.error < 2e-3
    assert seen.kinds["b"] == "FLOAT"
    assert "(b 1.6e-07)" in seen.note("too small for float16 in the data")


def test_zeros_are_no_reason() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = Relu(x) y = MatMul(a, w) }"
    assert Half(text, -np.abs(LINE), w=EYE).log.notes == ["float16: 2 of 2 float nodes"]


@pytest.mark.parametrize(
    ("tail", "low"), [("y = Div(one, a)", 1e-9), ("y = Reciprocal(a)", 1e-9), ("y = Log(a)", 1e-9)]
)
def test_small_divisors_stay_float(tail: str, low: float) -> None:
    text = f"g (float[2,16] x) => (float[2,16] y) {{ b = MatMul(x, e) a = Add(b, k) {tail} }}"
    x = np.zeros((2, 16))
    x[0, 0] = 1.0
    constants = {"e": EYE, "k": low, "one": 1e-6}
    blind, seen = (Half(text, x, blind=b, **constants) for b in (True, False))
    assert not np.isfinite(blind.y).all()
    assert seen.error < 2e-3
    assert "(a 1e-09)" in seen.note("a divisor is too small")


def test_a_dividend_may_be_small() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { b = MatMul(x, e) a = Add(b, k) y = Div(a, two) }"
    x = np.zeros((2, 16))
    x[0, 0] = 1.0
    assert Half(text, x, e=EYE, k=1e-9, two=2.0).log.notes[0] == "float16: 3 of 3 float nodes"


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_kernels_that_square_inside(scale: float) -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) b = LpNormalization(a) y = MatMul(b, e) }"
    seen = Half(text, LINE, w=EYE * scale, e=EYE)
    assert (seen.kinds["b"] == "FLOAT") == (scale > 1)
    assert scale == 1 or "1 LpNormalization (a 400)" in seen.note("squares values beyond 255")


@pytest.mark.parametrize(
    "mask", ["m = Mul(x, big) a = Add(s, m)", "m = Mul(x, big) u = Unsqueeze(m, at) v = Squeeze(u, at) a = Add(s, v)"]
)
def test_masks_are_clipped_rather_than_kept_float(mask: str) -> None:
    text = f"g (float[2,16] x) => (float[2,16] y) {{ s = MatMul(x, w) {mask} p = Softmax(a) y = MatMul(p, e) }}"
    x = np.zeros((2, 16))
    x[:, 8:] = 1.0
    seen = Half(text, x, w=EYE, big=-1e9, e=EYE, at=np.array([0], np.int64))
    assert not any("leave the range" in n for n in seen.log.notes)
    assert seen.error < 2e-3


def test_a_large_negative_value_that_no_mask_made_stays_float() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { s = MatMul(x, w) a = Add(s, k) p = Softmax(a) y = MatMul(p, e) }"
    assert "leave the range" in Half(text, LINE, w=EYE * 3e4, k=-1.0, e=EYE).note("leave the range")


def test_constants_have_no_range_in_the_data() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = Add(x, k) y = MatMul(a, w) }"
    assert Half(text, LINE, k=1e-6, w=EYE).log.notes[0] == "float16: 2 of 2 float nodes"


def test_only_the_worst_three_tensors_are_named() -> None:
    steps = " ".join(f"a{i + 1} = Mul(a{i}, two)" for i in range(5))
    text = f"g (float[2,16] x) => (float[2,16] y) {{ a0 = MatMul(x, w) {steps} y = Identity(a5) }}"
    seen = Half(text, LINE, w=EYE * 2e4, two=2.0)
    assert "(a5 2.56e+06, a4 1.28e+06, a3 6.4e+05)" in seen.note("leave the range")


def test_bfloat16_has_the_range_and_needs_no_islands() -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { a = MatMul(x, w) b = Exp(a) c = ReduceSum(b) y = Div(b, c) }"
    proto = onnx.parser.parse_model(HEADER.replace("21", "22") + text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array((EYE * 1e5).astype(np.float32), "w"))
    module = read(proto)
    shapes.infer(module)
    log, stats = Log(strict=True), CalibrationStats()
    stats.update({"a": np.array([1e6])})
    assert run_pass(fp16_pass("bf16"), module, PassContext(get_target("tensorrt"), log, stats=stats)) == 4
    assert log.notes == ["bfloat16: 4 of 4 float nodes"]
    assert {v.dtype for v in module.graph.initializers.values()} == {ir.DataType.BFLOAT16}
    assert [n.op_type for n in module.graph] == ["Cast", "MatMul", "Exp", "ReduceSum", "Div", "Cast"]


def test_bfloat16_keeps_float_what_has_no_kernel() -> None:
    text = "g (float[1,1,4,4] x) => (float[1,1,2,2] y) { a = Relu(x) b = MaxPool<kernel_shape=[3,3]>(a) y = Mul(b, b) }"
    module = read(onnx.parser.parse_model(HEADER.replace("21", "22") + text))
    shapes.infer(module)
    log = Log(strict=True)
    run_pass(fp16_pass("bf16"), module, PassContext(get_target("cuda"), log))
    assert any("there is no bfloat16 kernel: 1 MaxPool" in n for n in log.notes)


def test_a_type_that_does_not_exist() -> None:
    with pytest.raises(PipelineError, match="no value 'fp8'"):
        fp16_pass("fp8")


def test_bfloat16_is_refused_on_cpu() -> None:
    module = read(onnx.parser.parse_model(HEADER + "g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    with pytest.raises(TargetError, match="no bfloat16 MatMul"):
        run_pass(fp16_pass("bf16"), module, PassContext(get_target("cpu"), Log(strict=True)))
