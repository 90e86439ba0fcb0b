"""Time sessions: one alone, or two against each other in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fcc.data.spec import Feeds

from .session import Session

_LEAST_PAIRS = 5
_MOST_PAIRS = 2000


@dataclass(frozen=True)
class Timing:
    """Median times in microseconds; ``ratio`` = median of b/a over pairs (< 1: b is faster), ``noise`` its error."""

    a_us: float
    b_us: float
    ratio: float
    noise: float
    pairs: int


def time_ratio(a: Session, b: Session, feeds: Feeds, *, feeds_b: Feeds | None = None, budget_s: float = 0.5) -> Timing:
    """Time two sessions in turn, the first of each pair alternating, for about ``budget_s`` seconds.

    Pairing cancels drift of the clock frequency.  ``noise`` is the standard error of the median ratio, from the
    median absolute deviation (1.4826 MAD estimates sigma; a median has 1.2533 sigma / sqrt(n)).
    """
    other = feeds if feeds_b is None else feeds_b
    end = time.perf_counter() + budget_s
    a.run(feeds)
    b.run(other)
    pairs: list[tuple[float, float]] = []
    while len(pairs) < _LEAST_PAIRS or (time.perf_counter() < end and len(pairs) < _MOST_PAIRS):
        if len(pairs) % 2:
            second = _once(b, other)
            pairs.append((_once(a, feeds), second))
        else:
            first = _once(a, feeds)
            pairs.append((first, _once(b, other)))
    ratios = [y / x for x, y in pairs]
    middle = statistics.median(ratios)
    spread = 1.4826 * statistics.median(abs(r - middle) for r in ratios)
    return Timing(
        statistics.median(x for x, _ in pairs) * 1e6,
        statistics.median(y for _, y in pairs) * 1e6,
        middle,
        1.2533 * spread / len(pairs) ** 0.5,
        len(pairs),
    )


def race(sessions: Sequence[Session], feeds: Feeds, budget_s: float = 1.0) -> list[list[float]]:
    """Return the times (seconds) of sessions that run in turn, the order rotating, for about ``budget_s`` seconds."""
    for session in sessions:
        session.run(feeds)
    times: list[list[float]] = [[] for _ in sessions]
    end, order = time.perf_counter() + budget_s, list(range(len(sessions)))
    while len(times[0]) < _LEAST_PAIRS or (time.perf_counter() < end and len(times[0]) < _MOST_PAIRS):
        for i in order:
            times[i].append(_once(sessions[i], feeds))
        order = [*order[1:], order[0]]
    return times


def measure(session: Session, feeds: Feeds, budget_s: float = 0.5) -> float:
    """Return the median time of a run in microseconds, measured for about ``budget_s`` seconds after a warm-up."""
    end = time.perf_counter() + budget_s
    session.run(feeds)
    times: list[float] = []
    while len(times) < _LEAST_PAIRS or (time.perf_counter() < end and len(times) < _MOST_PAIRS):
        times.append(_once(session, feeds))
    return statistics.median(times) * 1e6


def _once(session: Session, feeds: Feeds) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return max(time.perf_counter() - start, 1e-9)
