"""Find the rewrite application that broke the outputs, by replaying the deterministic pipeline with a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..ir import Rewrite

T = TypeVar("T")
Skip = frozenset[tuple[str, str]]
MAX_GUILTY = 16


@dataclass(frozen=True)
class Build(Generic[T]):
    """One replay: its product and the applications it made, in order."""

    product: T
    applied: tuple[Rewrite, ...]


@dataclass
class Outcome(Generic[T]):
    """The first build that is good, and the rewrites that had to be skipped for it."""

    build: Build[T]
    guilty: list[Rewrite] = field(default_factory=list)
    fell_back: bool = False


def find_guilty(
    replay: Callable[[int | None, Skip], Build[T]], good: Callable[[T], bool], bad: Build[T], skip: Skip
) -> Rewrite | None:
    """Return the first application after which the product is bad; None when it is bad without any. O(log n) replays.

    Assumes what bisection always assumes: once bad, the product stays bad under later applications.
    """
    if not good(replay(0, skip).product):
        return None
    low, high = 0, len(bad.applied)
    applied = bad.applied
    while high - low > 1:
        middle = (low + high) // 2
        build = replay(middle, skip)
        if good(build.product):
            low = middle
        else:
            high, applied = middle, build.applied
    return applied[high - 1] if applied else None


def skip_guilty(
    replay: Callable[[int | None, Skip], Build[T]], good: Callable[[T], bool], first: Build[T]
) -> Outcome[T] | None:
    """Skip guilty rewrites one by one until the product is good; fall back to no rewrite after MAX_GUILTY.

    Returns None when the product is bad even without any rewrite.
    """
    outcome = Outcome(first)
    skip: Skip = frozenset()
    while not good(outcome.build.product):
        guilty = find_guilty(replay, good, outcome.build, skip)
        if guilty is None:
            return None
        outcome.guilty.append(guilty)
        skip |= {guilty.key}
        outcome.fell_back = len(outcome.guilty) >= MAX_GUILTY
        outcome.build = replay(0 if outcome.fell_back else None, skip)
    return outcome
