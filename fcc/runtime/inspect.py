"""Look inside a model as the runtime sees it: intermediate tensors and the kernels that remain."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .session import CPU, Source, open_session


def read_proto(model: Any) -> Any:
    """Return a ModelProto of one's own from bytes, a path, a ModelProto or an onnx_ir Model; external data stays."""
    import onnx
    import onnx_ir

    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    if isinstance(model, str | os.PathLike):
        return onnx.load(os.fspath(model), load_external_data=False)
    if isinstance(model, onnx_ir.Model):
        return onnx_ir.to_proto(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def tap(model: Any, names: Iterable[str]) -> bytes:
    """Return the model with the named tensors of its main graph as outputs after its own.

    Names that are outputs already are not repeated; names that no node produces are dropped.
    """
    import onnx

    proto = read_proto(model)
    produced = {o for node in proto.graph.node for o in node.output if o}
    have = {o.name for o in proto.graph.output}
    for name in dict.fromkeys(names):
        if name in produced and name not in have:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(proto.SerializeToString())


def only(model: Any, names: Iterable[str]) -> bytes | None:
    """Return the part of a model that computes the named tensors of its main graph, as its only outputs.

    The inputs stay. Names that no node produces are dropped; None when no name is left.
    """
    import onnx

    proto = read_proto(model)
    maker = {o: i for i, node in enumerate(proto.graph.node) for o in node.output if o}
    wanted = [n for n in dict.fromkeys(names) if n in maker]
    if not wanted:
        return None
    queue, kept, used = list(wanted), set[int](), {i.name for i in proto.graph.input}
    while queue:
        name = queue.pop()
        used.add(name)
        at = maker.get(name)
        if at is not None and at not in kept:
            kept.add(at)
            queue += _reads(proto.graph.node[at])
    nodes = [node for i, node in enumerate(proto.graph.node) if i in kept]
    values = [t for t in proto.graph.initializer if t.name in used]
    for field, rest in ((proto.graph.node, nodes), (proto.graph.initializer, values)):
        copies = [type(item).FromString(item.SerializeToString()) for item in rest]
        del field[:]
        field.extend(copies)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return bytes(proto.SerializeToString())


def _reads(node: Any) -> list[str]:
    """Return the names that a node reads, in its nested graphs too."""
    graphs = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else []) + list(a.graphs)]
    return [
        *node.input,
        *(n for g in graphs for inner in g.node for n in _reads(inner)),
        *(o.name for g in graphs for o in g.output),
    ]


def tensor_names(model: Any) -> list[str]:
    """Return the names of the tensors that the nodes of the main graph produce, in order."""
    return [o for node in read_proto(model).graph.node for o in node.output if o]


def kernels(
    model: Source,
    *,
    provider: str = CPU,
    options: Mapping[str, str] | None = None,
    custom_ops: Sequence[str] = (),
) -> Counter[str]:
    """Count op types after the runtime's extended optimizations, nested graphs included.

    This is what runs on any CPU of the kind: ``Counter({"QLinearConv": 2, "QGemm": 1, ...})``.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="fcc-") as folder:
        path = Path(folder) / "optimized.onnx"
        entries = {
            "session.optimized_model_external_initializers_file_name": "weights.bin",
            "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
            **(options or {}),
        }
        open_session(
            model,
            provider=provider,
            optimize="extended",
            options=entries,
            custom_ops=custom_ops,
            save_optimized=path,
        )
        graph = onnx.load(path, load_external_data=False).graph
    return Counter(_op_types(graph))


def _op_types(graph: Any) -> Iterable[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _op_types(attribute.g)
            for nested in attribute.graphs:
                yield from _op_types(nested)
