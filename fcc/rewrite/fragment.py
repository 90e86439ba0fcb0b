"""Fragments: what a rewrite removes and what it writes instead, as two small models in ONNX's textual syntax.

Equal texts cost the same on one machine: sizes are numbers, constants only have their type (small integers and single
numbers their contents, which kernels branch on), names say nothing. They key the table of measurements, and they can
be parsed and timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import ir
from ..analysis.cost import sizes
from .rewriter import Rewriter

_INLINE = 64
_NAMES = {ir.DataType.DOUBLE: "double", ir.DataType.FLOAT: "float", ir.DataType.BOOL: "bool"}
_PLAIN = (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING)


@dataclass(frozen=True)
class Question:
    """A choice between two fragments with the same outputs: ``before`` stands in the graph, ``after`` may replace it.

    ``nodes`` counts the nodes of both, ``opset`` is that of the module.
    """

    before: str
    after: str
    nodes: tuple[int, int]
    opset: int

    @property
    def key(self) -> tuple[str, str]:
        """What measurements are kept under."""
        return (self.before, self.after)


class _Inexpressible(Exception):
    """A node or value that the text has no form for: a nested graph, a tensor attribute, an unknown type or rank."""


def question_of(rw: Rewriter, context: Sequence[ir.Node], symbols: Mapping[str, int]) -> Question | None:
    """Return the choice that an uncommitted rewrite stands for, None where it cannot be written down.

    ``context`` are nodes that stay and are timed with either fragment, since a runtime fuses them with it; symbols
    have the sizes given, else 1. O(nodes of the rewrite).
    """
    removed, replacements = rw.changes
    replaced = {id(a): b for a, b in replacements}
    old = _ordered(_dying(removed, replaced), context)
    results = [(a, b) for a, b in replacements if a.is_graph_output() or any(u.node not in context for u in a.uses())]
    behind = [v for n in context for v in n.outputs if v.name]
    try:
        entering: dict[int, str] = {}
        before = _Writer(entering, symbols, {}).text(old, [*(a for a, _ in results), *behind])
        after = _Writer(entering, symbols, replaced).text([*rw.made, *context], [*(b for _, b in results), *behind])
    except _Inexpressible:
        return None
    return Question(before, after, (len(old), len(rw.made) + len(context)), rw.module.opset())


def _dying(nodes: Sequence[ir.Node], replaced: Mapping[int, ir.Value]) -> list[ir.Node]:
    """Return the nodes that nothing needs once values are replaced: a rewrite may name some that others still use."""
    dying = dict.fromkeys(nodes)
    while kept := [n for n in dying if any(_needed(v, dying) for v in n.outputs if id(v) not in replaced)]:
        for node in kept:
            del dying[node]
    return list(dying)


def _needed(value: ir.Value, dying: Mapping[ir.Node, None]) -> bool:
    return value.is_graph_output() or any(u.node not in dying for u in value.uses())


def _ordered(nodes: Iterable[ir.Node], context: Sequence[ir.Node]) -> list[ir.Node]:
    """Return nodes of one graph, each once and in an order of computation, the context last."""
    members = dict.fromkeys(n for n in nodes if n not in context)
    found: dict[ir.Node, None] = {}
    for start in members:
        stack = [start]
        while stack:
            node = stack[-1]
            waiting = [p for v in node.inputs if v is not None and (p := v.producer()) in members and p not in found]
            if waiting:
                stack.append(waiting[0])
            else:
                found[stack.pop()] = None
    return [*found, *context]


@dataclass
class _Writer:
    """One text being written; ``entering`` names what comes from outside, x0, x1..., the same in both texts."""

    entering: dict[int, str]
    symbols: Mapping[str, int]
    replaced: Mapping[int, ir.Value]
    names: dict[int, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    constants: dict[int, str] = field(default_factory=dict)

    def text(self, nodes: Sequence[ir.Node], results: Sequence[ir.Value]) -> str:
        """Return the graph that computes ``results``, which are named y0, y1..."""
        ends = {id(v): f"y{i}" for i, v in enumerate(results)}
        body = "  ".join(self._node(node, ends) for node in nodes)
        if any(id(v) not in self.names for v in results):
            raise _Inexpressible  # a result that is an input or a constant costs nothing: nothing to compare
        ins = ", ".join(self.inputs[k] for k in sorted(self.inputs, key=lambda k: int(k[1:])))
        outs = ", ".join(f"{_type(v, self.symbols)} {self.names[id(v)]}" for v in results)
        held = f" <{', '.join(self.constants.values())}>" if self.constants else ""
        return f"f ({ins}) => ({outs}){held} {{ {body} }}"

    def _node(self, node: ir.Node, ends: Mapping[int, str]) -> str:
        if any(True for _ in ir.subgraphs_of(node)):
            raise _Inexpressible
        inputs = ", ".join(self._read(v) for v in node.inputs)
        for value in node.outputs:
            self.names[id(value)] = ends.get(id(value), f"v{len(self.names)}")
        outputs = ", ".join(self.names[id(v)] if v.name else "" for v in node.outputs)
        return f"{outputs} = {_head(node)}({inputs})"

    def _read(self, value: ir.Value | None) -> str:
        if value is None:
            return ""
        value = self.replaced.get(id(value), value)
        if id(value) in self.names:
            return self.names[id(value)]
        if value.const_value is not None and not value.is_graph_input():
            name = f"c{len(self.constants)}"
            self.constants[id(value)] = _constant(value, name)
        else:
            name = self.entering.setdefault(id(value), f"x{len(self.entering)}")
            self.inputs[name] = f"{_type(value, self.symbols)} {name}"
        self.names[id(value)] = name
        return name


def _type(value: ir.Value, symbols: Mapping[str, int]) -> str:
    shape = sizes(value, symbols)
    if shape is None or value.dtype is None:
        raise _Inexpressible
    return _typed(value.dtype, shape)


def _typed(dtype: ir.DataType, shape: Sequence[int]) -> str:
    sizes = f"[{','.join(map(str, shape))}]" if shape else ""  # a scalar has no brackets
    return _NAMES.get(dtype, dtype.name.lower()) + sizes


def _constant(value: ir.Value, name: str) -> str:
    tensor = value.const_value
    assert tensor is not None
    shape = tensor.shape.numpy()
    head = f"{_typed(tensor.dtype, shape)} {name}"
    size = int(np.prod(shape, dtype=np.int64))
    if size > _INLINE or not size > 0 or (size > 1 and tensor.dtype.is_floating_point()):
        return head
    items = np.asarray(tensor.numpy()).reshape(-1)
    return f"{head} = {{{', '.join(_number(x) for x in items.tolist())}}}"


def _number(x: Any) -> str:
    if isinstance(x, bool):
        return str(int(x))
    if isinstance(x, float):
        if not np.isfinite(x):
            raise _Inexpressible
        return repr(x) if "." in repr(x) or "e" in repr(x) else f"{x}.0"
    if isinstance(x, int):
        return str(x)
    raise _Inexpressible


def _head(node: ir.Node) -> str:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    shown = [f"{k}={_attribute(a)}" for k, a in sorted(node.attributes.items())]
    return f"{kind}<{', '.join(shown)}>" if shown else kind


def _attribute(a: ir.Attr) -> str:
    if a.is_ref() or a.value is None:
        raise _Inexpressible
    if a.type in _PLAIN:
        return _scalar(a.value)
    if isinstance(a.value, Sequence) and len(a.value) and not isinstance(a.value, str):
        return f"[{', '.join(_scalar(x) for x in a.value)}]"
    raise _Inexpressible


def _scalar(x: Any) -> str:
    if isinstance(x, float):  # attributes are single precision: 1e-05, not what a double makes of it
        return _number(float(str(np.float32(x))))
    if isinstance(x, bytes | str):
        text = x.decode() if isinstance(x, bytes) else x
        return f'"{text}"'
    return _number(x)
