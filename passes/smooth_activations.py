"""smooth-activations: channels of one size, W2 @ Relu(W1 @ x) -> (W2 S) @ Relu((W1 / S) @ x)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.compress.calibrate import Watch
from fcc.compress.smooth import smoothing
from fcc.rewrite import ORIGIN, PassContext, Rewriter, Site, SitePass

from ._chosen import chosen
from ._qdq_watch import channel_axis, channels
from ._smoothing import Array, Producer, divided, largest_by_input, multiplied, producer_of, readers_of


@dataclass(frozen=True)
class _Ends:
    """A tensor whose channels may be scaled: what makes it and what reads it."""

    x: ir.Value
    producer: Producer
    readers: list[ir.Node]
    scale: Array | None = None


@dataclass(frozen=True)
class SmoothActivations(SitePass):
    """Move the spread of the channels of an activation into the weights that read it, for int8 to lose less.

    W2 @ f(W1 @ x + b1)  ->  (W2 * s) @ f((W1 / s) @ x + b1 / s),  s_c = max|x_c|^alpha / max|W2_c|^(1 - alpha)

    f is homogeneous: Relu, LeakyRelu, PRelu, pooling, Flatten. W1 is that of a Conv, Gemm or MatMul, or the scale of a
    LayerNormalization; every reader is a Conv, Gemm or MatMul. ``only`` and ``exclude`` name readers. With ``insert``
    a Mul of the tensor by 1 / s stands in front of the readers where nothing before it can take that.
    Shapes: channels on axis 1 (Conv) or the last (Gemm, MatMul). Needs statistics of ``watch(module)``.
    Numerics: s is a power of two, so nothing is rounded, unless a weight becomes subnormal.
    Source: Xiao et al. 2022 (arXiv 2211.10438), eq. 4.
    """

    name: ClassVar[str] = "smooth-activations"
    needs_stats: ClassVar[bool] = True
    alpha: float = 0.5
    only: str = ""
    exclude: str = ""
    insert: bool = False

    def layers(self, module: ir.Module) -> list[str]:
        """Return the output names of the readers whose input could be scaled."""
        return [r.outputs[0].name or "" for ends in self._all(module) for r in ends.readers]

    def watch(self, module: ir.Module) -> dict[str, Watch]:
        """Return the accumulators whose contents ``ctx.stats`` must hold."""
        return dict(channels(ends.x, channel_axis(ends.readers[0])) for ends in self._all(module))

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the first reader of every tensor, with what to do or why not."""
        for node in [n for n in module.graph if n.op_type in _READERS and n.domain == ""]:
            if node.graph is not None:
                ends = self._ends(node)
                yield Site(node, module, ctx, ends if isinstance(ends, str) else _scaled(ends, ctx, self.alpha))

    def check(self, site: Site) -> str | None:
        """Return the reason found when the site was looked at."""
        return site.data if isinstance(site.data, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Divide the operands of what makes the tensor, multiply those of what reads it."""
        ends: _Ends = site.data
        assert ends.scale is not None
        made = ends.scale.reshape(ends.producer.channels, -1)[:, 0]
        for node, index, axis in ends.producer.operands:
            rw.set_input(node, index, divided((node, index, axis), made))
        x = ends.x if ends.producer.operands else _scaling(ends, site.anchor, rw)
        for reader in ends.readers:
            rw.before(reader)
            result = rw.like(reader, x, multiplied(reader, ends.scale), *reader.inputs[2:])
            rw.replace(reader.outputs[0], result)
            rw.erase(reader)

    def _all(self, module: ir.Module) -> Iterator[_Ends]:
        seen: set[int] = set()
        for node in [n for n in module.graph if n.op_type in _READERS and n.domain == ""]:
            ends = self._ends(node)
            if not isinstance(ends, str) and id(ends.x) not in seen:
                seen.add(id(ends.x))
                yield ends

    def _ends(self, node: ir.Node) -> _Ends | str:
        x = node.inputs[0]
        assert x is not None
        readers = readers_of(x)
        if isinstance(readers, str):
            return readers
        if not all(chosen(r, self.only, self.exclude) for r in readers):
            return "excluded by option"
        if any(f"{self.name}(" in r.metadata_props.get(ORIGIN, "") for r in readers):
            return "its channels are scaled already"
        producer = producer_of(x, channel_axis(node))
        if isinstance(producer, str) and self.insert:
            producer = Producer((), len(largest_by_input(node)))
        return producer if isinstance(producer, str) else _Ends(x, producer, readers)


def _scaling(ends: _Ends, first: ir.Node, rw: Rewriter) -> ir.Value:
    """Return the tensor with its channels divided by the scale, in front of its first reader."""
    assert ends.scale is not None
    trailing = len(ir.known_dims(first.inputs[1])) - 2 if first.op_type == "Conv" else 0
    dtype = ends.x.dtype
    assert dtype is not None
    rw.before(first)
    made: ir.Value = rw.op("Mul", ends.x, (1 / ends.scale).astype(dtype.numpy()).reshape(-1, *[1] * trailing))
    return made


def _scaled(ends: _Ends, ctx: PassContext, alpha: float) -> _Ends | str:
    """Return the ends with a scale per channel of the tensor, equal for what is one channel of its producer."""
    watched = ctx.stats.watched.get(channels(ends.x, channel_axis(ends.readers[0]))[0])
    if watched is None or watched.largest is None:
        return f"no statistics for the channels of {ends.x.name!r}"
    weights = np.max([largest_by_input(r) for r in ends.readers], axis=0)
    count = ends.producer.channels
    if len(weights) != len(watched.largest) or len(weights) != count * ends.producer.repeat:
        return "the numbers of channels do not agree"
    x, w = (a.reshape(count, -1).max(axis=1) for a in (watched.largest, weights))
    scale = np.repeat(smoothing(x, w, alpha), ends.producer.repeat)
    if not np.all(np.isfinite(weights)) or np.all(scale == 1):
        return "its channels are of one size already"
    return _Ends(ends.x, ends.producer, ends.readers, scale)


_READERS = frozenset({"Conv", "Gemm", "MatMul"})
