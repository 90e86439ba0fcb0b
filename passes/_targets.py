"""Integer operands that hold symbols, rewritten without them: what Reshape, Expand and Slice take instead.

Each function returns the constant entries that mean the same for every value of the symbols, or the reason why there
are none. Symbols are non-negative, zero included.
"""

from __future__ import annotations

from collections.abc import Sequence

from fcc import ir

Entry = ir.Dim | int
Dims = Sequence[ir.Dim | int | None]
LAST = 2**63 - 1


def reshape_entries(source: Dims | None, target: Sequence[Entry], allowzero: bool) -> list[int] | str:
    """Return target entries for a Reshape with allowzero = 0.

    A symbolic entry equal to the source's dim at the same place becomes 0 (copy). One other may become -1, if the
    target has none yet and no other entry can be 0, since "-1 beside 0" has no answer (and an error at run time).
    """
    if allowzero and any(isinstance(t, int) and t == 0 for t in target):
        return "allowzero with a dimension of 0"
    symbolic = [i for i, t in enumerate(target) if isinstance(t, ir.Dim)]
    inferred = any(isinstance(t, int) and t == -1 for t in target)
    if len(symbolic) == 1 and not inferred and _others_positive(source, target, symbolic[0]):
        return [-1 if isinstance(t, ir.Dim) else t for t in target]
    left = [i for i in symbolic if not _copies(source, target, i)]
    if len(left) > 1 or (left and inferred):
        return f"{len(left) + inferred} dimensions depend on symbols"
    if left and not _others_positive(source, target, left[0]):
        return "a dimension beside the inferred one may be 0"
    return [t if isinstance(t, int) else (-1 if i in left else 0) for i, t in enumerate(target)]


def _copies(source: Dims | None, target: Sequence[Entry], i: int) -> bool:
    return source is not None and i < len(source) and source[i] == target[i]


def _others_positive(source: Dims | None, target: Sequence[Entry], at: int) -> bool:
    """Return whether every entry but one is at least 1, a literal 0 being the source's dim at its place."""
    for i, entry in enumerate(target):
        copied = isinstance(entry, int) and entry == 0
        actual = (source[i] if source is not None and i < len(source) else None) if copied else entry
        if i != at and not ir.at_least(actual, 1):
            return False
    return True


def expand_entries(source: Dims | None, target: Sequence[Entry]) -> list[int] | str:
    """Return target entries for an Expand: 1 where the source's dim decides (it is the symbol, or a number but 1)."""
    if source is None:
        return "the rank of the input is unknown"
    offset = len(target) - len(source)
    out: list[int] = []
    for i, entry in enumerate(target):
        size = source[i - offset] if i >= offset else 1
        if isinstance(entry, int):
            out.append(entry)
        elif size == entry or (isinstance(size, int) and size != 1):
            out.append(1)
        else:
            return "a dimension of 1 is expanded to a symbol"
    return out


def slice_ends(
    source: Dims | None, ends: Sequence[Entry], axes: Sequence[int], steps: Sequence[int]
) -> list[int] | str:
    """Return ends for a Slice: the largest integer where the end is the size of its axis or beyond, going forward."""
    if source is None:
        return "the rank of the input is unknown"
    out: list[int] = []
    for end, axis, step in zip(ends, axes, steps, strict=True):
        size = source[axis]
        if isinstance(end, int):
            out.append(end)
        elif size is not None and step > 0 and ir.at_least(end - size, 0):
            out.append(LAST)
        else:
            return "the end depends on a symbol"
    return out
