"""Blame: single faults in log2(n) + 3 replays, faults that need others, independent ones, and none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from fcc.ir import Rewrite
from fcc.search.bisect import Build, Skip
from fcc.search.blame import Finding, Search

Product = tuple[str, ...]


def search(total: int, flaw: Callable[[Product], str], needs: Mapping[str, str] | None = None) -> Search[Product]:
    """Return the search over rewrites s0, s1, ... of passes p0, p1, ...; ``needs``: site -> the one that makes it."""

    def replay(limit: int | None, skip: Skip, only: Skip | None = None) -> Build[Product]:
        made: list[str] = []
        for i in range(total):
            site, key = f"s{i}", (f"p{i}", f"s{i}")
            there = (needs or {}).get(site, site) in (*made, site)
            if there and key not in skip and (only is None or key in only) and (limit is None or len(made) < limit):
                made.append(site)
        return Build(tuple(made), tuple(Rewrite(k, f"p{s[1:]}", s) for k, s in enumerate(made)))

    return Search(replay, flaw)


def found(s: Search[Product]) -> Finding:
    return s.find(s.replay(None, frozenset()))


def sites(rewrites: tuple[Rewrite, ...]) -> list[str]:
    return [r.site for r in rewrites]


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_a_single_fault_is_named_in_log_n_plus_3(case: tuple[int, int]) -> None:
    total, bad = case
    finding = found(search(total, lambda p: "bad" if f"s{bad}" in p else ""))
    (blame,) = finding.blames
    assert sites(blame.guilty) == [f"s{bad}"]
    assert blame.needed == ()
    assert blame.reason == "bad"
    assert finding.cleared
    assert finding.skip == {(f"p{bad}", f"s{bad}")}
    assert finding.named <= math.log2(total) + 3
    assert finding.replays == finding.named + 1


@given(
    st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=2, max_size=3)))
)
def test_faults_that_are_wrong_only_together(case: tuple[int, set[int]]) -> None:
    total, together = case
    wanted = {f"s{i}" for i in together}
    finding = found(search(total, lambda p: "bad" if wanted <= set(p) else ""))
    (blame,) = finding.blames
    assert sites(blame.guilty) == [f"s{i}" for i in sorted(together)]
    assert blame.needed == ()
    assert finding.cleared
    assert len(finding.skip) == 1


def test_what_makes_the_site_is_needed_and_not_guilty() -> None:
    needs = {"s5": "s2", "s9": "s5"}
    finding = found(search(20, lambda p: "bad" if "s9" in p else "", needs))
    (blame,) = finding.blames
    assert (sites(blame.guilty), sites(blame.needed)) == (["s9"], ["s2", "s5"])
    assert finding.named <= math.log2(20) + 3


def test_a_partner_that_needs_another() -> None:
    finding = found(search(20, lambda p: "bad" if {"s7", "s9"} <= set(p) else "", {"s7": "s3"}))
    (blame,) = finding.blames
    assert (sites(blame.guilty), sites(blame.needed)) == (["s7", "s9"], ["s3"])


def test_independent_faults_have_a_blame_each() -> None:
    finding = found(search(30, lambda p: " ".join(s for s in p if s in ("s4", "s20", "s21"))))
    assert sorted(s for b in finding.blames for s in sites(b.guilty)) == ["s20", "s21", "s4"]
    assert {b.guilty[0].site: b.reason for b in finding.blames} == {"s4": "s4", "s20": "s20", "s21": "s21"}
    assert finding.cleared


def test_only_the_first_where_one_is_enough() -> None:
    s = search(30, lambda p: "bad" if {"s4", "s20"} & set(p) else "")
    finding = s.find(s.replay(None, frozenset()), all_of_them=False)
    assert len(finding.blames) == 1
    assert not finding.cleared


def test_bad_without_any_rewrite_blames_none() -> None:
    finding = found(search(9, lambda p: "bad"))
    assert finding.bare
    assert not finding.blames


def test_bad_without_the_blamed_is_not_cleared() -> None:
    """Leaving out one makes another wrong, which is wrong alone as well."""
    finding = found(search(8, lambda p: "bad" if "s2" in p or ("s6" not in p and p) else ""))
    assert finding.blames
    assert not finding.bare


def test_good_blames_none() -> None:
    finding = found(search(9, lambda p: ""))
    assert (finding.blames, finding.bare, finding.replays) == ([], False, 1)


def test_a_fault_hidden_by_a_later_one_is_a_transition_all_the_same() -> None:
    """s2 is wrong, s5 hides it, s8 is wrong again: what is named turns a good product bad."""

    def flaw(p: Product) -> str:
        return "bad" if "s8" in p or ("s2" in p and "s5" not in p) else ""

    finding = found(search(12, flaw))
    assert {s for b in finding.blames for s in sites(b.guilty)} == {"s8"}
    assert finding.cleared


def test_alone_it_is_not_repeatable() -> None:
    """Only the whole prefix is bad: the last one is blamed, without others."""
    finding = found(search(6, lambda p: "bad" if p[:5] == ("s0", "s1", "s2", "s3", "s4") and len(p) in (5, 6) else ""))
    assert finding.blames[0].guilty[-1].site == "s4"
