"""The decision of a lossy compile as data: what a plan holds, and what replays it without a search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from . import ir
from .changes import KINDS, Change
from .errors import OptionError
from .options import OBJECTIVES, PRECISIONS, SIZES, Options, parse_distill, parse_low_rank, parse_prune
from .plan import Plan
from .recipe import Recipe
from .tuned import digest

BY = ("hand", "level 3")
_STEPS = ("prune", "low_rank", "precision", "size", "distill")
_READS = {"prune": parse_prune, "low_rank": parse_low_rank, "distill": parse_distill}
_AMONG = {"precision": PRECISIONS, "size": SIZES, "objective": OBJECTIVES, "by": BY}


@dataclass(frozen=True)
class Decision:
    """Steps over the whole model, in the order they are made, or changes of single layers.

    ``recipe`` is how the int8 of ``precision`` is fitted (None: it is searched); ``objective`` what was aimed at;
    ``by`` whether the steps were named, or found by level 3.
    """

    prune: Mapping[str, float] | None = None
    low_rank: Mapping[str, float] | None = None
    precision: str | None = None
    size: str | None = None
    recipe: Recipe | None = None
    changes: tuple[Change, ...] = ()
    distill: Mapping[str, float] | None = None
    objective: str = "latency"
    by: str = "hand"

    def __str__(self) -> str:
        steps = (("prune", self.prune), ("low rank", self.low_rank))
        said = [f"{name} " + ",".join(f"{k}={v:g}" for k, v in given.items()) for name, given in steps if given]
        said += [self.precision] if self.precision else []
        said += [f"weights stored as {self.size}"] if self.size else []
        return " + ".join([*said, *([f"{len(self.changes)} layers changed"] if self.changes else [])])

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data, what is not done left out."""
        found = {k: v for k, v in asdict(self).items() if v not in (None, (), [])}
        return {**found, "changes": list(found["changes"])} if self.changes else found


def read_decision(found: Mapping[str, Any]) -> Decision:
    """Return a decision from plain data.

    Raises:
        OptionError: a key or value is unknown.
    """
    unknown = sorted(set(found) - {f.name for f in fields(Decision)})
    if unknown:
        raise OptionError(f"plan: lossy has no key {unknown[0]!r}", "write it again with --plan FILE")
    for name, known in _AMONG.items():
        if found.get(name) is not None and found[name] not in known:
            raise OptionError(f"plan: {name} has no value {found[name]!r}", f"one of {', '.join(known)}")
    read: dict[str, Any] = {k: _READS[k](v) if k in _READS else v for k, v in found.items()}
    read["recipe"] = _made(Recipe, found["recipe"], "recipe") if found.get("recipe") is not None else None
    read["changes"] = tuple(_made(Change, row, "change") for row in found.get("changes", ()))
    wrong = next((c for c in read["changes"] if c.kind not in KINDS or not 0 <= c.strength < 1), None)
    if wrong is not None:
        raise OptionError(f"plan: {wrong.layer} has no change {wrong}", f"kinds: {', '.join(KINDS)}; strength below 1")
    return Decision(**read)


def _made(kind: type[Any], row: Any, what: str) -> Any:
    try:
        return kind(**row)
    except TypeError:
        raise OptionError(f"plan: {what} {json.dumps(row)} is not as a plan has it", "see docs/plan.md") from None


def replaying(options: Options, plan: Plan | None) -> Options:
    """Return the options of a compile that replays the decision of a plan, if it has one.

    Raises:
        OptionError: the plan is for another target, or another step is asked for as well.
    """
    if plan is None or not plan.lossy:
        return options
    decision = read_decision(plan.lossy)
    if plan.target != options.target:
        raise OptionError(
            f"the plan is for --target {plan.target}, not {options.target}", "its layers were chosen there"
        )
    for name in _STEPS:
        given = getattr(options, name)
        if given not in (None, "fp32") and given != getattr(decision, name):
            option = name.replace("_", "-")
            raise OptionError(f"--{option} is not what the plan says", f"leave --{option} out, or change the plan")
    steps = {name: getattr(decision, name) for name in _STEPS} if decision.by == "hand" else {}
    more = {"distill": decision.distill, "objective": decision.objective, "opt_level": plan.opt_level, "plan": plan}
    return replace(options, **{**steps, **more})


def require_same(plan: Plan | None, module: ir.Module) -> None:
    """Refuse a plan with lossy layers of another model; one without a digest fits all that have its layers.

    Raises:
        OptionError: it is of another model.
    """
    if plan is not None and plan.lossy and plan.model and plan.model != digest(module):
        raise OptionError(
            f"the plan is for another model ({plan.source or 'no file'}, sha256 {plan.model[:12]})",
            'with "model": "" in the plan it is used for any that has its layers',
        )
