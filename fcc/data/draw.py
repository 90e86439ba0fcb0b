"""Draw values for one input, from what its uses say about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc.ir import Dim

from .cast import family
from .meaning import Bound, Role
from .spec import Array, TensorSpec

_NAMES = (
    (re.compile(r"mask|valid", re.I), Role("mask")),
    (re.compile(r"len|size|count|num", re.I), Role("range", 1, 3)),
)
_WORDS = ("a", "b", "fcc", "")
_LIMIT = 3.0  # standard normal values are clipped here
_LARGE = 1 << 30


@dataclass(frozen=True)
class Style:
    """How one probe differs from the next: its number, the scale of its floats, and the size of each symbol."""

    number: int
    scale: float
    sizes: Mapping[str, int]


Draw = Callable[[np.random.Generator, tuple[int, ...], Sequence[Role], Style], Array]


def draw(
    spec: TensorSpec, shape: tuple[int, ...], roles: Sequence[Role], style: Style, rng: np.random.Generator
) -> Array:
    """Return values of the shape and dtype of the input that its roles allow."""
    kind = family(spec.dtype)
    known = _settled(roles, spec.dtype, kind) or _named(spec, kind)
    chosen = next((k for k in _ORDER if any(r.kind == k for r in known)), "")
    if chosen in _FLOAT_ONLY and kind == "int":
        chosen = "nonzero"
    if chosen:
        values = _DRAWS[chosen](rng, shape, known, style)
    else:
        values = _DEFAULTS.get(kind, _words)(rng, shape, known, style)
        if kind == "int" and spec.dtype.itemsize == 1:
            values = _whole_range(rng, shape, spec.dtype)
    return _as(values, spec.dtype, kind)


def _settled(roles: Sequence[Role], dtype: np.dtype[Any], kind: str) -> list[Role]:
    """Return the roles that a dtype can play; a doubtful mask counts for wide integers when nothing else does."""
    sure = [r for r in roles if r.kind not in _NOT_FOR.get(kind, frozenset({"mask?"}))]
    doubtful = kind == "int" and dtype.itemsize > 1 and not sure and roles
    return [Role("mask")] if doubtful else sure


def _named(spec: TensorSpec, kind: str) -> list[Role]:
    """Return what the name of an input says."""
    if kind == "string":
        return []
    return [r for pattern, r in _NAMES if pattern.search(spec.name) and (kind == "int" or r.kind == "mask")][:1]


def _as(values: Array, dtype: np.dtype[Any], kind: str) -> Array:
    if kind == "bool":
        return np.asarray(values != 0)
    if kind == "int" and dtype.kind == "u":
        values = np.maximum(values, 0)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, min(int(limits.max), 2**62))
    return np.asarray(values).astype(dtype)


def evaluate(bound: Bound, sizes: Mapping[str, int]) -> int | None:
    """Return a dim with its symbols replaced by their sizes, None when one is unknown."""
    if not isinstance(bound, Dim):
        return bound
    total = 0
    for monomial, factor in bound.terms.items():
        for symbol in monomial:
            if symbol not in sizes:
                return None
            factor *= sizes[symbol]
        total += factor
    return total


def _bounds(roles: Sequence[Role], sizes: Mapping[str, int], kinds: frozenset[str]) -> tuple[int, int]:
    """Return the intersection of all ranges; an unknown bound allows the lowest value only."""
    low, high = 0, _LARGE
    for role in roles:
        if role.kind in kinds:
            known = evaluate(role.high, sizes)
            low, high = max(low, role.low), min(high, role.low + 1 if known is None else known)
    return low, max(high, low + 1)


def _index(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    low, high = _bounds(roles, style.sizes, frozenset({"index", "range", "length"}))
    values = rng.integers(low, high, shape)
    special = [c for r in roles for c in r.choices if isinstance(c, int) and low <= c < high]
    flat = values.reshape(-1)
    if style.number % 2 and flat.size > 2:
        flat[0], flat[1] = low, high - 1
    if special and flat.size > 2:
        flat[rng.integers(0, flat.size, max(1, flat.size // 8))] = special[style.number % len(special)]
    return np.asarray(flat.reshape(shape))


def _choice(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    options = sorted({c for r in roles for c in r.choices}, key=lambda c: (isinstance(c, str | bytes), c))
    if not shape:
        return np.asarray(options[style.number % len(options)])
    return np.asarray(np.array(options, dtype=object if isinstance(options[0], str) else None))[
        rng.integers(0, len(options), shape)
    ]


def _mask(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    """0/1 with a 1 at the start of every row, as padding masks have."""
    values = (rng.random(shape) < 0.7).astype(np.int64)
    if values.ndim and values.size:
        values[..., 0] = 1
    elif values.size:
        values = np.asarray(1)
    return values


def _flag(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return np.full(shape, 1 - style.number % 2)


def _reshape(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    values = np.ones(shape, np.int64)
    if values.size:
        values.reshape(-1)[0] = -1
    return values


def _constant(value: int) -> Draw:
    return lambda rng, shape, roles, style: np.full(shape, value)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return np.asarray(np.clip(rng.standard_normal(shape), -_LIMIT, _LIMIT) * style.scale)


def _positive(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return np.asarray(1 + np.abs(_normal(rng, shape, roles, style)))


def _unit(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return rng.uniform(-0.99, 0.99, shape)


def _small(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return rng.integers(0, 10, shape)


def _nonzero(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return rng.integers(1, 10, shape)


def _words(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return np.asarray(np.array(_WORDS, dtype=object)[rng.integers(0, len(_WORDS), shape)], dtype=object)


def _coin(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return rng.integers(0, 2, shape)


def _complex(rng: np.random.Generator, shape: tuple[int, ...], roles: Sequence[Role], style: Style) -> Array:
    return np.asarray(_normal(rng, shape, roles, style) + 1j * _normal(rng, shape, roles, style))


def _whole_range(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    low, high = {"int8": (-128, 128), "uint8": (0, 256), "int4": (-8, 8), "uint4": (0, 16)}[dtype.name]
    return rng.integers(low, high, shape)


# The first kind that an input has decides; the others refine it.
_ORDER = (
    "flag",
    "zero",
    "one",
    "large",
    "reshape",
    "index",
    "length",
    "range",
    "mask",
    "choice",
    "unit",
    "positive",
    "nonzero",
)
_NOT_FOR = {"float": frozenset({"mask?", "mask", "choice", "nonzero"})}
_FLOAT_ONLY = frozenset({"unit", "positive"})
_DRAWS: dict[str, Draw] = {
    "flag": _flag,
    "zero": _constant(0),
    "one": _constant(1),
    "large": _constant(2**31 - 1),
    "reshape": _reshape,
    "index": _index,
    "length": _index,
    "range": _index,
    "mask": _mask,
    "choice": _choice,
    "unit": _unit,
    "positive": _positive,
    "nonzero": _nonzero,
}
_DEFAULTS: dict[str, Draw] = {"float": _normal, "int": _small, "bool": _coin, "complex": _complex}
