"""How rows of an array become feeds of an input: the rank rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcc.errors import DataError, did_you_mean

from .cast import cast, castable
from .rows import Rows
from .spec import Array, TensorSpec, show_dims


@dataclass(frozen=True)
class Plan:
    """Feed one input from rows: ``size`` rows at a time, or single rows without their axis when ``size`` is 0."""

    spec: TensorSpec
    rows: Rows
    size: int

    def __len__(self) -> int:
        return -(-self.rows.shape[0] // max(self.size, 1))

    def __iter__(self) -> Iterator[Array]:
        for block in self.rows.blocks(self.size or 1):
            yield cast(block if self.size else np.asarray(block[0]), self.spec, self.rows.where)


def plan(spec: TensorSpec, rows: Rows, opt_shape: Sequence[int | None] | None = None) -> Plan:
    """Return how an array feeds an input.

    rank + 1: one feed per row.  Equal rank and axis 0 dynamic: batches of the opt-shape (default 1).  Equal rank and
    axis 0 fixed at 1: rows become batches of 1.

    Raises:
        DataError: any other shape, or a dtype that cannot be cast; names what was expected and what was found.
    """
    if not castable(rows.dtype, spec.dtype):
        raise DataError(f"{rows.where}: input {spec.name} expects {spec.dtype}, found {rows.dtype}", "convert the data")
    dims, shape = spec.dims, rows.shape
    if dims is None:  # rank unknown: the leading axis counts the feeds
        return Plan(spec, rows, 0) if shape else _refuse(spec, rows)
    if len(shape) == len(dims) + 1 and fits(shape[1:], dims):
        return Plan(spec, rows, 0)
    if len(shape) == len(dims) and dims and fits(shape[1:], dims[1:]):
        if not isinstance(dims[0], int):
            return Plan(spec, rows, (opt_shape[0] if opt_shape else None) or 1)
        if dims[0] == 1:
            return Plan(spec, rows, 1)
    return _refuse(spec, rows)


def _refuse(spec: TensorSpec, rows: Rows) -> Plan:
    dims = spec.dims or ()
    expected = show_dims(("samples", *dims))
    if dims and (dims[0] == 1 or not isinstance(dims[0], int)):
        expected += f" or {show_dims(('samples', *dims[1:]))}"
    raise DataError(
        f"{rows.where}: input {spec.name} expects {expected}, found {show_dims(rows.shape)}",
        "give one array per input with the samples along the first axis",
    )


def fits(shape: Sequence[int], dims: Sequence[int | str | None] | None) -> bool:
    """Return whether a shape agrees with the fixed dims."""
    if dims is None:
        return True
    return len(shape) == len(dims) and all(d == s for s, d in zip(shape, dims, strict=True) if isinstance(d, int))


def check_names(names: Mapping[str, object], specs: Sequence[TensorSpec], where: str, skip: set[str]) -> None:
    """Check that every name is an input, and every input that needs a value (not in ``skip``) has one.

    Raises:
        DataError: names the first that is wrong.
    """
    known = {s.name for s in specs}
    for name in names:
        if name not in known:
            raise DataError(f"{where} holds {name!r}, which is no input of the model", did_you_mean(name, known))
    for spec in specs:
        if spec.name not in names and not spec.optional and spec.name not in skip:
            raise DataError(f"{where} holds nothing for input {spec.name!r}", f"it holds: {', '.join(names) or 'none'}")


def check_feed(feed: Mapping[str, Array], specs: Sequence[TensorSpec], where: str) -> dict[str, Array]:
    """Return one complete feed with its arrays in the dtypes of the inputs.

    Raises:
        DataError: a shape or dtype that does not fit.
    """
    out = {}
    by_name = {s.name: s for s in specs}
    for name, array in feed.items():
        spec = by_name[name]
        if not fits(array.shape, spec.dims):
            raise DataError(
                f"{where}: input {name} expects {show_dims(spec.dims)}, found {show_dims(array.shape)}",
                "every feed must have the full shape of the input",
            )
        out[name] = cast(array, spec, where)
    return out


def common_length(plans: Sequence[Plan]) -> int:
    """Return the number of feeds that all plans give.

    Raises:
        DataError: they differ; names two members that do.
    """
    if not plans:
        return 0
    first = plans[0]
    for other in plans[1:]:
        if len(other) != len(first):
            raise DataError(
                f"{first.rows.where} gives {len(first)} feeds, {other.rows.where} gives {len(other)}",
                "give every input the same number of samples",
            )
    return len(first)
