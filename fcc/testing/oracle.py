"""Two evaluators and a comparison that knows rounding, cancellation and overflow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from fcc.errors import FccError
from fcc.runtime import available, open_session
from fcc.runtime.ort import RunError
from fcc.runtime.protos import FLOATS, declared, widened

from .compare import TOLERANCE

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Any]
CANCELLED = 8.0
OVERFLOWED = 8.0  # beside what left the range, other numbers are no measure of the magnitudes that were added


class Evaluator:
    """A loaded model: onnxruntime with optimizations off where it has every kernel, else onnx.reference."""

    def __init__(self, model: onnx.ModelProto, runtime: bool = True) -> None:
        self.names = [o.name for o in model.graph.output]
        self.session, self.reference = None, None
        if runtime and "CPUExecutionProvider" in available():
            self.session = open_session(model.SerializeToString(), optimize=False)
        else:
            self.reference = ReferenceEvaluator(model)

    def run(self, feeds: Feeds) -> list[Array]:
        """Return the outputs in order; raises whatever the evaluator raises."""
        if self.session is not None:
            found = self.session.run(dict(feeds))
            return [np.asarray(found[n]) for n in self.names]
        assert self.reference is not None
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [np.asarray(y) for y in self.reference.run(None, dict(feeds))]


def evaluators(model: onnx.ModelProto) -> list[Evaluator]:
    """Return the evaluators that can load a model, the runtime first."""
    found = []
    for runtime in (True, False):
        try:
            found.append(Evaluator(model, runtime))
        except FccError:
            continue
        except Exception:  # the reference evaluator lacks operators and raises anything
            if runtime:
                raise
    return found


def coarsest(model: onnx.ModelProto) -> float:
    """Return the tolerance of the coarsest float type of a model."""
    kinds = {v.type.tensor_type.elem_type for v in declared(model)}
    kinds |= {t.data_type for t in model.graph.initializer}
    kinds |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    names = {str(onnx.helper.tensor_dtype_to_np_dtype(k)) for k in kinds if k in FLOATS}
    if any(n.domain == "com.microsoft" for n in model.graph.node):
        names.add("float32")  # onnxruntime's own operators hold float32 constants in float64 kernels
    return max((TOLERANCE[n] for n in names), default=TOLERANCE["float64"])


def difference(old: Array, new: Array, limit: float, strict: bool = False) -> str:
    """Return how two outputs differ beyond a limit, '' when they do not.

    ``strict``: also where the old one is not finite; without it such places are left out, since a rewrite that is exact
    within rounding may overflow elsewhere.
    """
    if old.dtype != new.dtype or old.shape != new.shape:
        return f"{old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}"
    if old.size == 0 or old.dtype.kind not in "fV":
        return "" if np.array_equal(old, new) else f"{old.ravel()[:6]} became {new.ravel()[:6]}"
    with np.errstate(all="ignore"):
        x, y = old.astype(np.float64), new.astype(np.float64)
    finite = np.isfinite(x)
    if strict and not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return f"{x[~finite][:6]} became {y[~finite][:6]}"
    if not np.isfinite(y[finite]).all():
        return f"{x[finite][~np.isfinite(y[finite])][:6]} became not finite"
    error = distance(x, y) if finite.all() else distance(x, y) / OVERFLOWED
    return "" if error <= limit else f"error {error:.3g} above {limit:.3g}: {x.ravel()[:6]} became {y.ravel()[:6]}"


def distance(x: Array, y: Array) -> float:
    """Return max|x - y| / max(1, max|x|) over the places where both are finite."""
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        return 0.0
    with np.errstate(all="ignore"):
        return float(np.abs(x - y)[both].max() / max(1.0, np.abs(x[both]).max()))


def excused(source: onnx.ModelProto, feeds: Feeds, old: list[Array], new: list[Array], limit: float) -> bool:
    """Return whether float64 says that the old answer was as far off as the new one: cancellation or overflow.

    Only floats of equal shapes can be excused, and only where the wide answer exists.
    """
    try:
        wide = Evaluator(widened(source), runtime=False)
        exact = wide.run({k: v.astype(np.float64) if _floating(v) else v for k, v in feeds.items()})
    except Exception:
        return False
    for a, b, w in zip(old, new, exact, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype or w.shape != a.shape:
            return False
        if not _floating(a):
            if not np.array_equal(a, b) and np.array_equal(a, w):
                return False
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        lost = np.isfinite(w) & ~np.isfinite(y) & np.isfinite(x)
        if lost.any() or distance(w, y) > max(limit, CANCELLED * distance(w, x)):
            return False
    return True


def _floating(array: Array) -> bool:
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def failed_to_run(error: Exception) -> bool:
    """Return whether onnxruntime loaded a model and failed on these inputs."""
    return isinstance(error, RunError)
