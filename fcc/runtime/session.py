"""Sessions: a model loaded by onnxruntime, fed and read as numpy arrays by name."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fcc.data.spec import Array, Feeds, TensorSpec, parse_type
from fcc.errors import DataError, FccError, LoadError, TargetUnavailable
from fcc.limits import cancelling

from .deadly import deadly
from .ort import load_error, ort, require_provider, run_error

CPU = "CPUExecutionProvider"
Source = bytes | str | os.PathLike[str]
# Where the CPU stands in for a device, its integer kernels must not saturate (other devices add products in int32), nor
# may it quantize what is float in the model.
STAND_IN = {
    "session.x64quantprecision": "1",
    "optimization.disable_specified_optimizers": "WeightBiasQuantization",
}
_FATAL = 4
_NATIVE = frozenset("?bBhHiIlLqQefdFDO")  # numpy type codes that onnxruntime converts by itself


class Session:
    """A loaded model: ``inputs`` and ``outputs`` as TensorSpec, ``run`` from names to arrays."""

    def __init__(self, raw: Any, what: str) -> None:
        self.raw = raw
        self.what = what
        defaults = raw.get_overridable_initializers()
        self.inputs = tuple(_spec(a) for a in raw.get_inputs()) + tuple(_spec(a, True) for a in defaults)
        self.outputs = tuple(_spec(a) for a in raw.get_outputs())
        self._names = [o.name for o in self.outputs]
        self._exotic = any(s.dtype.char not in _NATIVE for s in self.inputs + self.outputs)
        self._run_options = ort().RunOptions()
        self._run_options.log_severity_level = _FATAL

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers in use, first choice first."""
        return tuple(self.raw.get_providers())

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Return every output by name: an array, or a list for a sequence.

        Raises:
            DataError: the feeds do not fit the inputs.
            LimitError: the time of the compile was up.
            RunError: the runtime failed.
        """
        try:
            with cancelling(self._stop):
                return dict(zip(self._names, self._run(feeds), strict=True))
        except FccError:
            raise
        except Exception as e:
            raise run_error(e, self.what) from e

    def _run(self, feeds: Feeds) -> list[Any]:
        if self._exotic:
            return self._run_exotic(feeds)
        return list(self.raw.run(self._names, dict(feeds), self._run_options))

    def _stop(self) -> None:
        """End a run, between two nodes; the session does not run again."""
        self._run_options.terminate = True

    def _run_exotic(self, feeds: Feeds) -> list[Any]:
        """Run with element types that onnxruntime does not map to numpy (bfloat16, float8)."""
        values = {name: _to_ort(value) for name, value in feeds.items()}
        results = self.raw.run_with_ort_values(self._names, values, self._run_options)
        return [_from_ort(r, s) for r, s in zip(results, self.outputs, strict=True)]


def open_session(
    model: Source,
    *,
    provider: str = CPU,
    optimize: bool | str = True,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    provider_options: Mapping[str, str] | None = None,
    custom_ops: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    save_optimized: str | os.PathLike[str] | None = None,
) -> Session:
    """Load a model from bytes or a path (a path is needed above 2 GB).

    ``optimize`` is False for none, True for all, or basic/extended; ``threads`` counts the intra-op pool;
    ``options`` are session config entries; ``folder`` holds the external data of a model given as bytes;
    ``save_optimized`` writes the graph as the runtime sees it.

    Raises:
        TargetUnavailable: onnxruntime or the provider is missing, or the provider could not start.
        LoadError: the runtime cannot read the model.
        TargetError: the provider lacks a kernel.
    """
    require_provider(provider)
    what = "the model" if isinstance(model, bytes) else str(os.fspath(model))
    if not custom_ops and (why := deadly(model)):
        raise LoadError(f"onnxruntime cannot load {what}: {why}", "name its library with --custom-ops")
    entries = dict(options or {})
    if folder is not None and isinstance(model, bytes):
        entries["session.model_external_initializers_file_folder_path"] = os.fspath(folder)
    so = _session_options(optimize, threads, entries, custom_ops)
    if save_optimized is not None:
        so.optimized_model_filepath = os.fspath(save_optimized)
    chosen: list[Any] = [(provider, dict(provider_options or {}))]
    if provider != CPU:
        chosen.append(CPU)
    try:
        with cancelling(partial(so.set_load_cancellation_flag, True)):
            raw = ort().InferenceSession(model if isinstance(model, bytes) else os.fspath(model), so, providers=chosen)
    except FccError:
        raise
    except Exception as e:
        raise load_error(e, what) from e
    if raw.get_providers()[0] != provider:
        raise _did_not_start(provider)
    return Session(raw, what)


def _session_options(optimize: bool | str, threads: int, entries: Mapping[str, str], libraries: Iterable[str]) -> Any:
    so, level = ort().SessionOptions(), ort().GraphOptimizationLevel
    levels = {
        False: level.ORT_DISABLE_ALL,
        True: level.ORT_ENABLE_ALL,
        "basic": level.ORT_ENABLE_BASIC,
        "extended": level.ORT_ENABLE_EXTENDED,
    }
    so.graph_optimization_level = levels[optimize]
    so.log_severity_level = _FATAL
    so.intra_op_num_threads = threads
    so.inter_op_num_threads = 1
    for key, value in entries.items():
        so.add_session_config_entry(key, value)
    for library in libraries:
        try:
            so.register_custom_ops_library(os.fspath(library))
        except Exception as e:
            raise LoadError(f"cannot load the custom operators in {library}", "check the path of --custom-ops") from e
    return so


def _did_not_start(provider: str) -> FccError:
    return TargetUnavailable(
        f"{provider} is installed but could not start", "check its driver and libraries", target=provider
    )


def _spec(arg: Any, optional: bool = False) -> TensorSpec:
    kind, dtype = parse_type(arg.type)
    shape = arg.shape if kind == "tensor" else None
    dims = None if shape is None else tuple(None if isinstance(d, int) and d < 0 else d for d in shape)
    return TensorSpec(arg.name, dtype, dims, optional, kind)


def _to_ort(value: Any) -> Any:
    values = ort().OrtValue
    if isinstance(value, np.ndarray) and value.dtype.char not in _NATIVE:
        from fcc.ir import DataType

        code = DataType.from_numpy(value.dtype).value
        return values.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(value), code)
    return values.ortvalue_from_numpy(np.asarray(value))


def _from_ort(value: Any, spec: TensorSpec) -> Any:
    if spec.dtype.char in _NATIVE or spec.kind != "tensor":
        return value.numpy()
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if spec.dtype.name in ("int4", "uint4"):
        raise DataError(f"output {spec.name} is {spec.dtype}: onnxruntime cannot hand it out", "cast it to int8")
    raw: Array = np.frombuffer(ctypes.string_at(value.data_ptr(), count * spec.dtype.itemsize), spec.dtype)
    return raw.reshape(shape).copy()
