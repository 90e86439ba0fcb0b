"""Which rank a layer takes, and its factors by what calibration saw of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcc.analysis.projection import Projection
from fcc.compress.rows import sides
from fcc.rewrite import PassContext

from ._exact_factors import flaw
from ._factor_emit import Factors

if TYPE_CHECKING:
    from fcc.compress.low_rank import Spectrum

# Small layers (a head of ten classes) hold few parameters and lose most: only a ``rank`` reaches them.
LEAST_RANK = 8
# Parameters below which two layers were measured to be no faster than one.
FAST_PARAMETERS = 1 << 16
_SHOWN = (0.12, 0.25, 0.4, 0.6, 0.8)


def moves(view: Projection) -> bool:
    """Return whether the bias of a layer may change: a MatMul without one would need a further node."""
    return view.bias is not None or view.kind != "MatMul"


@dataclass(frozen=True)
class Ranked:
    """The spectra of a layer, one per group, and the rank that was chosen."""

    spectra: tuple[Spectrum, ...]
    rank: int
    view: Projection

    def factors(self) -> Factors:
        """Return the factors, and the bias where it moves."""
        row = self.view.bias_row()
        before = np.zeros((self.view.groups, 0)) if isinstance(row, str) else row
        pairs = [s.factors(self.rank) for s in self.spectra]
        free = all(s.layer is not None and s.layer.moves for s in self.spectra)
        bias = np.stack([s.bias(self.rank, b) for s, b in zip(self.spectra, before, strict=True)]) if free else None
        return Factors(np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs]), bias)

    def error(self, rank: int) -> float:
        """Return the relative error of the outputs (of the weight, without data) at a rank."""
        squares = [s.errors[min(rank, len(s.errors) - 1)] ** 2 for s in self.spectra]
        return float(np.sqrt(np.mean(squares)))

    def row(self) -> dict[str, Any]:
        """Return what the report says of the layer."""
        (m, n), first = self.view.sizes, self.spectra[0]
        error = self.error(self.rank)
        groups = f", {self.view.groups} groups" if self.view.groups > 1 else ""
        shown = sorted({max(1, r - r % 8 if r >= 8 else r) for r in (int(s * m * n / (m + n)) for s in _SHOWN)})
        return {
            "name": self.view.name,
            "what": f"rank {self.rank} of {n} x {m}{groups}, {first.measure} error {error:.2e}",
            "rank": self.rank,
            f"{first.measure}_error": error,
            "held_out": first.held_out,
            "ridge": first.ridge,
            "spectrum": [[r, self.error(r)] for r in shown if r <= min(m, n)],
        }


@dataclass(frozen=True)
class Strength:
    """How much of a layer stays: the options of factorize-linear."""

    rank: int | None
    ratio: float | None
    energy: float | None
    fast: bool
    limit: float | None

    def reaches(self, view: Projection) -> bool:
        """Return whether the factors of a layer depend on what calibration saw of it."""
        return not isinstance(self.highest(view), str) and sides(view) is not None

    def highest(self, view: Projection) -> int | str:
        """Return the rank to keep (by energy: the highest it may take), or why there is none."""
        from fcc.compress.factorize import rank_for

        m, n = view.sizes
        if self.fast and m * n < FAST_PARAMETERS:
            return f"{m * n} parameters are too few to become faster as two layers"
        if self.energy is not None:
            return self._too_high(view, LEAST_RANK) or max(LEAST_RANK, rank_for(1.0, n, m))
        rank = self.rank if self.rank is not None else rank_for(self.ratio or 1.0, n, m)
        if self.ratio is not None and rank < LEAST_RANK:
            return f"rank {rank} at this ratio is below {LEAST_RANK}: the layer is too small to be worth its error"
        return self._too_high(view, rank) or rank

    def ranked(self, view: Projection, ctx: PassContext) -> Ranked | str:
        """Return the factors of a layer, or why it stays."""
        highest = self.highest(view)
        found = highest if isinstance(highest, str) else spectra(view, highest, ctx)
        if isinstance(found, str) or isinstance(highest, str):
            return str(found)
        rank = highest
        if self.energy is not None:
            rank = max(s.rank_for(self.energy) for s in found)
            rank += -rank % 8
            if reason := self._too_high(view, rank):
                return f"energy {self.energy:g} takes {reason}"
        made = Ranked(found, min(rank, *(s.basis.shape[1] for s in found)), view)
        error = made.error(made.rank)
        if self.limit is not None and error > self.limit:
            return f"at rank {made.rank} the outputs of the layer would move by {error:.3f}, more than {self.limit:g}"
        return made

    def _too_high(self, view: Projection, rank: int) -> str | None:
        from fcc.compress.factorize import pays, shrinks

        m, n = view.sizes
        if not shrinks(n, m, rank):
            return f"rank {rank}, which holds no fewer parameters than {n} x {m}"
        return f"rank {rank}, which is not expected to be faster" if self.fast and not pays(n, m, rank) else None


def spectra(view: Projection, rank: int, ctx: PassContext) -> tuple[Spectrum, ...] | str:
    """Return the spectrum of every group, by the moments of the layer where ``ctx.stats`` has them."""
    from fcc.compress.low_rank import Layer, Spectra, by_weight, grouped
    from fcc.compress.moments import Moments

    weights = view.matrices()
    reason = flaw(weights)
    if reason is not None:
        return reason
    moments = None if ctx.stats is None else ctx.stats.get(view.name)
    side, row = sides(view), view.bias_row()
    if not isinstance(moments, Moments) or side is None or isinstance(row, str):
        return tuple(by_weight(w) for w in weights)

    def of(group: int) -> Spectra:
        """Return the spectra of a group; the same layer is often asked for at several ranks."""
        known = moments.derived.get(group)
        weight, bias = weights[group], row[group]
        if known is None or not np.array_equal(known.layer.weight, weight):
            known = Spectra(Layer(weight, bias, grouped(moments, group), moves(view), *side))
            moments.derived[group] = known
        return known

    try:
        return tuple(of(g).at(rank) for g in range(len(weights)))
    except np.linalg.LinAlgError:
        return "its inputs are degenerate in the calibration data"
