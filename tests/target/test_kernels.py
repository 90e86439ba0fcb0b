"""The kernel tables say of a provider what onnxruntime's registry says."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.target import get_target
from fcc.target.build_tables import compact, live_rows
from fcc.target.kernels import Kernel, has_function, kernel_table, read, since_version

F, H, D, B = ({"T": t} for t in ("float", "float16", "double", "bfloat16"))


@pytest.mark.parametrize("op", ["Acos", "Atan", "Tan", "QLinearConv", "DynamicQuantizeLinear", "BitShift", "Unique"])
def test_cuda_lacks(op: str) -> None:
    assert get_target("cuda").refusal(op, "", 21, {}) == f"no CUDA kernel for {op}"


def test_dtype_gap_names_what_is_taken() -> None:
    reason = get_target("cuda").refusal("MaxPool", "", 21, B)
    assert reason == "CUDA kernel of MaxPool takes double, float, float16, int8, uint8, not bfloat16 (T)"
    assert get_target("cuda").refusal("MaxPool", "", 21, {**H, "I": "int64"}) is None


def test_grid_sample_on_cuda_is_float_only() -> None:
    cuda = get_target("cuda")
    assert cuda.refusal("GridSample", "", 20, {"T1": "float", "T2": "float"}) is None
    assert "not float16" in (cuda.refusal("GridSample", "", 20, {"T1": "float16", "T2": "float16"}) or "")


def test_cpu_has_no_half_convolution() -> None:
    cpu = get_target("cpu")
    assert cpu.refusal("Conv", "", 22, F) is None
    assert cpu.refusal("Conv", "", 22, H) == "CPU kernel of Conv takes float, not float16 (T)"


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize("version", [23, 24, 26])
def test_attention_is_native_on_both(target: str, version: int) -> None:
    support = get_target(target).support("Attention", "", version, {"T1": "float", "T2": "float", "U": "float"})
    assert support.verdict == "native"


def test_combination_that_no_kernel_takes() -> None:
    reason = kernel_table("CPU").refusal("Attention", "", 24, {"T1": "float16", "T2": "float"})
    assert reason == "CPU kernel of Attention takes no combination T1=float16, T2=float"


def test_unbounded_kernel_serves_its_own_version_only() -> None:
    """Verified against the CUDA partitioner of onnxruntime 1.31.1: at opset 22 these land on the CPU."""
    for op in ("MaxPool", "InstanceNormalization", "Elu", "Selu", "Dropout", "EyeLike"):
        assert get_target("cuda").refusal(op, "", 21, {}) is None
        assert (get_target("cuda").refusal(op, "", 22, {}) or "").startswith(f"no CUDA kernel for {op} of opset 22")


def test_unknown_op_and_domain() -> None:
    cpu = get_target("cpu")
    assert cpu.refusal("Frobnicate", "", 21, {}) == "no CPU kernel for Frobnicate"
    assert cpu.refusal("Relu", "my.domain", 1, {}) == "no CPU kernel for my.domain::Relu"
    assert cpu.refusal("Relu", "ai.onnx", 14, F) is None


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_constant_needs_no_kernel(target: str) -> None:
    assert get_target(target).refusal("Constant", "", 21, {}) is None


def test_sequence_types_are_type_strings() -> None:
    cpu = get_target("cpu")
    assert cpu.refusal("SequenceAt", "", 11, {"S": "seq(tensor(float))", "T": "float"}) is None
    assert cpu.refusal("SequenceAt", "", 11, {"S": "float"}) is not None


def test_contrib_ops_are_per_provider() -> None:
    assert get_target("cpu").refusal("QuickGelu", "com.microsoft", 1, F) is None
    assert get_target("cpu").refusal("GroupNorm", "com.microsoft", 1, H) is not None
    assert get_target("cuda").refusal("GroupNorm", "com.microsoft", 1, {"T": "float16", "M": "float"}) is None


@pytest.mark.parametrize("op", ["Mish", "GroupNormalization", "Swish"])
def test_function_without_any_kernel_is_expanded(op: str) -> None:
    support = get_target("cuda").support(op, "", 24, F)
    assert (support.verdict, support.refusal) == ("expanded", None)
    assert support.reason == f"no CUDA kernel for {op}"


@pytest.mark.parametrize(("op", "variable"), [("Celu", "T"), ("AffineGrid", "T1"), ("MeanVarianceNormalization", "T")])
def test_function_with_a_cpu_kernel_runs_there(op: str, variable: str) -> None:
    """Verified against the CUDA partitioner: the CPU provider claims it before functions are expanded."""
    assert get_target("cuda").support(op, "", 21, {variable: "float"}).verdict == "refused"


def test_versions_resolve_to_the_runtime_schemas() -> None:
    assert since_version("Attention", "", 26) == 24
    assert since_version("Relu", "", 13) == 13
    assert since_version("Frobnicate", "", 5) == 5
    assert has_function("Celu", "", 20)
    assert not has_function("GroupNormalization", "", 18 - 1)
    assert not has_function("Conv", "", 22)


def test_kernel_range() -> None:
    bounded = Kernel(8, 11, {})
    assert [bounded.covers(v) for v in (7, 8, 10, 11, 12)] == [False, True, True, True, False]
    assert [Kernel(12, None, {}).covers(v) for v in (11, 12, 22)] == [False, True, False]


def rows_of(*types: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"domain": "", "op": "X", "since": 1, "until": None, "types": t} for t in types]


def test_compact_keeps_the_accepted_combinations() -> None:
    pairs = [("float", "int32"), ("float", "int64"), ("double", "int32"), ("double", "int64"), ("float16", "int64")]
    table = compact(rows_of(*({"T": [f"tensor({a})"], "I": [f"tensor({b})"]} for a, b in pairs)))
    kernels = [
        Kernel(s, u, {n: frozenset(table["sets"][i]) for n, i in t.items()}) for s, u, t in table["kernels"][""]["X"]
    ]
    names = ("float", "double", "float16", "int32", "int64")
    taken = {(a, b) for a in names for b in names if any(k.takes({"T": a, "I": b}) for k in kernels)}
    assert taken == set(pairs)
    assert len(kernels) < len(pairs)


def test_compact_keeps_unconstrained_kernels_apart() -> None:
    table = compact(rows_of({}, {"T": ["tensor(float)"]}))
    assert sorted(len(types) for _, _, types in table["kernels"][""]["X"]) == [0, 1]


def test_tables_are_those_of_the_installed_runtime() -> None:
    runtime = pytest.importorskip("onnxruntime")
    stored = read("kernels_cpu.json")
    if runtime.__version__ != stored["onnxruntime"]:
        pytest.skip(f"tables are of onnxruntime {stored['onnxruntime']}")
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    live = compact(row for row in live_rows(state) if row["provider"] == stored["provider"])
    assert live == {"sets": stored["sets"], "kernels": stored["kernels"]}
