"""cpu: onnxruntime's CPUExecutionProvider."""

from __future__ import annotations

from fcc.rewrite.pipeline import Pipeline
from fcc.target import TargetSpec

from .base import Backend


def backend(target: TargetSpec) -> Backend:
    """Return the backend of the cpu target."""
    return Backend(target, Pipeline(()))
