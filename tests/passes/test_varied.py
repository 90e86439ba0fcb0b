"""Every pass on generated instances of the graphs it is tested on; long runs: python benchmarks/vary.py."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing.corpus import Seed, load

pytest.importorskip("onnxruntime")


def load_vary() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "vary.py"
    spec = importlib.util.spec_from_file_location("fcc_vary", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = load_vary()
CORPUS: dict[str, list[Seed]] = {name: [] for name in bench.KNOWN}
for _seed in load(bench.SEEDS):
    CORPUS[_seed.pass_name].append(_seed)
INSTANCES = 200


@pytest.mark.parametrize("name", CORPUS)
def test_seeds_are_fresh(name: str) -> None:
    assert CORPUS[name], "no seed: python benchmarks/vary.py --record"
    for seed in CORPUS[name]:
        p = bench.pass_of(seed)
        if p.needs_stats:
            continue
        module = read(seed.model())
        shapes.infer(module)
        log = Log(strict=True, explain=frozenset({name}))
        assert run_pass(p, module, PassContext(get_target(seed.target), log)), f"stale: {seed.text}\n{log.refused}"


@pytest.mark.parametrize("name", CORPUS)
def test_instances(name: str) -> None:
    seeds = CORPUS[name]
    counts: Counter[str] = Counter()
    for k, seed in enumerate(seeds):
        some = INSTANCES // len(seeds) + (k < INSTANCES % len(seeds))
        tally = bench.run_seed(bench.pass_of(seed), seed, some, f"suite:{k}")
        counts += tally.counts
        assert not tally.failures, "\n\n".join(tally.failures)
    if not bench.pass_of(seeds[0]).needs_stats:
        assert any(what.startswith("right") for what in counts), counts
