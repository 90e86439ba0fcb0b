"""tensorrt: onnxruntime's TensorrtExecutionProvider, CUDA and the CPU behind it."""

from __future__ import annotations

from collections.abc import Mapping

from fcc import ir
from fcc.passes.convert_sequences import ConvertSequences
from fcc.rewrite.pipeline import Pipeline
from fcc.target import TargetSpec

from .base import Backend, Shapes
from .lint import borders, engines, missing_kernels, opset_window
from .lint_qdq import rejected_qdq
from .lint_qdq_placement import costly_qdq
from .lint_tensorrt import data_dependent, missing_profile, uint8_inside, unknown_types
from .lower_activations import LowerActivations
from .lower_contrib import LowerContrib, LowerSimplified
from .lower_opset import LowerOpset
from .lower_ranges import LowerRanges
from .profiles import profile

_RULES = (
    *(missing_kernels, borders, engines, opset_window, uint8_inside, rejected_qdq, costly_qdq),
    *(unknown_types, missing_profile, data_dependent),
)


def _options(module: ir.Module, target: TargetSpec, shapes: Shapes) -> Mapping[str, Mapping[str, str]]:
    return {target.providers[0]: profile(module, shapes.low, shapes.usual, shapes.high)}


def backend(target: TargetSpec) -> Backend:
    """Return the backend of the tensorrt target: standard ops only, every value typed, a profile for dynamic inputs."""
    lowerings = Pipeline(
        (LowerOpset(), ConvertSequences(), LowerContrib(), LowerSimplified(), LowerActivations(), LowerRanges())
    )
    return Backend(target, lowerings, rules=_RULES, complete_info=True, extra_options=_options)
