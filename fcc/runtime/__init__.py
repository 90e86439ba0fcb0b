"""The only maker of onnxruntime sessions: run, tap, count kernels, time. Imports onnxruntime when first used."""

from .inspect import kernels, tap, tensor_names
from .ort import RunError, available, require_provider
from .session import CPU, Session, Source, open_session
from .timing import Timing, measure, time_ratio

__all__ = [
    "CPU",
    "RunError",
    "Session",
    "Source",
    "Timing",
    "available",
    "kernels",
    "measure",
    "open_session",
    "require_provider",
    "tap",
    "tensor_names",
    "time_ratio",
]
