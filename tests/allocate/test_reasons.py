"""Why an option was not chosen."""

from __future__ import annotations

import math

import pytest

from fcc.allocate import Option, reasons

OPTIONS = [
    Option("int8", 60, 0.01),
    Option("low rank 0.6", 70, 0.02),
    Option("low rank 0.25", 30, 0.2),
    Option("prune 0.75", 100, 0.001),
    Option("prune 0.25", 100, math.inf),
    Option("int4", 50, 0.04),
]


@pytest.mark.parametrize(
    ("chosen", "objective", "expected"),
    [
        (
            ["int8"],
            "size",
            [
                "chosen",
                "dominated by int8",
                "beyond the budget alone",
                "not smaller",
                "not smaller, or beyond the budget alone",
                "not chosen together: int8 left more of the budget for other layers, or cost less",
            ],
        ),
        (
            [],
            "latency",
            [
                "not chosen together: keeping it left more of the budget for other layers, or cost less",
                "dominated by int8",
                "beyond the budget alone",
                "not faster",
                "not faster, or beyond the budget alone",
                "not chosen together: keeping it left more of the budget for other layers, or cost less",
            ],
        ),
    ],
)
def test_each_has_its_reason(chosen: list[str], objective: str, expected: list[str]) -> None:
    assert reasons(OPTIONS, chosen, 100, 0.05, objective) == expected


def test_equal_options_do_not_dominate_each_other_and_the_cheapest_is_named() -> None:
    same = [Option("a", 50, 0.01), Option("b", 50, 0.01), Option("c", 60, 0.02), Option("d", 40, 0.02)]
    found = reasons(same, [], 100, 0.05)
    assert found[0].startswith("not chosen together")
    assert found[1].startswith("not chosen together")
    assert found[2] == "dominated by d"
    assert found[3].startswith("not chosen together")
