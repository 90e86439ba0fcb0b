"""Two model files against each other: ``fcc compare a.onnx b.onnx``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fcc.data.adversarial import adversarial
from fcc.errors import DataError, FccError
from fcc.frontend import read
from fcc.runtime import Session, Source, open_session

from .compare import Parity
from .intermediates import intermediates
from .judge import Judge
from .metrics import Metric
from .verdict import Verdict

Dims = tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Comparison:
    """Two models: how their interfaces differ, whether their outputs agree, and, when asked, where they part.

    ``noise``: what the first moves by itself when it is optimized; ``wide``: errors of both beside float64, or
    ``no_wide``, why there are none; ``edges``: verdicts on single feeds at the edges of what floats hold.
    """

    interface: tuple[str, ...]
    verdict: Verdict
    inside: Parity | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    wide: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    no_wide: str = ""
    edges: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the models have the same interface and outputs."""
        return not self.interface and self.verdict.ok and all(v.ok for v in self.edges.values())


def compare_models(
    a: Source,
    b: Source,
    *,
    inside: bool = False,
    options: Any = None,
    floor: float | None = None,
    metric: Metric | None = None,
    budget: float | None = None,
    edges: bool = False,
    **how: Any,
) -> Comparison:
    """Compare ``b`` with ``a``: interface, outputs, and with ``inside`` the tensors that both name.

    ``options``, ``floor``, ``metric``, ``budget`` are those of Judge.judge; ``how`` is what Judge takes (data, state,
    seed, count, samples, provider, opt_shapes, custom_ops). ``edges`` adds feeds at the edges of what floats hold where
    no data is given.

    Raises:
        LoadError: one of them cannot be read.
        DataError: the data does not fit ``a``.
    """
    judge = Judge(a, read(a), **how)
    verdict = judge.judge(b, options=options, floor=floor, metric=metric, budget=budget)
    custom_ops = judge.custom_ops
    differences = tuple(_interface(_try_open(a, custom_ops), _try_open(b, custom_ops)))
    loop = judge.feeds() if inside and verdict.ran and not verdict.failure else None
    found = None if loop is None else intermediates(a, b, loop, custom_ops=custom_ops)
    if not verdict.ran or verdict.failure:
        return Comparison(differences, verdict, found)
    wide = judge.beside(b)
    noise, why = judge.noise, wide if isinstance(wide, str) else ""
    more = _edges(judge, a, b, how) if edges and judge.data is None and budget is None else {}
    return Comparison(differences, verdict, found, noise, {} if isinstance(wide, str) else wide, why, more)


def _edges(judge: Judge, a: Source, b: Source, how: Mapping[str, Any]) -> dict[str, Verdict]:
    """Return the verdicts on feeds at the edges, where the outputs of the first model are finite there."""
    found: dict[str, Verdict] = {}
    for name, feed in adversarial(judge.module, judge.first_feeds(1)[0], judge.seed).items():
        one = Judge(a, judge.module, **{**how, "data": [feed], "opt_shapes": None})
        try:
            if one.skipped_reason or not one.finite():
                continue
        except DataError:
            continue
        found[name] = one.judge(b)
    return found


def _try_open(model: Source, custom_ops: Any) -> Session | None:
    try:
        return open_session(model, optimize=False, custom_ops=custom_ops)
    except FccError:
        return None


def _interface(a: Session | None, b: Session | None) -> Iterator[str]:
    """Yield what differs between the interfaces: names, order, types and shapes."""
    if a is None or b is None:
        return
    for what, left, right in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        names = ([s.name for s in left], [s.name for s in right])
        if names[0] != names[1]:
            yield f"{what}s {', '.join(names[1])} instead of {', '.join(names[0])}"
            continue
        for x, y in zip(left, right, strict=True):
            if not (x.dtype == y.dtype and x.kind == y.kind and _same_dims(x.dims, y.dims, what)):
                yield f"{what} {y} instead of {x}"


def _same_dims(a: Dims, b: Dims, what: str) -> bool:
    """Return whether shapes are declared alike; of an output, the runtime may know a size where a symbol stands."""
    if a is None or b is None or len(a) != len(b):
        return a == b
    known = (int,) if what == "output" else ()
    return all(p == q or isinstance(p, known) != isinstance(q, known) for p, q in zip(a, b, strict=True))
