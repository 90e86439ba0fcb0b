"""factorize-linear: y = x W -> y = (x A) B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.analysis.linear import linear_of
from fcc.analysis.projection import OPS, Projection, projection_of
from fcc.errors import OptionError
from fcc.rewrite import ORIGIN, PassContext, Rewriter, Site, SitePass
from fcc.rewrite.engine import site_name

from ._exact_factors import exact_factors
from ._factor_emit import Factors, emit
from ._ranks import Ranked, Strength

_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
_LINEAR = frozenset({"Gemm", "MatMul", "Conv"})


@dataclass(frozen=True)
class FactorizeLinear(SitePass):
    """Replace a linear layer by two with a narrow value between them.

    y = x W + b  ->  y = (x A) B + b',  W [in, out] ~ A [in, rank] B [rank, out]

    Without options: Gemm, MatMul (+ Add) and 1x1 Conv, where W is numerically rank deficient, every output stays within
    rounding of its own size, and bytes and multiplications fall (rank (in + out) < in out).
    With ``rank``, ``ratio`` = parameters after / before, or ``energy`` = what the smallest rank must keep of the
    squares of the outputs: lossy, every layer whose parameters fall, also Conv of any kernel (K x K to rank, then
    1 x 1, within its groups) and the input of RNN, GRU and LSTM (a MatMul before the layer). Where ``ctx.stats`` has
    the moments of a layer (see ``layers``), A and B minimize the error of its outputs against those of the original
    model, the ridge is chosen on left-out samples, and b' keeps their mean; elsewhere the error of the weight, b' = b.
    Ranks by ratio and energy are multiples of 8, at least 8. A factor is not factorized again. Weights with other
    users stay.
    ``fast`` leaves layers alone that are not expected to become faster: more than 0.75 of the parameters stay, or there
    are fewer than 65536. ``limit`` is the largest relative error of the outputs of a layer. ``only`` names the first
    outputs of operators, joined by ``+``.

    Shapes: x of any rank the operator takes.
    Numerics: decomposed in float64, rounded once to the dtype of W (float16, float32, float64).
    Errors: OptionError when several options are given, or one is out of range.
    Source: Eckart & Young 1936; Zhang et al. 2015 (arXiv 1505.06798), sec. 3.
    """

    name: ClassVar[str] = "factorize-linear"
    rank: int | None = None
    ratio: float | None = None
    energy: float | None = None
    fast: bool = False
    limit: float | None = None
    only: str = ""

    def __post_init__(self) -> None:
        if sum(option is not None for option in (self.rank, self.ratio, self.energy)) > 1:
            raise OptionError("factorize-linear takes one of rank, ratio and energy")
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"rank {self.rank} of factorize-linear is below 1")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise OptionError(f"ratio {self.ratio} of factorize-linear is not between 0 and 1")
        if self.energy is not None and not 0 < self.energy < 1:
            raise OptionError(f"energy {self.energy} of factorize-linear is not between 0 and 1")
        if self.limit is not None and not self.limit > 0:
            raise OptionError(f"limit {self.limit} of factorize-linear is not above 0")

    @property
    def exact(self) -> bool:  # type: ignore[override]  # depends on the options, which a ClassVar cannot
        """Whether outputs stay within rounding: without ``rank``, ``ratio`` and ``energy``."""
        return self.rank is None and self.ratio is None and self.energy is None

    def layers(self, module: ir.Module) -> list[Projection]:
        """Return the layers of the main graph, in order, whose moments ``ctx.stats`` takes by their name.

        None for the exact form; ``fcc.compress.rows.sides`` says what they are of.
        """
        nodes = [] if self.exact else [n for n in module.graph if n.op_type in OPS and self.named(n)]
        found = [projection_of(n) for n in nodes]
        views = [v for v in found if not isinstance(v, str)]
        return [v for v in views if self._refusal(v) is None and self._strength.reaches(v)]

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every linear layer with its factors, or with the reason why it stays."""
        ops = _LINEAR if self.exact else OPS
        for node in [n for n in module.nodes() if n.op_type in ops and n.domain == ""]:
            if node.graph is None or not self.named(node):
                continue
            view = projection_of(node)
            if isinstance(view, str):
                yield Site(node, module, ctx, (view, view))
            else:
                yield Site(node, module, ctx, (view, self._exactly(view) if self.exact else self._lossy(view, ctx)))

    def check(self, site: Site) -> str | None:
        """Return the reason found when the site was planned."""
        plan = site.data[1]
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Put the pair in place of the layer, its bias after the second."""
        view, plan = site.data
        if isinstance(plan, Ranked):
            site.ctx.log.layers.append(plan.row())
            plan = plan.factors()
        emit(view, plan, rw)

    def named(self, node: ir.Node) -> bool:
        """Return whether ``only`` names a node, or is empty."""
        return not self.only or f"+{site_name(node)}+" in f"+{self.only}+"

    def _exactly(self, view: Projection) -> Factors | str:
        linear, reason = linear_of(view.node), self._refusal(view)
        if isinstance(linear, str) or reason is not None:
            return linear if isinstance(linear, str) else reason or ""
        pair = exact_factors(linear)
        return pair if isinstance(pair, str) else Factors(pair[1].T[None], pair[0].T[None])

    def _lossy(self, view: Projection, ctx: PassContext) -> Ranked | str:
        reason = self._refusal(view)
        return self._strength.ranked(view, ctx) if reason is None else reason

    @property
    def _strength(self) -> Strength:
        return Strength(self.rank, self.ratio, self.energy, self.fast, self.limit)

    def _refusal(self, view: Projection) -> str | None:
        """Return why a layer stays whatever its weight holds."""
        if view.weight.dtype not in _FLOATS:
            return f"the weight is {view.weight.dtype}"
        if min(view.sizes) < 1:
            return "the weight is empty"
        if ir.sole_user(view.weight) is None:
            return "the weight has other users"
        producer = view.x.producer()
        made = (view.node, *([producer] if view.hidden and producer is not None else []))
        if not self.exact and any(f"{self.name}(" in n.metadata_props.get(ORIGIN, "") for n in made):
            return "it is a factor already"
        return None
