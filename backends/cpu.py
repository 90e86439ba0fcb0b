"""cpu: onnxruntime's CPUExecutionProvider."""

from __future__ import annotations

from fcc.rewrite.pipeline import Pipeline
from fcc.target import TargetSpec

from .base import Backend
from .lower_activations import LowerActivations
from .lower_normalization import LowerNormalization
from .lower_ranges import LowerRanges
from .lower_reductions import LowerReductions


def backend(target: TargetSpec) -> Backend:
    """Return the backend of the cpu target: what onnxruntime would expand slowly is written by kernels."""
    return Backend(target, Pipeline((LowerActivations(), LowerReductions(), LowerNormalization(), LowerRanges())))
