"""get_backend(): the backend of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fcc.errors import TargetError, did_you_mean
from fcc.target import TargetSpec

from . import cpu, cuda, tensorrt
from .base import Backend

_BACKENDS: Mapping[str, Callable[[TargetSpec], Backend]] = {
    "cpu": cpu.backend,
    "cuda": cuda.backend,
    "tensorrt": tensorrt.backend,
}


def get_backend(target: TargetSpec) -> Backend:
    """Return the backend of a target.

    Raises:
        TargetError: no backend has this name.
    """
    if target.name not in _BACKENDS:
        raise TargetError(f"no backend for target {target.name!r}", did_you_mean(target.name, _BACKENDS))
    return _BACKENDS[target.name](target)
