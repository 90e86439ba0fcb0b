"""eliminate-dead-neurons: output channels that no later layer needs are removed from both layers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.channel_rules import RULES, Cut
from fcc.analysis.channels import End, Flow, Layer, layer_of, positions, trace
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._neurons import Array, Plan, aligned, bias_of, contribution, merged_weight, plan


@dataclass(frozen=True)
class EliminateDeadNeurons(SitePass):
    """Remove output channels of a layer that are constant, ignored by every reader, or equal to another channel.

    B(f(A(x))) with rows i of A gone -> B'(f(A'(x))):
    constant c_i (A_i = 0 or a scale in f is 0): b_B + B[:, i] c_i;  ignored (B[:, i] = 0);
    duplicate (A_i = A_j, f_i = f_j): B[:, j] + B[:, i]

    Shapes: A and B are Conv or ConvTranspose (group 1), Gemm, or MatMul with a constant matrix, x of any rank; f is
    any chain of elementwise operators, pooling, BatchNormalization, depthwise Conv, per-channel constants, spatial
    reductions, Transpose, Flatten and Reshape that keep channels apart; several readers must all agree. A channel is
    constant too where Relu meets x >= 0 with no positive weight. A constant other than 0 does not go through padding.
    A Conv keeps a number of channels that the target's blocked kernels like, where it has one (64 do not become 63).
    Numerics: constants in the dtype of the value, sums in float64, rounded once. Exact for finite values: a channel
    that is NaN or infinite at run time would have spread through zero weights (0 * inf = NaN), and no longer does.
    Source: Sietsma & Dow 1991; for gamma = 0, Liu et al. 2017 (network slimming).
    """

    name: ClassVar[str] = "eliminate-dead-neurons"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every layer, readers first; a layer comes again when a removal before or behind it may help it."""
        queue = deque(reversed([n for n in module.nodes() if not n.domain and n.op_type in SOURCES]))
        waiting, visited = set(queue), set[ir.Node]()
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            if node.graph is None:
                continue
            found = _find(node, module, ctx)
            if isinstance(found, Plan) and _without_bias(found):
                for end in _without_bias(found):
                    yield Site(end.layer.node, module, ctx, NewBias(end, found))
                found = _find(node, module, ctx)
            if node not in visited or (isinstance(found, Plan) and found):
                yield Site(node, module, ctx, found)
            visited.add(node)
            if not isinstance(found, Plan) or node.inputs[1] is found.flow.source.weight:
                continue
            again = [node, *(end.layer.node for end in found.flow.ends), *_layers_before(node)]
            queue.extend(n for n in again if n not in waiting)
            waiting.update(again)

    def check(self, site: Site) -> str | None:
        found: str | Plan | NewBias = site.data
        if isinstance(found, str):
            return found
        if not found:
            return "no channel is constant, ignored or a duplicate"
        if isinstance(found, Plan) and _without_bias(found):
            return "a reader has no bias that could take a constant"
        with np.errstate(over="ignore"):
            arrays = list(_arrays(found))
        return None if all(np.isfinite(a).all() for a in arrays) else "the weights of a reader would overflow"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: Plan | NewBias = site.data
        if isinstance(found, NewBias):
            _split_bias(found, rw)
        else:
            _remove(found, rw)


SOURCES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class NewBias:
    """A MatMul without bias that must take constants: they move from its weight into an Add."""

    end: End
    plan: Plan


def _find(node: ir.Node, module: ir.Module, ctx: PassContext) -> Plan | str:
    layer = layer_of(node)
    if isinstance(layer, str):
        return layer
    if layer.channels < 2:
        return "it has one channel"
    flow = trace(layer, module.fact("order-of-nodes", _order))
    if isinstance(flow, str):
        return flow
    found = _blocked(flow) or plan(flow, module.opset())
    if isinstance(found, str) or "Conv" not in node.op_type:
        return found
    block = next((b for b in ctx.target.channel_blocks if layer.channels % b == 0), 1)
    kept = aligned(found, block)
    if found and not kept:
        return f"of {layer.channels} channels {found.removed} could go, fewer than the {block} of a blocked kernel"
    return kept


def _order(module: ir.Module) -> Mapping[ir.Node, int]:
    return {node: i for i, node in enumerate(module.nodes())}


def _blocked(flow: Flow) -> str | None:
    """Return why weights may not be cut: another node uses them too, or they are computed only at save."""
    if not flow.ends:
        return "nothing reads its channels"
    for cut in [*flow.cuts, *(end.cut for end in flow.ends)]:
        value = cut.value
        if isinstance(value.const_value, ir.LazyTensor):
            return f"the weight {value.name!r} is computed at save"
        if len(ir.dims_of(value) or ()) > 1 and len(value.uses()) > 1:
            return f"the weight {value.name!r} is shared"
        if value.is_graph_output():
            return f"the weight {value.name!r} is an output"
    return None


def _layers_before(node: ir.Node) -> Iterator[ir.Node]:
    """Yield the layers whose channels may end in this one."""
    stack, seen = [node.inputs[0]], set[ir.Node]()
    while stack:
        value = stack.pop()
        producer = value.producer() if value is not None else None
        if producer is None or producer in seen:
            continue
        seen.add(producer)
        if isinstance(layer_of(producer), Layer):
            yield producer
        elif (producer.domain, producer.op_type) in RULES:
            stack += producer.inputs


# -- the bias of readers -----------------------------------------------------------------------------------------------
def _without_bias(found: Plan) -> list[End]:
    return [
        end
        for end, known in found.known.items()
        if bias_of(end) is None and contribution(end, known, found.needless).any()
    ]


def _split_bias(found: NewBias, rw: Rewriter) -> None:
    """MatMul(x, W) -> Add(MatMul(x, W with zeros for the constant channels), what they contributed)."""
    node = found.end.layer.node
    weight, row = _arrays(found)
    product = rw.like(node, node.inputs[0], weight)
    rw.replace(node.outputs[0], rw.op("Add", product, row))
    rw.erase(node)


def _new_bias(end: End, found: Plan) -> Array | None:
    """Return the bias of an end with the constants added, None when it stays."""
    added = contribution(end, found.known[end], found.needless)
    at = bias_of(end)
    if not added.any() or at is None:
        return None
    node, index = at
    attributes = node.attributes
    value = node.inputs[index] if index < len(node.inputs) else None
    bias = ir.Module.constant(value) if value is not None else None
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    old = np.zeros(1) if bias is None or beta == 0 else bias.astype(np.float64)
    dtype = end.layer.weight.const_value.numpy().dtype if end.layer.weight.const_value is not None else np.float32
    is_gemm = node.op_type == "Gemm"
    return np.asarray(old + (alpha * added / (beta or 1.0) if is_gemm else added)).astype(dtype)


def _arrays(found: Plan | NewBias) -> Iterator[Array]:
    """Yield the arrays that a rewrite computes rather than cuts."""
    if isinstance(found, NewBias):
        end, needless = found.end, found.plan.needless
        weight = ir.Module.constant(end.layer.weight)
        assert weight is not None
        zeroed = np.array(weight)
        np.moveaxis(zeroed, end.layer.in_axis, 0)[positions(needless, end.block)] = 0
        yield zeroed
        yield contribution(end, found.plan.known[end], needless).astype(weight.dtype)
        return
    for end in found.flow.ends:
        yield merged_weight(end, found)
        bias = _new_bias(end, found)
        if bias is not None:
            yield bias


# -- removal -----------------------------------------------------------------------------------------------------------
def _remove(found: Plan, rw: Rewriter) -> None:
    """Cut every operand on the way; nodes are set in order, so that types are inferred again from front to back."""
    flow = found.flow
    cuts: dict[ir.Node, list[Cut]] = {}
    for cut in flow.cuts:
        cuts.setdefault(cut.node, []).append(cut)
    made: dict[tuple[ir.Value, int, int], ir.Value] = {}
    for node in (flow.source.node, *flow.nodes):
        rw.set_input(node, 0, node.inputs[0])
        for cut in cuts.get(node, ()):
            key = (cut.value, cut.axis, cut.block)
            if key not in made:
                array = ir.Module.constant(cut.value)
                kept = np.take(array, positions(found.keep, cut.block), axis=cut.axis)  # type: ignore[arg-type]
                made[key] = rw.const(kept, f"{cut.value.name}/kept")
            rw.set_input(node, cut.index, made[key])
    for resize in flow.resizes:
        _resize(resize.node, resize.index, found.keep.size * resize.block, rw)
    for end in flow.ends:
        _cut_end(end, found, rw)


def _resize(node: ir.Node, index: int | None, count: int, rw: Rewriter) -> None:
    if index is None:
        rw.set_attributes(node, group=count)
        return
    shape = np.array(ir.Module.constant(node.inputs[1]))
    shape[index] = count
    rw.set_input(node, 1, shape)


def _cut_end(end: End, found: Plan, rw: Rewriter) -> None:
    name = end.layer.weight.name
    rw.set_input(end.layer.node, 1, rw.const(merged_weight(end, found), f"{name}/kept"))
    bias, at = _new_bias(end, found), bias_of(end)
    if bias is None or at is None:
        return
    node, index = at
    rw.set_input(node, index, bias)
    if node.attributes.get_float("beta", 1.0) == 0.0:
        rw.set_attributes(node, beta=1.0)
