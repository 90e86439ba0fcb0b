"""Passes named by --explain and --print-after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fcc.errors import OptionError, did_you_mean


def require_known(names: Iterable[str], keywords: Mapping[str, Any]) -> None:
    """Check that every name is a pass of fcc, of a plugin or of the target's backend.

    Raises:
        OptionError: one is not; the hint names the nearest.
    """
    wanted = list(names)
    if not wanted:
        return
    from fcc import passes, plugins
    from fcc.backends import get_backend
    from fcc.target import get_target

    lowerings = get_backend(get_target(keywords["target"])).lowerings.passes()
    known = {*passes.BY_NAME, *(p.name for p in plugins.load(keywords["plugins"])), *(p.name for p in lowerings)}
    for name in wanted:
        if name not in known:
            raise OptionError(f"no pass is named {name!r}", did_you_mean(name, known))


def printers(names: Iterable[str], write: Callable[[str], None]) -> list[Any]:
    """Return an instrument for each name that prints the graph after that pass."""
    wanted = list(names)
    if not wanted:
        return []
    from fcc.rewrite.manager import PrintAfter

    return [PrintAfter(name, write) for name in wanted]
