from hypothesis import given
from hypothesis import strategies as st

from fcc.ir import Rewrite
from fcc.search.bisect import MAX_GUILTY, Build, Skip, skip_guilty


def replayer(total: int):  # type: ignore[no-untyped-def]
    calls: list[int | None] = []

    def replay(limit: int | None, skip: Skip) -> Build[frozenset[str]]:
        calls.append(limit)
        names = [f"s{i}" for i in range(total) if ("p", f"s{i}") not in skip]
        names = names if limit is None else names[:limit]
        return Build(frozenset(names), tuple(Rewrite(i, "p", n) for i, n in enumerate(names)))

    return replay, calls


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=5))))
def test_names_exactly_the_guilty_in_logarithmic_replays(case: tuple[int, set[int]]) -> None:
    total, bad = case
    replay, calls = replayer(total)
    outcome = skip_guilty(replay, lambda names: not names & {f"s{i}" for i in bad}, replay(None, frozenset()))
    assert outcome is not None
    assert {r.site for r in outcome.guilty} == {f"s{i}" for i in bad}
    assert len(outcome.build.applied) == total - len(bad)
    assert len(calls) <= 1 + len(bad) * (2 + total.bit_length())


def test_bad_without_any_rewrite_is_not_blamed_on_one() -> None:
    replay, _ = replayer(4)
    assert skip_guilty(replay, lambda names: False, replay(None, frozenset())) is None


def test_falls_back_to_no_rewrite_after_many() -> None:
    replay, _ = replayer(3 * MAX_GUILTY)
    outcome = skip_guilty(replay, lambda names: not names, replay(None, frozenset()))
    assert outcome is not None
    assert outcome.fell_back
    assert outcome.build.applied == ()
