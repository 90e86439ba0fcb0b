"""Binding dimensions at import: ``x`` to (1, 3, 224, 224), or symbol ``batch`` to 1 wherever it occurs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx

from fcc import ir
from fcc.errors import OptionError, did_you_mean
from fcc.ir.source import ValueSpec

Specs = tuple[ValueSpec, ...]


def bind_shapes(model: ir.Model, shapes: Mapping[str, Any], inputs: Specs, outputs: Specs) -> tuple[Specs, Specs]:
    """Bind input shapes and symbols in every graph of the model, in place; return the specs with them bound.

    Raises:
        OptionError: unknown name, wrong rank, a size that is no positive integer, or one that contradicts another.
    """
    by_name = {s.name: s for s in inputs}
    symbols: dict[str, int] = {}
    fixed: dict[str, tuple[int | None, ...]] = {}
    known = {d for s in (*inputs, *outputs) for d in s.dims or () if isinstance(d, str)} | _symbols(model)
    for name, wanted in shapes.items():
        if isinstance(wanted, Iterable) and not isinstance(wanted, str):
            if name not in by_name:
                raise OptionError(f"--shape {name}: the model has no input {name!r}", did_you_mean(name, by_name))
            fixed[name] = _input_shape(by_name[name], tuple(wanted), symbols)
        elif name in known:
            _bind(symbols, name, _size(name, wanted), name)
        elif name in by_name:
            fixed[name] = _input_shape(by_name[name], (wanted,), symbols)
        else:
            raise OptionError(
                f"--shape {name}: the model has no dimension or input {name!r}", did_you_mean(name, known | {*by_name})
            )
    _apply(model, symbols, fixed)
    bound_inputs = tuple(_bound_spec(s, symbols, fixed.get(s.name)) for s in inputs)
    return bound_inputs, tuple(_bound_spec(s, symbols, None) for s in outputs)


def _symbols(model: ir.Model) -> set[str]:
    names: set[str] = set()
    for value in _values(model):
        for dim in ir.dims_of(value) or ():
            if isinstance(dim, ir.Dim):
                names |= dim.symbols()
    return names


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        for node in graph:
            yield from node.outputs


def _size(name: str, size: Any) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__") or int(size) <= 0:
        raise OptionError(f"--shape {name}: {size!r} is no positive size", "write --shape x=1x3x224x224 or batch=1")
    return int(size)


def _bind(symbols: dict[str, int], symbol: str, size: int, name: str) -> None:
    if symbols.setdefault(symbol, size) != size:
        raise OptionError(
            f"--shape {name}: dimension {symbol!r} would be {symbols[symbol]} and {size}",
            "the same symbol means the same size everywhere",
        )


def _input_shape(spec: ValueSpec, wanted: Sequence[Any], symbols: dict[str, int]) -> tuple[int | None, ...]:
    dims = spec.dims if spec.dims is not None else (None,) * len(wanted)
    if len(dims) != len(wanted):
        raise OptionError(f"--shape {spec.name}: got {len(wanted)} dimensions, the input has {len(dims)}", _shown(spec))
    sizes = tuple(None if w is None else _size(spec.name, w) for w in wanted)
    for dim, size in zip(dims, sizes, strict=True):
        if isinstance(dim, int) and size is not None and dim != size:
            raise OptionError(f"--shape {spec.name}: size {size} contradicts the fixed {dim}", _shown(spec))
        if isinstance(dim, str) and size is not None:
            _bind(symbols, dim, size, spec.name)
    return tuple(d if isinstance(d, int) and s is None else s for d, s in zip(dims, sizes, strict=True))


def _shown(spec: ValueSpec) -> str:
    dims = ", ".join("?" if d is None else str(d) for d in spec.dims or ())
    return f"input {spec.name!r} is declared [{dims}]"


def _apply(model: ir.Model, symbols: dict[str, int], fixed: dict[str, tuple[int | None, ...]]) -> None:
    inputs = {v.name: v for v in model.graph.inputs}
    for name, sizes in fixed.items():
        shape = inputs[name].shape
        kept = list(shape) if shape is not None else [None] * len(sizes)
        inputs[name].shape = ir.Shape([k if s is None else s for k, s in zip(kept, sizes, strict=True)])
    if not symbols:
        return
    for value in _values(model):
        dims = ir.dims_of(value)
        if dims is not None and any(isinstance(d, ir.Dim) and d.symbols() & symbols.keys() for d in dims):
            value.shape = ir.to_shape(substitute(d, symbols) for d in dims)


def substitute(dim: ir.Dim | int | None, symbols: Mapping[str, int]) -> ir.Dim | int | None:
    """Return the dimension with symbols replaced by sizes: ``2*batch + n`` with batch = 3 -> ``n + 6``."""
    if not isinstance(dim, ir.Dim):
        return dim
    total: ir.Dim | int = 0
    for monomial, coefficient in dim.terms.items():
        product: ir.Dim | int = coefficient
        for symbol in monomial:
            product = product * symbols[symbol] if symbol in symbols else ir.Dim.symbol(symbol) * product
        total = product + total
    return total


def _bound_spec(spec: ValueSpec, symbols: dict[str, int], sizes: tuple[int | None, ...] | None) -> ValueSpec:
    dims = spec.dims
    if dims is None and sizes is None:
        return spec
    old = dims if dims is not None else (None,) * len(sizes or ())
    merged = [symbols.get(d, d) if isinstance(d, str) else d for d in old]
    if sizes is not None:
        merged = [m if s is None else s for m, s in zip(merged, sizes, strict=True)]
    if tuple(merged) == dims:
        return spec
    info = onnx.ValueInfoProto.FromString(spec.declaration)
    shape = info.type.tensor_type.shape
    while len(shape.dim) < len(merged):
        shape.dim.add()
    for axis, dim in enumerate(merged):
        if isinstance(dim, int):
            shape.dim[axis].dim_value = dim
    return replace(spec, dims=tuple(merged), declaration=info.SerializeToString())
