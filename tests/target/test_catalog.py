"""Targets, their conditions, options and int8 schemes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcc.errors import OptionError, TargetError
from fcc.target import FACTS, NodeFacts, get_target, isas, targets
from fcc.target.isa import native_isa

FULL = {"T": "float"}


def refusal(target: str, op: str, version: int = 21, dtypes: dict[str, str] = FULL, **facts: Any) -> str | None:
    return get_target(target).refusal(op, "", version, dtypes, NodeFacts(facts.pop("attributes", {}), **facts))


def test_names_and_typos() -> None:
    assert targets() == ("cpu", "cuda", "tensorrt")
    with pytest.raises(TargetError, match="did you mean 'cuda'") as error:
        get_target("cudda")
    assert error.value.target == "cudda"
    with pytest.raises(OptionError, match="did you mean 'avx2'"):
        get_target("cpu", isa="avx")


def test_specs_are_frozen_and_shared() -> None:
    spec = get_target("cpu")
    assert get_target("cpu") is spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]


def test_windows_and_providers() -> None:
    assert get_target("cpu").opsets == (7, 26)
    assert get_target("tensorrt").opsets == (9, 24)
    assert get_target("tensorrt").providers[-1] == "CPUExecutionProvider"


@pytest.mark.parametrize("isa", isas())
def test_int8_scheme_per_isa(isa: str) -> None:
    scheme = get_target("cpu", isa=isa).qdq
    assert scheme is not None
    assert scheme.weight_dtype == "int8"
    if isa == "avx2":
        assert scheme.pair_safe
    if isa in ("vnni", "arm"):
        assert not scheme.pair_safe
        assert scheme.activation_dtype == ("uint8" if isa == "vnni" else "int8")


def test_weight_axes() -> None:
    scheme = get_target("cpu").qdq
    assert scheme is not None
    assert scheme.rules["Conv"].weight_axis({}, 4) == 0
    assert scheme.rules["MatMul"].weight_axis({}, 2) == 1
    assert scheme.rules["Gemm"].weight_axis({}, 2) == 1
    assert scheme.rules["Gemm"].weight_axis({"transB": 1}, 2) == 0
    assert set(scheme.rules) == {"Conv", "Gemm", "MatMul"}
    assert scheme.pass_through == {"MaxPool": 12}


def test_cuda_refuses_int8_with_a_way_out() -> None:
    spec = get_target("cuda")
    assert spec.qdq is None
    reason, alternative = spec.int8_refusal
    assert "never fuses static int8" in reason
    assert all(word in alternative for word in ("fp16", "int4", "int8-weights"))


def test_tensorrt_quantizes_operands_only() -> None:
    scheme = get_target("tensorrt").qdq
    assert scheme is not None
    assert (scheme.activation_dtype, scheme.symmetric, scheme.float_operands) == ("int8", True, True)
    assert scheme.rules["ConvTranspose"].weight_axis({}, 4) == 1
    assert not any(rule.needs_output_q or rule.absorbs for rule in scheme.rules.values())


def test_options_follow_the_facts() -> None:
    cuda = get_target("cuda")
    assert cuda.recommended() == {}
    assert cuda.recommended({"graph-capture"}) == {"CUDAExecutionProvider": {"enable_cuda_graph": "1"}}
    assert get_target("tensorrt").recommended()["TensorrtExecutionProvider"]["trt_engine_cache_enable"] == "1"
    assert get_target("cpu").recommended({"denormal-weights"}) == {"": {"session.set_denormal_as_zero": "1"}}
    assert {row.when for name in targets() for row in get_target(name).options} - {""} == FACTS


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("LSTM", {"clip": 1.0}, "clip"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}, "activations"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Relu"]}, "activations"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("GRU", {}, "linear_before_reset"),
        ("RNN", {"activations": ["Relu"]}, "activations"),
        ("RNN", {"layout": 1}, "layout"),
        ("ConvTranspose", {"pads": [0, 1, 1, 1]}, "pads"),
        ("ConvTranspose", {"auto_pad": "SAME_UPPER"}, "auto_pad"),
        ("ArgMax", {"select_last_index": 1}, "select_last_index"),
    ],
)
def test_cuda_conditions(op: str, attributes: dict[str, Any], reason: str) -> None:
    assert reason in (refusal("cuda", op, attributes=attributes) or "")


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LSTM", {"activations": ["sigmoid", "TANH", "tanh"] * 2, "direction": "bidirectional", "input_forget": 0}),
        ("GRU", {"linear_before_reset": 1}),
        ("ConvTranspose", {"pads": [1, 2, 1, 2], "auto_pad": "NOTSET"}),
        ("ArgMax", {"axis": 1}),
    ],
)
def test_cuda_conditions_met(op: str, attributes: dict[str, Any]) -> None:
    assert refusal("cuda", op, attributes=attributes) is None


def test_peephole_is_an_input() -> None:
    assert "peepholes" in (refusal("cuda", "LSTM", inputs=[True] * 3 + [False] * 4 + [True]) or "")
    assert refusal("cuda", "LSTM", inputs=[True] * 3) is None


@pytest.mark.parametrize("op", ["QLinearConv", "MatMulInteger", "Unique", "DFT", "BitShift", "SequenceAt", "Col2Im"])
def test_tensorrt_lacks(op: str) -> None:
    assert refusal("tensorrt", op, dtypes={}) == f"TensorRT has no {op}"


def test_tensorrt_types_and_domains() -> None:
    spec = get_target("tensorrt")
    assert spec.refusal("Relu", "", 14, {"T": "double"}) is None
    assert "not uint8" in (spec.refusal("Relu", "", 14, {"T": "uint8"}) or "")
    assert "not bool" in (spec.refusal("NonZero", "", 13, {"T": "bool"}) or "")
    assert "standard ONNX ops only" in (spec.refusal("Gelu", "com.microsoft", 1, {"T": "float"}) or "")
    assert spec.refusal("Swish", "", 24, {"T": "float"}) == "Swish needs TensorRT 11"


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("MaxPool", {"shapes": [(1, 3, 8)]}, "2-D or 3-D"),
    ("MaxPool", {"outputs": [True, True]}, "Indices"),
    ("MaxPool", {"attributes": {"dilations": [1, 2]}}, "dilations"),
    ("ReduceMean", {"inputs": [True, True]}, "axes"),
    ("Resize", {"attributes": {"mode": "cubic"}}, "mode"),
    ("Resize", {"attributes": {"antialias": 1}}, "antialias"),
    ("TopK", {"inputs": [True, True], "constants": [None, np.array([4000])]}, "3840"),
    ("TopK", {"attributes": {"sorted": 0}}, "sorted"),
    ("EyeLike", {"shapes": [(None, 3)]}, "static"),
    ("GridSample", {"shapes": [(1, 1, 4, 4, 4)]}, "4-D"),
    ("QuantizeLinear", {"inputs": [True] * 3, "constants": [None, np.float32(1), np.int8(1)]}, "zero point must be 0"),
    ("QuantizeLinear", {"inputs": [True] * 2, "constants": [None, np.float32(0)]}, "positive"),
    ("QuantizeLinear", {"inputs": [True] * 2, "constants": [None, None]}, "scale must be a constant"),
    ("Dropout", {"inputs": [True] * 3, "constants": [None, None, np.array(True)]}, "training_mode"),
    ("LSTM", {"attributes": {"direction": "bidirectional", "activations": list("abcabd")}}, "both directions"),
]


@pytest.mark.parametrize(("op", "facts", "reason"), CASES)
def test_tensorrt_conditions(op: str, facts: dict[str, Any], reason: str) -> None:
    assert reason in (refusal("tensorrt", op, **dict(facts)) or "")


@pytest.mark.parametrize("op", sorted({op for op, _, _ in CASES} - {"EyeLike"}))
def test_tensorrt_judges_only_what_is_known(op: str) -> None:
    assert refusal("tensorrt", op) is None


def test_tensorrt_conditions_met() -> None:
    quantize: dict[str, Any] = {
        "inputs": [True] * 3,
        "constants": [None, np.float32(0.1), np.int8(0)],
        "shapes": [(2, 3), (), ()],
    }
    assert refusal("tensorrt", "QuantizeLinear", **quantize) is None
    assert refusal("tensorrt", "MaxPool", shapes=[(None, 3, 8, None)], attributes={"dilations": [1, 1]}) is None
    assert refusal("tensorrt", "ReduceMean", inputs=[True, True], constants=[None, np.array([1])]) is None


@pytest.mark.parametrize(
    ("machine", "flags", "isa"),
    [
        ("x86_64", "fma avx2", "avx2"),
        ("x86_64", "avx2 avx_vnni", "vnni"),
        ("aarch64", "", "arm"),
        ("x86_64", None, "avx2"),
    ],
)
def test_native_isa(machine: str, flags: str | None, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert native_isa(tmp_path / "cpuinfo") == isa
