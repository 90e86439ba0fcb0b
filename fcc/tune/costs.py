"""What passes ask about choices, answered from a plan or from tables; what nobody has measured is remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from fcc.errors import OptionError
from fcc.options import Options
from fcc.plan import Plan, read_plan
from fcc.rewrite.fragment import Question
from fcc.target import TargetSpec

from .machine import ANSWERS
from .table import Row, Table, load, shipped, user_table

How = Literal["plan", "measured", "near", "guess"]
# The largest ratio at which a rewrite is taken. Equal sessions differ by up to 3 % (where their memory happens to lie).
_FEWER_NODES = 1.05
_AS_MANY_NODES = 1.02
_MORE_NODES = 0.97


@dataclass(frozen=True)
class Choice:
    """A rewrite that was asked about: what was recorded (ratio: time after over before), and whether it was taken.

    ``taken`` is None where nothing was recorded and the pass guessed.
    """

    pass_name: str
    site: str
    how: How
    ratio: float | None = None
    taken: bool | None = None
    question: Question | None = field(default=None, repr=False)


@dataclass
class Recorded:
    """Answers questions of passes (fcc.rewrite.Costs): from a plan first, then tables: ``fresh``, ``own``, fcc's.

    ``classes`` are the classes of CPU whose measurements may answer. ``collect`` asks about everything, so that
    ``open_questions`` can be measured into ``fresh``.
    """

    target: str
    classes: Sequence[str]
    plan: Plan | None = None
    own: Table = field(default_factory=Table)
    collect: bool = False
    fresh: Table = field(default_factory=Table)
    choices: dict[tuple[str, str], Choice] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Forget what an earlier replay asked."""
        self.choices.clear()
        self._used.clear()

    @property
    def tables(self) -> tuple[Table, ...]:
        """Measurements of this compile, of the user, and those that come with fcc."""
        return (self.fresh, self.own, shipped(self.target))

    @cached_property
    def _planned(self) -> Mapping[tuple[str, str], bool]:
        return {} if self.plan is None else self.plan.taken

    def asks(self, pass_name: str, site: str) -> bool:
        """Return whether there may be an answer."""
        if self.collect or (pass_name, site) in self._planned:
            return True
        return any(t.knows(self.target, pass_name) for t in self.tables)

    def refusal(self, pass_name: str, site: str, question: Question | None) -> str | None:
        """Return why the rewrite does not pay ("" where it does), None when nothing is recorded."""
        planned = self._planned.get((pass_name, site))
        if planned is not None:
            self._note(Choice(pass_name, site, "plan", None, planned, question))
            return "" if planned else "the plan leaves it out"
        ratio, how = self._ratio(pass_name, question)
        if question is None or ratio is None:
            self._note(Choice(pass_name, site, "guess", None, None, question))
            return None
        before, after = question.nodes
        more = after > before
        taken = ratio <= (_MORE_NODES if more else _AS_MANY_NODES if after == before else _FEWER_NODES)
        self._note(Choice(pass_name, site, how, ratio, taken, question))
        if taken:
            return ""
        said = "measured" if how == "measured" else "measured at similar sizes"
        return f"{said}: {ratio:.2f} of the time" + (f" for {question.nodes[1] - question.nodes[0]} more nodes" * more)

    def _ratio(self, pass_name: str, question: Question | None) -> tuple[float | None, How]:
        if question is None:
            return None, "guess"
        for table in self.tables:
            row = table.exact(self.target, self.classes, *question.key)
            if row is not None:
                self._used.add(repr(row))
                return row.ratio, "measured"
        if self.collect:
            return None, "guess"  # it can be measured itself
        for table in self.tables:
            ratio = table.near(pass_name, self.target, self.classes, *question.key)
            if ratio is not None:
                self._used.add(f"{question.key} {ratio:.6f}")
                return ratio, "near"
        return None, "guess"

    def _note(self, choice: Choice) -> None:
        self.choices[(choice.pass_name, choice.site)] = choice

    @property
    def open_questions(self) -> dict[Question, str]:
        """Questions that nothing recorded answers -> the pass that asks."""
        return {c.question: c.pass_name for c in self.choices.values() if c.how == "guess" and c.question}

    @property
    def digest(self) -> str:
        """Digest of the measurements that answered, here or when the plan was made, 12 hex digits; "" when none did."""
        if self.plan is not None:
            return self.plan.table
        text = "\n".join(sorted(self._used))
        return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def recorded(options: Options, target: TargetSpec) -> Recorded:
    """Return what is recorded for a compile.

    The user's measurements are those of ``options.table``, which need not exist where new ones are to be added.

    Raises:
        OptionError: the plan cannot be read, or is one for another target.
        DataError: the table is missing or is none.
    """
    plan = read_plan(options.plan)
    if plan is not None and plan.target != target.name:
        raise OptionError(f"the plan is for --target {plan.target}, not {target.name}", "plan for this target again")
    classes = ANSWERS.get(target.isa, ANSWERS["avx2"]) if target.name == "cpu" else ("gpu",)
    path = user_table() if options.table is None else Path(options.table)
    required = options.table is not None and not options.tune_seconds
    own = load(path) if required or path.is_file() else Table()
    return Recorded(target.name, classes, plan, own)


def row_of(question: Question, pass_name: str, *, ratio: float, noise: float, before_us: float, **where: str) -> Row:
    """Return the row of a measured question; ``where`` is target, cpu and runtime."""
    return Row(
        pass_name,
        question.before,
        question.after,
        question.opset,
        round(ratio, 4),
        round(noise, 4),
        round(before_us, 2),
        **where,
    )
