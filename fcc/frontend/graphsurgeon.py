"""onnx-graphsurgeon graphs as ModelProtos. The package is loaded only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import onnx

from fcc.errors import LoadError, OptionError


def graphsurgeon_to_proto(graph: Any) -> onnx.ModelProto:
    """Return the ModelProto that GraphSurgeon exports.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
        LoadError: the graph cannot be exported.
    """
    gs = graphsurgeon()
    try:
        proto = gs.export_onnx(graph, do_type_check=False)
    except Exception as error:  # the library raises many kinds for graphs that its user broke
        raise LoadError(f"onnx-graphsurgeon cannot export the graph: {error}", "check the graph script") from error
    _share_captured(proto.graph)
    return proto


def _share_captured(main: onnx.GraphProto) -> None:
    """GraphSurgeon exports a captured weight into every nested graph that uses it; keep one, in the main graph."""
    graphs = list(_graphs(main))
    defined = {v.name for g in graphs for v in g.input} | {o for g in graphs for n in g.node for o in n.output}
    places: dict[str, list[onnx.GraphProto]] = {}
    for graph in graphs:
        for tensor in graph.initializer:
            places.setdefault(tensor.name, []).append(graph)
    shared = {name for name, where in places.items() if len(where) > 1 and name not in defined}
    tensors: dict[str, onnx.TensorProto] = {}
    for graph in graphs:
        for tensor in [t for t in graph.initializer if t.name in shared]:
            if tensors.setdefault(tensor.name, tensor) == tensor:
                tensors[tensor.name] = onnx.TensorProto.FromString(tensor.SerializeToString())
                graph.initializer.remove(tensor)
    main.initializer.extend(tensors.values())


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(nested)


def graphsurgeon() -> Any:
    """Return the package.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
    """
    try:
        return importlib.import_module("onnx_graphsurgeon")
    except ImportError:
        raise OptionError("onnx-graphsurgeon is not installed", "pip install 'fcc[graphsurgeon]'") from None
