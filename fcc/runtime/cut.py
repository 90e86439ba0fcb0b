"""A part of a model as a model: the nodes that are kept, what they read from the others as inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from fcc.data.spec import Array
from fcc.ir import DataType

from .inspect import read_proto

Dims = Sequence[int | str | None]


class Parts:
    """The nodes of a model's main graph by number, and models of some of them.

    ``folder`` holds its external data; ``declare`` writes what is known of its inputs and outputs into a ModelProto.
    """

    def __init__(self, model: Any, folder: str | None = None) -> None:
        self.proto = read_proto(model)
        self._folder = folder
        graph = self.proto.graph
        self.reads = [tuple(dict.fromkeys(n for n in _reads(node) if n)) for node in graph.node]
        self.home = {o: k for k, node in enumerate(graph.node) for o in _writes(node) if o}
        self._makes = {o: k for k, node in enumerate(graph.node) for o in node.output if o}
        self._readers: dict[str, set[int]] = {}
        for k, names in enumerate(self.reads):
            for name in names:
                self._readers.setdefault(name, set()).add(k)
        self._given = {i.name: i for i in graph.input}
        self._declared = {v.name: v for v in (*graph.output, *graph.value_info)}
        self._constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}

    def __len__(self) -> int:
        return len(self.proto.graph.node)

    def near(self, seeds: Collection[int], steps: int) -> frozenset[int]:
        """Return the nodes that a path of so many tensors, up or down, connects with some of the seeds."""
        found, edge = set(seeds), set(seeds)
        for _ in range(steps):
            edge = {n for k in edge for n in self._neighbours(k)} - found
            found |= edge
        return frozenset(found)

    def _neighbours(self, k: int) -> Iterator[int]:
        yield from (self._makes[n] for n in self.reads[k] if n in self._makes)
        for name in self.proto.graph.node[k].output:
            yield from self._readers.get(name, ())

    def border(self, keep: Collection[int]) -> list[str]:
        """Return the tensors that some nodes read and others of the main graph, or the caller, write."""
        kept = set(keep)
        names = dict.fromkeys(n for k in sorted(kept) for n in self.reads[k] if self._makes.get(n, -1) not in kept)
        return [n for n in names if n in self._makes or (n in self._given and n not in self._constants)]

    def cut(self, keep: Collection[int], values: Mapping[str, Array], dims: Mapping[str, Dims]) -> bytes:
        """Return the model of some nodes. ``values`` are those of its border, ``dims`` what is known of their shapes.

        Outputs are what others read, what nobody reads, and outputs of the model.

        Raises:
            KeyError: a tensor of the border has no value.
        """
        kept = set(keep)
        made = onnx.ModelProto()
        for name in ("ir_version", "producer_name", "opset_import", "functions"):
            _copy(self.proto, made, name)
        graph, source = made.graph, self.proto.graph
        graph.name = source.name
        graph.node.extend(source.node[k] for k in sorted(kept))
        reads = {n for k in kept for n in self.reads[k]}
        graph.input.extend(self._input(n, values, dims) for n in self.border(kept))
        graph.input.extend(i for i in source.input if i.name in reads and i.name in self._constants)
        graph.initializer.extend(self._loaded(t) for t in source.initializer if t.name in reads)
        graph.sparse_initializer.extend(t for t in source.sparse_initializer if t.values.name in reads)
        ends = [o for k in sorted(kept) for o in source.node[k].output if o and self._ends(o, kept)]
        graph.output.extend(self._declared.get(n, onnx.ValueInfoProto(name=n)) for n in ends)
        inner = {o for k in kept for o in source.node[k].output} - set(ends)
        graph.value_info.extend(v for v in source.value_info if v.name in inner)
        self._type(made)
        return bytes(made.SerializeToString())

    @staticmethod
    def _type(made: Any) -> None:
        """Declare the types of outputs that the model did not, as far as inference knows them."""
        if all(o.HasField("type") for o in made.graph.output):
            return
        known = {o.name: o for o in onnx.shape_inference.infer_shapes(made).graph.output if o.HasField("type")}
        for output in made.graph.output:
            if not output.HasField("type") and output.name in known:
                output.CopyFrom(known[output.name])

    def _ends(self, name: str, kept: set[int]) -> bool:
        readers = self._readers.get(name, set())
        return not readers or not readers <= kept or any(o.name == name for o in self.proto.graph.output)

    def _input(self, name: str, values: Mapping[str, Array], dims: Mapping[str, Dims]) -> Any:
        if name in self._given:
            return self._given[name]
        array = values[name]
        kind = DataType.STRING if array.dtype.hasobject else DataType.from_numpy(array.dtype)
        known = dims.get(name, (None,) * array.ndim)
        return onnx.helper.make_tensor_value_info(name, kind.value, list(known))

    def _loaded(self, tensor: Any) -> Any:
        if self._folder is None or not uses_external_data(tensor):
            return tensor
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        load_external_data_for_tensor(own, self._folder)
        own.data_location = onnx.TensorProto.DEFAULT
        del own.external_data[:]
        return own


def _copy(source: Any, target: Any, name: str) -> None:
    value = getattr(source, name)
    if isinstance(value, int | str):
        setattr(target, name, value)
    else:
        getattr(target, name).extend(value)


def _graphs(node: Any) -> Iterator[Any]:
    for a in node.attribute:
        yield from [a.g] if a.HasField("g") else []
        yield from a.graphs


def _reads(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, those that its nested graphs use included."""
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (o.name for o in graph.output)


def _writes(node: Any) -> Iterator[str]:
    """Yield the names that a node writes, those inside its nested graphs included."""
    yield from node.output
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _writes(inner)
