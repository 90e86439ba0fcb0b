"""Plots as SVG, without a library: the curve of choices, and the error of every change. For light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 56
_BAR, _LABELS = 18, 300
_STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.axis, .grid { stroke: #8c959f; stroke-width: 1; fill: none }
.grid { stroke-opacity: 0.3 }
.one { fill: #8c959f; fill-opacity: 0.6 }
.choice, .bar { fill: #0969da }
.front { stroke: #0969da; stroke-width: 2; fill: none }
.limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 6 4 }
.base { stroke: #1a7f37; stroke-width: 1.5; stroke-dasharray: 2 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .choice, .bar { fill: #58a6ff } .front { stroke: #58a6ff }
  .limit { stroke: #ff7b72 } .base { stroke: #56d364 }
}
"""
Point = tuple[float, float]  # cost, error


def curve(
    choices: Sequence[Mapping[str, float]],
    tried: Sequence[Mapping[str, Any]] = (),
    *,
    objective: str = "latency",
    budget: float | None = None,
    title: str = "",
) -> str:
    """Return the plot of cost against error, on a logarithmic axis: choices, their front, and every change alone.

    ``choices`` and ``tried`` are ``curve`` and ``tried`` of a report; ``budget`` is drawn where errors are relative.
    Points without a finite error above zero have no place on the axis and are left out.
    """
    made = _points((c["cost"], c["error"]) for c in choices)
    alone = _points((o["cost"], o["error"]) for row in tried for o in row["options"])
    base = max((float(row.get("cost", 0.0)) for row in tried), default=0.0)
    drawn = [*made, *alone, *([(base, budget)] if budget else [])]
    name = title or "Error against cost"
    about = f"{len(made)} choices for all layers and {len(alone)} changes of single layers"
    if not drawn:
        return _page(name, "no choice was measured", HEIGHT, [_text(LEFT, HEIGHT / 2, "no choice was measured")])
    high = 1.05 * max(base, *(c for c, _ in drawn)) or 1.0
    low, top = _decades([e for _, e in drawn])

    def x(cost: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * cost / high

    def y(error: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(error) - low) / (top - low)

    unit, scale = ("KiB", 1024.0) if objective == "size" else ("us", 1.0)
    body = list(_axes(x, y, high, (low, top), f"{'size' if objective == 'size' else 'latency'} ({unit})", scale))
    body += [_dot("one", x(c), y(e), 2.5, f"one change: error {e:.3g}") for c, e in alone]
    front = " ".join(f"{x(c):.1f},{y(e):.1f}" for c, e in _front(made))
    body += [f'<polyline class="front" points="{front}"/>'] if len(_front(made)) > 1 else []
    body += [_dot("choice", x(c), y(e), 5, f"error {e:.3g} at {c / scale:.4g} {unit}") for c, e in made]
    if budget:
        body += [_line("limit", LEFT, y(budget), WIDTH - RIGHT, y(budget))]
        body += [_text(WIDTH - RIGHT, y(budget) - 6, f"budget {budget:g}", "end")]
    if base:
        body += [_line("base", x(base), TOP, x(base), HEIGHT - BOTTOM), _text(x(base) - 6, TOP + 12, "-O2", "end")]
    return _page(name, about, HEIGHT, body)


def bars(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> str:
    """Return bars of the error of every change of every layer, on a logarithmic axis; ``rows`` as of sensitivity."""
    shown = [(row["name"], o) for row in rows for o in sorted(row["options"], key=lambda o: -_known(o["error"]))]
    name, about = title or "Error of every change alone", f"{len(shown)} changes of {len(rows)} layers"
    errors = [o["error"] for _, o in shown if 0 < _known(o["error"]) < math.inf]
    low, top = _decades(errors)
    height = TOP + BOTTOM + _BAR * max(1, len(shown))

    def x(error: float) -> float:
        return _LABELS + (WIDTH - _LABELS - RIGHT - 60) * (math.log10(error) - low) / (top - low)

    body = [_line("grid", x(10**d), TOP, x(10**d), height - BOTTOM) for d in range(low, top + 1)]
    body += [_text(x(10**d), height - BOTTOM + 18, f"1e{d}", "middle") for d in range(low, top + 1)]
    body += [_text(_LABELS, height - 12, "relative error of the worst output")]
    last = ""
    for k, (layer, option) in enumerate(shown):
        at, error = TOP + _BAR * k, _known(option["error"])
        body += [_text(4, at + 13, _short(layer, 24))] if layer != last else []
        body += [_text(_LABELS - 8, at + 13, _short(option["name"], 20), "end")]
        last = layer
        if not 0 < error < math.inf:
            body += [_text(_LABELS + 4, at + 13, "none" if error == 0 else "not measured")]
            continue
        wide = max(1.0, x(error) - _LABELS)
        body += [f'<rect class="bar" x="{_LABELS}" y="{at + 3}" width="{wide:.1f}" height="{_BAR - 6}"/>']
        body += [_text(_LABELS + wide + 4, at + 13, f"{error:.2g}")]
    return _page(name, about, height, body)


def _known(error: float | None) -> float:
    return math.inf if error is None or error != error else float(error)


def _points(found: Any) -> list[Point]:
    return [(float(c), float(e)) for c, e in found if e is not None and 0 < e < math.inf]


def _front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in cost and error, by cost."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _decades(errors: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten around errors."""
    if not errors:
        return -3, 0
    low, high = math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)))
    return low, max(high, low + 1)


def _axes(x: Any, y: Any, high: float, decades: tuple[int, int], label: str, scale: float) -> Iterator[str]:
    for d in range(decades[0], decades[1] + 1):
        yield _line("grid", LEFT, y(10.0**d), WIDTH - RIGHT, y(10.0**d))
        yield _text(LEFT - 8, y(10.0**d) + 4, f"1e{d}", "end")
    for k in range(6):
        yield _text(x(high * k / 5), HEIGHT - BOTTOM + 18, f"{high * k / 5 / scale:.3g}", "middle")
    corners = f"{LEFT},{TOP} {LEFT},{HEIGHT - BOTTOM} {WIDTH - RIGHT},{HEIGHT - BOTTOM}"
    yield f'<polyline class="axis" points="{corners}"/>'
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, label, "middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text transform="translate(18 {middle:g}) rotate(-90)" text-anchor="middle">error</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else "..." + text[-(most - 3) :]


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(kind: str, x: float, y: float, r: float, says: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r:g}"><title>{escape(says)}</title></circle>'


def _page(title: str, about: str, height: float, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" '
        'role="img" aria-labelledby="title about">'
    )
    named = [f'<title id="title">{escape(title)}</title>', f'<desc id="about">{escape(about)}</desc>']
    shown = [f"<style>{_STYLE}</style>", _text(LEFT, 26, title, kind="title")]
    return "\n".join([head, *named, *shown, *body, "</svg>"]) + "\n"
