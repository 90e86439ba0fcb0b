"""Answers to passes: the plan, then measurements, then near ones; what is taken."""

from pathlib import Path

import pytest

from fcc.errors import DataError, OptionError
from fcc.options import Options
from fcc.plan import Plan, read_plan
from fcc.rewrite.fragment import Question
from fcc.target import get_target
from fcc.tune import Recorded, Row, Table, recorded
from fcc.tune.machine import ANSWERS


def question(size: int, nodes: tuple[int, int] = (2, 1)) -> Question:
    return Question(f"f (float[{size}] x0) => (float[{size}] y0) {{ }}", "after", nodes, 21)


def table(size: int, ratio: float) -> Table:
    q = question(size)
    return Table.of([Row("p", q.before, q.after, 21, ratio, 0.01, 50.0, "cpu", "avx2", "1.31")])


def costs(*, fresh: Table | None = None, plan: Plan | None = None, collect: bool = False) -> Recorded:
    return Recorded("cpu", ANSWERS["avx2"], plan, fresh=fresh or Table(), collect=collect)


def test_nothing_is_asked_of_nothing() -> None:
    assert not costs().asks("p", "s")
    assert costs(collect=True).asks("p", "s")
    assert costs(fresh=table(64, 0.5)).asks("p", "s")
    assert not costs(fresh=table(64, 0.5)).asks("q", "s")


@pytest.mark.parametrize(
    ("ratio", "nodes", "answer"),
    [
        (0.96, (1, 2), ""),
        (0.98, (1, 2), "measured: 0.98 of the time for 1 more nodes"),
        (1.01, (2, 2), ""),
        (1.03, (2, 2), "measured: 1.03 of the time"),
        (1.04, (2, 1), ""),
        (1.06, (2, 1), "measured: 1.06 of the time"),
    ],
)
def test_what_adds_nodes_has_to_gain_more(ratio: float, nodes: tuple[int, int], answer: str) -> None:
    asked = costs(fresh=table(64, ratio))
    assert asked.refusal("p", "s", question(64, nodes)) == answer
    (choice,) = asked.choices.values()
    assert (choice.how, choice.ratio, choice.taken) == ("measured", ratio, not answer)


def test_similar_sizes_answer_but_not_while_collecting() -> None:
    near = costs(fresh=table(64, 1.5))
    assert near.refusal("p", "s", question(80)) == "measured at similar sizes: 1.50 of the time"
    assert near.refusal("p", "s", question(200)) is None
    collecting = costs(fresh=table(64, 1.5), collect=True)
    assert collecting.refusal("p", "s", question(80)) is None
    assert collecting.open_questions == {question(80): "p"}


def test_a_question_without_a_text_is_the_passes_own() -> None:
    asked = costs(collect=True)
    assert asked.refusal("p", "s", None) is None
    assert asked.open_questions == {}


def test_the_plan_goes_first() -> None:
    plan = Plan(
        "cpu", choices=({"pass_name": "p", "site": "s", "taken": False}, {"pass_name": "p", "site": "t", "taken": True})
    )
    asked = costs(fresh=table(64, 0.5), plan=plan)
    assert asked.refusal("p", "s", question(64)) == "the plan leaves it out"
    assert asked.refusal("p", "t", None) == ""
    assert asked.refusal("p", "u", question(64)) == ""
    assert asked.digest == ""


def test_the_digest_is_of_what_answered() -> None:
    first, second, third = (costs(fresh=table(64, r)) for r in (0.5, 0.5, 0.6))
    for c in (first, second, third):
        c.refusal("p", "s", question(64))
    assert first.digest == second.digest != third.digest
    assert first.digest != ""
    first.begin()
    assert first.digest == ""
    assert not first.choices


def test_tables_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.jsonl"
    target = get_target("cpu")
    with pytest.raises(DataError):
        recorded(Options(table=str(path)), target)
    assert not recorded(Options(table=str(path), tune_seconds=1.0), target).asks("p", "s")
    path.write_text("".join(f"{line}\n" for line in table(64, 0.5).lines()))
    assert recorded(Options(table=str(path)), target).asks("p", "s")
    monkeypatch.setenv("FCC_TABLE", str(path))
    assert recorded(Options(), target).asks("p", "s")


def test_a_plan_for_another_target_is_refused() -> None:
    with pytest.raises(OptionError, match="for --target cuda"):
        recorded(Options(plan=Plan("cuda")), get_target("cpu"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "plan "),
        ("[]", "no plan"),
        ('{"schema": 2}', "no plan of schema 1"),
        ('{"schema": 1, "target": "cpu", "skip": []}', "choices is not"),
        ('{"schema": 1, "target": "cpu", "choices": [3], "skip": []}', "an entry is not"),
        ('{"schema": 1, "target": "cpu", "choices": [{"pass_name": "p", "site": "s"}], "skip": []}', "taken"),
    ],
)
def test_files_that_hold_no_plan(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(OptionError, match=said):
        read_plan(path)


def test_a_plan_comes_back_from_its_text(tmp_path: Path) -> None:
    plan = Plan(
        "cpu",
        choices=({"pass_name": "p", "site": "s", "taken": True, "how": "near", "ratio": 0.5},),
        skip=({"pass_name": "q", "site": "", "reason": "slow"},),
    )
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert read_plan(path) == plan == read_plan(plan)
    assert plan.skipped == {("q", "")}
    with pytest.raises(OptionError, match="missing"):
        read_plan(tmp_path / "missing")
