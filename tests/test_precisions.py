"""The precisions by hand beside static int8, from fcc.compile to what the file holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import fcc
from fcc.errors import CalibrationError, OptionError, TargetError
from fcc.models import path

MLP = path("digits_mlp").read_bytes()
DIGITS = {k: dict(np.load(path(f"digits_{k}.npz"))) for k in ("calibration", "test")}
FIT, DATA = {"x": DIGITS["calibration"]["x"][:80]}, {"x": DIGITS["test"]["x"][:60]}


def ops(result: fcc.CompiledModel) -> Counter[str]:
    return Counter(n.op_type for n in result.module.graph)


def lossy(result: fcc.CompiledModel) -> float:
    (row,) = (r for r in result.report.parity if r.phase == "lossy")
    return float(row.error)


@pytest.mark.parametrize(
    ("precision", "op", "most", "error"),
    [
        ("int4", "MatMulNBits", 0.2, 0.04),
        ("int8-weights", "MatMulNBits", 0.4, 0.01),
        ("int8-dynamic", "MatMulInteger", 0.4, 0.01),
    ],
)
def test_precisions_of_matrix_products(precision: str, op: str, most: float, error: float) -> None:
    result = fcc.compile(MLP, precision=precision, calibration=FIT, data=DATA, objective="size")
    assert ops(result)[op] == len(result.report.layers) == 3
    assert lossy(result) < error
    assert result.emitted.size < most * len(MLP)


def test_calibration_data_lowers_the_error_of_int4() -> None:
    without = fcc.compile(MLP, precision="int4", data=DATA, objective="size")
    fitted = fcc.compile(MLP, precision="int4", calibration=FIT, data=DATA, objective="size")
    assert lossy(fitted) < 0.7 * lossy(without)
    assert {x["rounding"] for x in without.report.layers} == {"hqq"}
    assert any(x["rounding"].startswith("gptq") for x in fitted.report.layers)


def test_weights_stay_where_the_float_kernel_is_faster_unless_size_is_the_aim() -> None:
    result = fcc.compile(MLP, precision="int4", explain="quantize-weights")
    assert not ops(result)["MatMulNBits"]
    assert any("int4: no layer was quantized (--explain quantize-weights" in n for n in result.report.notes)


@pytest.mark.parametrize(
    ("size", "most", "error"), [("int8", 0.3, 0.01), ("fp16", 0.55, 1e-3), ("codebook", 0.3, 0.01)]
)
def test_size_stores_weights_that_the_runtime_unpacks(size: str, most: float, error: float) -> None:
    from fcc.runtime import kernels

    result = fcc.compile(MLP, size=size, data=DATA)
    assert result.emitted.size < most * len(MLP)
    assert 0 < lossy(result) < error
    assert set(kernels(result.to_bytes())) <= {"Gemm", "FusedGemm", "Flatten", "Reshape"}
    assert any("memory is that of float32" in n for n in result.report.notes)


def test_size_goes_with_a_precision() -> None:
    result = fcc.compile(MLP, precision="int8", size="fp16", calibration=FIT, data=DATA)
    assert ops(result)["DequantizeLinear"]
    assert lossy(result) < 0.02


@pytest.mark.parametrize(
    ("target", "more", "because"),
    [
        ("cuda", {"precision": "int8-dynamic"}, "no kernels"),
        ("tensorrt", {"precision": "int8-dynamic"}, "no kernels"),
        ("tensorrt", {"size": "int8"}, "behind Q and DQ"),
        ("tensorrt", {"size": "codebook"}, "behind Q and DQ"),
        ("tensorrt", {"precision": "int16"}, "8 bits or fewer"),
        ("cuda", {"precision": "int16"}, "static int8 is refused"),
        ("cpu", {"precision": "bf16"}, "does not run faster"),
    ],
)
def test_what_a_target_has_no_kernels_for_is_refused(target: str, more: dict[str, Any], because: str) -> None:
    with pytest.raises(TargetError, match=because):
        fcc.compile(MLP, target=target, **more)


def test_static_int8_of_tensorrt_is_symmetric_and_passes_its_lint() -> None:
    result = fcc.compile(MLP, target="tensorrt", precision="int8", calibration=FIT, data=DATA, opt_shapes={"N": 64})
    assert ops(result)["QuantizeLinear"] == len(result.report.layers) == 3
    assert ops(result)["DequantizeLinear"] == 6
    assert lossy(result) < 0.02
    assert [r for r in result.report.lint if r["severity"] == "error"] == []
    assert not {"fcc.int8", "fcc.isa"} & {p.key for p in result.proto().metadata_props}
    assert any("int8 by" in n and "one scale for" not in n for n in result.report.notes)


def test_cuda_says_why_static_int8_is_refused_and_what_there_is_instead() -> None:
    with pytest.raises(TargetError) as caught:
        fcc.compile(MLP, target="cuda", precision="int8", calibration=FIT)
    assert caught.value.exit_code == 4
    assert "never fuses static int8" in caught.value.message
    assert caught.value.hint is not None
    assert all(f in caught.value.hint for f in ("--precision fp16", "int4", "int8-weights"))


@pytest.mark.parametrize("given", [{"data": DATA}, {"calibration": FIT, "data": DATA}, {"calibration": FIT}, {}])
def test_float16_takes_the_ranges_of_the_data(given: dict[str, Any]) -> None:
    model = onnx.load_from_string(MLP)
    scale = onnx.helper.make_node("Mul", [model.graph.input[0].name, "large"], ["scaled"])
    back = onnx.helper.make_node("Mul", ["scaled", "small"], ["back"])
    for name, value in (("large", 1e3), ("small", 1e-3)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    for node in model.graph.node:
        node.input[:] = ["back" if i == model.graph.input[0].name else i for i in node.input]
    square = onnx.helper.make_node("Mul", ["scaled", "scaled"], ["square"])
    root = onnx.helper.make_node("Sqrt", ["square"], ["root"])
    back.input[0] = "root"
    for i, node in enumerate((scale, square, root, back)):
        model.graph.node.insert(i, node)
    result = fcc.compile(model, target="cuda", precision="fp16", force=True, opt_level=0, **given)
    said = [n for n in result.report.notes if "leave the range of float16 in the data" in n]
    assert bool(said) == bool(given)
    assert not given or "square" in said[0]


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_bfloat16_is_judged_by_what_its_kernels_would_give(target: str) -> None:
    result = fcc.compile(MLP, target=target, precision="bf16", data=DATA)
    assert result.module.opset() >= 22
    assert 1e-4 < lossy(result) < 0.02
    kinds = {str(v.dtype) for n in result.module.graph for v in n.outputs if n.op_type == "Gemm"}
    assert kinds == {"BFLOAT16"}


def test_int16_raises_the_opset_and_says_what_it_costs() -> None:
    old = onnx.version_converter.convert_version(onnx.load_from_string(MLP), 15)
    result = fcc.compile(old, precision="int16", calibration=FIT, data=DATA)
    assert result.module.opset() == 21
    zeros = [v for n, v in result.module.graph.initializers.items() if n.endswith("zero_point")]
    assert {str(v.dtype) for v in zeros} == {"UINT16", "INT16"}
    assert lossy(result) < 0.5 * lossy(fcc.compile(MLP, precision="int8", calibration=FIT, data=DATA))
    assert any("slower than fp32" in n for n in result.report.notes)
    assert any(n.startswith("int16 by") for n in result.report.notes)


def test_a_scheme_goes_with_static_integers() -> None:
    result = fcc.compile(MLP, precision="int8", scheme="pow2", calibration=FIT, data=DATA)
    found = [v for n, v in result.module.graph.initializers.items() if n.endswith("/scale") and "bias" not in n]
    assert found
    for value in found:
        assert value.const_value is not None
        assert np.all(np.frexp(value.const_value.numpy())[0] == 0.5)
    for more in ({}, {"precision": "int4"}, {"precision": "fp32", "opt_level": 3}):
        with pytest.raises(OptionError, match="static integers"):
            fcc.compile(MLP, scheme="pow2", **more)


def test_int16_needs_data() -> None:
    with pytest.raises(CalibrationError, match="int16 needs calibration data"):
        fcc.compile(MLP, precision="int16")


@pytest.mark.parametrize("more", [{"precision": "int5"}, {"size": "int4"}, {"scheme": "pow3", "precision": "int8"}])
def test_values_that_do_not_exist(more: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="has no value"):
        fcc.compile(MLP, **more)
