"""explore(): seeds one after another in a child process, each compiled in every way; what is wrong is made small."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from . import store
from .child import Child, Ended, Say
from .generate import random_graph
from .judge import LEVELS, LOSSY, TARGETS, How, judge, kind
from .shrink import shrink
from .source import runs

LIMIT = 240.0  # seconds for one compile, or for shrinking
SHRINKING = 60.0  # of processor time


@dataclass(frozen=True)
class Ways:
    """Levels and targets to compile at, the size of models, and the folder where failures go."""

    levels: tuple[int, ...] = LEVELS
    targets: tuple[str, ...] = TARGETS
    steps: int = 8
    folder: Path | None = None
    lossy: bool = True

    def of(self, seed: int) -> Iterator[tuple[How, bool]]:
        """Yield how the model of a seed is compiled, and whether it is compiled again."""
        for level in self.levels:
            for k, target in enumerate(self.targets):
                again = (seed + k) % 6 == level if level < 2 else (seed + k) % 3 == 0
                yield How(level, target, whole=again and seed % 8 == 0), again
        if self.lossy and seed % 12 == 0:
            name = LOSSY[seed // 12 % len(LOSSY)]
            yield How(2, "tensorrt" if name == "bf16" else "cpu", name), seed % 5 == 0


@dataclass
class Tally:
    """What a run did: draws, seeds, problems by kind, how often each pass fired."""

    draws: int = 0
    seeds: int = 0
    idle: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another one counted."""
        self.draws += other.draws
        self.seeds += other.seeds
        self.idle += other.idle
        self.problems += other.problems
        self.passes += other.passes


def model_of(seed: int, steps: int = 8) -> onnx.ModelProto:
    """Return the model of a seed; every twentieth is a long chain."""
    rng = random.Random(seed)
    return random_graph(rng, steps * 4 if seed % 20 == 19 else steps)


def examine(seed: int, ways: Ways, say: Say) -> Tally:
    """Judge the model of one seed in every way."""
    tally = Tally(seeds=1)
    say(f"seed {seed} source")
    model = model_of(seed, ways.steps)
    answers = runs(model)
    if not answers:
        return Tally(seeds=1, idle=1)
    seen: set[str] = set()
    for how, again in ways.of(seed):
        say(f"seed {seed} {how}")
        found = judge(model, how, answers, again)
        tally.draws += 1
        tally.passes.update(found.passes)
        for problem in found.problems:
            tally.problems[kind(problem)] += 1
            say(f"! seed {seed} {how}: {problem}")
        for problem in found.problems[:1]:
            if ways.folder is not None and (same := kind(problem)) not in seen:
                seen.add(same)
                keep(model, how, seed, problem, ways.folder, say)
    return tally


def keep(model: onnx.ModelProto, how: How, seed: int, problem: str, folder: Path, say: Say) -> None:
    """Shrink a failing model and write it where the tests replay it."""
    say(f"seed {seed} {how} shrinking")
    wanted = kind(problem)

    def fails(smaller: onnx.ModelProto) -> bool:
        answers = runs(smaller)
        found = judge(smaller, how, answers, wanted in store.REPEATED) if answers else None
        return found is not None and wanted in map(kind, found.problems)

    small = shrink(model, fails, SHRINKING)
    path = store.write(folder, small, how, f"seed {seed}: {problem.splitlines()[0][:200]}", wanted)
    say(f"! kept {path}; replay: python -m fcc.fuzz --replay {path}")


def begin(ways: Ways) -> Callable[[int, Say], Tally]:
    """Return what a child does with a seed."""
    return lambda seed, say: examine(seed, ways, say)


def explore(seeds: Iterator[int], ways: Ways, seconds: float, say: Say, total: Tally) -> None:
    """Examine seeds until the time is over, or there are no more; ``total`` counts what they did."""
    child = None
    end, shown = time.monotonic() + seconds, time.monotonic()
    for seed in seeds:
        if time.monotonic() > end:
            break
        child = child or Child(begin, ways)
        try:
            total.add(child.ask(seed, LIMIT, lambda words: say(words) if words.startswith("!") else None))
        except Ended as why:
            child.close()
            child = None
            say(f"! {why}")
            source = str(why).endswith("source")  # onnxruntime died of a model that fcc never saw
            total.add(Tally(seeds=1, idle=int(source), problems=Counter() if source else Counter([kind(str(why))])))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            say(f"{total.draws} draws of {total.seeds - total.idle} models: {dict(total.problems) or 'nothing found'}")
    if child is not None:
        child.close()


def uncovered(passes: Sequence[str], tally: Tally) -> list[str]:
    """Return the passes that never fired."""
    return sorted(set(passes) - set(tally.passes))
