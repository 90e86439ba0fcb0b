"""Module -> ONNX: Emitted holds everything of the output but the weights, which are read when they are written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import ModelProto

from fcc import ir

from . import wire
from .size import scan_source
from .skeleton import skeleton
from .weights import Place, Weight

OWN = "fcc."
EXTERNAL_LIMIT = 3 << 29  # 1.5 GiB: a protobuf message ends at 2 GiB


@dataclass(frozen=True)
class Emitted:
    """An output: the model without weights, its weights, and the options that add speed.

    ``session_options`` are keys of the session configuration; ``provider_options`` maps each provider, in order, to its
    options. ``external``: the weights go to a data file beside the model. The module must not change while it is used.
    """

    skeleton: ModelProto = field(repr=False)
    weights: tuple[Weight, ...] = field(repr=False)
    session_options: Mapping[str, str]
    provider_options: Mapping[str, Mapping[str, str]]
    facts: frozenset[str]
    external: bool = False
    source: Any = field(default=None, repr=False)

    def proto(self) -> ModelProto:
        """Return the whole model in memory (below 2 GiB)."""
        out = ModelProto()
        out.CopyFrom(self.skeleton)
        out.graph.initializer.extend(w.proto() for w in self.weights)
        return out

    def to_bytes(self) -> bytes:
        """Return the serialized model, weights inside: what ``save`` writes unless it is external."""
        return b"".join(self.chunks())

    def chunks(self, places: Mapping[str, Place] | None = None) -> Iterator[bytes]:
        """Yield the serialized model piece by piece, weights last, each computed when its turn comes.

        ``places`` maps the weights that lie in a data file to their place in it.
        """
        parts = [(w, *w.parts((places or {}).get(w.name))) for w in self.weights]
        model = ModelProto()
        model.CopyFrom(self.skeleton)
        graph = model.graph.SerializeToString(deterministic=True)
        model.ClearField("graph")
        yield model.SerializeToString(deterministic=True)
        heads = [wire.header(wire.GRAPH_INITIALIZER, total) for _, _, _, total in parts]
        size = len(graph) + sum(len(h) + p[3] for h, p in zip(heads, parts, strict=True))
        yield wire.header(wire.MODEL_GRAPH, size)
        yield graph
        for head, (weight, message, streamed, _) in zip(heads, parts, strict=True):
            yield head + message
            if streamed:
                yield weight.payload()

    @cached_property
    def size(self) -> int:
        """Bytes of the output without ``fcc.*`` metadata, value_info and the name of a data file."""
        places = {w.name: Place("", 0, w.nbytes) for w in self.weights if self.external and w.may_be_external}
        lengths = [w.parts(places.get(w.name))[2] for w in self.weights]
        inside = sum(len(wire.header(wire.GRAPH_INITIALIZER, n)) + n for n in lengths)
        graph = self.skeleton.graph.ByteSize()
        framing = len(wire.header(wire.MODEL_GRAPH, graph + inside)) - len(wire.header(wire.MODEL_GRAPH, graph))
        data = self.skeleton.SerializeToString()
        return len(data) - wire.overhead(data) + framing + inside + sum(p.length for p in places.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the serialized model: equal digests mean equal outputs."""
        total = hashlib.sha256()
        for chunk in self.chunks():
            total.update(chunk)
        return total.hexdigest()

    def with_metadata(self, meta: Mapping[str, str]) -> Emitted:
        """Return the output with model metadata added (same weights)."""
        changed = ModelProto()
        changed.CopyFrom(self.skeleton)
        set_metadata(changed, meta)
        return replace(self, skeleton=changed)

    def without_repeats(self) -> Emitted:
        """Return the output where what nodes of a rewrite tell of the node they replace is on the last one only."""
        changed = ModelProto()
        changed.CopyFrom(self.skeleton)
        seen = set[tuple[Any, ...]]()
        for node in reversed(changed.graph.node):
            own = [p for p in node.metadata_props if p.key.startswith(OWN)]
            told = (node.doc_string, *((p.key, p.value) for p in node.metadata_props if p not in own))
            if own and told in seen:
                node.ClearField("doc_string")
                del node.metadata_props[:]
                node.metadata_props.extend(own)
            seen.add(told)
        return replace(self, skeleton=changed)


def emit(
    module: ir.Module,
    *,
    meta: Mapping[str, str],
    session_options: Mapping[str, str],
    provider_options: Mapping[str, Mapping[str, str]],
    facts: frozenset[str] = frozenset(),
    complete_info: bool = False,
) -> Emitted:
    """Return the output of a module: I/O as the source declares it, source metadata kept, ``meta`` added.

    ``complete_info`` writes a value_info for every value; otherwise for those that the source had one of. Outputs of
    equal modules and options are byte-identical.
    """
    declared = scan_source(module.source, wire.declared_values) if module.source is not None else None
    keep: Callable[[str], bool] = (lambda _: True) if complete_info else (declared or frozenset()).__contains__
    external = _is_external(module)
    _settle_nested(module, hoist=external)
    proto = skeleton(module, keep)
    kept = [p for p in proto.metadata_props if not p.key.startswith(OWN)]  # what an earlier compile said is stale
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    set_metadata(
        proto,
        {
            **meta,
            "fcc.session_options": _json(session_options),
            "fcc.provider_options": _json([[name, dict(options)] for name, options in provider_options.items()]),
        },
    )
    weights = tuple(Weight(n, v.const_value) for n, v in module.graph.initializers.items() if v.const_value is not None)
    return Emitted(proto, weights, dict(session_options), dict(provider_options), facts, external, module.source)


def unchanged(module: ir.Module, meta: Mapping[str, str], providers: Sequence[str]) -> Emitted | None:
    """Return the source of a module with model metadata added, None when it has external data or is gone."""
    source = module.source
    if source is None or _is_external(module):
        return None
    try:
        loaded = source.load()
        data = loaded if isinstance(loaded, bytes) else Path(loaded).read_bytes()
    except OSError:
        return None
    proto = ModelProto.FromString(data)
    options = [[name, {}] for name in providers]
    set_metadata(proto, {**meta, "fcc.session_options": _json({}), "fcc.provider_options": _json(options)})
    return Emitted(proto, (), {}, {name: {} for name in providers}, frozenset(), False, source)


def set_metadata(proto: ModelProto, meta: Mapping[str, str]) -> None:
    """Set model metadata in place: other keys stay where they are, fcc's own come last, sorted."""
    entries = {p.key: p.value for p in proto.metadata_props} | dict(meta)
    del proto.metadata_props[:]
    for key in [k for k in entries if not k.startswith(OWN)] + sorted(k for k in entries if k.startswith(OWN)):
        proto.metadata_props.add(key=key, value=entries[key])


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _is_external(module: ir.Module) -> bool:
    total = sum(
        Weight(n, v.const_value).nbytes for n, v in module.graph.initializers.items() if v.const_value is not None
    )
    if total > EXTERNAL_LIMIT:
        return True
    source = module.source
    try:
        return source is not None and source.path is not None and os.path.getsize(source.path) < source.bytes_size
    except OSError:
        return False


def _settle_nested(module: ir.Module, *, hoist: bool) -> None:
    """Bring tensors that refer to the source's files, and lie where no data file may hold them, into memory.

    ``hoist`` moves large constants of nested graphs to the main graph, where they are streamed like all others.
    """
    for graph in module.graphs():
        if graph is not module.graph:
            for value in list(graph.initializers.values()):
                _settle_constant(module, graph, value, hoist)
        for node in graph:
            for key, attribute in list(node.attributes.items()):
                if not attribute.is_ref() and isinstance(attribute.value, ir.ExternalTensor):
                    node.attributes[key] = ir.Attr(key, attribute.type, _in_memory(attribute.value))


def _settle_constant(module: ir.Module, graph: ir.Graph, value: ir.Value, hoist: bool) -> None:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or value.is_graph_output():
        return
    if hoist and Weight(value.name or "", tensor).may_be_external:
        del graph.initializers[value.name or ""]
        module.graph.initializers.add(value)
    elif isinstance(tensor, ir.ExternalTensor):
        value.const_value = _in_memory(tensor)


def _in_memory(tensor: ir.ExternalTensor) -> Any:
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
