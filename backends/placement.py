"""Which provider runs each node, what is copied between device and host, and which nodes cause it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from fcc import ir
from fcc.analysis.cost import computed_at_load, sizes
from fcc.analysis.partition import reads
from fcc.analysis.shapes import static_size
from fcc.target import TargetSpec, get_target
from fcc.target.memory import DEVICE_ONLY, HOST_INPUTS, HOST_OUTPUTS, SMALL_CONSTANT

from .node_facts import element_type, support_of

_BEHIND: Mapping[str, tuple[str, ...]] = {"cpu": (), "cuda": (), "tensorrt": ("cuda",)}
"""Target -> targets whose provider takes what its own refuses, before the CPU does."""
_NAMES = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
HOST = _NAMES["cpu"]


@dataclass(frozen=True)
class Copy:
    """A tensor that is copied between device and host once per run."""

    value: ir.Value
    to_host: bool

    def bytes(self, symbols: Mapping[str, int] | None = None) -> int:
        """Return the size of the tensor, symbols 1 where they are not bound."""
        shape, dtype = sizes(self.value, symbols), self.value.dtype
        return 0 if shape is None or dtype is None or dtype == ir.DataType.STRING else int(prod(shape) * dtype.itemsize)


@dataclass
class Placement:
    """The provider of every node of a graph, why the first one refused it, and what runs on the host on purpose.

    onnxruntime keeps arithmetic on sizes (integers that Shape gives) on the CPU: nothing is copied for it.
    """

    where: dict[ir.Node, str] = field(default_factory=dict)
    reasons: dict[ir.Node, str] = field(default_factory=dict)
    on_purpose: set[ir.Node] = field(default_factory=set)
    folded: set[ir.Node] = field(default_factory=set)
    copies: list[Copy] = field(default_factory=list)

    @property
    def foreign(self) -> list[ir.Node]:
        """Nodes that the host runs because no device provider does."""
        return [n for n in self.reasons if self.where[n] == HOST]

    def labels(self) -> dict[ir.Node, str]:
        """Return the provider of every node as partitions see it: arithmetic on sizes cuts nothing."""
        device = next((p for n, p in self.where.items() if p != HOST), HOST)
        return {n: device if n in self.on_purpose or n in self.folded else p for n, p in self.where.items()}

    def culprits(self) -> dict[ir.Node, list[Copy]]:
        """Return the foreign nodes that copies are made for, with the copies of what they read and write."""
        found: dict[ir.Node, list[Copy]] = {}
        for node in self.foreign:
            near = {*reads(node), *node.outputs}
            mine = [c for c in self.copies if c.value in near]
            if mine:
                found[node] = mine
        return found


def placement_of(module: ir.Module, graph: ir.Graph, spec: TargetSpec) -> Placement:
    """Return how onnxruntime would place the nodes of a graph on the providers of a target.

    Remembered until the module changes. What depends on constants only is folded at load: it counts as a constant.
    """
    found: dict[ir.Graph, Placement] = module.fact(f"placement:{spec.name}", lambda m: {})
    if graph not in found:
        found[graph] = _placed(module, graph, spec)
    return found[graph]


def _placed(module: ir.Module, graph: ir.Graph, spec: TargetSpec) -> Placement:
    local = {(f.domain, f.name) for f in module.model.functions.values()}
    placed = Placement(folded=computed_at_load(graph))
    for node in graph:
        reason = None if (node.domain, node.op_type) in local else support_of(node, module, spec).refusal
        placed.where[node] = _NAMES[spec.name]
        if reason is not None:
            placed.reasons[node] = reason
            behind = (get_target(name, isa=spec.isa) for name in _BEHIND[spec.name])
            takes = next((t.name for t in behind if support_of(node, module, t).refusal is None), "cpu")
            placed.where[node] = _NAMES[takes]
    if spec.name != "cpu":
        _keep_sizes_on_host(graph, placed)
        placed.copies = list(_copies(graph, placed))
    return placed


def _keep_sizes_on_host(graph: ir.Graph, placed: Placement) -> None:
    """Move nodes that read sizes, and otherwise small constants and inputs of the graph only, to the host."""
    host: set[ir.Value] = set()
    for node in graph:
        values = [v for v in node.inputs if v is not None]
        if placed.where[node] == HOST:
            if any(v in host for v in values):
                host.update(node.outputs)
        elif placed.where[node] == _NAMES["cuda"] and node.op_type in HOST_OUTPUTS and node.domain == "":
            host.update(node.outputs)
        elif (
            placed.where[node] == _NAMES["cuda"]
            and any(v in host for v in values)
            and _moves(node, values, host, placed)
        ):
            placed.where[node] = HOST
            placed.on_purpose.add(node)
            host.update(node.outputs)


def _moves(node: ir.Node, values: list[ir.Value], host: set[ir.Value], placed: Placement) -> bool:
    if any(element_type(v) in DEVICE_ONLY for v in values):
        return False
    for index, value in enumerate(node.inputs):
        if value is None or _is_small(value, placed) or (value.is_graph_input() and not value.is_initializer()):
            continue
        if value not in host or (node.domain == "" and index in HOST_INPUTS.get(node.op_type, ())):
            return False
    return True


def _is_small(value: ir.Value, placed: Placement) -> bool:
    size = static_size(value) if value.is_initializer() or value.producer() in placed.folded else None
    return size is not None and size <= SMALL_CONSTANT


# -- copies ------------------------------------------------------------------------------------------------------------
def _copies(graph: ir.Graph, placed: Placement) -> Iterator[Copy]:
    """Yield what device and host hand to each other: one copy per tensor, however many nodes read it."""
    wanted: dict[ir.Value, set[bool]] = {}
    for node in graph:
        for value, on_host in _reads_where(node, placed) if node not in placed.folded else ():
            if not value.is_initializer() and value.producer() not in placed.folded:
                wanted.setdefault(value, set()).add(on_host)
    for value, places in wanted.items():
        producer = value.producer()
        if producer is None or producer not in placed.where:
            if len(places) == 2:
                yield Copy(value, to_host=False)
            continue
        made_on_host = _writes_host(producer, placed)
        if (not made_on_host) in places:
            yield Copy(value, to_host=not made_on_host)


def _writes_host(node: ir.Node, placed: Placement) -> bool:
    sizes_only = node.op_type in HOST_OUTPUTS and node.domain == "" and placed.where[node] == _NAMES["cuda"]
    return placed.where[node] == HOST or sizes_only


def _reads_where(node: ir.Node, placed: Placement) -> Iterator[tuple[ir.Value, bool]]:
    """Yield (value, whether the node reads it from host memory)."""
    if placed.where[node] == HOST:
        yield from ((v, True) for v in reads(node))
        return
    kernel = node.domain == "" and placed.where[node] == _NAMES["cuda"]
    host = HOST_INPUTS.get(node.op_type, frozenset()) if kernel else frozenset()
    yield from ((v, i in host) for i, v in enumerate(node.inputs) if v is not None)
    direct = {v for v in node.inputs if v is not None}
    yield from ((v, False) for v in reads(node) if v not in direct)
