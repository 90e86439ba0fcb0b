"""Passes named by --explain and --print-after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fcc.errors import OptionError, did_you_mean


def resolved(names: Iterable[str], keywords: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the passes of fcc, of a plugin or of the target's backend that are named, whatever the hyphens and case.

    Raises:
        OptionError: a name is that of no pass; the hint names the nearest.
    """
    wanted = tuple(names)
    if not wanted:
        return ()
    from fcc import passes, plugins
    from fcc.backends import get_backend
    from fcc.target import get_target

    lowerings = get_backend(get_target(keywords["target"])).lowerings.passes()
    known = {*passes.BY_NAME, *(p.name for p in plugins.load(keywords["plugins"])), *(p.name for p in lowerings)}
    spelled = {_plain(name): name for name in known}
    for name in wanted:
        if _plain(name) not in spelled:
            raise OptionError(f"no pass is named {name!r}", did_you_mean(name, known))
    return tuple(name if name in known else spelled[_plain(name)] for name in wanted)


def _plain(name: str) -> str:
    """Return a name without what people spell differently: fuse-layernorm, Fuse_Layer_Norm."""
    return name.replace("-", "").replace("_", "").lower()


def printers(names: Iterable[str], write: Callable[[str], None]) -> list[Any]:
    """Return an instrument for each name that prints the graph after that pass."""
    wanted = list(names)
    if not wanted:
        return []
    from fcc.rewrite.manager import PrintAfter

    return [PrintAfter(name, write) for name in wanted]
