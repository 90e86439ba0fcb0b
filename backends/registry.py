"""get_backend(): the backend of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fcc.errors import TargetError, did_you_mean
from fcc.rewrite import Pass
from fcc.target import TargetSpec

from . import cpu, cuda, tensorrt
from .base import Backend
from .fp16 import ConvertFp16
from .lower_activations import LowerActivations
from .lower_contrib import LowerContrib, LowerSimplified
from .lower_normalization import LowerNormalization
from .lower_ranges import LowerRanges
from .lower_reductions import LowerReductions
from .lower_shape_chains import LowerShapeChains
from .lower_trigonometry import LowerTrigonometry
from .lower_windows import LowerWindows

_BACKENDS: Mapping[str, Callable[[TargetSpec], Backend]] = {
    "cpu": cpu.backend,
    "cuda": cuda.backend,
    "tensorrt": tensorrt.backend,
}


PASSES: tuple[type[Pass], ...] = (
    LowerContrib,
    LowerSimplified,
    LowerActivations,
    LowerReductions,
    LowerNormalization,
    LowerTrigonometry,
    LowerWindows,
    LowerRanges,
    LowerShapeChains,
    ConvertFp16,
)


def get_backend(target: TargetSpec) -> Backend:
    """Return the backend of a target.

    Raises:
        TargetError: no backend has this name.
    """
    if target.name not in _BACKENDS:
        raise TargetError(f"no backend for target {target.name!r}", did_you_mean(target.name, _BACKENDS))
    return _BACKENDS[target.name](target)
