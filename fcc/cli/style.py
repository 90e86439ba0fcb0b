"""Text for people: numbers with units, aligned columns, wrapped notes; colors only on a terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap

import click

WIDTH = 80
_CELL = 300  # characters of a name in a table
_OURS = re.compile(r"(\x1b\[[0-9;]*m|\n)")


def printable(text: str, most: int = 10_000) -> str:
    """Return a text whose control characters are escapes, and whose middle is left out beyond ``most`` characters."""
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-(most // 2) :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line; its colors survive only on a terminal without NO_COLOR.

    What the names of a model could do to a terminal is escaped, but for colors and line breaks.
    """
    stream = sys.stderr if err else sys.stdout
    if not text.isprintable():
        text = "".join(t if _OURS.fullmatch(t) else printable(t, len(t)) for t in _OURS.split(text))
    click.echo(text, err=err, color=stream.isatty() and not os.environ.get("NO_COLOR"))


def heading(text: str) -> str:
    """Return a heading."""
    return click.style(printable(text), bold=True)


def columns(rows: Sequence[Sequence[str]], align: str, *, indent: int = 2, gap: int = 2) -> Iterator[str]:
    """Yield rows as aligned columns; ``align`` has ``<`` or ``>`` for each.

    On a terminal the widest left-aligned column gives way, its middle replaced by ``..``; elsewhere nothing is cut.
    """
    if not rows:
        return
    rows = [[printable(cell, _CELL) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    over = indent + sum(widths) + gap * (len(widths) - 1) - _room()
    left = [i for i, a in enumerate(align) if a == "<"]
    if over > 0 and left:
        widest = max(left, key=lambda i: widths[i])
        widths[widest] = max(10, widths[widest] - over)
    for row in rows:
        cells = [f"{_cut(cell, w):{a}{w}}" for cell, a, w in zip(row, align, widths, strict=True)]
        yield (" " * indent + (" " * gap).join(cells)).rstrip()


def _room() -> int:
    return max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else sys.maxsize


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 2) // 2
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def item(label: str, text: str, *, indent: int = 2, field: int = 9, **style: str | bool) -> str:
    """Return ``label  text`` wrapped at 80 columns, continued under the text."""
    pad = indent + field
    lines = wrap(printable(" ".join(text.split())), WIDTH - pad, break_long_words=False, break_on_hyphens=False) or [""]
    label = f"{label:<{field}}" if lines[0] else label
    head = " " * indent + (click.style(label, **style) if style else label) + lines[0]  # type: ignore[arg-type]
    return "\n".join([head, *(" " * pad + line for line in lines[1:])])


def count(n: float) -> str:
    """Return a number with a decimal prefix, four digits: ``52.65 k``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(n) >= factor:
            factor = 1e3 if prefix == "k" else factor
            return f"{_digits(n / factor, 4)} {prefix}"
    return f"{n:g}"


def _digits(x: float, digits: int) -> str:
    return f"{x:#.{digits}g}".rstrip(".")


def size(n: float) -> str:
    """Return bytes with a decimal prefix."""
    text = count(n)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def duration(us: float) -> str:
    """Return microseconds in the unit that fits."""
    for factor, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= factor:
            return f"{_digits(us / factor, 3)} {unit}"
    return f"{_digits(us, 3)} us"


def change(before: float, after: float, *, least: float = 0.05) -> str:
    """Return the relative change in percent, empty when it is below ``least`` percent."""
    percent = 100 * (after - before) / before if before else 0.0
    if abs(percent) < least:
        return ""
    return f"{percent:+.0f} %" if abs(percent) >= 10 else f"{percent:+.1f} %"


def figure(error: float) -> str:
    """Return an error figure with two digits."""
    return "0" if error == 0 else f"{error:.2g}"
