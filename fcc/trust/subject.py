"""One model under one complaint, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..api import sized
from ..data.spec import Feeds
from ..driver import Broken, Driver, Product
from ..errors import ParityError, TargetUnavailable
from ..options import Options
from ..search.bisect import Build, Skip
from ..search.blame import Blame
from ..trial import Trial
from .complaint import Complaint, Parity, Slower
from .reduce import Reduced

_FEEDS = 16  # that a reduced model is tried on


@dataclass(frozen=True)
class Bisection:
    """What is to blame for a complaint.

    ``reason`` says why the compiled model is bad, empty when it is not. ``bare``: it is bad without any rewrite.
    ``applied`` rewrites were made; ``named`` of ``compiles`` were needed to name the first to blame. ``cleared``:
    without the blamed it is good. ``folder`` holds a reproducer, of ``nodes`` nodes, where one was asked for.
    """

    complaint: str
    reason: str
    applied: int
    blames: tuple[Blame, ...] = ()
    bare: bool = False
    cleared: bool = False
    named: int = 0
    compiles: int = 1
    folder: str = ""
    nodes: int = 0
    files: tuple[str, ...] = ()
    reduced: Reduced | None = field(default=None, repr=False)

    @property
    def skip(self) -> Skip:
        """(pass, site) of what has to be left out."""
        return frozenset(b.guilty[-1].key for b in self.blames)


@dataclass
class Subject:
    """One model under one complaint: compiled as often as needed, its source prepared once."""

    options: Options
    model: Any
    complaint: Complaint | None
    progress: Callable[[str, int, int], None] | None = None
    replays: int = 0

    def __post_init__(self) -> None:
        self.driver = Driver(self.options, self.model, self.progress)
        self.source = self.driver.load()
        self.driver.options = self.options = sized(self.options, self.source)
        kind = self.complaint
        needs = kind is None or isinstance(kind, Parity | Slower)
        options = self.options if needs else replace(self.options, verify="off", require_parity=False)
        self.trial = Trial.prepare(options, self.driver.target.providers[0], self.source, options.data)
        self._require(kind)

    def _require(self, kind: Complaint | None) -> None:
        if isinstance(kind, Slower) and self.trial.untimed:
            raise TargetUnavailable(f"nothing can be timed here: {self.trial.untimed}", target=self.options.target)
        if isinstance(kind, Parity) and self.trial.skipped:
            raise ParityError(f"nothing can be compared: {self.trial.skipped}", "give --data or --opt-shape")

    def flaw(self, product: Product | Broken) -> str:
        """Return why a product is bad."""
        assert self.complaint is not None
        return self.complaint.flaw(self.trial, product)

    def replay(self, limit: int | None, skip: Skip, only: Skip | None = None) -> Build[Product | Broken]:
        """Compile up to a limit, without some rewrites, or with some only."""
        self.replays += 1
        if self.progress is not None:
            self.progress("bisect", self.replays, 0)
        return self.driver.attempt(limit, skip, only)

    def feeds(self) -> list[Feeds]:
        """Return what the source runs on, some of it; [] where it does not run."""
        trial = self.trial
        if trial.judge is None:  # the complaint runs nothing itself
            options = replace(self.options, verify="end", require_parity=False)
            trial = Trial.prepare(options, trial.provider, Driver(options, self.model).load(), options.data)
        return trial.judge.first_feeds(_FEEDS) if trial.judge is not None else []
