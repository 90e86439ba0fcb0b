"""Plots: valid XML, named for screen readers, every point at its place."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from fcc.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, bars, curve

NS = "{http://www.w3.org/2000/svg}"
CHOICES = [
    {"predicted": 0.01, "error": 0.01, "cost": 50.0},
    {"predicted": 0.1, "error": 0.1, "cost": 25.0},
    {"predicted": 0.1, "error": 0.1, "cost": 75.0},
]
TRIED: list[dict[str, Any]] = [
    {
        "name": "a<b>&",
        "what": "int8",
        "cost": 100.0,
        "options": [
            {"name": "int8", "cost": 60.0, "error": 0.001},
            {"name": "prune 0.5", "cost": 100.0, "error": math.inf},
        ],
    },
    {"name": "second", "what": "kept", "cost": 100.0, "options": [{"name": "int4", "cost": 60.0, "error": 0.5}]},
]


def read(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def of(root: ElementTree.Element, tag: str, kind: str | None = None) -> list[ElementTree.Element]:
    return [e for e in root.iter(NS + tag) if kind is None or e.get("class") == kind]


def texts(root: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in of(root, "text")]


def test_choices_lie_at_cost_and_log_error() -> None:
    root = read(curve(CHOICES, TRIED, budget=0.05))
    width, height = (WIDTH - LEFT - RIGHT) / 105, (HEIGHT - TOP - BOTTOM) / 3  # three decades: 1e-3 to 1
    dots = [(float(e.get("cx", 0)), float(e.get("cy", 0))) for e in of(root, "circle", "choice")]
    expected = [(LEFT + c["cost"] * width, HEIGHT - BOTTOM - (math.log10(c["error"]) + 3) * height) for c in CHOICES]
    for dot, wanted in zip(dots, expected, strict=True):
        assert dot == pytest.approx(wanted, abs=0.06)
    assert len(of(root, "circle", "one")) == 2
    (front,) = of(root, "polyline", "front")
    assert front.get("points") == f"{dots[1][0]:.1f},{dots[1][1]:.1f} {dots[0][0]:.1f},{dots[0][1]:.1f}"
    (limit,) = of(root, "line", "limit")
    assert float(limit.get("y1", 0)) == pytest.approx(HEIGHT - BOTTOM - (math.log10(0.05) + 3) * height, abs=0.06)
    assert limit.get("y1") == limit.get("y2")
    (base,) = of(root, "line", "base")
    assert float(base.get("x1", 0)) == pytest.approx(LEFT + 100 * width, abs=0.06)
    assert {"budget 0.05", "-O2", "1e-3", "1e0", "latency (us)"} <= set(texts(root))


def test_it_is_named_for_readers_and_has_colours_for_dark_pages() -> None:
    text = curve(CHOICES, TRIED, title="a < b")
    root = read(text)
    assert root.get("role") == "img"
    ids = {e.get("id"): e.text for e in root if e.get("id")}
    assert root.get("aria-labelledby") == "title about"
    assert ids == {"title": "a < b", "about": "3 choices for all layers and 2 changes of single layers"}
    assert "prefers-color-scheme: dark" in text
    assert of(root, "circle", "choice")[0][0].text == "error 0.01 at 50 us"
    assert not of(root, "line", "limit")


def test_sizes_are_in_kib() -> None:
    root = read(curve([{"predicted": 0.1, "error": 0.1, "cost": 2048.0}], objective="size"))
    assert "size (KiB)" in texts(root)
    assert of(root, "circle", "choice")[0][0].text == "error 0.1 at 2 KiB"
    assert not of(root, "polyline", "front")
    assert not of(root, "line", "base")


@pytest.mark.parametrize("error", [0.0, math.inf, math.nan, None])
def test_points_without_a_place_are_left_out(error: Any) -> None:
    root = read(curve([{"predicted": 1.0, "error": error, "cost": 1.0}]))
    assert "no choice was measured" in texts(root)
    assert not of(root, "circle")


def test_bars_have_the_length_of_the_error() -> None:
    rows = [
        *TRIED,
        {
            "name": "x" * 40,
            "options": [{"name": "int8", "cost": 1.0, "error": None}, {"name": "keep", "cost": 1.0, "error": 0.0}],
        },
    ]
    root = read(bars(rows))
    wide = [float(e.get("width", 0)) for e in of(root, "rect", "bar")]
    assert len(wide) == 2
    assert wide[0] == 1.0  # 1e-3 is where the axis begins
    assert wide[1] == pytest.approx(336 * (math.log10(0.5) + 3) / 3, abs=0.06)
    shown = texts(root)
    assert {"a<b>&", "second", "0.001", "0.5", "none", "not measured", "1e-3", "1e0"} <= set(shown)
    assert shown.count("a<b>&") == 1
    assert "..." + "x" * 21 in shown
    height = float(re.findall(r"viewBox=\"0 0 \d+ (\d+)", bars(rows))[0])
    assert height == TOP + BOTTOM + 5 * 18


def test_bars_of_nothing() -> None:
    assert not of(read(bars([])), "rect")
