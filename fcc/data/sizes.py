"""Sizes for the dims a model leaves open: the same for a symbol everywhere, found by trial where needed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fcc.ir import Dim, Module, Node, Value, as_dim

from .draw import evaluate
from .meaning import constant_array
from .spec import TensorSpec

Sizes = Mapping[str, int]
# Frame, image and feature sizes that real models ask for, tried smallest first.
_LADDER = (2, 3, 4, 8, 16, 28, 32, 64, 80, 96, 128, 160, 224, 256, 320, 512, 576, 768, 1024, 1600, 2048, 4096, 16000)
_SECONDS = 2.0


@dataclass(frozen=True)
class Axes:
    """The open dims of all inputs: a variable per symbol, and one per unknown dim (``?name:axis``)."""

    specs: tuple[TensorSpec, ...]
    leading: frozenset[str]
    variables: tuple[str, ...]

    def shape(self, spec: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape of an input for given sizes; open dims without a size are 1."""
        shape = []
        for axis, d in enumerate(spec.dims or ()):
            known = d if isinstance(d, int) else evaluate(as_dim(_name(spec, axis, d)), sizes)
            shape.append(1 if known is None else max(known, 0))
        return tuple(shape)


def _name(spec: TensorSpec, axis: int, d: str | None) -> str:
    return d if isinstance(d, str) else f"?{spec.name.replace('*', '_').replace(' ', '_')}:{axis}"


def axes_of(specs: Sequence[TensorSpec]) -> Axes:
    """Return the open dims of the inputs; leading ones are at axis 0 of some input."""
    variables: dict[str, None] = {}
    leading = set()
    for spec in specs:
        for axis, d in enumerate(spec.dims or ()):
            if isinstance(d, int):
                continue
            dim = as_dim(_name(spec, axis, d))
            symbols = sorted(dim.symbols()) if isinstance(dim, Dim) else []
            variables.update(dict.fromkeys(symbols))
            if axis == 0:
                leading.update(symbols)
    return Axes(tuple(specs), frozenset(leading), tuple(variables))


def bound_sizes(axes: Axes, opt_shapes: Mapping[str, Sequence[int | None]] | None) -> dict[str, int]:
    """Return the sizes that opt-shapes, by input name (None: open), give to the open dims."""
    sizes: dict[str, int] = {}
    for spec in axes.specs:
        given = (opt_shapes or {}).get(spec.name)
        if given is None or len(given) != len(spec.dims or ()):
            continue
        for axis, (d, n) in enumerate(zip(spec.dims or (), given, strict=True)):
            if not isinstance(d, int) and n is not None:
                sizes.setdefault(_name(spec, axis, d), int(n))
    return sizes


def base_sizes(module: Module, axes: Axes, bound: Sizes, works: Callable[[Sizes], bool]) -> dict[str, int] | None:
    """Return the smallest plausible sizes with which the model runs, None when none was found in 2 seconds."""
    free = [v for v in axes.variables if v not in bound]
    start = {**dict.fromkeys(free, 1), **bound}
    if not free or works(start):
        return start
    candidates = tuple(dict.fromkeys((*hints(module), *_LADDER)))
    return _first(_guesses(free, candidates, axes.leading, start), works)


def other_sizes(axes: Axes, base: Sizes, bound: Sizes, works: Callable[[Sizes], bool]) -> dict[str, int]:
    """Return sizes that differ from the base where the model runs so: a batch of 2 shows a baked batch of 1."""
    ones = [v for v in axes.variables if v not in bound and base[v] == 1]
    lead = [v for v in axes.variables if v not in bound and v in axes.leading]
    inner = _inner(axes, base, bound)
    guesses = (
        {**base, **dict.fromkeys(inner, 3), **dict.fromkeys(lead, 2)},
        {**base, **dict.fromkeys(ones, 2)},
        {**base, **dict.fromkeys(lead, 2)},
        {**base, **dict.fromkeys(inner, 3)},
    )
    return _first((g for g in guesses if g != base), works) or dict(base)


def long_sizes(axes: Axes, base: Sizes, bound: Sizes, works: Callable[[Sizes], bool]) -> dict[str, int]:
    """Return the base with its inner open dims (sequence lengths) longer: a Softmax over one element hides all."""
    inner = _inner(axes, base, bound)
    return _first(({**base, **dict.fromkeys(inner, n)} for n in (8, 4) if inner), works) or dict(base)


def _inner(axes: Axes, base: Sizes, bound: Sizes) -> list[str]:
    return [v for v in axes.variables if v not in bound and base[v] == 1 and v not in axes.leading]


def _first(guesses: Iterable[dict[str, int]], works: Callable[[Sizes], bool]) -> dict[str, int] | None:
    end = time.perf_counter() + _SECONDS
    for guess in guesses:
        if works(guess):
            return guess
        if time.perf_counter() > end:
            return None
    return None


def _guesses(
    free: Sequence[str], candidates: Sequence[int], leading: frozenset[str], start: Sizes
) -> Iterator[dict[str, int]]:
    inner = [v for v in free if v not in leading] or list(free)
    for size, v in itertools.product(candidates, inner):
        yield {**start, v: size}
    for size in candidates:
        yield {**start, **dict.fromkeys(inner, size)}
    for a, b in itertools.combinations(inner, 2):
        for n, m in itertools.product(candidates[:8], candidates[:8]):
            yield {**start, a: n, b: m}
    for size in candidates:
        yield {**start, **dict.fromkeys(free, size)}


# Operand -> the axes of the constant beside it whose size the operand must meet.
_MEETS: Mapping[tuple[str, int], tuple[int, tuple[int, ...]]] = {
    ("MatMul", 0): (1, (-2,)),
    ("Gemm", 0): (1, (0, 1)),
    ("Conv", 0): (1, (2, 3, 4, 1)),
    ("Add", 0): (1, (-1, -2, -3)),
    ("Mul", 0): (1, (-1, -2, -3)),
    ("Sub", 0): (1, (-1, -2, -3)),
    ("Div", 0): (1, (-1, -2, -3)),
    ("Add", 1): (0, (-1, -2, -3)),
    ("Mul", 1): (0, (-1, -2, -3)),
}


def hints(module: Module, limit: int = 12) -> list[int]:
    """Return sizes that the first nodes after the inputs ask for: rows of weights, kernels, Reshape targets."""
    found: dict[int, None] = {}
    stack: list[tuple[Value, int]] = [(v, 0) for v in module.graph.inputs if not v.is_initializer()]
    seen: set[Value] = set()
    while stack and len(found) < limit:
        value, depth = stack.pop(0)
        if value in seen or depth > 6:
            continue
        seen.add(value)
        for use in value.uses():
            found.update(dict.fromkeys(_asked(use.node, use.idx)))
            stack.extend((v, depth + 1) for v in use.node.outputs)
    return [n for n in found if n > 1][:limit]


def _asked(node: Node, index: int) -> list[int]:
    if node.op_type == "Reshape" and index == 0 and len(node.inputs) > 1:
        target = constant_array(node.inputs[1])
        sizes = [] if target is None else [int(n) for n in target.reshape(-1) if n > 0]
        return [math.prod(sizes), *sizes]
    beside, at = _MEETS.get((node.op_type, index), (0, ()))
    if not at or beside >= len(node.inputs):
        return []
    array = constant_array(node.inputs[beside])
    shape = () if array is None else array.shape
    return [int(shape[a]) for a in at if -len(shape) <= a < len(shape)]
