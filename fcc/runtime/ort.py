"""The only importer of onnxruntime: its import, its providers, and its errors in fcc's terms."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from fcc.errors import DataError, FccError, LoadError, TargetError, TargetUnavailable, did_you_mean

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_SOURCE = re.compile(r"(?:/\S+?\.(?:cc|h|cpp|cu)(?::\d+)?\s*)")
_EXTRA = {"CPUExecutionProvider": 'pip install "fcc[cpu]"'}


class RunError(TargetError):
    """The runtime loaded the model and failed to run it."""


def ort() -> Any:
    """Return the module onnxruntime.

    Unless ORT_DISABLE_TELEMETRY says otherwise, it keeps no device identifier and no telemetry under the user's home.

    Raises:
        TargetUnavailable: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    mine = "onnxruntime" not in sys.modules
    try:
        import onnxruntime
    except ImportError as e:
        raise TargetUnavailable(f"onnxruntime cannot be imported: {one_line(e)}", 'pip install "fcc[cpu]"') from e
    if mine:
        onnxruntime.set_default_logger_severity(4)  # what fails is raised; its own words are no part of the output
    return onnxruntime


def available() -> tuple[str, ...]:
    """Return the execution providers that this installation of onnxruntime holds; empty without onnxruntime."""
    try:
        return tuple(ort().get_available_providers())
    except TargetUnavailable:
        return ()


def runtime_version() -> str:
    """Return the version of onnxruntime, major and minor.

    Raises:
        TargetUnavailable: it is not installed.
    """
    return ".".join(str(ort().__version__).split(".")[:2])


def require_provider(provider: str) -> None:
    """Check that a provider exists here.

    Raises:
        TargetUnavailable: it does not; the hint says what to install, or the nearest name.
    """
    known = ort().get_available_providers()
    if provider not in known:
        gpu = provider in ort().get_all_providers()
        hint = _EXTRA.get(provider, 'pip install "fcc[gpu]"') if gpu else did_you_mean(provider, known)
        raise TargetUnavailable(f"onnxruntime has no {provider} here", hint, target=provider)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the message of an error of onnxruntime on one line, without its code and source positions."""
    text = _SOURCE.sub("", _CODE.sub("", " ".join(str(error).split())))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def load_error(error: Exception, what: str) -> FccError:
    """Return the error to raise when a session cannot be made; NOT_IMPLEMENTED means the provider lacks a kernel."""
    message = f"onnxruntime cannot load {what}: {one_line(error)}"
    if type(error).__name__ == "NotImplemented":
        return TargetError(message)
    return LoadError(message)


def run_error(error: Exception, what: str) -> FccError:
    """Return the error to raise when a run fails: feeds that do not fit are data, the rest is the runtime's."""
    text = one_line(error)
    misfit = ("Unexpected input data type", "Invalid rank for input", "Got invalid dimensions", "Required inputs")
    kind = DataError if any(m in text for m in misfit) or "Invalid input name" in text else RunError
    return kind(f"onnxruntime cannot run {what}: {text}")
