"""Why options of a layer were not chosen, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .solver import Option

_GAIN = {"size": "not smaller", "latency": "not faster"}


def reasons(
    options: Sequence[Option], chosen: Collection[str], base: float, most: float, objective: str = "latency"
) -> list[str]:
    """Return a reason for every option of a layer; ``chosen`` are the names of what is done to it.

    ``base`` is the cost when it is kept, ``most`` the error that one change alone may have.
    """
    return [_reason(o, options, chosen, base, most, objective) for o in options]


def _reason(
    option: Option, options: Sequence[Option], chosen: Collection[str], base: float, most: float, objective: str
) -> str:
    if option.name in chosen:
        return "chosen"
    if option.cost >= base and option.error <= most:
        return _GAIN[objective]
    if option.error > most:
        return "beyond the budget alone" if option.cost < base else f"{_GAIN[objective]}, or beyond the budget alone"
    better = [o for o in options if o is not option and _dominates(o, option)]
    if better:
        return f"dominated by {min(better, key=lambda o: (o.cost, o.error)).name}"
    kept = " and ".join(chosen) or "keeping it"
    return f"not chosen together: {kept} left more of the budget for other layers, or cost less"


def _dominates(a: Option, b: Option) -> bool:
    return a.cost <= b.cost and a.error <= b.error and (a.cost, a.error) != (b.cost, b.error)
