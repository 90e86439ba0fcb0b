"""A model in float64: the same computation by onnx's reference evaluator, as far as it knows the operators."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from fcc.data.spec import Feeds, Outputs, is_float
from fcc.errors import FccError, LoadError

from .inspect import read_proto
from .protos import widened
from .session import Source


class GlobalMaxPool(OpRun):  # type: ignore[misc]
    """y = max of x [N, C, D...] over D..., which keep size 1: onnx's own drops them (1.23)."""

    def _run(self, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any]]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Wide:
    """The float64 form of a model: every float of it, also float16, is a float64.

    Raises:
        LoadError: the evaluator cannot load it.
    """

    def __init__(self, source: Source, folder: str | None = None) -> None:
        try:
            if isinstance(source, bytes):
                proto = read_proto(source)
                if folder is not None:
                    load_external_data_for_model(proto, folder)
            else:
                proto = onnx.load(source)
            self._evaluator = ReferenceEvaluator(widened(proto), new_ops=[GlobalMaxPool])
        except Exception as error:  # whatever it raises
            raise LoadError(f"no float64 form: {type(error).__name__}: {error}") from error
        self._names = [o.name for o in proto.graph.output]

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name, floats as float64.

        Raises:
            FccError: the evaluator lacks an operator, or fails.
        """
        wide = {k: _wide(v) for k, v in feeds.items()}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return dict(zip(self._names, self._evaluator.run(None, wide), strict=True))
        except Exception as error:
            raise FccError(f"no float64 answer: {type(error).__name__}: {error}") from error


def _wide(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and is_float(value.dtype) else value
