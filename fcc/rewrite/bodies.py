"""Nested graphs in a rewrite: moved out, copied out any number of times, and nodes that run in front of their node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import ir
from ..analysis import shapes


@dataclass(frozen=True)
class Signature:
    """A Loop or Scan whose body stays, with fewer values going in and out: indices that are kept, in order.

    ``stacked`` are values of the body that it gives as further scan outputs, ``entering`` further operands with the
    inputs of the body that stand for them.
    """

    inputs: Sequence[int]
    outputs: Sequence[int]
    body_inputs: Sequence[int]
    body_outputs: Sequence[int]
    stacked: Sequence[ir.Value] = ()
    entering: Sequence[tuple[ir.Value, ir.Value]] = ()


class Bodies:
    """The part of the Rewriter that takes nested graphs apart; everything happens at its commit."""

    module: ir.Module
    anchor: ir.Node
    graph: ir.Graph
    _made: list[ir.Node]
    _constants: list[ir.Value]
    _places: dict[ir.Node, tuple[ir.Node, bool]]
    _place: tuple[ir.Node, bool]

    def __init__(self) -> None:
        self._inlined: list[ir.Graph] = []
        self._shared: dict[ir.Value, ir.Value] = {}
        self._hoisted: list[ir.Node] = []
        self._signed: list[tuple[ir.Node, ir.Node, Signature]] = []

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        raise NotImplementedError

    def inline(self, body: ir.Graph) -> list[ir.Value]:
        """Move the nodes and constants of a nested graph before the anchor; return the values it gave."""
        self._inlined.append(body)
        return list(body.outputs)

    def copy(self, body: ir.Graph, given: Mapping[ir.Value, ir.Value]) -> list[ir.Value]:
        """Copy the nodes of a nested graph before the anchor, ``given`` being its inputs; return what it gives.

        Every copy has names of its own; all copies of a constant are one.
        """
        values = {**given, **{v: self.lift(v) for v in body.initializers.values()}}
        for node in body:
            made = ir.copy_node(node, values, self.module.fresh)
            made.meta[ir.GENERATED] = True
            shapes.infer_node(self.module, made)
            self._made.append(made)
            self._places[made] = self._place
        return [values.get(v, v) for v in body.outputs]

    def lift(self, constant: ir.Value) -> ir.Value:
        """Return a constant of a nested graph as one of the anchor's graph; it is the same each time."""
        if constant not in self._shared:
            made = ir.copy_value(constant, self.module.fresh)
            self._shared[constant] = made
            self._constants.append(made)
        return self._shared[constant]

    def hoist(self, nodes: Sequence[ir.Node]) -> None:
        """Move nodes of a graph nested in the anchor, in their order, in front of it, with the constants they use."""
        self._hoisted.extend(nodes)

    def resign(self, node: ir.Node, signature: Signature, **attributes: Any) -> list[ir.Value]:
        """Replace a Loop or Scan by one with the same body and another signature; return its new scan outputs.

        The node is left without a body, to be erased.
        """
        kept = {k: a for k, a in node.attributes.items() if k != "body" and k not in attributes}
        changed = [ir.attribute(k, v) for k, v in attributes.items() if v is not None]
        made = ir.Node(
            node.domain,
            node.op_type,
            [*(node.inputs[i] for i in signature.inputs), *(outer for outer, _ in signature.entering)],
            [*kept.values(), *changed],
            num_outputs=len(signature.outputs) + len(signature.stacked),
            name=self.module.fresh(node.name or node.op_type),
            doc_string=node.doc_string,
            metadata_props=dict(node.metadata_props),
        )
        made.meta[ir.GENERATED] = node.meta.get(ir.GENERATED)
        for i, new in zip(signature.outputs, made.outputs, strict=False):
            old = node.outputs[i]
            new.name, new.type = self.module.fresh(old.name or node.op_type), old.type
            self.replace(old, new)
        added = list(made.outputs[len(signature.outputs) :])
        for new, inner in zip(added, signature.stacked, strict=True):
            new.name, new.type = self.module.fresh(inner.name or node.op_type), inner.type
        self._made.append(made)
        self._places[made] = self._place
        self._signed.append((node, made, signature))
        return added

    # -- at commit -----------------------------------------------------------------------------------------------
    def _take_apart(self) -> None:
        for body in self._inlined:
            self._unwrap(body)
        for node in self._hoisted:
            self._move_out(node)
        for old, new, signature in self._signed:
            self._hand_over(old, new, signature)

    def _unwrap(self, body: ir.Graph) -> None:
        body.outputs.clear()
        for name, value in list(body.initializers.items()):
            del body.initializers[name]
            self.graph.initializers.add(value)
        nodes = list(body)
        body.remove(nodes)
        self._made[:0] = nodes

    def _move_out(self, node: ir.Node) -> None:
        body = node.graph
        assert body is not None
        for value in used_by(node):
            if value.is_initializer() and value.graph is body:
                assert value.name is not None
                del body.initializers[value.name]
                self.graph.initializers.add(value)
        body.remove(node)
        self.graph.insert_before(self.anchor, node)

    def _hand_over(self, old: ir.Node, new: ir.Node, signature: Signature) -> None:
        body = old.attributes.pop("body").as_graph()
        inputs, outputs = list(body.inputs), list(body.outputs)
        body.inputs[:] = [*(inputs[i] for i in signature.body_inputs), *(v for _, v in signature.entering)]
        body.outputs[:] = [outputs[i] for i in signature.body_outputs]
        for value in signature.stacked:
            body.outputs.append(self._owned(body, value))
        new.attributes["body"] = ir.attribute("body", body)

    def _owned(self, body: ir.Graph, value: ir.Value) -> ir.Value:
        """Return a value, or its Identity where the body gives it already or does not produce it."""
        producer = value.producer()
        if producer is not None and producer.graph is body and not value.is_graph_output():
            return value
        identity = ir.Node("", "Identity", [value], name=self.module.fresh(f"{value.name}/Identity"), num_outputs=1)
        out = identity.outputs[0]
        out.name, out.type, out.shape = self.module.fresh(value.name or "output"), value.type, value.shape
        body.append(identity)
        return out


def used_by(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values a node uses, those that its nested graphs capture or hold included."""
    yield from (v for v in node.inputs if v is not None)
    for nested in ir.subgraphs_of(node):
        for inner in nested:
            yield from used_by(inner)
