"""Cut a model down to what a complaint about its compilation needs, and the feeds with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import ir
from ..analysis import shapes
from ..data.spec import Array, Feeds
from ..errors import FccError
from ..runtime import open_session, tap
from ..runtime.cut import Dims, Parts
from ..search.ddmin import ddmin

Holds = Callable[[bytes, Sequence[Feeds]], str]
_KEPT = 1 << 28  # bytes of recorded tensors


@dataclass(frozen=True)
class Reduced:
    """A model, feeds that it runs on, and why its compilation is bad."""

    model: bytes
    feeds: tuple[Feeds, ...]
    reason: str
    nodes: int


@dataclass
class Reducer:
    """Tries parts of a model around some nodes, the smallest first; ``holds`` says why a part is bad, if it is.

    Each part gets what its border held when the whole model ran. It is tried ``tries`` times in all.
    """

    module: ir.Module
    holds: Holds
    feeds: Sequence[Feeds]
    tries: int = 250
    custom_ops: Sequence[str] = ()
    _values: dict[str, list[Array]] = field(default_factory=dict)
    _best: Reduced | None = None

    def __post_init__(self) -> None:
        source = self.module.source
        assert source is not None
        loaded = source.load()
        self._folder = source.base_dir
        self.parts = Parts(loaded, source.base_dir)
        source.declare(self.parts.proto)
        self._dims = _known(self.module)

    def reduce(self, names: Iterable[str]) -> Reduced | None:
        """Return the smallest part that was found to be bad; None where no part is, not even the whole.

        ``names`` are tensors around which to look.
        """
        home, whole = self.parts.home, frozenset(range(len(self.parts)))
        seeds = frozenset(home[n] for n in names if n in home) or whole
        steps, last = 0, frozenset[int]()
        while (window := self.parts.near(seeds, steps)) != last:
            if self._bad(window):
                self._fewer_feeds(window)
                ddmin(sorted(window), self._bad, tries=self.tries)
                break
            steps, last = 2 * steps or 1, window
        return self._best

    def _fewer_feeds(self, window: Collection[int]) -> None:
        """Keep one feed, where one shows the complaint."""
        every, best = self.feeds, self._best
        values = self._values
        for k, feed in enumerate(every if len(every) > 1 else ()):
            self.feeds, self._values = [feed], {n: [v[k]] for n, v in values.items()}
            if self._bad(window):
                return
        self.feeds, self._values, self._best = every, values, best

    def _bad(self, keep: Collection[int]) -> bool:
        """Return whether the part of some nodes is bad; the last that was, is the best so far."""
        if self.tries <= 0 or not keep:
            return False
        self.tries -= 1
        try:
            names = self.parts.border(keep)
            values = self._recorded(names)
            model = self.parts.cut(keep, {n: v[0] for n, v in values.items()}, self._dims)
            feeds = tuple({n: values[n][k] for n in names} for k in range(len(self.feeds)))
            reason = self.holds(model, feeds)
        except (FccError, KeyError):
            return False
        if reason:
            self._best = Reduced(model, feeds, reason, len(keep))
        return bool(reason)

    def _recorded(self, names: Sequence[str]) -> Mapping[str, list[Array]]:
        """Return what tensors hold on every feed.

        Raises:
            FccError: the model does not run, or they take too much memory.
            KeyError: one of them is no tensor.
        """
        missing = [n for n in names if n not in self._values]
        if missing:
            proto = tap(self.parts.proto, missing)
            session = open_session(proto, optimize=False, custom_ops=self.custom_ops, folder=self._folder)
            runs = [{**feed, **session.run(feed)} for feed in self.feeds]
            for name in missing:
                values = [run[name] for run in runs]
                if not all(isinstance(v, np.ndarray) for v in values):
                    raise KeyError(name)
                self._values[name] = values
        if sum(a.nbytes for v in self._values.values() for a in v) > _KEPT:
            raise FccError("the tensors of the border are too large to keep")
        return {n: self._values[n] for n in names}


def _known(module: ir.Module) -> dict[str, Dims]:
    """Return tensor -> sizes and symbols, as far as inference knows them."""
    shapes.infer(module)
    found: dict[str, Dims] = {}
    for node in module.graph:
        for value in node.outputs:
            dims = ir.dims_of(value)
            if dims is not None and value.name:
                found[value.name] = tuple(d if isinstance(d, int) else _symbol(d) for d in dims)
    return found


def _symbol(dim: ir.Dim | None) -> str | None:
    text = "" if dim is None else str(dim)
    return text if text.isidentifier() else None
