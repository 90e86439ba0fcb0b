"""The targets: one row each for cpu, cuda and tensorrt (evidence: onnxruntime 1.31.1, TensorRT 10)."""

from __future__ import annotations

from functools import cache

from fcc.errors import OptionError, TargetError, did_you_mean
from fcc.target.isa import native_isa
from fcc.target.qdq import ISA_TYPES, cpu_scheme, tensorrt_scheme
from fcc.target.restrictions import (
    activations_differ,
    activations_not,
    asymmetric_pads,
    attribute_given,
    attribute_in,
    attribute_not,
    attribute_not_in,
    constant_at_least,
    constant_nonzero,
    constant_not_positive,
    dynamic_shape,
    input_given,
    not_all_ones,
    not_constant,
    output_used,
    rank_not_in,
    restriction,
)
from fcc.target.spec import OptionRow, TargetSpec

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

# Facts of a model that recommended options depend on; the backends establish them.
FACTS = frozenset({"denormal-weights", "fp16-conv", "dynamic-shapes", "graph-capture", "data-dependent-shapes"})

_RECURRENT = "LSTM GRU RNN"
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)

_CPU_RESTRICTIONS = (restriction(_RECURRENT, attribute_not("layout", 0, default=0), "layout must be 0"),)

# onnxruntime core/providers/cuda/cuda_execution_provider.cc (the *NeedFallbackToCPU functions).
_CUDA_RESTRICTIONS = (
    *_CPU_RESTRICTIONS,
    restriction("LSTM", activations_not("sigmoid", "tanh", "tanh"), "activations must be the default ones"),
    restriction("GRU", activations_not("sigmoid", "tanh"), "activations must be the default ones"),
    restriction("RNN", activations_not("tanh"), "activations must be the default ones"),
    restriction(_RECURRENT, attribute_given("clip"), "clip is not supported"),
    restriction(_RECURRENT, attribute_given("activation_alpha"), "activation_alpha is not supported"),
    restriction(_RECURRENT, attribute_given("activation_beta"), "activation_beta is not supported"),
    restriction("LSTM", attribute_not("input_forget", 0, default=0), "input_forget must be 0"),
    restriction("LSTM", input_given(7), "peepholes are not supported"),
    restriction("GRU", attribute_not("linear_before_reset", 1, default=0), "linear_before_reset must be 1"),
    restriction("ConvTranspose", asymmetric_pads, "pads must be symmetric"),
    restriction("ConvTranspose", attribute_in("auto_pad", ("SAME_UPPER", "SAME_LOWER")), "auto_pad must not be SAME_*"),
    restriction("ArgMax ArgMin", attribute_not("select_last_index", 0, default=0), "select_last_index must be 0"),
)

# onnx-tensorrt docs/operators.md at 2f3fa349 (see tensorrt.json) and onnxOpImporters.cpp at 96e78110 (Q/DQ).
_TENSORRT_RESTRICTIONS = (
    restriction("AveragePool MaxPool", rank_not_in((4, 5), 0), "pooling must be 2-D or 3-D"),
    restriction("AveragePool MaxPool LpPool", not_all_ones("dilations"), "dilations must be 1"),
    restriction("MaxPool", output_used(1), "output Indices is not supported"),
    restriction("Attention", rank_not_in((4,), 0, 1, 2, 3), "Q, K, V and attn_mask must be 4-D"),
    *(restriction("Attention", input_given(i), "past and nonpad_kv_seqlen are not supported") for i in (4, 5, 6)),
    *(restriction("Attention", output_used(i), "only output Y is supported") for i in (1, 2, 3)),
    restriction("Attention", attribute_not_in("softcap", (0, 0.0), default=0.0), "softcap is not supported"),
    restriction("CumSum", not_constant(1), "axis must be a constant"),
    restriction("DeformConv", rank_not_in((3, 4), 0), "X must have one or two spatial dims"),
    restriction("DeformConv", asymmetric_pads, "pads must be symmetric"),
    restriction("Dropout", not_constant(2), "training_mode must be a constant"),
    restriction("Dropout", constant_nonzero(2), "training_mode must be false"),
    restriction("EyeLike", dynamic_shape(0), "the input must have static dims"),
    restriction("GridSample", rank_not_in((4,), 0), "X must be 4-D"),
    restriction(_RECURRENT, activations_differ, "both directions must have the same activations"),
    restriction(_RECURRENT, attribute_not("layout", 0, default=0), "layout must be 0"),
    restriction("LSTM", attribute_not("input_forget", 0, default=0), "input_forget must be 0"),
    *(restriction("LayerNormalization", output_used(i), "only output Y is supported") for i in (1, 2)),
    restriction("OneHot", not_constant(1), "depth must be a constant"),
    restriction(_REDUCTIONS, not_constant(1), "axes must be a constant"),
    restriction("Squeeze Unsqueeze", not_constant(1), "axes must be a constant"),
    restriction("Resize", attribute_not_in("mode", ("nearest", "linear"), default="nearest"),
                "mode must be nearest or linear"),
    restriction("Resize", attribute_not("antialias", 0, default=0), "antialias is not supported"),
    restriction("Resize",
                attribute_in("coordinate_transformation_mode", ("tf_crop_and_resize", "half_pixel_symmetric")),
                "coordinate_transformation_mode is not supported"),
    restriction("Resize", attribute_not("keep_aspect_ratio_policy", "stretch", default="stretch"),
                "keep_aspect_ratio_policy must be stretch"),
    restriction("ScatterND", attribute_not("reduction", "none", default="none"), "reduction must be none"),
    restriction("STFT", not_constant(1), "frame_step must be a constant"),
    restriction("STFT", not_constant(2), "window must be a constant"),
    restriction("TensorScatter", rank_not_in((4,), 0, 1), "past_cache and update must be 4-D"),
    restriction("TensorScatter", attribute_not("axis", -2, default=-2), "axis must be -2"),
    restriction("TopK", attribute_not("sorted", 1, default=1), "sorted must be 1"),
    restriction("TopK", constant_at_least(1, 3840), "K must be below 3840"),
    restriction("QuantizeLinear DequantizeLinear", not_constant(1), "the scale must be a constant"),
    restriction("QuantizeLinear DequantizeLinear", constant_not_positive(1), "scales must be positive"),
    restriction("QuantizeLinear DequantizeLinear", not_constant(2), "the zero point must be a constant"),
    restriction("QuantizeLinear DequantizeLinear", constant_nonzero(2), "the zero point must be 0"),
    restriction("QuantizeLinear DequantizeLinear", rank_not_in(tuple(range(1, 9)), 0), "the data must not be a scalar"),
)  # fmt: skip

# Sums and powers over data pass 65504 in ordinary models (x^2 of a decomposed LayerNormalization at |x| > 255).
_FP16_ISLANDS = frozenset(
    {"CumSum", "Exp", "Pow", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSum"}
    | {"ReduceSumSquare"}
)
_KEEP_FLOAT = {
    ("", "Resize"): frozenset({2}),
    ("", "Upsample"): frozenset({1}),
    ("com.microsoft", "GroupNorm"): frozenset({1, 2}),
    ("com.microsoft", "SkipGroupNorm"): frozenset({1, 2}),
}

_CUDA_OPTIONS = (
    OptionRow(CUDA, "cudnn_conv_algo_search", "HEURISTIC", when="dynamic-shapes"),
    OptionRow(CUDA, "prefer_nhwc", "1", when="fp16-conv"),
    OptionRow(CUDA, "enable_cuda_graph", "1", when="graph-capture"),
)
_TENSORRT_OPTIONS = (
    OptionRow(TENSORRT, "trt_engine_cache_enable", "1"),
    OptionRow(TENSORRT, "trt_timing_cache_enable", "1"),
    OptionRow(TENSORRT, "trt_builder_optimization_level", "3"),
    OptionRow(TENSORRT, "trt_cuda_graph_enable", "1", when="graph-capture"),
    OptionRow(TENSORRT, "trt_op_types_to_exclude", "NonMaxSuppression,NonZero,RoiAlign", when="data-dependent-shapes"),
    *_CUDA_OPTIONS,
)


def _cpu(isa: str) -> TargetSpec:
    return TargetSpec(
        name="cpu",
        isa=isa,
        providers=(CPU,),
        opsets=(7, 26),
        domains=frozenset({"", "ai.onnx.ml", "com.microsoft"}),
        restrictions=_CPU_RESTRICTIONS,
        fp16_islands=frozenset(),
        keep_float={},
        options=(OptionRow("", "session.set_denormal_as_zero", "1", when="denormal-weights"),),
        channel_blocks=(16, 8),
        qdq=cpu_scheme(isa),
    )


def _cuda(isa: str) -> TargetSpec:
    return TargetSpec(
        name="cuda",
        isa=isa,
        providers=(CUDA, CPU),
        opsets=(7, 26),
        domains=frozenset({"", "com.microsoft"}),
        restrictions=_CUDA_RESTRICTIONS,
        fp16_islands=_FP16_ISLANDS,
        keep_float=_KEEP_FLOAT,
        options=_CUDA_OPTIONS,
        channel_blocks=(32, 8),
        int8_refusal=(
            "onnxruntime's CUDA provider never fuses static int8: every Q and DQ runs around a float kernel",
            "use --precision fp16, or int4 or int8-weights (weights only); --target cpu and tensorrt run static int8",
        ),
    )


def _tensorrt(isa: str) -> TargetSpec:
    return TargetSpec(
        name="tensorrt",
        isa=isa,
        providers=(TENSORRT, CUDA, CPU),
        opsets=(9, 24),
        domains=frozenset({""}),
        restrictions=_TENSORRT_RESTRICTIONS,
        fp16_islands=_FP16_ISLANDS,
        keep_float=_KEEP_FLOAT,
        options=_TENSORRT_OPTIONS,
        channel_blocks=(32, 8),
        qdq=tensorrt_scheme(),
    )


_TARGETS = {"cpu": _cpu, "cuda": _cuda, "tensorrt": _tensorrt}


def targets() -> tuple[str, ...]:
    """Return the names of the targets."""
    return tuple(_TARGETS)


def isas() -> tuple[str, ...]:
    """Return the names that ``--cpu-isa`` takes."""
    return (*ISA_TYPES, "native")


def get_target(name: str, *, isa: str = "avx2") -> TargetSpec:
    """Return a target; ``isa`` is what its CPU kernels may use, ``native`` what this machine has.

    Raises TargetError for an unknown target and OptionError for an unknown isa, both naming the nearest.
    """
    if name not in _TARGETS:
        raise TargetError(f"unknown target {name!r}", did_you_mean(name, _TARGETS), target=name)
    if isa not in isas():
        raise OptionError(f"unknown instruction set {isa!r}", did_you_mean(isa, isas()))
    return _build(name, native_isa() if isa == "native" else isa)


@cache
def _build(name: str, isa: str) -> TargetSpec:
    return _TARGETS[name](isa)
