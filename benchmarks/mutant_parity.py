"""Whether parity at compile time notices a mutant: graphs of the corpus, compiled with the mutant in place."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

from fcc.testing.corpus import Seed, load
from fcc.testing.differential import Judge
from fcc.testing.variations import Instance

GRAPHS = 12
KINDS = ("missed", "caught", "unseen", "raised")  # of the answers for several graphs, the first one counts


def _vary() -> Any:
    spec = importlib.util.spec_from_file_location("fcc_vary", Path(__file__).with_name("vary.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seeds_of(names: list[str]) -> list[Seed]:
    """Return graphs on which some passes apply, as many of each."""
    seeds = Path(__file__).parent.parent / "tests" / "passes" / "seeds.jsonl.gz"
    rows = [[s for s in load(seeds) if s.pass_name == n and s.target == "cpu"] for n in names]
    turns = [row[k] for k in range(max(map(len, rows), default=0)) for row in rows if k < len(row)]
    return turns[:GRAPHS]


def judged(seeds: list[Seed]) -> str:
    """Return what parity says of a mutant.

    "missed": the compiled model is wrong; "caught": parity refused it, or named the rewrite and left it out; "unseen":
    the pass alone does wrong, the compiled model is right; "raised": the pass fails and is undone; "same": none of it.
    """
    logging.disable()
    warnings.simplefilter("ignore")
    bench = _vary()
    answers = {_answer(bench.pass_of(s), s) for s in seeds if s.pass_name not in bench.LOSSY}
    return next((a for kind in KINDS for a in sorted(answers) if a.startswith(kind)), "same")


def _answer(p: Any, seed: Seed) -> str:
    import fcc

    judge = Judge(p, Instance(seed.model(), (), {}), seed.target, seed.sizes)
    try:
        outcome = judge.outcome()
    except Exception as error:
        outcome = f"wrong: {error}"
    if not outcome.startswith("wrong"):
        return "same"
    if outcome.startswith("wrong: the pass raised"):
        return "raised"
    try:
        compiled = fcc.compile(
            judge.instance.model, passes=seed.pass_text, target=seed.target, verify="end", allow_growth=True
        )
    except fcc.FccError as error:
        return f"caught: {error}"
    if compiled.report.guilty:
        return "caught: guilty"
    judge.after = compiled.proto()
    wrong = judge._same(list(judge._runs()))
    return (
        f"missed: {outcome[:200]} {wrong[:200]}\n{seed.pass_text}\n{seed.text}" if wrong else f"unseen: {outcome[:200]}"
    )
