"""Feeds at the edges of what floats hold: zeros, denormals, large and saturating values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fcc.ir import Module

from .meaning import roles
from .spec import Array, Feeds, is_float

Fill = Callable[[np.random.Generator, tuple[int, ...], Array], Array]


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.choice([-1.0, 1.0], shape))


def _least(values: Array) -> float:
    """Return the smallest positive number of a type, in float64."""
    return float(np.nextafter(values.dtype.type(0), values.dtype.type(1))) if values.dtype.kind == "f" else 0.0


# name -> values for a shape; the last argument is an array of the type of the input
FILLS: Mapping[str, Fill] = {
    "zeros": lambda rng, shape, like: np.zeros(shape),
    "negative zeros": lambda rng, shape, like: -np.zeros(shape),
    "denormals": lambda rng, shape, like: _least(like) * rng.integers(-1000, 1001, shape),
    "saturating": lambda rng, shape, like: _signs(rng, shape) * rng.uniform(15, 90, shape),
    "extremes": lambda rng, shape, like: _signs(rng, shape) * (1e3 if like.dtype.itemsize < 4 else 1e6),
    "all magnitudes": lambda rng, shape, like: _signs(rng, shape) * 10 ** rng.uniform(-6, 3, shape),
    "constant": lambda rng, shape, like: np.full(shape, 1 / 3),
}


def adversarial(module: Module, base: Feeds, seed: int = 0) -> dict[str, dict[str, Array]]:
    """Return name -> feed: a usual feed in which the floats that mean nothing in particular are at an edge.

    Empty for a model without such inputs. The model may overflow on them: what it does there says nothing.
    """
    values = {v.name or "": v for v in module.graph.inputs}
    free = [
        n for n, a in base.items() if n in values and is_float(np.asarray(a).dtype) and not roles(module, values[n])
    ]
    found = {}
    for k, (name, fill) in enumerate(FILLS.items() if free else ()):
        rng = np.random.default_rng([seed, k])
        feed = {n: np.asarray(a) for n, a in base.items()}
        for n in free:
            with np.errstate(over="ignore"):
                feed[n] = np.asarray(fill(rng, feed[n].shape, feed[n])).astype(feed[n].dtype)
        found[name] = feed
    return found
