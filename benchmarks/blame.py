"""Plant faults in passes and count the compiles that fcc.bisect needs to name them.

    python benchmarks/blame.py [--singles 20] [--pairs 5] [--seed 0] [--zoo FOLDER]

A fault makes a real pass wrong at one site of one model: what it writes is scaled, shifted, negated or squared. A pair
is a fault that shows only where another rewrite was made before. Models are builders of fcc.models, and those of
FCC_ZOO. Exit code 1 when a fault is not named, or a single one takes more than log2(n) + 3 compiles.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fcc
from fcc import ir, passes
from fcc.models import BUILDERS
from fcc.rewrite import Match, Pass, PatternPass, Rewriter, SitePass
from fcc.trust import Bisection

Key = tuple[str, str]
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"sizes": (8, 16, 16, 16, 4), "batchnorm": True},
    "resnet": {},
    "bert": {},
    "gpt": {},
    "lstm": {},
    "self_attention": {},
}


@dataclass(frozen=True)
class Fault:
    """A pass is wrong at one site: ``how``; with ``after``, only where that rewrite was made before."""

    pass_name: str
    site: str
    how: str
    after: Key | None = None

    @property
    def guilty(self) -> set[Key]:
        """What must be blamed."""
        return {(self.pass_name, self.site)} | ({self.after} if self.after is not None else set())

    def shows(self, module: ir.Module) -> bool:
        """Return whether the pass is wrong as things are; it is once, so that it comes to an end."""
        made = {r.key for r in module.history}
        return (self.after is None or self.after in made) and (self.pass_name, self.site) not in made


def _spoil(rw: Rewriter, value: ir.Value, how: str) -> Any:
    if how == "negated":
        return rw.op("Neg", value)
    if how == "squared":
        return rw.op("Mul", value, value)
    assert value.dtype is not None
    number = np.array({"scaled": 1.25, "shifted": 0.5}[how], value.dtype.numpy())
    return rw.op("Mul" if how == "scaled" else "Add", value, number)


def plant(fault: Fault) -> type[Pass]:
    """Return the pass with the fault, by the same name: as a plugin it stands in for the right one."""
    kind = passes.BY_NAME[fault.pass_name]

    def wrong(self: Any, at: Any, rw: Rewriter) -> Any:
        value = kind.rewrite(self, at, rw)  # type: ignore[attr-defined]
        anchor = at.root if isinstance(at, Match) else at.anchor
        if anchor.outputs[0].name != fault.site or not fault.shows(at.module):
            return value
        if isinstance(value, ir.Value):
            return _spoil(rw, value, fault.how)
        if rw.changes[1]:
            old, new = rw.changes[1].pop()
            rw.replace(old, _spoil(rw, new, fault.how))
        return value

    return type(kind.__name__, (kind,), {"rewrite": wrong, "__doc__": kind.__doc__})


def sites(model: Any, target: str) -> list[ir.Rewrite]:
    """Return the rewrites of a compile that a fault can be planted in: they replace a float that is not a constant."""
    compiled = fcc.compile(model, target=target, verify="off", passes=passes.PIPELINES[2])
    values = [v for n in fcc.read(model).nodes() for v in n.outputs]
    floats = {v.name for v in values if v.dtype is None or v.dtype.is_floating_point()}
    kinds = {p.name: p for p in passes.ALL_PASSES}
    found = []
    for rewrite in compiled.log.applied:
        kind = kinds.get(rewrite.pass_name)
        if kind is not None and issubclass(kind, PatternPass | SitePass) and rewrite.site in floats:
            found.append(rewrite)
    return found


def models(zoo: str | None) -> Iterator[tuple[str, Any]]:
    """Yield (name, model): builders, and files of a folder."""
    for name, options in SMALL.items():
        yield name, BUILDERS[name](**options)
    for path in sorted(Path(zoo, "models").glob("*.onnx")) if zoo else ():
        if path.stat().st_size < 4 << 20:
            yield path.stem, str(path)


def search(model: Any, fault: Fault, target: str = "cpu") -> Bisection:
    """Bisect a model that a faulty pass compiles."""
    return fcc.bisect(model, plugins=[plant(fault)], passes=passes.PIPELINES[2], target=target)


def draw(model: Any, rng: random.Random, pair: bool) -> Iterator[Fault]:
    """Yield faults that may be planted, in a seeded order."""
    found = sites(model, "cpu")
    rng.shuffle(found)
    for rewrite in found:
        earlier = [r for r in found if r.index < rewrite.index and r.key != rewrite.key]
        if pair and not earlier:
            continue
        after = rng.choice(earlier).key if pair else None
        yield Fault(rewrite.pass_name, rewrite.site, rng.choice(["scaled", "shifted", "negated", "squared"]), after)


def run(singles: int, pairs: int, seed: int, zoo: str | None) -> int:
    """Plant and find; print a row per fault and return how many were not found as they should be."""
    rng, known, failed = random.Random(seed), dict(models(zoo)), 0
    print(f"{'model':24}{'pass':32}{'fault':10}{'n':>5}{'named':>7}{'bound':>7}{'all':>5}{'s':>7}  blamed")
    for pair, wanted in ((False, singles), (True, pairs)):
        queue = [(name, draw(model, rng, pair)) for name, model in known.items()]
        while wanted and queue:
            name, faults = queue.pop(0)
            fault = next(faults, None)
            if fault is None:
                continue
            queue.append((name, faults))
            start = time.perf_counter()
            found = search(known[name], fault)
            if not found.reason:
                continue  # the outputs do not show it
            wanted -= 1
            bound = int(math.log2(found.applied)) + 3
            blamed = {r.key for b in found.blames for r in b.guilty}
            right = blamed == fault.guilty and len(found.blames) == 1 and (pair or found.named <= bound)
            failed += not right
            figures = f"{found.applied:5}{found.named:7}{bound:7}{found.compiles:5}{time.perf_counter() - start:7.1f}"
            said = "right" if right else f"WRONG {blamed} {fault}"
            print(f"{name:24}{fault.pass_name:32}{fault.how:10}{figures}  {said}", flush=True)
        failed += wanted
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--singles", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zoo", default=os.environ.get("FCC_ZOO"))
    given = parser.parse_args()
    return 1 if run(given.singles, given.pairs, given.seed, given.zoo) else 0


if __name__ == "__main__":
    sys.exit(main())
