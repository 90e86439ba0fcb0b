"""Pools: output channels of layers that can only go together, who reads them, and how many may stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np

from fcc import ir
from fcc.analysis.channels import Channels, End, Source
from fcc.analysis.projection import Projection, projection_of
from fcc.analysis.units import Ids
from fcc.compress.rows import MAX_INPUTS, MAX_OUTPUTS, Mixed, Rows, read

from ._neurons import bias_of, is_row

_BLOCK = 8  # channels that kernels of Gemm and MatMul like, and of Conv where the target names none


@dataclass(frozen=True)
class Reading:
    """A layer that reads a pool: ``units`` gives, per feature of its rows, the place of the unit in the pool or -1.

    ``blocks`` [units, features] where rows hold what each unit adds to the output, since the input is too wide.
    """

    end: End
    view: Projection
    units: Ids
    blocks: Ids | None = None

    @property
    def rows(self) -> Rows | Mixed:
        """What is looked at of the input."""
        plain = read(self.view)
        return plain if self.blocks is None else Mixed(plain, self.blocks, self.view.matrices()[0])

    @property
    def seen(self) -> Ids:
        """The unit of every feature of ``rows``."""
        if self.blocks is None:
            return self.units
        return np.repeat(np.arange(len(self.blocks)), self.view.sizes[1])


@dataclass(frozen=True)
class Pool:
    """Layers whose output channels are the same units: ``roots`` are those that may go, of ``total``.

    A number of units that stays is a multiple of ``step``.
    """

    sources: tuple[Source, ...]
    readings: tuple[Reading, ...]
    roots: Ids
    total: int
    step: int

    @property
    def name(self) -> str:
        """The output of its first layer."""
        return self.sources[0].layer.node.outputs[0].name or ""

    def kept(self, wanted: float) -> int:
        """Return how many units stay when at least so many should: a multiple of ``step``, no more than there are."""
        fixed = self.total - len(self.roots)
        steps = max(1, -int(-max(wanted, fixed) // self.step))
        return min(self.total, steps * self.step)


def pools(found: Channels, blocks: tuple[int, ...]) -> Iterator[Pool | tuple[Source, str]]:
    """Yield the pools of a graph in the order of their first layers, or a layer and the reason why it keeps all."""
    roots, reasons = found.units.find(np.arange(len(found.units))), found.units.reasons()
    label = found.units.joined([source.ids for source in found.sources])
    members: dict[int, list[Source]] = {}
    for source in found.sources:
        members.setdefault(int(label[source.ids[0]]), []).append(source)
    readers: dict[int, list[End]] = {}
    for end in found.ends:
        for number in np.unique(label[end.ids]).tolist():
            readers.setdefault(number, []).append(end)
    for number, sources in members.items():
        pool = _pool(tuple(sources), readers.get(number, []), roots, reasons, blocks)
        yield pool if isinstance(pool, Pool) else (sources[0], pool)


def _pool(
    sources: tuple[Source, ...], ends: list[End], roots: Ids, reasons: Mapping[int, str], blocks: tuple[int, ...]
) -> Pool | str:
    every = np.unique(np.concatenate([roots[s.ids] for s in sources]))
    free = np.array([r for r in every.tolist() if r not in reasons], np.int64)
    if not free.size:
        return reasons[int(every[0])]
    readings = [_reading(end, roots, free) for end in ends if np.isin(roots[end.ids], free).any()]
    for found in readings:
        if isinstance(found, str):
            return found
    step = max(_step(source, roots, blocks) for source in sources)
    return Pool(sources, tuple(r for r in readings if isinstance(r, Reading)), free, len(every), step)


def _step(source: Source, roots: Ids, blocks: tuple[int, ...]) -> int:
    """Return how many units make up the channels that a kernel of the layer works on at once."""
    count, per = source.ids.size, source.ids.size // len(np.unique(roots[source.ids]))
    liked = blocks if "Conv" in source.layer.node.op_type else ()
    block = next((b for b in liked if count % b == 0 and b < count), _BLOCK)
    return block // gcd(block, per)


def _reading(end: End, roots: Ids, free: Ids) -> Reading | str:
    node = end.layer.node
    label = f"{node.op_type} {node.outputs[0].name!r}"
    view = projection_of(node)
    if isinstance(view, str):
        return f"its channels are read by {label}, which cannot be refitted"
    at = bias_of(end)
    bias = at[0].inputs[at[1]] if at is not None and at[1] < len(at[0].inputs) else None
    if bias is not None and not (ir.Module.is_constant(bias) and is_row(bias)):
        return f"the bias of {label}, which reads its channels, is no constant row"
    m, n = view.sizes
    place = np.searchsorted(free, np.clip(roots[end.ids], free[0], free[-1]))
    units = np.repeat(np.where(free[place] == roots[end.ids], place, -1), m // end.ids.size)
    if m <= MAX_INPUTS and n <= MAX_OUTPUTS * 4:
        return Reading(end, view, units)
    counts = np.bincount(units[units >= 0], minlength=len(free))
    if (units < 0).any() or len(set(counts.tolist())) > 1 or len(free) * n > MAX_INPUTS:
        return f"its channels are read by {label}: {m} x {n} is too large for least squares"
    return Reading(end, view, units, np.argsort(units, kind="stable").reshape(len(free), -1))
