"""merge-duplicate-initializers: constants with equal contents -> one constant."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from hashlib import blake2b
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import ModulePass, PassContext

CHUNK = 1 << 24
SAMPLES = 16
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class MergeDuplicateInitializers(ModulePass):
    """Let all users of equal constants use the first of them; one of an outer graph replaces one of an inner graph.

    f(x, w1), g(x, w2) with w1 = w2 -> f(x, w1), g(x, w1)

    Shapes: any. Equal means: dtype, shape and bytes (so -0.0 is not 0.0, and NaN equals NaN of the same payload).
    Not merged: overridable initializers; a graph output that would lose its name; weights computed only at save;
    what QuantizeLinear or DequantizeLinear read, since TensorRT's explicit quantization (onnxsim#197) and
    onnxruntime's MatMulNBits fusion (onnxruntime#28306) want one weight, scale and zero point per node.
    Reads 16 elements per tensor, all bytes only where those agree, 16 MiB at a time: external data stays mapped.
    Source: ONNX IR specification, "Graphs": initializers.
    """

    name: ClassVar[str] = "merge-duplicate-initializers"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None if module.fact(self.name, _find) else "no two constants are equal"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        pairs: list[Pair] = module.fact(self.name, _find)
        for kept, duplicate in pairs:
            duplicate.replace_all_uses_with(kept)
            assert duplicate.graph is not None
            assert duplicate.name is not None
            del duplicate.graph.initializers[duplicate.name]
        return len(pairs)


Scoped = tuple[ir.Value, tuple[ir.Graph, ...]]
Pair = tuple[ir.Value, ir.Value]


def _find(module: ir.Module) -> list[Pair]:
    """Return (kept, duplicate) pairs, telling constants apart by ever more expensive keys."""
    groups = [list(_candidates(module, module.graph, ()))]
    for key in (_kind, _outline, _digest):
        groups = [split for group in groups for split in _split(group, key) if len(split) > 1]
    return [pair for group in groups for pair in _pairs(group)]


def _candidates(module: ir.Module, graph: ir.Graph, outer: tuple[ir.Graph, ...]) -> Iterator[Scoped]:
    scope = (*outer, graph)
    for value in graph.initializers.values():
        if module.is_constant(value) and not isinstance(value.const_value, ir.LazyTensor) and not _is_quantized(value):
            yield value, scope
    for node in graph:
        for nested in ir.subgraphs_of(node):
            yield from _candidates(module, nested, scope)


def _is_quantized(value: ir.Value) -> bool:
    return any(use.node.op_type in QUANTIZERS for use in value.uses())


def _split(group: list[Scoped], key: Callable[[ir.TensorProtocol], Hashable]) -> list[list[Scoped]]:
    found: dict[Hashable, list[Scoped]] = {}
    for scoped in group:
        tensor = scoped[0].const_value
        assert tensor is not None
        found.setdefault(key(tensor), []).append(scoped)
    return list(found.values())


def _kind(tensor: ir.TensorProtocol) -> Hashable:
    return tensor.dtype, tuple(tensor.shape)


def _outline(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.dtype == ir.DataType.STRING:
        return None
    flat = np.ascontiguousarray(tensor.numpy()).ravel()
    at = np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(np.int64)
    return flat[at].tobytes()


def _digest(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.dtype == ir.DataType.STRING:
        return tuple(tensor.string_data())  # type: ignore[attr-defined]
    raw = np.ascontiguousarray(tensor.numpy()).ravel().view(np.uint8)
    digest = blake2b(digest_size=32)
    for start in range(0, raw.size, CHUNK):
        digest.update(raw[start : start + CHUNK].data)
    return digest.digest()


def _pairs(group: list[Scoped]) -> Iterator[Pair]:
    """Pair each constant with an equal one that its users can see; outer ones and graph outputs are kept first."""
    kept: list[ir.Value] = []
    for value, scope in sorted(group, key=lambda scoped: (len(scoped[1]), not scoped[0].is_graph_output())):
        visible = None if value.is_graph_output() else next((k for k in kept if k.graph in scope), None)
        if visible is None:
            kept.append(value)
        else:
            yield visible, value
