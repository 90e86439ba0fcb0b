from hypothesis import given
from hypothesis import strategies as st

from fcc.ir import Rewrite
from fcc.search.bisect import MAX_GUILTY, MAX_PER_PASS, Build, Skip, skip_guilty


def replayer(total: int):  # type: ignore[no-untyped-def]
    calls: list[int | None] = []

    def replay(limit: int | None, skip: Skip) -> Build[frozenset[str]]:
        calls.append(limit)
        names = [f"s{i}" for i in range(total) if not skip & {(f"p{i}", f"s{i}"), (f"p{i}", "")}]
        names = names if limit is None else names[:limit]
        return Build(frozenset(names), tuple(Rewrite(i, f"p{n[1:]}", n) for i, n in enumerate(names)))

    return replay, calls


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=5))))
def test_names_exactly_the_guilty_in_logarithmic_replays(case: tuple[int, set[int]]) -> None:
    total, bad = case
    replay, calls = replayer(total)
    outcome = skip_guilty(
        replay, lambda names: "bad" if names & {f"s{i}" for i in bad} else "", replay(None, frozenset())
    )
    assert outcome is not None
    assert {g.rewrite.site for g in outcome.guilty} == {f"s{i}" for i in bad}
    assert {g.reason for g in outcome.guilty} <= {"bad"}
    assert len(outcome.build.applied) == total - len(bad)
    assert len(calls) <= 1 + len(bad) * (2 + total.bit_length())


def test_bad_without_any_rewrite_is_not_blamed_on_one() -> None:
    replay, _ = replayer(4)
    assert skip_guilty(replay, lambda names: "bad", replay(None, frozenset())) is None


def test_falls_back_to_no_rewrite_after_many() -> None:
    replay, _ = replayer(3 * MAX_GUILTY)
    outcome = skip_guilty(replay, lambda names: "bad" if names else "", replay(None, frozenset()))
    assert outcome is not None
    assert outcome.fell_back
    assert outcome.build.applied == ()


def test_a_pass_guilty_again_and_again_is_left_out() -> None:
    def replay(limit: int | None, skip: Skip) -> Build[frozenset[str]]:
        names = [(p, f"{p}{i}") for i in range(20) for p in ("right", "wrong")]
        names = [n for n in names if not skip & {n, (n[0], "")}][:limit]
        return Build(frozenset(n[1] for n in names), tuple(Rewrite(i, *n) for i, n in enumerate(names)))

    def flaw(names: frozenset[str]) -> str:
        return "bad" if any(n.startswith("wrong") for n in names) else ""

    outcome = skip_guilty(replay, flaw, replay(None, frozenset()))
    assert outcome is not None
    assert [g.rewrite.pass_name for g in outcome.guilty] == ["wrong"] * MAX_PER_PASS
    assert [g.whole_pass for g in outcome.guilty] == [False] * (MAX_PER_PASS - 1) + [True]
    assert len(outcome.build.applied) == 20


def test_an_application_without_site_stands_for_its_pass() -> None:
    def replay(limit: int | None, skip: Skip) -> Build[bool]:
        runs = ("p", "") not in skip and (limit is None or limit > 0)
        return Build(runs, (Rewrite(0, "p", ""),) if runs else ())

    outcome = skip_guilty(replay, lambda bad: "raised" if bad else "", replay(None, frozenset()))
    assert outcome is not None
    assert outcome.skip == {("p", "")}
