"""Plans: the choices of one compile as data, written by --plan and replayed by --from-plan."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import OptionError
from .regular import read_text

SCHEMA = 1
_WANTED = {"target": str, "choices": list, "skip": list}


@dataclass(frozen=True)
class Plan:
    """What was chosen where, and on what grounds.

    ``choices``: {pass_name, site, taken, how, ratio} for every rewrite that was asked about; ``skip``: {pass_name,
    site, reason} for every rewrite that had to be left out; ``whole``: the latency of the emitted model against its
    source, where it was timed; ``table``: digest of the measurements that answered; ``layers``: what was done to
    each layer, to read; ``lossy``: the decision behind it, which is replayed (docs/plan.md); ``model``: digest of the
    file it was made for.
    """

    target: str
    opt_level: int = 2
    source: str = ""
    version: str = ""
    cpu: str = ""
    table: str = ""
    choices: tuple[Mapping[str, Any], ...] = ()
    skip: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[Mapping[str, Any], ...] = ()
    whole: Mapping[str, Any] = field(default_factory=dict)
    lossy: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""

    @property
    def taken(self) -> dict[tuple[str, str], bool]:
        """(pass, site) -> whether the rewrite is made."""
        return {(c["pass_name"], c["site"]): bool(c["taken"]) for c in self.choices}

    @property
    def skipped(self) -> frozenset[tuple[str, str]]:
        """(pass, site) of rewrites that are never made; a site of "" stands for the whole pass."""
        return frozenset((s["pass_name"], s["site"]) for s in self.skip)

    def to_json(self) -> str:
        """Return the plan as JSON, schema first."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)


def read_plan(given: Any) -> Plan | None:
    """Return a plan from a path, plain data, or itself; None stays None.

    Raises:
        OptionError: the file is missing, or holds no plan of this schema.
    """
    if given is None or isinstance(given, Plan):
        return given
    where = f"plan {os.fspath(given)}" if isinstance(given, str | os.PathLike) else "plan"
    try:
        found = json.loads(read_text(given)) if where != "plan" else dict(given)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OptionError(f"{where}: {error}", "fcc MODEL --plan FILE writes one") from None
    return _plan(found, where)


def _names_a_site(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("pass_name", "site"))


def _plan(found: Any, where: str) -> Plan:
    if not isinstance(found, dict) or found.pop("schema", None) != SCHEMA:
        raise OptionError(f"{where} is no plan of schema {SCHEMA}", "fcc MODEL --plan FILE writes one")
    wrong = next((k for k, kind in _WANTED.items() if not isinstance(found.get(k), kind)), None)
    wrong = wrong or next((k for k in ("lossy", "whole") if not isinstance(found.get(k, {}), dict)), None)
    rows = [*found.get("choices", ()), *found.get("skip", ())] if wrong is None else []
    if wrong is not None or not all(_names_a_site(r) for r in rows):
        raise OptionError(f"{where}: {wrong or 'an entry'} is not as a plan has it", "write it again with --plan FILE")
    if not all("taken" in c for c in found["choices"]):
        raise OptionError(f"{where}: a choice does not say whether it is taken", "write it again with --plan FILE")
    known: dict[str, Any] = {k: v for k, v in found.items() if k in Plan.__dataclass_fields__}
    known |= {k: tuple(v) for k, v in known.items() if isinstance(v, list)}
    return Plan(**known)
