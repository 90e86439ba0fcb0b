"""cuda: onnxruntime's CUDAExecutionProvider, the CPU behind it."""

from __future__ import annotations

from fcc.passes.convert_sequences import ConvertSequences
from fcc.rewrite.pipeline import Pipeline
from fcc.target import TargetSpec

from .base import Backend
from .lint import borders, missing_kernels, opset_window, static_int8
from .lower_activations import LowerActivations
from .lower_borders import LowerBorders
from .lower_normalization import LowerNormalization
from .lower_opset import LowerOpset
from .lower_ranges import LowerRanges
from .lower_reductions import LowerReductions
from .lower_shape_chains import LowerShapeChains
from .lower_trigonometry import LowerTrigonometry
from .lower_windows import LowerWindows


def backend(target: TargetSpec) -> Backend:
    """Return the backend of the cuda target: an op without a CUDA kernel costs two copies and the CUDA graph."""
    lowerings = Pipeline(
        (
            LowerOpset(),
            ConvertSequences(),
            LowerActivations(),
            LowerReductions(),
            LowerNormalization(),
            LowerTrigonometry(),
            LowerWindows(),
            LowerRanges(),
            LowerShapeChains(),
            LowerBorders(),
        )
    )
    return Backend(target, lowerings, rules=(missing_kernels, borders, opset_window, static_int8))
