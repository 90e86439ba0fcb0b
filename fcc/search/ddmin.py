"""Delta debugging: the few of many things that are needed for something to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def ddmin(items: Sequence[T], holds: Callable[[tuple[T, ...]], bool], *, tries: int | None = None) -> tuple[T, ...]:
    """Return a part of ``items``, in order, for which ``holds`` is true, and for no part that lacks one more item.

    ``holds`` must be true of all items; it is asked O(n log n) times where few are needed, O(n^2) at worst, and at most
    ``tries`` times: then what is left may not be minimal. Zeller & Hildebrandt 2002, by complements.
    """
    kept, parts = tuple(items), 2
    left = float("inf") if tries is None else tries
    while len(kept) > 1:
        parts = min(parts, len(kept))
        for k in range(parts):
            rest = kept[: len(kept) * k // parts] + kept[len(kept) * (k + 1) // parts :]
            if left <= 0:
                return kept
            left -= 1
            if holds(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts == len(kept):
                break
            parts *= 2
    return kept
