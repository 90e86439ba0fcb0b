"""Time the two fragments of a question against each other, in turn, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np

from fcc.errors import FccError
from fcc.ir.text import model_of
from fcc.rewrite.fragment import Question
from fcc.runtime import CPU, Session, open_session, runtime_version, time_ratio

from .costs import row_of
from .machine import cpu_class
from .table import Row, elements

_SECONDS = 0.3  # for one question
_EMPTY = "f (float[1] x0) => (float[1] y0) { y0 = Identity(x0) }"


def measure(question: Question, pass_name: str, *, target: str, provider: str = CPU, threads: int = 1) -> Row | None:
    """Return the measurement of a question, None when the runtime cannot run one of its fragments.

    Inputs are random: floats are normal, integers 0 or 1, which are legal indices. The time of an empty call is taken
    off both sides.
    """
    try:
        a, b = (
            open_session(model_of(text, question.opset), provider=provider, threads=threads) for text in question.key
        )
        timing = time_ratio(a, b, _feeds(a), feeds_b=_feeds(b), budget_s=_SECONDS)
    except FccError:
        return None
    call = _empty_call(provider, threads)
    before = max(timing.a_us - call, 0.1 * timing.a_us)
    after = max(timing.a_us * timing.ratio - call, 0.1 * timing.a_us * timing.ratio)
    scale = timing.a_us / before
    cpu = cpu_class() if provider == CPU else "gpu"
    return row_of(
        question,
        pass_name,
        ratio=after / before,
        noise=timing.noise * scale,
        before_us=before,
        target=target,
        cpu=cpu,
        runtime=runtime_version(),
    )


def measure_all(
    questions: Mapping[Question, str], seconds: float, measure_one: Callable[[Question, str], Row | None]
) -> Iterable[Row]:
    """Yield measurements until ``seconds`` are used up, those of the largest fragments first."""
    end = time.perf_counter() + seconds
    for question in sorted(questions, key=lambda q: (-elements(q.before), q.key)):
        if time.perf_counter() >= end:
            return
        row = measure_one(question, questions[question])
        if row is not None:
            yield row


@cache
def _empty_call(provider: str, threads: int) -> float:
    session = open_session(model_of(_EMPTY, 21), provider=provider, threads=threads)
    feeds = _feeds(session)
    return time_ratio(session, session, feeds, budget_s=0.1).a_us


def _feeds(session: Session) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for spec in session.inputs:
        shape = [d if isinstance(d, int) else 1 for d in spec.dims or ()]
        drawn = rng.standard_normal(shape) if spec.dtype.kind not in "iub" else rng.integers(0, 2, shape)
        found[spec.name] = np.asarray(drawn).astype(spec.dtype)
    return found
