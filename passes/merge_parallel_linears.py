"""merge-parallel-linears: layers of one input -> one wider layer, whose output is split, or is their Concat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.analysis.linear import Linear
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import limits
from ._layers import DENSE, layer_of, row, used_elsewhere, weights

Array = np.ndarray[Any, Any]
Key = tuple[Any, ...]
_UNARY = frozenset({"Relu", "Sigmoid", "Tanh", "Softplus", "Erf", "Abs", "Neg", "Exp", "Sqrt"})
_NO_SPLIT = "a Split would copy the output"

# Where the merged layer and its Split are faster than the layers, measured with onnxruntime 1.31.1, one thread, AVX-512
# (layers x [rows, in, out] -> ratio). Target -> layers -> bytes of output up to which it pays.
#   3 x [1, 64, 64] 0.91, [1, 256, 256] 0.95, [8, 256, 256] 0.96, [32, 256, 256] 0.99, [128, 128, 128] 0.99,
#       [128, 256, 256] 1.00, [64, 512, 512] 1.01, [256, 256, 256] 1.03, [384, 256, 256] 1.06
#   2 x [1, 64, 64] 0.97, [1, 256, 256] 0.98, [8, 256, 256] 0.99, [128, 128, 128] 1.01, [64, 512, 512] 1.01
# Without a bias (which one Add does for all) 1.02 to 1.16 throughout; convolutions 0.97 to 1.41: never.
# Their Concat costs no Split: convolutions 0.73 to 0.96.
_SPLIT_PAYS = {"cpu": {2: 16 << 10, 3: 192 << 10}}


@dataclass(frozen=True)
class _Group:
    """Layers in the order of the merged output, what follows each, and the Concat of all (None: a Split is needed)."""

    layers: tuple[Linear, ...]
    results: tuple[ir.Value, ...]
    activations: tuple[ir.Node, ...]
    concat: ir.Node | None


class MergeParallelLinears(SitePass):
    """Merge layers of the same kind that read the same value into one wider layer.

    Concat(x A + a, x B + b)  ->  x [A B] + [a b];   x A + a, x B + b  ->  Split(x [A B] + [a b])

    Layers: Gemm, MatMul (+ Add), Conv of equal attributes and kernel size, with one group. An elementwise activation
    that follows all of them follows the merged layer. With a Concat along the features, of neighbours, it always pays;
    with a Split where the table of measurements says so. Weights and biases with other users stay.
    Shapes: x of any rank >= 2; Conv [N, C, *spatial]. Numerics: exact, but for alpha, beta (in float64, rounded once).
    Source: block products of matrices; Jia et al. 2019 (TASO), sec. 2.
    """

    name: ClassVar[str] = "merge-parallel-linears"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        changed = True
        while changed:
            changed = False
            for members in _parallel(module):
                for group in _groups(members):
                    anchor = group.concat or group.layers[0].nodes[0]
                    if all(n.graph is not None for n in (anchor, *(x.nodes[0] for x in group.layers))):
                        yield Site(anchor, module, ctx, group)
                        changed = changed or group.layers[0].nodes[0].graph is None

    def check(self, site: Site) -> str | None:
        group: _Group = site.data
        if any(used_elsewhere(layer) for layer in group.layers):
            return "a weight or bias has other users and would stay"
        dtype = group.layers[0].weight.dtype
        assert dtype is not None
        plain = all(layer.alpha == 1 and layer.beta == 1 for layer in group.layers)
        if not plain and not all(np.all(np.abs(weights(x)) <= limits(dtype)[1]) for x in group.layers):
            return f"the scaled weights leave the range of {dtype}"
        return None

    def pays(self, site: Site) -> str | None:
        group: _Group = site.data
        return None if group.concat is not None else _split_refusal(group, site.ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        group: _Group = site.data
        made = _merged(group.layers, rw)
        if group.activations:
            made = rw.like(group.activations[0], made)
        if group.concat is None:
            axis = 1 if group.layers[0].kind == "Conv" else len(ir.known_dims(made)) - 1
            lengths = np.array([x.out_features for x in group.layers], np.int64)
            parts = rw.op("Split", made, lengths, outputs=len(lengths), axis=axis)
            for old, new in zip(group.results, parts, strict=True):
                rw.replace(old, new)
        else:
            _join(group, group.concat, made, rw)
        rw.erase(*group.activations, *(n for x in group.layers for n in reversed(x.nodes)))


def _join(group: _Group, concat: ir.Node, made: ir.Value, rw: Rewriter) -> None:
    """Let one input of the Concat take the place of several; a Concat of one is that one."""
    first = next(i for i, v in enumerate(concat.inputs) if v is group.results[0])
    rest = [*concat.inputs[:first], made, *concat.inputs[first + len(group.results) :]]
    rw.replace(concat.outputs[0], made if len(rest) == 1 else rw.like(concat, *rest))
    rw.erase(concat)


# -- finding groups ------------------------------------------------------------------------------------------------
def _parallel(module: ir.Module) -> list[list[Linear]]:
    """Return the layers that read the same value in the same graph and agree in everything but their weights."""
    found: dict[Key, list[Linear]] = {}
    for node in module.nodes():
        if node.op_type not in DENSE or node.domain != "" or node.inputs[0] is None or len(node.inputs[0].uses()) < 2:
            continue
        layer = layer_of(node)
        if not isinstance(layer, str) and all(n.graph is node.graph for n in layer.nodes):
            found.setdefault((id(node.graph), id(layer.x), _key(layer)), []).append(layer)
    return [members for members in found.values() if len(members) > 1]


def _key(layer: Linear) -> Key:
    dims, node = ir.known_dims(layer.weight), layer.nodes[0]
    if layer.kind != "Conv":
        return layer.kind, layer.weight.dtype
    kept = {k: str(a.value) for k, a in sorted(node.attributes.items()) if k not in ("kernel_shape", "group")}
    return layer.kind, layer.weight.dtype, dims[2:], tuple(kept.items())


def _groups(members: list[Linear]) -> Iterator[_Group]:
    """Yield runs of neighbours in one Concat, then all members for a Split, with their activations and without."""
    for step in (_activation, None):
        ends = {}
        for layer in members:
            after = step(layer) if step is not None else None
            if step is None or after is not None:
                ends[layer] = after
        yield from _concatenated(ends)
    behind = [_activation(layer) for layer in members]
    types = {None if n is None else n.op_type for n in behind}
    nodes = tuple(n for n in behind if n is not None)
    if len(types) == 1 and len(nodes) == len(members):
        yield _Group(tuple(members), tuple(n.outputs[0] for n in nodes), nodes, None)
    else:
        yield _Group(tuple(members), tuple(x.output for x in members), (), None)


def _activation(layer: Linear) -> ir.Node | None:
    node = ir.sole_user(layer.output)
    if node is None or node.domain or node.op_type not in _UNARY or node.graph is not layer.nodes[0].graph:
        return None
    return node


def _concatenated(ends: dict[Linear, ir.Node | None]) -> Iterator[_Group]:
    """Yield every longest run of neighbouring inputs of a Concat along the features that one merged layer can give."""
    by_value = {id(n.outputs[0] if n is not None else x.output): (x, n) for x, n in ends.items()}
    concats: dict[int, ir.Node] = {}
    for layer, node in ends.items():
        user = ir.sole_user(node.outputs[0] if node is not None else layer.output)
        if user is not None and user.op_type == "Concat" and user.domain == "" and _along_features(user, layer):
            concats[id(user)] = user
    for concat in concats.values():
        if concat.graph is not next(iter(ends)).nodes[0].graph:
            continue
        for run in _runs(concat, by_value):
            layers, nodes = zip(*run, strict=True)
            acts = tuple(n for n in nodes if n is not None)
            results = tuple(n.outputs[0] if n is not None else x.output for x, n in run)
            yield _Group(layers, results, acts, concat)


def _runs(concat: ir.Node, by_value: dict[int, Any]) -> Iterator[list[Any]]:
    """Yield runs of at least two inputs, all of which only the Concat uses, and with one activation."""
    run: list[Any] = []
    for value in [*concat.inputs, None]:
        alone = value is not None and concat.inputs.count(value) == 1 and ir.sole_user(value) is concat
        found = by_value.get(id(value)) if alone else None
        if run and (found is None or _op(run[0][1]) != _op(found[1])):
            if len(run) > 1:
                yield run
            run = []
        if found is not None:
            run.append(found)


def _op(node: ir.Node | None) -> str:
    return "" if node is None else node.op_type


def _along_features(concat: ir.Node, layer: Linear) -> bool:
    rank = len(ir.known_dims(layer.output))
    axis = concat.attributes.get_int("axis", 0)
    return rank > 1 and axis % rank == (1 if layer.kind == "Conv" else rank - 1)


# -- does it pay ---------------------------------------------------------------------------------------------------
def _split_refusal(group: _Group, ctx: PassContext) -> str | None:
    rows = _SPLIT_PAYS.get(ctx.target.name)
    if rows is None:
        return f"{_NO_SPLIT}, and no measurement says that it pays on {ctx.target.name}"
    if group.layers[0].kind == "Conv" or group.layers[0].weight.dtype != ir.DataType.FLOAT:
        return f"{_NO_SPLIT}, which does not pay for a convolution or another type than float"
    if any(row(layer) is None for layer in group.layers):
        return f"{_NO_SPLIT}, which does not pay for layers without a bias"
    limit = rows[min(len(group.layers), max(rows))]
    moved = sum(4 * prod(sizes(layer.output, ctx.shapes) or ()) for layer in group.layers)
    return None if moved <= limit else f"{_NO_SPLIT} of {moved} bytes, above the {limit} up to which it pays"


# -- the merged layer ----------------------------------------------------------------------------------------------
def _merged(layers: Sequence[Linear], rw: Rewriter) -> ir.Value:
    first, *_ = layers
    weight = rw.lazy(partial(_joined, tuple(layers)), like=_wide(layers))
    biases = [row(layer) for layer in layers]
    parts = [np.zeros(x.out_features) if b is None else b for x, b in zip(layers, biases, strict=True)]
    assert first.weight.dtype is not None
    bias = np.concatenate(parts).astype(first.weight.dtype.numpy())
    added = [] if all(b is None for b in biases) else [rw.const(bias)]
    made: ir.Value = _EMIT[first.kind](first, weight, added, rw)
    return made


def _wide(layers: Sequence[Linear]) -> ir.Value:
    """Return a value of the dtype and shape of the merged weight."""
    out = sum(x.out_features for x in layers)
    first, *_ = layers
    shape = [out, *ir.numbers(ir.known_dims(first.weight))[1:]] if first.kind == "Conv" else [first.in_features, out]
    assert first.weight.dtype is not None
    return ir.Value(type=ir.TensorType(first.weight.dtype), shape=ir.Shape(shape))


def _joined(layers: Sequence[Linear]) -> Array:
    """Return the merged weight as it is stored: Conv [out, in, *kernel], else [in, out]."""
    first, *_ = layers
    assert first.weight.dtype is not None
    parts = [weights(x).astype(first.weight.dtype.numpy()) for x in layers]
    joined = np.concatenate(parts, axis=0)
    return joined if first.kind == "Conv" else np.ascontiguousarray(joined.T)


def _gemm(layer: Linear, weight: ir.Value, added: list[ir.Value], rw: Rewriter) -> Any:
    return rw.op("Gemm", layer.x, weight, *added)


def _matmul(layer: Linear, weight: ir.Value, added: list[ir.Value], rw: Rewriter) -> Any:
    product = rw.op("MatMul", layer.x, weight)
    return rw.op("Add", product, *added) if added else product


def _conv(layer: Linear, weight: ir.Value, added: list[ir.Value], rw: Rewriter) -> Any:
    return rw.like(layer.nodes[0], layer.x, weight, *added)


_EMIT: dict[str, Callable[[Linear, ir.Value, list[ir.Value], Rewriter], Any]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
}
