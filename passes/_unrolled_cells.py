"""Recurrent layers written out step by step: chains of steps of the same form, found by a matrix that they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from fcc import ir

from ._cells import Cell, cells
from ._terms import Sum
from ._terms_reader import Reader
from ._twins import Twins

_REACH = 128  # nodes of a step, at most
_TRIED = 3  # steps that are looked at before the search is given up
_VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass(frozen=True, eq=False)
class Step:
    """The states behind a step, and the values that stand where the inputs of the cell stand."""

    h: ir.Value
    c: ir.Value | None
    inputs: tuple[ir.Value, ...]

    @property
    def ends(self) -> list[ir.Value]:
        return [v for v in (self.h, self.c) if v is not None]


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps in order, the cell that they are, and the states in front of them, None for zero.

    ``sums`` are the next states of the cell, ``sources`` the states in them.
    """

    cell: Cell
    sums: tuple[Sum, ...]
    sources: tuple[ir.Value, ...]
    steps: tuple[Step, ...]
    h: ir.Value | None
    c: ir.Value | None


@dataclass(frozen=True, eq=False)
class _Form:
    """The step that the others are compared with, and the states in front of it."""

    cell: Cell
    sums: tuple[Sum, ...]
    step: Step
    h: ir.Value
    c: ir.Value | None

    @property
    def sources(self) -> tuple[ir.Value, ...]:
        return (self.h,) if self.c is None else (self.h, self.c)


def shared_matrices(graph: ir.Graph) -> Iterator[list[ir.Node]]:
    """Yield the products of one constant matrix, in order, for each that has several."""
    users: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type in ("MatMul", "Gemm") and node.domain == "" and ir.Module.is_constant(node.inputs[1]):
            assert node.inputs[1] is not None
            users.setdefault(node.inputs[1], []).append(node)
    yield from (nodes for nodes in users.values() if len(nodes) > 1)


def rows_of_products(products: list[ir.Node]) -> Iterator[list[ir.Node]]:
    """Yield products of which each depends on the one before, as long as possible."""
    before = {p: _nearest(p.inputs[0], set(products)) for p in products}
    ends = [p for p in products if p not in before.values()]
    for end in ends:
        row = [end]
        while (previous := before[row[-1]]) is not None:
            row.append(previous)
        if len(row) > 1:
            yield row[::-1]


def _nearest(value: ir.Value | None, products: Collection[ir.Node]) -> ir.Node | None:
    """Return the nearest product that a value depends on."""
    seen: set[ir.Node] = set()
    queue = deque([value])
    while queue and len(seen) < _REACH:
        current = queue.popleft()
        node = None if current is None else current.producer()
        if node in products:
            return node
        if node is not None and node not in seen:
            seen.add(node)
            queue.extend(node.inputs)
    return None


@dataclass
class Finder:
    """Looks for the chain of steps of a row of products."""

    module: ir.Module
    row: list[ir.Node]
    _states: dict[int, ir.Value | None] = field(default_factory=dict)

    def find(self) -> Chain | None:
        """Return the steps around the first product that is found to be part of a cell."""
        for k in range(1, min(len(self.row), _TRIED + 1)):
            form = self._form(k)
            chain = None if form is None else self._chain(form, k)
            if chain is not None and len(chain.steps) > 1:
                return chain
        return None

    def _state(self, k: int) -> ir.Value | None:
        """Return the state that product k takes: the operand that depends on the product before it."""
        if k not in self._states:
            found = [v for v in _operands(self.row[k].inputs[0]) if _nearest(v, {self.row[k - 1]}) is not None]
            self._states[k] = found[0] if len(found) == 1 else None
        return self._states[k]

    def _form(self, k: int) -> _Form | None:
        """Return product k's step."""
        h = self._state(k)
        if h is None or h.producer() is None:
            return None
        for after in self._ends(k, h):
            for c, c_next in [*zip(_inner_states(h), _inner_states(after), strict=False), (None, None)]:
                form = _read(self.row[k], h, c, after, c_next)
                if form is not None:
                    return form
        return None

    def _ends(self, k: int, h: ir.Value) -> Iterator[ir.Value]:
        """Yield what may be the state behind product k."""
        state = self._state(k + 1) if k + 1 < len(self.row) else None
        if state is not None:
            yield state
        producer = h.producer()
        assert producer is not None
        seen: dict[ir.Node, None] = {self.row[k]: None}
        queue = deque(seen)
        while queue and len(seen) < _REACH:
            for value in queue.popleft().outputs:
                for node in value.consumers():
                    if node not in seen and node.graph is self.row[k].graph:
                        seen[node] = None
                        queue.append(node)
        yield from (n.outputs[0] for n in seen if n.op_type == producer.op_type and n.outputs[0] is not state)

    # -- the steps before and behind -----------------------------------------------------------------------------------
    def _chain(self, form: _Form, k: int) -> Chain:
        steps, h, c = [form.step], form.h, form.c
        for j in range(k + 1, len(self.row)):
            following = self._following(form, j, steps[-1])
            if following is None:
                break
            steps.append(following)
        for _ in range(k):
            twins = self._twin(form, h)
            if twins is None:
                break
            steps.insert(0, Step(h, c, tuple(twins.pairs[v] for v in form.step.inputs)))
            h, c = twins.pairs[form.h], None if form.c is None else twins.pairs[form.c]
        return Chain(form.cell, form.sums, form.sources, tuple(steps), h, c)

    def _following(self, form: _Form, j: int, last: Step) -> Step | None:
        for after in self._ends(j, form.step.h):
            twins = self._twin(form, after)
            if twins is None or twins.pairs[form.h] is not last.h:
                continue
            if form.c is not None and twins.pairs[form.c] is not last.c:
                continue
            c = None if form.step.c is None else twins.pairs[form.step.c]
            return Step(after, c, tuple(twins.pairs[v] for v in form.step.inputs))
        return None

    def _twin(self, form: _Form, after: ir.Value) -> Twins | None:
        stops = {*form.sources, *form.step.inputs}
        twins = Twins(self.module, stops)
        return twins if twins.pair(form.step.h, after) and stops <= twins.pairs.keys() else None


def _operands(value: ir.Value | None) -> list[ir.Value]:
    """Return the parts of a value that is several side by side, without views."""
    if value is None:
        return []
    node = value.producer()
    if node is not None and node.domain == "" and node.op_type in _VIEWS:
        return _operands(node.inputs[0])
    if node is not None and node.domain == "" and node.op_type == "Concat":
        return [part for v in node.inputs for part in _operands(v)]
    return [value]


def _inner_states(h: ir.Value) -> list[ir.Value]:
    """Return what may be the cell state c of h = o * act(c): the operands of the factors."""
    found = []
    node = h.producer()
    for value in node.inputs if node is not None and node.op_type == "Mul" else ():
        factor = None if value is None else value.producer()
        if factor is not None and factor.inputs and factor.inputs[0] is not None:
            found.append(factor.inputs[0])
    return found


def _read(product: ir.Node, h: ir.Value, c: ir.Value | None, after: ir.Value, c_next: ir.Value | None) -> _Form | None:
    graph, dims = product.graph, ir.dims_of(h)
    assert graph is not None
    states = [v for v in (h, c) if v is not None]
    reader = Reader(graph, states, _Moves(states))
    sums = [s for v in (after, c_next) if v is not None and (s := reader.read(v)) is not None]
    if len(sums) != len(states) or not dims or dims[-1] != sums[0].width:
        return None
    for cell in cells(h, sums[0], c, sums[1] if c is not None else None):
        inputs = [s for s in cell.inputs() if isinstance(s, ir.Value)]
        if (cell.kind == "LSTM") == (c is not None) and len(inputs) == len(cell.inputs()):
            return _Form(cell, tuple(sums), Step(after, c_next, tuple(inputs)), h, c)
    return None


class _Moves:
    """Whether values depend on states; each value is looked at once."""

    def __init__(self, states: Collection[ir.Value]) -> None:
        self._known = dict.fromkeys(states, True)

    def __call__(self, value: ir.Value) -> bool:
        stack = [value]
        while stack:
            current = stack[-1]
            node = current.producer()
            inputs = [] if node is None else ir.operands(node)
            open_inputs = [v for v in inputs if v not in self._known]
            if current in self._known or not open_inputs:
                self._known.setdefault(current, any(self._known[v] for v in inputs))
                stack.pop()
            else:
                stack += open_inputs
        return self._known[value]
