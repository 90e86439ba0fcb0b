"""fuse-recurrent: a Loop or Scan over the cell of an RNN, GRU or LSTM -> the operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.loops import Looped, looped, used_loops
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import freed_bytes
from ._loop_cells import LoopLayer, layer_of
from ._loop_signature import signature
from ._recurrent import LOOPED, leaving, stacked, unstacked


@dataclass
class _Candidate:
    """A loop, and the layer found in it once it was looked for."""

    loop: Looped | str
    found: LoopLayer | None = None


@dataclass(frozen=True)
class FuseRecurrent(SitePass):
    """Recover recurrent layers from loops over their cells.

    Loop {h -> tanh(x[i] W + h R + b)} -> RNN(x, W, R, b);  Scan alike
    Loop {h -> (1 - z) * n + z * h} -> GRU;  Loop {c -> f * c + i * g, h -> o * tanh(c)} -> LSTM

    Gates are linear in the element of a sequence and the state: joined or one by one, of Concat(x, h), with biases on
    either side, in any order of operands, as Gemm or MatMul and Add, cut by Split or Slice before or behind the
    activation; sigmoid may be 1 / (1 + exp(-u)), z and 1 - z may change places, hard sigmoids may be Clip. With
    peepholes; with the reset gate before or behind the product (linear_before_reset); forget gate 1 - i. The sequence
    is read by Gather or Slice with a counter, forwards or backwards, or as scan input, along any axis; one that is
    computed from other sequences by the same linear layer everywhere is no condition. A loop that computes more keeps
    the rest, and reads the hidden states.
    Shapes: x [steps, rows, inputs], states [rows, units], or without rows; the initial state has all rows.
    ``nonempty``: a sequence whose length is a symbol has at least one element (kernels stop at an empty one).
    Numerics: exact to rounding; weights are combined in float64 and rounded once. Float constants only. The file may
    grow by ``growth`` bytes. Source: ONNX RNN-22, GRU-22, LSTM-22; Hochreiter & Schmidhuber 1997; Cho et al. 2014.
    """

    name: ClassVar[str] = "fuse-recurrent"
    nonempty: bool = True
    growth: int = 1024

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in used_loops(module, again=True):
            yield Site(node, module, ctx, _Candidate(looped(node)))

    def check(self, site: Site) -> str | None:
        candidate = site.data
        found = candidate.loop if isinstance(candidate.loop, str) else layer_of(candidate.loop)
        if isinstance(found, str):
            return found
        candidate.found = found
        reason = found.layer.refusal(site.module, site.ctx, self.nonempty) or _rest_refusal(found)
        return reason or self._growth_refusal(site, found)

    def _growth_refusal(self, site: Site, found: LoopLayer) -> str | None:
        dead = [site.anchor, *_nodes(site.anchor)] if found.whole else list(found.dying)
        size, room = found.layer.growth(), freed_bytes(dead) + self.growth
        return f"the layer has {size} bytes, {room} would be freed" if size > room else None

    def pays(self, site: Site) -> str | None:
        found: LoopLayer = site.data.found
        return found.layer.pays(site.ctx, LOOPED)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: LoopLayer = site.data.found
        y, *finals = found.layer.emit(rw)
        states = [found.h] + ([found.c] if found.c is not None else [])
        for state, final in zip(states, finals, strict=True):
            if ir.is_used(state.result):
                rw.replace(state.result, leaving(final, state.init, rw))
        hidden = unstacked(y, found.h.init, rw)
        for stack in found.loop.stacked:
            if ir.is_used(stack.result) and found.gives(stack):
                turned = found.layer.reverse != stack.reverse
                rw.replace(stack.result, stacked(hidden, stack.axis, turned, rw))
        if found.is_read and not found.whole:
            rw.replace(found.hidden, _element(hidden, found, rw))
        if found.whole or found.loop.counter is None:
            rw.erase(site.anchor)


def _rest_refusal(found: LoopLayer) -> str | None:
    counter = found.loop.counter
    if not found.is_used:
        return "nothing uses the layer"
    if found.is_read and not found.whole and counter is not None and ir.dims_of(counter) != ():
        return "what else the loop computes has no scalar counter to read the hidden states by"
    return None


def _nodes(node: ir.Node) -> Iterator[ir.Node]:
    for nested in ir.subgraphs_of(node):
        for inner in nested:
            yield inner
            yield from _nodes(inner)


def _element(hidden: ir.Value, found: LoopLayer, rw: Rewriter) -> ir.Value:
    """Return the hidden state of one trip; going backwards, those of the first trips are the last ones."""
    at = found.loop.counter
    if at is None:
        return _scanned(hidden, found, rw)
    rw.before(next(iter(found.loop.body)))
    if found.layer.reverse:
        at = rw.op("Sub", np.asarray(-1, np.int64), at)
    made: ir.Value = rw.op("Gather", hidden, at, axis=0)
    return made


def _scanned(hidden: ir.Value, found: LoopLayer, rw: Rewriter) -> ir.Value:
    """Return the hidden state of one trip as a further scan input."""
    loop, dims = found.loop, ir.known_dims(hidden)
    inner = ir.Value(name=rw.module.fresh(found.hidden.name or "h"), type=hidden.type, shape=ir.to_shape(dims[1:]))
    carried, elements, stacks = (range(len(part)) for part in (loop.carried, loop.elements, loop.stacked))
    axes = [*(e.axis for e in loop.elements), 0]
    directions = [*(int(e.reverse) for e in loop.elements), int(found.layer.reverse)]
    given = {"num_scan_inputs": len(axes), "scan_input_axes": axes, "scan_input_directions": directions}
    rw.resign(loop.node, signature(loop, carried, elements, stacks, entering=[(hidden, inner)]), **given)
    return inner
