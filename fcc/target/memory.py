"""Which operands of CUDA kernels lie in host memory, and which integer nodes onnxruntime runs on the CPU on purpose.

Read from the kernel definitions of onnxruntime's CUDA provider, and from fallback_cpu_capability.cc.
"""

from __future__ import annotations

from collections.abc import Mapping

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

HOST_INPUTS: Mapping[str, frozenset[int]] = {
    "CenterCropPad": frozenset({1}),
    "Clip": frozenset({1, 2}),
    "ConstantOfShape": frozenset({0}),
    "CumSum": frozenset({1}),
    "Dropout": frozenset({1, 2}),
    "Expand": frozenset({1}),
    "If": frozenset({0}),
    "Loop": frozenset({0, 1}),
    "NonMaxSuppression": frozenset({2, 3, 4}),
    "OneHot": frozenset({1, 2}),
    "Pad": frozenset({1, 2, 3}),
    "Range": frozenset({0, 1, 2}),
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": frozenset({1}),
    "Squeeze": frozenset({1}),
    "Tile": frozenset({1}),
    "TopK": frozenset({1}),
    "Trilu": frozenset({1}),
    "Unsqueeze": frozenset({1}),
    "Upsample": frozenset({1}),
    **{f"Reduce{name}": frozenset({1}) for name in _REDUCTIONS},
}
"""Op -> inputs that its CUDA kernel reads from host memory."""

HOST_OUTPUTS = frozenset({"Shape", "Size"})
"""Ops whose CUDA kernel writes to host memory."""

SMALL_CONSTANT = 100
"""Elements up to which a constant does not keep a node from being moved to the CPU with its other inputs."""

DEVICE_ONLY = frozenset({"float16", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"})
"""Element types that keep a node on the device."""
