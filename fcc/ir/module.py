"""Module: an onnx_ir model, what fcc knows of it, and what fcc did to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx_ir import Graph, Model, Node, Value

from .source import Source
from .uses import subgraphs_of

GENERATED = "fcc.generated_name"  # in the meta of a node whose name the source does not have: not written to files


@dataclass(frozen=True)
class Rewrite:
    """One application of a pass: which pass, at which site (an output name), from which nodes to which."""

    index: int
    pass_name: str
    site: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Identity that survives replay: pass and site."""
        return (self.pass_name, self.site)


@dataclass(eq=False)
class Module:
    """A model being compiled. Names of values and nodes are unique over all its graphs."""

    model: Model
    history: list[Rewrite] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    source: Source | None = None
    version: int = 0
    _facts: dict[str, tuple[int, Any]] = field(default_factory=dict)
    _counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            self.reindex()

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.model.graph

    def opset(self, domain: str = "") -> int:
        """Return the imported version of a domain, 0 when it is not imported."""
        return self.model.opset_imports.get(domain, 0)

    def graphs(self) -> Iterator[Graph]:
        """Yield the main graph and every graph nested in it, outer first, as they were at the last change."""
        return iter(self._index()[0])

    def nodes(self) -> Iterator[Node]:
        """Yield every node of every graph; a node comes before the nodes of its nested graphs.

        A snapshot of the last change: nodes made while iterating are not seen, erased ones are left out.
        """
        return (node for node in self._index()[1] if node.graph is not None)

    def _index(self) -> tuple[list[Graph], list[Node]]:
        found: tuple[list[Graph], list[Node]] = self.fact("index", lambda m: _walk(m.model.graph))
        return found

    def reindex(self) -> None:
        """Collect the names in use again (after a change made outside the Rewriter)."""
        self.names = set()
        self.touch()
        for graph in self.graphs():
            self.names.update(v.name for v in graph.inputs if v.name)
            self.names.update(graph.initializers)
            for node in graph:
                if node.name:
                    self.names.add(node.name)
                self.names.update(v.name for v in node.outputs if v.name)
        self.touch()

    def fresh(self, base: str) -> str:
        """Return a name no value or node has: ``base``, else ``base_1``, ``base_2``... Deterministic."""
        base = base or "v"
        name, k = base, self._counters.get(base, 0)
        while name in self.names:
            k += 1
            name = f"{base}_{k}"
        self._counters[base] = k
        self.names.add(name)
        return name

    def touch(self) -> None:
        """Forget cached facts: the graph changed."""
        self.version += 1

    def fact(self, key: str, compute: Any) -> Any:
        """Return ``compute(self)``, cached until the graph changes."""
        found = self._facts.get(key)
        if found is None or found[0] != self.version:
            found = (self.version, compute(self))
            self._facts[key] = found
        return found[1]

    @staticmethod
    def is_constant(value: Value | None) -> bool:
        """Return whether the value is an initializer that a caller cannot override."""
        return (
            value is not None
            and value.const_value is not None
            and value.is_initializer()
            and not value.is_graph_input()
        )

    @classmethod
    def constant(cls, value: Value | None) -> np.ndarray[Any, Any] | None:
        """Return the array of a constant value, else None. Reads the tensor: not for large weights in a check."""
        if value is None or not cls.is_constant(value):
            return None
        assert value.const_value is not None
        return value.const_value.numpy()

    def clone(self) -> Module:
        """Return a deep copy; tensors are shared, since nothing writes into one. O(nodes)."""
        copy = Module(self.model.clone(), list(self.history), list(self.notes), set(self.names), self.source)
        copy._counters = dict(self._counters)
        return copy


def _walk(graph: Graph) -> tuple[list[Graph], list[Node]]:
    graphs, nodes = [graph], []
    for node in graph:
        nodes.append(node)
        for nested in subgraphs_of(node):
            inner = _walk(nested)
            graphs += inner[0]
            nodes += inner[1]
    return graphs, nodes
