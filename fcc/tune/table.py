"""The table of measurements: one JSON line for each pair of fragments that was timed on one class of machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from fcc.errors import DataError
from fcc.regular import read_text

_DECLARED = re.compile(r"(?:\[([\d,]+)\])? ([xyc]\d+)(?: = \{([^}]*)\}|(?=[,)>]))")
_NEAR = 1.0  # octaves: the largest change of any size across which a measurement is taken to speak for another
_FEW = 4


@dataclass(frozen=True)
class Row:
    """One measurement: the median of paired times of ``after`` over ``before``, and what it was measured with.

    ``before_us``: time of ``before`` in microseconds without that of the call; ``noise``: standard error of ``ratio``.
    """

    pass_name: str
    before: str
    after: str
    opset: int
    ratio: float
    noise: float
    before_us: float
    target: str
    cpu: str
    runtime: str

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What a later measurement replaces."""
        return (self.target, self.cpu, self.runtime, self.before, self.after)


@dataclass
class Table:
    """Rows, found again by their fragments; the later of two rows with one key counts."""

    rows: dict[Any, Row] = field(default_factory=dict)
    _index: dict[tuple[str, ...], list[Row]] = field(default_factory=dict)
    _passes: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Table:
        """Return a table of rows."""
        table = cls()
        for row in rows:
            table.add(row)
        return table

    def add(self, row: Row) -> None:
        """Add or replace a row."""
        old = self.rows.get(row.key)
        self.rows[row.key] = row
        for key in ((row.before, row.after), (row.pass_name, _without_numbers(row.before, row.after))):
            self._index[key] = [*(r for r in self._index.get(key, ()) if r is not old), row]
        self._passes.add((row.target, row.pass_name))

    def knows(self, target: str, pass_name: str) -> bool:
        """Return whether any row is about a pass on a target."""
        return (target, pass_name) in self._passes

    def exact(self, target: str, classes: Sequence[str], before: str, after: str) -> Row | None:
        """Return the row of two fragments on the nearest of ``classes`` ("" stands for any), newest runtime first."""
        found = [r for r in self._index.get((before, after), ()) if r.target == target]
        return _nearest(found, classes)

    def near(self, pass_name: str, target: str, classes: Sequence[str], before: str, after: str) -> float | None:
        """Return the ratio that measurements of the same operators at similar sizes suggest, None when none is near.

        The mean of log ratio over the nearest rows, weighted by closeness; a row is near when no size differs by more
        than one octave. Zero and one are their own octave.
        """
        here, form = _sizes(before), (structure(before), structure(after))
        found: dict[tuple[int, ...], list[Row]] = {}
        for row in self._index.get((pass_name, _without_numbers(before, after)), ()):
            if row.target == target and (structure(row.before), structure(row.after)) == form:
                found.setdefault(_sizes(row.before), []).append(row)
        rows = [
            (d, r) for s, rs in found.items() if (d := _distance(here, s)) <= _NEAR and (r := _nearest(rs, classes))
        ]
        rows = sorted(rows, key=lambda x: (x[0], x[1].before))[:_FEW]
        if not rows:
            return None
        weights = [1.0 / (d + 0.05) for d, _ in rows]
        total = sum(w * math.log(r.ratio) for w, (_, r) in zip(weights, rows, strict=True))
        return math.exp(total / sum(weights))

    def lines(self) -> Iterator[str]:
        """Yield the table as JSON lines, sorted: equal tables give equal text."""
        for key in sorted(self.rows, key=lambda k: (self.rows[k].pass_name, k)):
            yield json.dumps(asdict(self.rows[key]), sort_keys=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the lines, 12 hex digits; "" when there are none."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()[:12] if self.rows else ""


def load(path: str | os.PathLike[str]) -> Table:
    """Return the table in a file.

    Raises:
        DataError: the file is missing, or is no table.
    """
    table = Table()
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"table {os.fspath(path)}: {error}", "fcc tune MODEL --table FILE writes one") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            table.add(_row(line, f"{os.fspath(path)}:{number}"))
    return table


def _row(line: str, where: str) -> Row:
    try:
        found = json.loads(line)
        row = Row(**{f.name: found[f.name] for f in fields(Row)})
        if not (math.isfinite(row.ratio) and row.ratio > 0):
            raise ValueError(f"ratio {row.ratio}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"table {where}: no measurement ({error})", "remove the line, or the file") from None
    return row


@cache
def shipped(target: str) -> Table:
    """Return the table that comes with fcc for a target, empty where there is none. Not to be changed."""
    path = Path(__file__).with_name(f"{target}.jsonl")
    return load(path) if path.is_file() else Table()


def user_table() -> Path:
    """Return where the user's measurements are kept: FCC_TABLE, else fcc/table.jsonl in the user's data folder."""
    given = os.environ.get("FCC_TABLE")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data) / "fcc" / "table.jsonl"


_DIGITS = str.maketrans("", "", "0123456789")


def _without_numbers(before: str, after: str) -> str:
    """Return what is equal for fragments of equal structure, and costs next to nothing."""
    return f"{before}{after}".translate(_DIGITS)


@cache
def structure(text: str) -> str:
    """Return a fragment with its sizes left out: equal for equal operators and attributes on other sizes."""

    def blank(m: re.Match[str]) -> str:
        held = "" if m[3] is None else f" = {{{','.join(x if _own(x) else '#' for x in m[3].split(', '))}}}"
        dims = f"[{','.join('#' for _ in m[1].split(','))}]" if m[1] else ""
        return f"{dims} {m[2]}{held}"

    return _DECLARED.sub(blank, text)


@cache
def _sizes(text: str) -> tuple[int, ...]:
    """Return the sizes of a fragment in order: of types, and integers of two and more held in constants."""
    found: list[int] = []
    for m in _DECLARED.finditer(text):
        found += [int(x) for x in (m[1] or "").split(",") if x]
        found += [int(x) for x in (m[3] or "").split(", ") if x and not _own(x)]
    return tuple(found)


def elements(text: str) -> int:
    """Return how many elements a fragment reads, writes and holds: what it costs, roughly."""
    return sum(math.prod(int(x) for x in (m[1] or "").split(",") if x) for m in _DECLARED.finditer(text))


def _own(text: str) -> bool:
    """Return whether a number in a constant is no size: an axis, a flag, a float."""
    return not text.isdigit() or int(text) < 2


def _distance(a: Sequence[int], b: Sequence[int]) -> float:
    if len(a) != len(b):
        return math.inf
    return max((_octaves(x, y) for x, y in zip(a, b, strict=True)), default=0.0)


def _octaves(x: int, y: int) -> float:
    if x == y:
        return 0.0
    return math.inf if min(x, y) < 2 else abs(math.log2(x / y))


def _nearest(rows: Iterable[Row], classes: Sequence[str]) -> Row | None:
    ranked = [(classes.index(r.cpu), r) for r in rows if r.cpu in classes]
    best = min((rank for rank, _ in ranked), default=None)
    return max((r for rank, r in ranked if rank == best), key=lambda r: _version(r.runtime), default=None)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(x) for x in re.findall(r"\d+", text))
