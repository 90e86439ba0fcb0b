"""What is gathered as JSON and plain arrays, and back: nothing that is read can run code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from fcc.compress import calibrate, channels, gram, histogram, moments, patches

Array = np.ndarray[Any, Any]
KINDS: Mapping[str, Any] = {
    f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}": kind
    for kind in (
        calibrate.TensorStats,
        channels.Channels,
        gram.Gram,
        histogram.Histogram,
        moments.Gathered,
        moments.Moments,
        moments.Product,
        patches.Moments,
        patches.Window,
    )
}
_NAMES = {kind: name for name, kind in KINDS.items()}
_STATS = "calibrate.CalibrationStats"


def encode(thing: Any, arrays: list[Array]) -> Any:
    """Return a thing as what JSON takes; its arrays are added to the list and stand by their number.

    Raises:
        TypeError: it holds something else than numbers, texts, arrays, containers, and accumulators of fcc.
    """
    if thing is None or type(thing) in (bool, int, float, str):
        return thing
    if isinstance(thing, np.ndarray | np.generic):
        array = np.asarray(thing)
        if array.dtype.hasobject or array.dtype.kind == "V":
            raise TypeError(f"array of {array.dtype}")
        arrays.append(array)
        return {"scalar" if isinstance(thing, np.generic) else "array": len(arrays) - 1}
    if type(thing) in (tuple, list):
        return {type(thing).__name__: [encode(x, arrays) for x in thing]}
    if type(thing) is dict:
        return {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in thing.items()]}
    if type(thing) is calibrate.CalibrationStats:
        parts = {"tensors": dict(thing), "grams": thing.grams, "watched": thing.watched}
        return {_STATS: encode(parts, arrays)}
    if type(thing) in _NAMES:
        return {_NAMES[type(thing)]: [encode(getattr(thing, f.name), arrays) for f in fields(thing) if f.init]}
    raise TypeError(f"{type(thing).__name__} is not kept")


def decode(tree: Any, arrays: Mapping[int, Array]) -> Any:
    """Return the thing that was encoded.

    Raises:
        Exception: the tree is not one that ``encode`` returns.
    """
    if not isinstance(tree, dict):
        return tree
    ((kind, held),) = tree.items()
    if kind in ("array", "scalar"):
        return arrays[held] if kind == "array" else arrays[held][()]
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](decode(x, arrays) for x in held)
    if kind == "dict":
        return {decode(k, arrays): decode(v, arrays) for k, v in held}
    if kind == _STATS:
        return calibrate.CalibrationStats(**decode(held, arrays))
    return KINDS[kind](*(decode(x, arrays) for x in held))
