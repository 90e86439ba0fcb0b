"""Patterns over the data flow that ends in one node: variables, constants, operators, options, alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..ir import Module, Node, Value

COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)


@dataclass(frozen=True)
class Pattern:
    """A description of a value and of how it is computed."""

    def optional(self) -> Opt:
        """Return the pattern of an operand that may be absent (it then binds to None)."""
        return Opt(self)


@dataclass(frozen=True)
class Var(Pattern):
    """Any value; the same name must be the same value everywhere in the pattern."""

    name: str


@dataclass(frozen=True)
class Const(Pattern):
    """A constant value; with ``value``, one whose every element is close to that number."""

    name: str
    value: float | None = None


@dataclass(frozen=True)
class Opt(Pattern):
    """An operand that may be absent."""

    inner: Pattern


@dataclass(frozen=True)
class AnyOf(Pattern):
    """The first of several patterns that matches."""

    alternatives: tuple[Pattern, ...]


@dataclass(frozen=True)
class Op(Pattern):
    """Output ``output`` of a node of one of ``types``.

    ``shared`` allows the value to have users outside the match; without it, and unless the node is the root, a value
    that escapes refuses the match, since the node could not be removed.
    """

    types: tuple[str, ...]
    inputs: tuple[Pattern, ...]
    name: str = ""
    output: int = 0
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    shared: bool = False
    variadic: bool = False

    def out(self, index: int) -> Op:
        """Return the pattern of another output of the same node."""
        return replace(self, output=index)


def var(name: str) -> Var:
    """Return the pattern of any value, bound to ``name``."""
    return Var(name)


def const(name: str, value: float | None = None) -> Const:
    """Return the pattern of a constant, bound to ``name``."""
    return Const(name, value)


def any_of(*alternatives: Pattern) -> AnyOf:
    """Return the pattern of the first alternative that matches."""
    return AnyOf(alternatives)


def ops(*types: str, domain: str = "") -> Callable[..., Op]:
    """Return a constructor of patterns for a node of any of ``types``."""

    def make(
        *inputs: Pattern,
        name: str = "",
        shared: bool = False,
        variadic: bool = False,
        output: int = 0,
        **attributes: Any,
    ) -> Op:
        return Op(types, inputs, name, output, domain, attributes, shared, variadic)

    return make


class _Ops:
    """``op.Conv(var("x"), const("w"), name="conv")`` is the pattern of a Conv."""

    def __getattr__(self, op_type: str) -> Callable[..., Op]:
        return ops(op_type)


op = _Ops()


@dataclass(frozen=True)
class Bindings:
    """What a pattern bound so far."""

    values: dict[str, Value | None]
    nodes: dict[str, Node]
    matched: tuple[Node, ...]
    shared: frozenset[int] = frozenset()

    def bind(self, name: str, value: Value | None) -> Bindings | None:
        """Return the bindings with one value more, or None when the name is bound to another value."""
        if name in self.values:
            return self if self.values[name] is value else None
        return replace(self, values={**self.values, name: value})


@dataclass
class Trace:
    """The failure of the deepest attempt, kept for ``--explain``."""

    depth: int = -1
    reason: str = ""

    def fail(self, depth: int, reason: Callable[[], str]) -> None:
        """Remember a failure when it lies deeper than the ones before."""
        if depth > self.depth:
            self.depth, self.reason = depth, reason()


def match_root(pattern: Op, node: Node, trace: Trace) -> Iterator[Bindings]:
    """Yield the bindings of every way in which ``pattern`` matches the computation that ends in ``node``."""
    yield from _match_node(pattern, node, Bindings({}, {}, ()), trace)


def _match(pattern: Pattern, value: Value | None, b: Bindings, trace: Trace) -> Iterator[Bindings]:
    match pattern:
        case Op():
            yield from _match_op(pattern, value, b, trace)
        case Var(name=name):
            yield from _bound(b, name, value, trace)
        case Const():
            yield from _match_const(pattern, value, b, trace)
        case Opt(inner=inner):
            if value is None:
                yield _bind_absent(inner, b)
            else:
                yield from _match(inner, value, b, trace)
        case AnyOf(alternatives=alternatives):
            for alternative in alternatives:
                yield from _match(alternative, value, b, trace)


def _bound(b: Bindings, name: str, value: Value | None, trace: Trace) -> Iterator[Bindings]:
    found = None if value is None else b.bind(name, value)
    if found is not None:
        yield found
    else:
        trace.fail(
            len(b.matched), lambda: f"operand {name!r} is absent, or another value than elsewhere in the pattern"
        )


def _match_const(pattern: Const, value: Value | None, b: Bindings, trace: Trace) -> Iterator[Bindings]:
    if not Module.is_constant(value):
        trace.fail(len(b.matched), lambda: f"operand {pattern.name!r} is not constant")
        return
    if pattern.value is not None:
        array = Module.constant(value)
        if array is None or array.size > 64 or not _all_close(array, pattern.value):
            trace.fail(len(b.matched), lambda: f"operand {pattern.name!r} is not {pattern.value}")
            return
    yield from _bound(b, pattern.name, value, trace)


def _all_close(array: np.ndarray[Any, Any], number: float) -> bool:
    if array.size == 0 or array.dtype.kind not in "fiub":
        return False
    return bool(np.allclose(array.astype(np.float64), number, rtol=1e-6, atol=0.0))


def _match_op(pattern: Op, value: Value | None, b: Bindings, trace: Trace) -> Iterator[Bindings]:
    node = None if value is None else value.producer()
    if node is None or value is None or value.index() != pattern.output:
        trace.fail(len(b.matched), lambda: f"expected the result of {'/'.join(pattern.types)}, found {_source(value)}")
        return
    if b.matched and node.graph is not b.matched[0].graph:
        trace.fail(len(b.matched), lambda: f"{node.op_type} {node.name!r} lies across a subgraph border")
        return
    yield from _match_node(pattern, node, b, trace)


def _source(value: Value | None) -> str:
    if value is None:
        return "nothing"
    producer = value.producer()
    if producer is not None:
        return f"{producer.op_type} {producer.name!r}"
    return "a constant" if Module.is_constant(value) else f"the input {value.name!r}"


def _match_node(pattern: Op, node: Node, b: Bindings, trace: Trace) -> Iterator[Bindings]:
    if node.op_type not in pattern.types or node.domain != pattern.domain:
        trace.fail(len(b.matched), lambda: f"expected {'/'.join(pattern.types)}, found {node.op_type} {node.name!r}")
        return
    for key, expected in pattern.attributes.items():
        found = node.attributes.get(key)
        if (None if found is None else found.value) != expected:
            trace.fail(len(b.matched), lambda key=key: f"attribute {key} of {node.op_type} {node.name!r} differs")  # type: ignore[misc]
            return
    b = replace(
        b,
        matched=b.matched if node in b.matched else (*b.matched, node),
        nodes={**b.nodes, pattern.name: node} if pattern.name else b.nodes,
        shared=b.shared | {id(node)} if pattern.shared else b.shared,
    )
    inputs = list(node.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    if len(inputs) > len(pattern.inputs) and not pattern.variadic:
        trace.fail(len(b.matched), lambda: f"{node.op_type} {node.name!r} has {len(inputs)} inputs")
        return
    padded = inputs + [None] * (len(pattern.inputs) - len(inputs))
    yield from _match_inputs(pattern.inputs, padded, b, trace)
    if node.op_type in COMMUTATIVE and len(pattern.inputs) == 2 and padded[0] is not padded[1]:
        yield from _match_inputs(pattern.inputs[::-1], padded, b, trace)


def _match_inputs(
    patterns: tuple[Pattern, ...], values: list[Value | None], b: Bindings, trace: Trace
) -> Iterator[Bindings]:
    if not patterns:
        yield b
        return
    for bound in _match(patterns[0], values[0], b, trace):
        yield from _match_inputs(patterns[1:], values[1:], bound, trace)


def _bind_absent(pattern: Pattern, b: Bindings) -> Bindings:
    match pattern:
        case Var(name=name) | Const(name=name):
            return b.bind(name, None) or b
        case _:
            return b
