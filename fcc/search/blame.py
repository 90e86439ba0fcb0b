"""Which rewrites are to blame for a complaint: one, or several that are wrong only together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ..ir import Rewrite
from .bisect import MAX_GUILTY, Build, Skip, find_guilty
from .ddmin import ddmin

T = TypeVar("T")
_MOST = 400  # replays to find what is wrong together


class Replay(Protocol[T]):
    """Replays a deterministic pipeline: up to ``limit`` applications, without ``skip``, with ``only`` some if given."""

    def __call__(self, limit: int | None, skip: Skip, only: Skip | None = None) -> Build[T]: ...


@dataclass(frozen=True)
class Blame:
    """Applications that are wrong together (mostly one), those that make their sites, and why the product is bad.

    Without any of ``guilty`` the product is good. ``needed`` are right: without them a guilty one finds no site.
    """

    guilty: tuple[Rewrite, ...]
    needed: tuple[Rewrite, ...]
    reason: str


@dataclass
class Finding:
    """All that is to blame. After ``named`` of the ``replays`` the first was named; others to go with it came later.

    ``bare``: the product is bad without any application. ``cleared``: it is good without the ``skip`` of the blamed.
    """

    blames: list[Blame] = field(default_factory=list)
    skip: Skip = frozenset()
    bare: bool = False
    cleared: bool = False
    named: int = 0
    replays: int = 0


@dataclass
class Search(Generic[T]):
    """Finds what is to blame for ``flaw`` (why a product is bad, empty when it is not), counting replays."""

    replay: Replay[T]
    flaw: Callable[[T], str]
    replays: int = 0
    _named: int = 0
    _known: dict[tuple[Skip, Skip], tuple[str, Skip]] = field(default_factory=dict)

    def find(self, first: Build[T], *, all_of_them: bool = True) -> Finding:
        """Blame one application after the other until the product is good without them; ``first`` counts as a replay.

        A single one is named in at most log2(n) + 3 replays; what makes its site, or is wrong with it, takes more.
        """
        found, build = Finding(), first
        self.replays = 1
        reason = self.flaw(first.product)
        while reason and len(found.blames) < MAX_GUILTY:
            blame = self.name(build, reason, found.skip)
            if blame is None:
                found.bare = not found.blames
                break
            found.blames.append(blame)
            found.skip |= {blame.guilty[-1].key}
            found.named = found.named or self._named
            if not all_of_them:
                break
            build = self._replayed(None, found.skip)
            reason = self.flaw(build.product)
            found.cleared = not reason
        found.replays = self.replays
        return found

    def name(self, bad: Build[T], reason: str, skip: Skip) -> Blame | None:
        """Return what to blame for a bad build; None when it is bad without any application."""
        found = find_guilty(self._replayed, self.flaw, bad, reason, skip)
        if found is None:
            return None
        last, reason = found
        alone = self._reason(frozenset({last.key}), skip)
        self._named = self.replays
        if alone:
            return Blame((last,), (), alone)
        return self.with_others(last, bad.applied[: last.index], reason, skip)

    def with_others(self, last: Rewrite, before: tuple[Rewrite, ...], reason: str, skip: Skip) -> Blame:
        """Return the blame of an application that is bad only after some of those before it."""
        by_key = {r.key: r for r in before if r.key != last.key}

        def bad(keys: tuple[tuple[str, str], ...]) -> bool:
            return bool(self._reason(frozenset((*keys, last.key)), skip))

        if not by_key or not bad(tuple(by_key)):
            return Blame((last,), (), reason)
        kept = ddmin(tuple(by_key), bad, tries=_MOST)
        guilty: list[Rewrite] = []
        needed: list[Rewrite] = []
        for key in kept:
            others = frozenset((*kept, last.key)) - {key}
            applied = self._only(others, skip)[1]
            (guilty if others <= applied else needed).append(by_key[key])
        return Blame((*guilty, last), tuple(needed), self._reason(frozenset((*kept, last.key)), skip) or reason)

    def _reason(self, only: Skip, skip: Skip) -> str:
        return self._only(only, skip)[0]

    def _only(self, only: Skip, skip: Skip) -> tuple[str, Skip]:
        """Return why the product of only some applications is bad, and which of them found their sites."""
        if (only, skip) not in self._known:
            build = self._replayed(None, skip, only)
            self._known[only, skip] = (self.flaw(build.product), frozenset(r.key for r in build.applied))
        return self._known[only, skip]

    def _replayed(self, limit: int | None, skip: Skip, only: Skip | None = None) -> Build[T]:
        self.replays += 1
        return self.replay(limit, skip, only)
