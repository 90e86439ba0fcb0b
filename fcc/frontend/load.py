"""read(): a model from anywhere, checked, normalized, with its source remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
from onnx_ir import from_proto

from fcc import ir
from fcc.errors import LoadError
from fcc.ir.source import Source
from fcc.limits import MAX_NODES

from .acquire import Acquired, acquire
from .bind import bind_shapes
from .captured import own_captured_outputs
from .external import attach, files_of
from .normalize import normalize
from .schema import check_nodes
from .scopes import check_scopes
from .sparse import densify
from .specs import loosen, proto_specs, repair_docs, specs_of, strip_exotic_types
from .tensors import check_tensors
from .versions import IR_LIMIT, check_versions

_LONGEST = 600  # characters of a message; a name may have millions


def read(model: Any, *, shapes: Mapping[str, Any] | None = None, max_nodes: int = MAX_NODES) -> ir.Module:
    """Return the normalized module of a path, bytes, ModelProto, onnx_ir.Model or GraphSurgeon graph.

    ``shapes`` binds an input to a tuple of sizes, or a dimension symbol to a size everywhere. External data stays
    mapped in its file. More than ``max_nodes`` nodes, functions inlined, are refused before a graph is built. The
    argument is not changed, and must not change while the module is in use.

    Raises:
        LoadError: unreadable, invalid, or outside opset 1..28.
        OptionError: ``shapes`` names no input or symbol, or contradicts a fixed size.
    """
    got = acquire(model)
    try:
        return _read(got, shapes, max_nodes)
    except RecursionError:
        raise LoadError(f"{got.where} nests graphs too deeply", "flatten the model") from None
    except LoadError as error:  # names in a damaged file may hold anything; the message stays one line
        error.args = (error.message, error.hint) = (_line(error.message), _line(error.hint))
        raise


def _read(got: Acquired, shapes: Mapping[str, Any] | None, max_nodes: int) -> ir.Module:
    graph, inputs, outputs = _import(got, max_nodes)
    if not graph.graph.outputs:
        raise LoadError(f"{got.where} has no outputs: nothing of it is needed", "declare at least one graph output")
    loosen(graph)
    if shapes:
        inputs, outputs = bind_shapes(graph, shapes, inputs, outputs)
    external = attach(graph, got.base_dir, got.path)
    check_versions(graph)
    check_nodes(graph)
    load = _runnable(got, graph.ir_version)
    source = Source(got.path, got.size + external, inputs, outputs, got.base_dir, load, files_of(graph))
    module = ir.Module(graph, source=source)
    normalize(module, max_nodes)
    return module


def _line(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def _import(got: Acquired, max_nodes: int) -> tuple[ir.Model, Any, Any]:
    proto = got.model
    if isinstance(proto, ir.Model):
        return proto, *specs_of(proto)
    try:
        check_scopes(proto, max_nodes)
        repair_docs(proto)
        inputs, outputs = proto_specs(proto)
        densify(proto)
        check_tensors(proto)
        own_captured_outputs(proto)
        strip_exotic_types(proto.graph)
        return from_proto(proto), inputs, outputs
    except (LoadError, RecursionError):
        raise
    except Exception as error:  # any failure of the libraries on data we did not write is an invalid model
        raise LoadError(f"{got.where} is not valid ONNX: {_cause(error)}", "run onnx.checker on it") from error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _runnable(got: Acquired, ir_version: int | None) -> Callable[[], str | bytes]:
    """Return what loads the original, its ir_version lowered when it is too new for onnxruntime."""
    if ir_version is None or ir_version <= IR_LIMIT:
        return got.load

    def lowered() -> str | bytes:
        original = got.load()
        proto = onnx.ModelProto()
        if isinstance(original, str):
            proto = onnx.load(original, load_external_data=False)
        else:
            proto.ParseFromString(original)
        proto.ir_version = IR_LIMIT
        return bytes(proto.SerializeToString())

    return lowered
