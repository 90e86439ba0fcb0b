"""fcc.bisect: the rewrites to blame for a complaint about a compiled model, and a folder that reproduces it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import ir
from ..data.spec import Feeds
from ..driver import Broken, Driver, Product
from ..errors import OptionError, ParityError
from ..options import Options, several
from ..search.bisect import Build
from ..search.blame import Blame, Finding, Search
from .complaint import Complaint, Crash, Parity, complaint
from .reduce import Reduced, Reducer
from .reproducer import write
from .subject import Bisection, Subject

_FEEDS = 16  # that a reduced model is tried on


def bisect(
    model: Any,
    *,
    tolerance: float | None = None,
    crash: bool = False,
    slower: float | bool | None = None,
    test: Any = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **given: Any,
) -> Bisection:
    """Find the rewrites to blame for a complaint about the compilation of a model.

    The complaint: outputs beyond ``tolerance``; a ``crash`` of a pass; an output that is ``slower`` than its source by
    a ratio (True: 1.05); a ``test``, a script that gets the path of the compiled model and exits non-zero, or a
    function that returns why it is bad. None of them: a crash, else outputs beyond what a compile allows.

    ``folder`` gets a reproducer: the part of the model that is needed, feeds, the skip list as a plan, and a README.
    ``given``: the options of ``fcc.compile``; exact ones, since lossy steps are judged by a budget.

    Raises:
        FccError: as ``fcc.compile``.
        TargetUnavailable: what is slower cannot be timed here.
        ParityError: the source cannot be compared, and the complaint is about its outputs.
    """
    options = Options(**{**given, "strict": False, "plugins": several(given.get("plugins"))})
    if options.lossy:
        raise OptionError(
            "bisect replays exact rewrites; lossy steps are judged by --budget", "leave them out, use -O2"
        )
    return _Run(options, model, progress).bisect(
        complaint(tolerance=tolerance, crash=crash, slower=slower, test=test), folder
    )


@dataclass
class _Run:
    options: Options
    model: Any
    progress: Callable[[str, int, int], None] | None

    def bisect(self, kind: Complaint | None, folder: str | os.PathLike[str] | None) -> Bisection:
        subject = Subject(self.options, self.model, kind, self.progress)
        first = subject.replay(None, frozenset())
        if kind is None:
            subject.complaint = kind = _what(subject, first.product)
        reason = subject.flaw(first.product)
        done = Bisection(kind.name, reason, len(first.applied))
        if not reason:
            return done
        finding = _failures(subject, first) if isinstance(kind, Crash) else None
        finding = finding or Search(subject.replay, subject.flaw).find(first)
        done = replace(
            done,
            blames=tuple(finding.blames),
            bare=finding.bare,
            cleared=finding.cleared,
            named=finding.named,
            compiles=finding.replays,
        )
        return self._reproduced(subject, done, folder) if folder is not None and done.blames else done

    def _reproduced(self, subject: Subject, done: Bisection, folder: str | os.PathLike[str]) -> Bisection:
        blame = done.blames[0]
        options = _only_passes(subject.driver, self.options, blame)
        reduced = self._reduced(subject, blame, options)
        if reduced is None:  # other passes have a part in it
            options = replace(self.options, shapes=None, opt_shapes=None, data=None, state={})
            reduced = self._reduced(subject, blame, options)
        files = write(folder, subject, done, options, reduced)
        nodes = reduced.nodes if reduced is not None else 0
        return replace(done, folder=os.fspath(folder), nodes=nodes, files=tuple(files), reduced=reduced)

    def _reduced(self, subject: Subject, blame: Blame, options: Options) -> Reduced | None:
        kind = subject.complaint
        assert kind is not None

        def holds(model: bytes, feeds: Sequence[Feeds]) -> str:
            data = list(feeds) if any(feeds) else None
            part = Subject(replace(options, data=data), model, kind)
            build = part.replay(None, frozenset())
            reason = part.flaw(build.product)
            if not reason or not _involved(build, blame):
                return ""
            return "" if part.flaw(part.replay(0, frozenset()).product) else reason

        feeds = subject.feeds()
        names = [n for r in (*blame.guilty, *blame.needed) for n in (r.site, *_outputs(subject.source, r.before))]
        module = Driver(self.options, self.model).load()
        return Reducer(module, holds, feeds, kind.tries, self.options.custom_ops).reduce(names)


def _what(subject: Subject, product: Product | Broken) -> Complaint:
    """Return what there is to complain about: a crash, else outputs that move."""
    if Crash().flaw(subject.trial, product):
        return Crash()
    if subject.trial.skipped:
        raise ParityError(f"nothing can be compared: {subject.trial.skipped}", "give --data, --opt-shape or --test")
    return Parity()


def _failures(subject: Subject, first: Build[Product | Broken]) -> Finding | None:
    """Blame the first rewrite that raised and was undone: it is named by its failure. None where none was."""
    if isinstance(first.product, Broken) or not first.product.log.failures:
        return None
    failed = first.product.log.failures[0]
    search = Search(subject.replay, subject.flaw)
    search.replays = 1
    last = ir.Rewrite(len(first.applied), failed.pass_name, failed.site)
    if alone := subject.flaw(subject.replay(None, frozenset(), frozenset({last.key})).product):
        blame = Blame((last,), (), alone)
        search.replays += 1
    else:
        blame = search.with_others(last, first.applied, subject.flaw(first.product), frozenset())
        blame = Blame((last,), (*blame.guilty[:-1], *blame.needed), blame.reason)  # no site without them: none is wrong
    cleared = not subject.flaw(search.replay(None, frozenset({last.key})).product)
    return Finding([blame], frozenset({last.key}), cleared=cleared, named=1, replays=search.replays + 1)


def _involved(build: Build[Product | Broken], blame: Blame) -> bool:
    """Return whether every pass that is to blame applied, or failed."""
    there = {r.pass_name for r in build.applied}
    if isinstance(build.product, Product):
        there |= {f.pass_name for f in build.product.log.failures}
    return {r.pass_name for r in blame.guilty} <= there


def _only_passes(driver: Driver, options: Options, blame: Blame) -> Options:
    """Return the options of a compile with the passes of a blame only."""
    names = {r.pass_name for r in (*blame.guilty, *blame.needed)}
    rest = {p.name for p in driver.pipeline.passes()} - names
    lowerings = tuple(p.name for p in driver.backend.lowerings.passes() if p.name not in names)
    text = str(driver.pipeline.without(rest))
    return replace(options, passes=text, disable=lowerings, shapes=None, opt_shapes=None, data=None, state={})


def _outputs(module: ir.Module, nodes: Sequence[str]) -> list[str]:
    named: Mapping[str, ir.Node] = {n.name: n for n in module.nodes() if n.name}
    return [v.name for n in nodes if n in named for v in named[n].outputs if v.name]
