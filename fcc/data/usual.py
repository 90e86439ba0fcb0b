"""Usual sizes of the inputs, from --opt-shape and the first sample: what is timed, modelled, and used as a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcc.errors import FccError, OptionError, did_you_mean

from .dataset import Run, open_data
from .spec import Feeds, TensorSpec, show_dims

Shape = tuple[int | None, ...]


def by_input(
    specs: Sequence[TensorSpec],
    sizes: Mapping[str, Any] | None,
    *,
    option: str = "opt-shape",
    base: Mapping[str, Shape] | None = None,
) -> dict[str, Shape] | None:
    """Return input -> shape: as given, or with the given symbols bound; other open sizes are of ``base``, else None.

    None when nothing is given and there is no base. Inputs without an open size are left out unless given.

    Raises:
        OptionError: a name is neither an input nor a symbol, or a shape does not fit its input.
    """
    given = _checked(specs, sizes or {}, option)
    if not given and not base:
        return None
    found: dict[str, Shape] = {}
    for spec in specs:
        if isinstance(given.get(spec.name), tuple):
            found[spec.name] = given[spec.name]
        elif spec.dims is not None and not spec.optional and not all(isinstance(d, int) for d in spec.dims):
            known = (base or {}).get(spec.name, (None,) * len(spec.dims))
            found[spec.name] = tuple(_size(d, n, given) for d, n in zip(spec.dims, known, strict=True))
    return found or None


def _size(dim: int | str | None, known: int | None, given: Mapping[str, Any]) -> int | None:
    size = dim if isinstance(dim, int) else given.get(dim or "", known)
    return size if isinstance(size, int) else known  # an input may have the name of a symbol


def _checked(specs: Sequence[TensorSpec], sizes: Mapping[str, Any], option: str) -> dict[str, Any]:
    """Return input -> shape and symbol -> size."""
    inputs = {s.name: s for s in specs}
    symbols = {d for s in specs for d in s.dims or () if isinstance(d, str)}
    found: dict[str, Any] = {}
    for name, size in sizes.items():
        if name not in inputs and name not in symbols:
            raise OptionError(
                f"--{option} {name}: the model has no dimension or input {name!r}",
                did_you_mean(name, symbols | set(inputs)),
            )
        if isinstance(size, Sequence) or name not in symbols:
            found[name] = _fitting(inputs, name, tuple(size) if isinstance(size, Sequence) else (size,), option)
        else:
            found[name] = int(size)
    return found


def _fitting(inputs: Mapping[str, TensorSpec], name: str, shape: tuple[Any, ...], option: str) -> Shape:
    spec = inputs.get(name)
    if spec is None:
        raise OptionError(f"--{option} {name}: the model has no input {name!r}", did_you_mean(name, inputs))
    sizes = tuple(None if n is None else int(n) for n in shape)
    if spec.dims is None:
        return sizes
    fits = len(sizes) == len(spec.dims) and all(
        n is None or not isinstance(d, int) or d == n for d, n in zip(spec.dims, sizes, strict=True)
    )
    if not fits:
        shown = "x".join(map(str, sizes))
        raise OptionError(f"--{option} {name}={shown} does not fit the input", f"{name} is {show_dims(spec.dims)}")
    return sizes


def filled(shapes: Mapping[str, Shape] | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes with 1 for every open size."""
    return {name: tuple(1 if n is None else n for n in shape) for name, shape in (shapes or {}).items()}


def at_sizes(feeds: Feeds, sizes: Mapping[str, Shape] | None, run: Run) -> Feeds:
    """Return a feed to time a model on: one repeated, or cut, to the given sizes; as it is where that does not run."""
    found = dict(feeds)
    for name, shape in (sizes or {}).items():
        array = found.get(name)
        if isinstance(array, np.ndarray) and array.ndim == len(shape) and array.size:
            for axis, size in enumerate(shape):
                if size is not None and size != array.shape[axis]:
                    array = np.take(array, np.arange(size) % array.shape[axis], axis)
            found[name] = array
    if all(found[n] is feeds[n] for n in found):
        return feeds
    try:
        run(found)
    except FccError:
        return feeds
    return found


def first_shapes(
    source: Any, specs: Sequence[TensorSpec], *, state: Mapping[str, str] | None = None, sizes: Any = None
) -> dict[str, Shape]:
    """Return input -> shape of the first sample.

    Raises:
        DataError: the data does not fit the inputs.
    """
    data = open_data(source, specs, opt_shapes=sizes, state=state)
    return {name: np.shape(array) for name, array in data.first().items()}
