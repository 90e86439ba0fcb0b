"""Two model files against each other: ``fcc compare a.onnx b.onnx``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fcc.errors import FccError
from fcc.frontend import read
from fcc.runtime import Session, Source, open_session

from .compare import Parity
from .intermediates import intermediates
from .judge import Judge
from .metrics import Metric
from .verdict import Verdict


@dataclass(frozen=True)
class Comparison:
    """Two models: how their interfaces differ, whether their outputs agree, and, when asked, where they part."""

    interface: tuple[str, ...]
    verdict: Verdict
    inside: Parity | None = None

    @property
    def ok(self) -> bool:
        """Whether the models have the same interface and outputs."""
        return not self.interface and self.verdict.ok


def compare_models(
    a: Source,
    b: Source,
    *,
    inside: bool = False,
    options: Any = None,
    floor: float | None = None,
    metric: Metric | None = None,
    budget: float | None = None,
    **how: Any,
) -> Comparison:
    """Compare ``b`` with ``a``: interface, outputs, and with ``inside`` the tensors that both name.

    ``options``, ``floor``, ``metric``, ``budget`` are those of Judge.judge; ``how`` is what Judge takes (data, state,
    seed, count, samples, provider, opt_shapes, custom_ops).

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
    return Comparison(differences, verdict, found)


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
            if str(x) != str(y) or x.kind != y.kind:
                yield f"{what} {y} instead of {x}"
