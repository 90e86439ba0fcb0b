"""Find the rewrite application that broke the outputs, by replaying the deterministic pipeline with a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..ir import Rewrite

T = TypeVar("T")
Skip = frozenset[tuple[str, str]]
MAX_GUILTY = 16
MAX_PER_PASS = 3


@dataclass(frozen=True)
class Build(Generic[T]):
    """One replay: its product and the applications it made, in order."""

    product: T
    applied: tuple[Rewrite, ...]


@dataclass(frozen=True)
class Guilty:
    """An application that had to be skipped, and why; ``whole_pass`` when its pass was left out with it."""

    rewrite: Rewrite
    reason: str
    whole_pass: bool = False


@dataclass
class Outcome(Generic[T]):
    """The first build that is good, and the rewrites that had to be skipped for it."""

    build: Build[T]
    guilty: list[Guilty] = field(default_factory=list)
    skip: Skip = frozenset()
    fell_back: bool = False


def find_guilty(
    replay: Callable[[int | None, Skip], Build[T]], flaw: Callable[[T], str], bad: Build[T], reason: str, skip: Skip
) -> tuple[Rewrite, str] | None:
    """Return an application that turns a good product bad, and why; None when it is bad without any.

    ``reason`` says why ``bad`` is. At most floor(log2 n) + 1 replays. The product of the applications before the one
    returned is good, that with it is bad; it is the first such one where a bad product stays bad.
    """
    low, high = 0, len(bad.applied)
    applied = bad.applied
    while high - low > 1:
        middle = (low + high) // 2
        build = replay(middle, skip)
        if found := flaw(build.product):
            high, applied, reason = middle, build.applied, found
        else:
            low = middle
    if not applied or (low == 0 and flaw(replay(0, skip).product)):
        return None
    return applied[high - 1], reason


def skip_guilty(
    replay: Callable[[int | None, Skip], Build[T]], flaw: Callable[[T], str], first: Build[T]
) -> Outcome[T] | None:
    """Skip guilty rewrites one by one until ``flaw`` (why a product is bad) is empty.

    A pass that was guilty MAX_PER_PASS times, or outside any site, is left out as a whole; after MAX_GUILTY rewrites
    none is applied. Returns None when the product is bad even without any rewrite.
    """
    outcome = Outcome(first)
    while reason := flaw(outcome.build.product):
        guilty = find_guilty(replay, flaw, outcome.build, reason, outcome.skip)
        if guilty is None:
            return None
        found, reason = guilty
        before = sum(g.rewrite.pass_name == found.pass_name for g in outcome.guilty)
        whole = not found.site or before + 1 >= MAX_PER_PASS
        outcome.guilty.append(Guilty(found, reason, whole))
        outcome.skip |= {(found.pass_name, "") if whole else found.key}
        outcome.fell_back = len(outcome.guilty) >= MAX_GUILTY
        outcome.build = replay(0 if outcome.fell_back else None, outcome.skip)
    return outcome
