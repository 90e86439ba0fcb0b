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


def _vary() -> Any:
    spec = importlib.util.spec_from_file_location("fcc_vary", Path(__file__).with_name("vary.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(names: list[str]) -> str:
    """Return "missed", "caught", or "same" where the mutant changes nothing on the graphs of its passes."""
    logging.disable()
    warnings.simplefilter("ignore")
    bench = _vary()
    seeds = [
        s for s in load(bench.SEEDS) if s.pass_name in names and s.target == "cpu" and s.pass_name not in bench.LOSSY
    ]
    answers = {_answer(bench.pass_of(s), s) for s in seeds[:: max(1, len(seeds) // GRAPHS)][:GRAPHS]}
    return next((a for kind in ("missed", "caught") for a in sorted(answers) if a.startswith(kind)), "same")


def _answer(p: Any, seed: Seed) -> str:
    import fcc

    judge = Judge(p, Instance(seed.model(), (), {}), seed.target, seed.sizes)
    try:
        outcome = judge.outcome()
    except Exception as error:
        outcome = f"wrong: {error}"
    if not outcome.startswith("wrong"):
        return "same"
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
    return f"missed: {outcome[:200]} {wrong[:200]}" if wrong else "caught: right"
