"""Reasons that differ in names only, told as one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAME = re.compile(r" ?'[^']*[/._:\d][^']*'")  # a name of a node or tensor; operands of patterns are single words


def general(reason: str) -> str:
    """Return a reason without the names of nodes and tensors: ``expected MatMul, found Add 'n_7'`` loses ``'n_7'``."""
    text = _NAME.sub("", f"a value{reason}" if reason.startswith("'") and _NAME.match(reason) else reason)
    return text.replace("()", "").strip()


def grouped(reasons: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return general reasons with their counts, the most frequent first."""
    found: Counter[str] = Counter()
    for reason, n in reasons:
        found[general(reason)] += n
    return found.most_common()
