"""Which channels of a pool go, by what calibration saw of its readers, and the graph without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fcc import ir
from fcc.analysis.channels import Channels
from fcc.analysis.projection import Projection
from fcc.rewrite import Rewriter

from ._neuron_cuts import Operand, apply, new_operands
from ._neurons import Array, Known, Plan, bias_of, together
from ._pools import Pool, Reading

if TYPE_CHECKING:
    from fcc.compress.obs import Elimination, Reader, Repair

_SHOWN = 8


@dataclass(frozen=True)
class Pruning:
    """The units of a pool that go, and its readers refitted."""

    pool: Pool
    found: Channels
    readers: tuple[Reader, ...]
    elimination: Elimination
    count: int

    def row(self) -> dict[str, Any]:
        """Return what the report says."""
        pool, errors = self.pool, self.elimination.errors
        kept, error = pool.total - self.count, self.error
        steps = np.unique(np.linspace(0, len(errors) - 1, _SHOWN).astype(int)).tolist()
        return {
            "name": pool.name,
            "what": f"{kept} of {pool.total} channels stay, output error {error:.2e}",
            "channels": kept,
            "of": pool.total,
            "layers": [s.layer.node.outputs[0].name for s in pool.sources],
            "output_error": error,
            "held_out": all(r.held_out for r in self.repairs),
            "fitted_curve": [[pool.total - k, float(errors[k])] for k in steps],
        }

    @property
    def gone(self) -> Array:
        """The places in the pool of the units that go."""
        return self.elimination.order[: self.count]

    @cached_property
    def repairs(self) -> tuple[Repair, ...]:
        """The readers as they become."""
        from fcc.compress.obs import repaired

        return tuple(repaired(reader, ~np.isin(reader.units, self.gone)) for reader in self.readers)

    @property
    def error(self) -> float:
        """The relative error of what the readers write."""
        return float(np.sqrt(np.mean([r.error**2 for r in self.repairs])))

    def apply(self, rw: Rewriter) -> None:
        """Cut the channels everywhere, with the new weights and biases of the readers."""
        group = together(self.found)
        mask = group == group[self.pool.sources[0].ids[0]]
        apply(self.plan, mask, rw, {**new_operands(self.plan, mask), **self._repairs()})
        for reading in self.pool.readings:
            node = reading.view.node
            changed = {k: None for k in ("alpha", "beta") if node.attributes.get_float(k, 1.0) != 1.0}
            if changed:
                rw.set_attributes(node, **changed)

    @cached_property
    def plan(self) -> Plan:
        """What goes, as the rewrites of dead neurons have it."""
        size = len(self.found.units)
        needless = np.zeros(size, bool)
        needless[self.pool.roots[self.gone]] = True
        known = {e: Known(np.zeros(e.ids.size, bool), np.zeros(e.ids.size)) for e in self.found.ends}
        roots, own = self.found.units.find(np.arange(size)), np.arange(size)
        return Plan(self.found, roots, needless, np.zeros(size, bool), own, known, {}, {})

    def emptied(self) -> str | None:
        """Return which tensor would lose all of its channels."""
        for value, lane in self.found.lanes.items():
            if lane.ids.size and ir.is_used(value) and not self.plan.stays(lane.ids).any():
                return f"all channels of {value.name!r} would go"
        return None

    def _repairs(self) -> dict[Operand, Array]:
        made: dict[Operand, Array] = {}
        for reading, repair in zip(self.pool.readings, self.repairs, strict=True):
            weight, bias = repair.weight, repair.bias
            if reading.blocks is not None:
                weight = _unmixed(reading, weight, self.gone)
            own = next(s.ids for s in self.found.sources if s.layer.node is reading.view.node)
            outputs = self.plan.stays(own)
            dtype = reading.view.weight.dtype
            assert dtype is not None
            made[reading.view.node, 1] = _stored(reading.view, weight[:, outputs]).astype(dtype.numpy())
            at = bias_of(reading.end)
            if at is not None and bias is not None:
                made[at] = bias[outputs].astype(dtype.numpy())
        return made


def pruning(
    pool: Pool, found: Channels, stats: Mapping[str, Any], ratio: float | None, energy: float | None
) -> Pruning | str:
    """Return the units that go so that a share stays (of the channels, or of the squares of what readers write)."""
    readers = [_reader(reading, stats) for reading in pool.readings]
    for reason in readers:
        if isinstance(reason, str):
            return reason
    able = tuple(r for r in readers if not isinstance(r, str))
    kept = pool.kept(pool.total * ratio if ratio is not None else 1)
    try:
        order = _eliminated(able, len(pool.roots), len(pool.roots) - (pool.total - kept))
        made = Pruning(pool, found, able, order, pool.total - kept)
        if energy is not None:
            made = _least(made, energy)
        full = None if made.count else f"energy {energy:g} needs all {pool.total} channels, in steps of {pool.step}"
        return full or made.emptied() or made
    except np.linalg.LinAlgError:
        return "what its readers read is degenerate in the calibration data"


def _eliminated(readers: tuple[Reader, ...], count: int, least: int) -> Elimination:
    """Return the order in which units go; asked at several ratios, the same readers have one order."""
    from fcc.compress.obs import eliminate

    kept = readers[0].parts[0].derived
    for known, found in kept.get("eliminated", ()):
        if len(found.order) >= count - least and len(known) == len(readers) and all(map(_alike, known, readers)):
            shorter: Elimination = found.until(least, count)
            return shorter
    found = eliminate(readers, count, least)
    kept["eliminated"] = [(readers, found)]
    return found


def _alike(one: Reader, other: Reader) -> bool:
    """Return whether two readers are the same least squares problem."""
    same = np.array_equal(one.weight, other.weight) and np.array_equal(one.units, other.units)
    return same and one.moves == other.moves and all(a is b for a, b in zip(one.parts, other.parts, strict=True))


def _least(most: Pruning, energy: float) -> Pruning:
    """Return the pruning by which the fewest channels stay that keep a share of the squares, by bisection."""
    pool = most.pool
    largest = (pool.total - 1) // pool.step * pool.step
    counts = [pool.total, *range(largest, pool.total - most.count - 1, -pool.step)]
    low, high = 0, len(counts) - 1
    while low < high:
        middle = (low + high + 1) // 2
        tried = replace(most, count=pool.total - counts[middle])
        if 1 - tried.error**2 >= energy:
            low = middle
        else:
            high = middle - 1
    return replace(most, count=pool.total - counts[low])


def _reader(reading: Reading, stats: Mapping[str, Any]) -> Reader | str:
    """Return the least squares problem of a reader, or why there is none."""
    from fcc.compress.moments import Moments
    from fcc.compress.obs import Reader

    view, weight = reading.view, reading.view.matrices()[0]
    parts, n = stats.get(view.name), view.sizes[1]
    if not np.isfinite(weight).all():
        return f"the weight of {view.name!r}, which reads its channels, holds NaN or infinity"
    if reading.blocks is not None:
        weight = np.tile(np.eye(n), (len(reading.blocks), 1))
    fits = (isinstance(m, Moments) and m.sizes == (1, len(weight), n) for m in parts or ())
    if not parts or not all(fits):
        return f"there are no statistics of {view.name!r}, which reads its channels"
    return Reader(weight, reading.seen, parts, view.bias is not None or view.kind != "MatMul")


def _unmixed(reading: Reading, mix: Array, gone: Array) -> Array:
    """Return W_u T_u for the units that stay, in the order of the features."""
    assert reading.blocks is not None
    weight = reading.view.matrices()[0]
    stays = np.setdiff1d(np.arange(len(reading.blocks)), gone)
    made = np.zeros(weight.shape)
    for unit, part in zip(stays, mix.reshape(len(stays), -1, mix.shape[1]), strict=True):
        made[reading.blocks[unit]] = weight[reading.blocks[unit]] @ part
    return np.asarray(made[np.sort(reading.blocks[stays].reshape(-1))])


def _stored(view: Projection, weight: Array) -> Array:
    """Return a weight [features, out] as the operator stores it."""
    turned: Array = weight.T
    if view.window is not None:
        turned = turned.reshape(weight.shape[1], -1, *view.window.kernel)
        return turned
    return turned if view.node.attributes.get_int("transB", 0) else weight
