"""factorize-linear: y = x W -> y = (x A) B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear, linear_of
from fcc.compress.rank_screen import largest_rank, surely_full
from fcc.errors import OptionError
from fcc.rewrite import ORIGIN, PassContext, Rewriter, Site, SitePass

Array = np.ndarray[Any, Any]
_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
_OPS = frozenset({"Gemm", "MatMul", "Conv"})
# What a further node and initializer add to a file, about.
_NODE_BYTES = 256
# Elements above which a rank deficient weight is not decomposed unasked: 4096 x 4096 takes a minute.
_MAX_ELEMENTS = 1 << 23
# Small layers (a head of ten classes) hold few parameters and lose most: only ``rank`` reaches them.
_LEAST_RANK = 8
_MAX_FEATURES = 2048
_MAX_GRAMS = 1 << 26


@dataclass(frozen=True)
class _Pair:
    """The factors as the op stores them, [out, rank] and [rank, in], and the relative error of their product."""

    outer: Array
    inner: Array
    error: float = 0.0
    measure: str = "weight"

    @property
    def rank(self) -> int:
        return int(self.inner.shape[0])


@dataclass(frozen=True)
class FactorizeLinear(SitePass):
    """Replace a linear layer by two with a narrow value between them: Gemm, MatMul (+ Add), 1x1 Conv.

    y = x W + b  ->  y = (x A) B + b,  W [in, out] = A [in, rank] B [rank, out]

    Without options: only where W is numerically rank deficient, every output within rounding of its own size, and
    bytes and multiplications fall (rank (in + out) < in out). With ``rank``, ``ratio`` = parameters after / before, or
    ``energy`` = what the smallest rank must keep of the squares of the weight (of the outputs, where the Gram matrix is
    known): every layer whose parameters fall (by ratio: at rank 8 or above), lossy. A and B then minimize the error of
    the outputs ||X (W - A B)||_F where ``ctx.stats`` has the Gram matrix of the input, that of the weight
    ||W - A B||_F elsewhere; the report tells rank and error per layer. A factor is not factorized again. Weights with
    other users stay.

    Shapes: x of any rank >= 2 (Conv: [N, in, *spatial], kernel 1, stride 1, no padding, one group).
    Numerics: decomposed in float64, rounded once to the dtype of W (float16, float32, float64).
    Errors: OptionError when several options are given, or one is out of range.
    Source: Eckart & Young 1936; Zhang et al. 2015 (arXiv 1505.06798), sec. 3.
    """

    name: ClassVar[str] = "factorize-linear"
    rank: int | None = None
    ratio: float | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        if sum(option is not None for option in (self.rank, self.ratio, self.energy)) > 1:
            raise OptionError("factorize-linear takes one of rank, ratio and energy")
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"rank {self.rank} of factorize-linear is below 1")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise OptionError(f"ratio {self.ratio} of factorize-linear is not between 0 and 1")
        if self.energy is not None and not 0 < self.energy < 1:
            raise OptionError(f"energy {self.energy} of factorize-linear is not between 0 and 1")

    @property
    def exact(self) -> bool:  # type: ignore[override]  # depends on the options, which a ClassVar cannot
        """Whether outputs stay within rounding: without ``rank``, ``ratio`` and ``energy``."""
        return self.rank is None and self.ratio is None and self.energy is None

    def grams(self, module: ir.Module) -> dict[str, int]:
        """Return tensor -> feature axis of the inputs whose Gram matrices in ``ctx.stats`` lower the error.

        Nothing for the exact form; no tensor above 2048 features, and not more than 512 MiB together.
        """
        if self.exact:
            return {}
        found: dict[str, int] = {}
        budget = _MAX_GRAMS
        for node in [n for n in module.graph if n.op_type in _OPS and n.domain == ""]:
            view = linear_of(node)
            if isinstance(view, str) or _refusal(view) is not None or isinstance(self._rank(view), str):
                continue
            name, size = view.x.name or "", view.in_features**2
            if name not in found and view.in_features <= _MAX_FEATURES and size <= budget:
                budget -= size
                found[name] = 1 if view.kind == "Conv" else -1
        return found

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield every linear layer with its factors, or with the reason why it stays."""
        for node in [n for n in module.nodes() if n.op_type in _OPS and n.domain == ""]:
            if node.graph is None:
                continue
            view = linear_of(node)
            yield Site(node, module, ctx, view if isinstance(view, str) else (view, self._plan(view, ctx)))

    def check(self, site: Site) -> str | None:
        """Return the reason found when the site was planned."""
        plan = site.data if isinstance(site.data, str) else site.data[1]
        return plan if isinstance(plan, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Put the pair in place of the layer, its bias after the second."""
        view, pair = site.data
        rw.replace(view.output, _EMIT[view.kind](view, pair, rw))
        rw.erase(*reversed(view.nodes))
        if not self.exact:
            size = f"{view.out_features} x {view.in_features}"
            site.ctx.log.layers.append(
                {
                    "name": view.output.name,
                    "what": f"rank {pair.rank} of {size}, {pair.measure} error {pair.error:.2e}",
                    "rank": pair.rank,
                    f"{pair.measure}_error": pair.error,
                }
            )

    def _plan(self, view: Linear, ctx: PassContext) -> _Pair | str:
        reason = _refusal(view)
        if reason is not None:
            return reason
        if self.exact:
            return _exact_pair(view)
        rank = self._rank(view)
        return rank if isinstance(rank, str) else _lossy_pair(view, rank, self.energy, ctx)

    def _rank(self, view: Linear) -> int | str | None:
        """Return the rank to keep, why there is none, or None where the energy decides."""
        m, n = view.out_features, view.in_features
        if ORIGIN in view.nodes[0].metadata_props and f"{self.name}(" in view.nodes[0].metadata_props[ORIGIN]:
            return "it is a factor already"
        from fcc.compress.factorize import rank_for, shrinks

        if self.energy is not None:
            return None if shrinks(m, n, 1) else f"two factors of {m} x {n} are no smaller at any rank"
        rank = self.rank if self.rank is not None else rank_for(self.ratio or 1.0, m, n)
        if self.rank is None and rank < _LEAST_RANK:
            return f"rank {rank} at this ratio is below {_LEAST_RANK}: the layer is too small to be worth its error"
        if not shrinks(m, n, rank):
            return f"rank {rank} holds no fewer parameters than {m} x {n}"
        return rank


def _refusal(view: Linear) -> str | None:
    """Return why a layer stays whatever its weight holds."""
    if view.weight.dtype not in _FLOATS:
        return f"the weight is {view.weight.dtype}"
    if min(view.out_features, view.in_features) < 1:
        return "the weight is empty"
    if ir.sole_user(view.weight) is None:
        return "the weight has other users"
    return None


def _contents(weight: Array) -> str | None:
    if not np.all(np.isfinite(weight)):
        return "the weight holds NaN or infinity"
    return None if weight.any() else "the weight is zero"


def _lossy_pair(view: Linear, rank: int | None, energy: float | None, ctx: PassContext) -> _Pair | str:
    from fcc.compress.factorize import factorize, shrinks

    weight = view.array()
    reason = _contents(weight)
    if reason is not None:
        return reason
    gram = None if ctx.stats is None else ctx.stats.gram(view.x.name)
    a, b, error = factorize(weight.T, rank, energy=energy, gram=gram)
    if not shrinks(view.out_features, view.in_features, len(b)):
        size = f"{view.out_features} x {view.in_features}"
        return f"energy {energy:g} takes rank {len(b)}, which holds no fewer parameters than {size}"
    return _Pair(b.T, a.T, error, "weight" if gram is None else "output")


def _exact_pair(view: Linear) -> _Pair | str:
    """Return factors that reproduce every output within rounding and take fewer bytes, or why there are none."""
    m, n = view.out_features, view.in_features
    assert view.weight.dtype is not None
    dtype = np.dtype(view.weight.dtype.numpy())
    limit = min(largest_rank(m, n), (m * n - _NODE_BYTES // dtype.itemsize) // (m + n))
    if limit < 1:
        return f"two factors of {m} x {n} are no smaller at any rank"
    stored = ir.Module.constant(view.weight)
    assert stored is not None
    if surely_full(stored.reshape(stored.shape[:2]), limit):
        return "the weight has (nearly) full rank"
    if m * n > _MAX_ELEMENTS:
        return f"{m} x {n} is too large to be decomposed unasked"
    weight = view.array()
    return _contents(weight) or _decompose(weight, dtype, limit)


def _decompose(weight: Array, dtype: np.dtype[Any], limit: int) -> _Pair | str:
    """Factorize with rows and columns brought to one size, so that a small output keeps its digits too."""
    # Importing scipy takes 0.1 s: only where there is something to decompose.
    from fcc.compress.factorize import factorize, numerical_rank

    rows = _size(weight, axis=1)
    columns = _size(weight / rows, axis=0)
    even = weight / rows / columns
    rank = numerical_rank(even.astype(dtype))
    if rank > limit:
        return f"the rank {rank} is too high: above {limit} two factors are no smaller"
    a, b, _ = factorize(even, rank)
    pair = _Pair((rows * a).astype(dtype).astype(np.float64), (b * columns).astype(dtype).astype(np.float64))
    lost = np.linalg.norm(pair.outer @ pair.inner - weight, axis=1) / np.linalg.norm(weight + (rows == 0), axis=1)
    allowed = 8 * float(np.finfo(dtype).eps) * rank**0.5
    if not np.all(lost <= allowed):
        return f"at rank {rank} an output would move by {float(np.max(lost)):.1e} of its size"
    return pair


def _size(weight: Array, axis: int) -> Array:
    norms: Array = np.linalg.norm(weight, axis=axis, keepdims=True)
    return np.where(norms > 0, norms, 1.0)


def _bias(view: Linear) -> tuple[ir.Value, ...]:
    return () if view.bias is None else (view.bias,)


def _gemm(view: Linear, pair: _Pair, rw: Rewriter) -> ir.Value:
    trans = int(view.transposed) or None
    narrow = rw.op("Gemm", view.x, view.stored(pair.inner), transB=trans)
    beta = None if view.bias is None or view.beta == 1 else view.beta
    wide: ir.Value = rw.op("Gemm", narrow, view.stored(pair.outer), *_bias(view), transB=trans, beta=beta)
    return wide


def _matmul(view: Linear, pair: _Pair, rw: Rewriter) -> ir.Value:
    wide: ir.Value = rw.op("MatMul", rw.op("MatMul", view.x, view.stored(pair.inner)), view.stored(pair.outer))
    if view.bias is not None:
        wide = rw.op("Add", wide, view.bias)
    return wide


def _conv(view: Linear, pair: _Pair, rw: Rewriter) -> ir.Value:
    narrow = rw.op("Conv", view.x, view.stored(pair.inner))
    wide: ir.Value = rw.op("Conv", narrow, view.stored(pair.outer), *_bias(view))
    return wide


_EMIT = {"Gemm": _gemm, "MatMul": _matmul, "Conv": _conv}
