"""Fuzz the compiler.

    python -m fcc.fuzz [--minutes N | --count N] [--seed S] [--steps K] [--keep FOLDER]
    python -m fcc.fuzz --replay FILE ...

Models are drawn from consecutive seeds and compiled at every level for every target. What is wrong is printed, made
small, and written into the folder as a text file, with the command that replays it. Exit code 1 when anything is found.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from fcc.passes import ALL_PASSES, PIPELINES

from . import store
from .judge import LEVELS, TARGETS, judge
from .run import Tally, Ways, explore, uncovered
from .source import runs


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m fcc.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=None, help="how long (default: until --count)")
    parser.add_argument("--count", type=int, default=None, help="how many models (default: 200, or until --minutes)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first model")
    parser.add_argument("--steps", type=int, default=8, help="operators in a model, about")
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--exact", action="store_true", help="leave out level 3 and precisions")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder of failures")
    parser.add_argument("--no-shrink", action="store_true", help="print failures only")
    parser.add_argument("--replay", type=Path, nargs="+", help="judge kept failures again")
    given = parser.parse_args(argv)
    if given.replay:
        return replay(given.replay)
    folder = None if given.no_shrink else given.keep
    ways = Ways(tuple(given.levels), tuple(given.targets), given.steps, folder, not given.exact)
    count = given.count if given.count is not None or given.minutes is not None else 200
    seconds = float("inf") if given.minutes is None else 60 * given.minutes
    begin = time.monotonic()
    tally = Tally()
    for number in (signal.SIGINT, signal.SIGTERM):  # an ended run reports what it did
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        explore(itertools.islice(itertools.count(given.seed), count), ways, seconds, _say, tally)
    report(tally, time.monotonic() - begin)
    return int(bool(tally.problems))


def _say(line: str) -> None:
    print(line.removeprefix("! "), flush=True)


def replay(paths: Sequence[Path]) -> int:
    """Judge kept failures again and print what is wrong."""
    warnings.simplefilter("ignore")
    wrong = 0
    for path in paths:
        kept = store.read(path)
        answers = runs(kept.model)
        if not answers:
            print(f"{path} {kept.how}: the source runs on nothing, or means nothing")
            continue
        found = judge(kept.model, kept.how, answers)
        wrong += bool(found.problems)
        for problem in found.problems or ["right"]:
            print(f"{path} {kept.how}: {problem}")
    return int(wrong > 0)


def report(tally: Tally, seconds: float) -> None:
    """Print what a run did, and which passes never fired."""
    models = tally.seeds - tally.idle
    print(f"{tally.draws} draws of {models} models ({tally.idle} do not run) in {seconds:.0f} s")
    print(f"problems: {dict(tally.problems) or 'none'}")
    usual = re.findall(r"[a-z][a-z0-9-]+(?=[,{)]|$)", PIPELINES[2].replace("fixpoint(", ""))
    names = {p.name for p in ALL_PASSES}
    usual = [n for n in dict.fromkeys(usual) if n in names]
    missing = uncovered(usual, tally)
    print(f"passes of the default pipeline that fired: {len(usual) - len(missing)} of {len(usual)}")
    if missing:
        print("never fired: " + ", ".join(missing))
    rare = [f"{name} {n}" for name, n in sorted(tally.passes.items(), key=lambda row: row[1])]
    print("applications by draws: " + ", ".join(rare))


if __name__ == "__main__":
    sys.exit(main())
