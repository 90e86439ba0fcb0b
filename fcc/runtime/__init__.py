"""The only maker of onnxruntime sessions: run, tap, count kernels, time. Imports onnxruntime when first used."""

from .inspect import kernels, tap, tensor_names
from .ort import RunError, available, require_provider, runtime_version
from .session import CPU, STAND_IN, Session, Source, open_session
from .timing import Timing, measure, race, time_ratio

__all__ = [
    "CPU",
    "STAND_IN",
    "RunError",
    "Session",
    "Source",
    "Timing",
    "available",
    "kernels",
    "measure",
    "open_session",
    "race",
    "require_provider",
    "runtime_version",
    "tap",
    "tensor_names",
    "time_ratio",
]
