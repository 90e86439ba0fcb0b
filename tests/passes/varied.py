"""The corpus of seeds, which passes claim bitwise results, and how a seed is varied; for tests and benchmarks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fcc.backends import get_backend
from fcc.passes import BY_NAME
from fcc.rewrite import Pass
from fcc.rewrite.pipeline import parse
from fcc.target import get_target
from fcc.testing import Tally, vary
from fcc.testing.corpus import Seed
from fcc.testing.protos import nodes

SEEDS = Path(__file__).parent / "seeds.jsonl.gz"
MOST = 24
SHORT = 6000
LONG = frozenset({"factorize-linear"})  # a weight must be large to be worth it
LOWERINGS: dict[str, type[Pass]] = {
    p.name: type(p) for t in ("cpu", "cuda", "tensorrt") for p in get_backend(get_target(t)).lowerings.passes()
}
KNOWN: dict[str, type[Pass] | Pass] = {**LOWERINGS, **BY_NAME}
LOSSY = frozenset({"insert-qdq", "factorize-linear"})  # judged against a budget; the graphs are those of their tests
BITWISE = frozenset(
    {
        "inline-constant-ifs",
        "fold-shapes",
        "convert-shape-operands",
        "convert-sequences",
        "eliminate-identity",
        "eliminate-expand",
        "merge-common-subexpressions",
        "merge-duplicate-initializers",
        "eliminate-dead-code",
        "eliminate-affine-gather",
        "merge-slices",
        "merge-slices-to-split",
        "merge-concats",
        "fuse-depth-to-space",
        "convert-transpose",
        "sink-reshape",
    }
)


def pass_of(seed: Seed) -> Pass:
    """Return the pass of a seed with its options."""
    return next(iter(parse(seed.pass_text, KNOWN).passes()))


def run_seed(p: Pass, seed: Seed, count: int, draw: str) -> Tally:
    """Vary one seed."""
    return vary(
        p,
        seed.model(),
        count=count,
        seed=f"{draw}:{seed.text}",
        target=seed.target,
        sizes=seed.sizes,
        bitwise=p.name in BITWISE,
    )


def chosen(seeds: Iterable[Seed]) -> list[Seed]:
    """Return at most ``MOST`` seeds a pass: those that differ in operators and options first, the shortest of each."""
    kinds: dict[str, dict[str, list[Seed]]] = {}
    for s in sorted(seeds, key=lambda s: (s.pass_name, len(s.text), s.text, s.pass_text, s.opset, s.target)):
        if s.pass_name in KNOWN and (len(s.text) + len(str(s.constants)) <= SHORT or s.pass_name in LONG):
            ops = re.findall(r"= ?([\w.]+)[<(]", s.text) or [n.op_type for n in nodes(s.model())]
            kind = " ".join((s.pass_text, s.target, *ops))
            kinds.setdefault(s.pass_name, {}).setdefault(kind, []).append(s)
    found: list[Seed] = []
    for name, groups in kinds.items():
        rows: list[Seed] = []
        for k in range(max(map(len, groups.values()))):
            rows += [g[k] for g in groups.values() if k < len(g) and g[k] not in g[:k]]
        found += rows[: 4 if name in LONG else MOST]
    return found
