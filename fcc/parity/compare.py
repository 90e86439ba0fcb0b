"""Run two models on the same feeds and compare every output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fcc.data.dataset import Data, Run
from fcc.data.spec import Feeds, Outputs

from .meter import Meter, Row
from .tolerance import SILENT, floor_of, limit_of

Loop = Callable[[Run], Iterator[Outputs]]


@dataclass(frozen=True)
class Parity:
    """Every output of a comparison, over ``feeds`` runs."""

    rows: tuple[Row, ...]
    feeds: int

    @property
    def ok(self) -> bool:
        """Whether every output is within its limit."""
        return all(r.ok for r in self.rows)

    @property
    def worst(self) -> Row | None:
        """The output nearest to its limit, or furthest beyond it."""
        return max(self.rows, key=lambda r: (r.strain, r.error), default=None)

    @property
    def warnings(self) -> list[str]:
        """Outputs so small that they can judge nothing."""
        return [
            f"output {r.name} has no finite value of {SILENT:g} or more: it can judge nothing"
            for r in self.rows
            if r.judged and r.scale < SILENT and r.error <= r.limit
        ]


def loop_over(feeds: Data | Iterable[Feeds]) -> Loop:
    """Return the loop that runs a model over feeds; state goes round within the model that is run."""
    if isinstance(feeds, Data):
        return lambda run: (outputs for _, outputs in feeds.run(run))
    kept = feeds if isinstance(feeds, list) else list(feeds)
    return lambda run: (run(f) for f in kept)


def measure(pairs: Iterable[tuple[Outputs, Outputs]]) -> tuple[list[Meter], int]:
    """Return a meter for every output of the (reference, candidate) pairs, and the number of pairs."""
    meters: dict[str, Meter] = {}
    count = 0
    for expected, found in pairs:
        count += 1
        for name, y0 in expected.items():
            meter = meters.setdefault(name, Meter(name))
            if name in found:
                meter.add(y0, found[name])
            else:
                meter.missing()
    return list(meters.values()), count


def rows_of(
    meters: Iterable[Meter],
    *,
    limit: float | None = None,
    noise: Mapping[str, float] | None = None,
    floor: Callable[[Meter], float] | None = None,
) -> tuple[Row, ...]:
    """Return the rows; an output's limit is ``limit``, else max(floor of its dtype, twice its noise)."""
    floors = floor or (lambda meter: 0.0 if meter.dtype is None else floor_of(meter.dtype))
    known = noise or {}
    return tuple(m.row(limit if limit is not None else limit_of(floors(m), known.get(m.name, 0.0))) for m in meters)


def without_state(rows: Iterable[Row], feeds: Any) -> list[Row]:
    """Return the rows; outputs that samples carry on as state are no decisions that could agree."""
    carried = feeds.state if isinstance(feeds, Data) else {}
    return [replace(r, agreement=None) if r.name in carried else r for r in rows]


def compare(
    source: Run,
    candidate: Run,
    feeds: Data | Iterable[Feeds],
    *,
    limit: float | None = None,
    noise: Mapping[str, float] | None = None,
) -> Parity:
    """Compare two runners on feeds: error of an output = max|y - y0| / max|y0|, worst feed.

    Limits: ``limit`` for all, else per output max(tolerance of its dtype, 2 ``noise[name]``); integers, booleans and
    strings must be equal.  NaN and infinities must be at the same places, shapes and dtypes the same.
    """
    loop = loop_over(feeds)
    meters, count = measure(zip(loop(source), loop(candidate), strict=True))
    return Parity(rows_of(meters, limit=limit, noise=noise), count)
