"""eliminate-dead-neurons: output channels that no later layer needs are removed everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.channels import End, Source, channels_of
from fcc.analysis.intervals import intervals_of
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._neuron_cuts import apply, new_operands
from ._neurons import Array, Mask, Plan, bias_of, contribution, plan, together, touched


class EliminateDeadNeurons(SitePass):
    """Remove output channels of layers that are constant, ignored by every reader, or equal to another channel.

    B(f(A(x))) with rows i of A gone -> B'(f(A'(x))):
    constant c_i (A_i = 0, a scale in f is 0, or a clamp in f is always at its bound): b_B + B[:, i] c_i;
    ignored (B[:, i] = 0, or a part of a Split that nobody uses);  duplicate (A_i = A_j, f_i = f_j): B[:, j] + B[:, i]

    Shapes: A and B are Conv or ConvTranspose (group 1), Gemm, or MatMul with a constant matrix, x of any rank; f is
    any graph of elementwise operators, pooling, BatchNormalization, depthwise Conv, per-channel constants, spatial
    reductions, Transpose, Flatten, Reshape, Concat, Split, Slice, Gather that keep channels apart. Layers that are
    added lose a channel together, all readers must agree; heads of attention, fused or not, go as a whole. A constant
    other than 0 does not go through padding. A Conv keeps a number of channels that the target's blocked kernels like,
    where it has one (64 do not become 63).
    Numerics: constants in the dtype of the value, sums in float64, rounded once. Exact for finite values: a channel
    that is NaN or infinite at run time would have spread through zero weights (0 * inf = NaN), and no longer does.
    Source: Sietsma & Dow 1991; for gamma = 0, Liu et al. 2017 (network slimming); for groups, Fang et al. 2023.
    """

    name: ClassVar[str] = "eliminate-dead-neurons"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every layer; again as long as a removal may help another one, groups that share nodes one by one."""
        explained = set[ir.Node]()
        graphs = [g for g in module.graphs() if any(n.op_type in SOURCES for n in g)]
        while graphs:
            again = []
            for graph in graphs:
                found = plan(channels_of(graph), intervals_of(module), ctx.target.channel_blocks)
                busy, version = set[ir.Node](), module.version
                for site in _sites(found, module, ctx):
                    first = site.anchor not in explained
                    explained.add(site.anchor)
                    if isinstance(site.data, str):
                        if first:
                            yield site
                        continue
                    nodes = set(touched(found, site.data.group))
                    if not nodes & busy:
                        yield site
                    busy |= nodes
                if module.version != version:
                    again.append(graph)
            graphs = again

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        with np.errstate(over="ignore"):
            arrays = list(site.data.arrays())
        return None if all(np.isfinite(a).all() for a in arrays) else "the weights of a reader would overflow"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        site.data.apply(rw)


SOURCES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Removal:
    """The units of a group that go."""

    plan: Plan
    group: Mask

    def arrays(self) -> Iterator[Array]:
        """Yield the operands as they become."""
        yield from new_operands(self.plan, self.group).values()

    def apply(self, rw: Rewriter) -> None:
        """Cut them."""
        apply(self.plan, self.group, rw)


@dataclass(frozen=True)
class NewBias:
    """A MatMul without bias that must take constants: they move from its weight into an Add."""

    plan: Plan
    group: Mask
    end: End

    def arrays(self) -> Iterator[Array]:
        """Yield the weight with zeros for the constant channels, and what they contribute."""
        end = self.end
        weight = ir.Module.constant(end.layer.weight)
        assert weight is not None
        zeroed = np.array(weight)
        np.moveaxis(zeroed, end.layer.in_axis, 0)[self.plan.needless[self.plan.roots[end.ids]]] = 0
        yield zeroed
        yield contribution(end, self.plan).astype(weight.dtype)

    def apply(self, rw: Rewriter) -> None:
        """MatMul(x, W) -> Add(MatMul(x, W without the constants), what they contribute)."""
        node = self.end.layer.node
        weight, row = self.arrays()
        rw.replace(node.outputs[0], rw.op("Add", rw.like(node, node.inputs[0], weight), row))
        rw.erase(node)


def _sites(found: Plan, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
    """Yield one removal (or one new bias) per group of layers, and reasons for the layers that keep all channels."""
    for node, text in found.found.refused.items():
        yield Site(node, module, ctx, text)
    connected = together(found.found)
    done = set[int]()
    for source in found.found.sources:
        number = int(connected[source.ids[0]])
        reason = _refusal(found, source, ctx)
        if reason is not None:
            yield Site(source.layer.node, module, ctx, reason)
        elif number not in done:
            done.add(number)
            group = connected == number
            missing = (e for e in found.found.ends if group[e.ids[0]] and bias_of(e) is None)
            end = next((e for e in missing if contribution(e, found).any()), None)
            removal = Removal(found, group) if end is None else NewBias(found, group, end)
            yield Site(source.layer.node if end is None else end.layer.node, module, ctx, removal)


def _refusal(found: Plan, source: Source, ctx: PassContext) -> str | None:
    if source.layer.channels < 2:
        return "it has one channel"
    reason = found.why(source)
    if reason is not None or found.goes(source):
        return reason
    block = next((b for b in ctx.target.channel_blocks if source.layer.channels % b == 0), 1)
    spared = found.spared.get(source, 0)
    if spared:
        return f"of {source.layer.channels} channels {spared} could go, fewer than the {block} of a blocked kernel"
    return "no channel is constant, ignored or a duplicate"
