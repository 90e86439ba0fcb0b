"""Every pass on generated instances of the graphs it is tested on; long runs: python benchmarks/vary.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing.corpus import Seed

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
CORPUS: dict[str, list[Seed]] = bench.corpus()
RECORDED: dict[str, dict[str, str]] = bench.outcomes()
KNOWN: dict[str, dict[str, str]] = bench.recorded_neighbours()
AGAIN = "if that is meant: python benchmarks/vary.py --outcomes"


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
    """Right on every instance, and the same rewrites and reasons as recorded.

    Instances depend on onnx's inference: those that another version makes differently are not in the record.
    """
    tally = bench.suite_apart(CORPUS[name])
    assert not tally.failures, "\n\n".join(tally.failures)
    if not bench.pass_of(CORPUS[name][0]).needs_stats:
        assert any(what.startswith("right") for what in tally.counts), tally.counts
    known = RECORDED.get(name, {})
    changed = {k: (known[k], did) for k, did in tally.outcomes.items() if known.get(k, did) != did}
    assert not changed, f"{name} now does on {len(changed)} instances, {AGAIN}:\n" + "\n".join(
        f"recorded\n{old}\nfound\n{new}" for old, new in list(changed.values())[:3]
    )
    assert 2 * len(known.keys() & tally.outcomes.keys()) >= len(tally.outcomes), f"too few are recorded, {AGAIN}"


@pytest.mark.parametrize("name", CORPUS)
def test_neighbours(name: str) -> None:
    """The same as recorded where one operator is foreign, one value escapes, or one type, shape or size is not known.

    No pass may raise there, or take a foreign operator for its own.
    """
    known = KNOWN.get(name, {})
    found = bench.swept(CORPUS[name])
    changed = {k: did for k, did in found.items() if known.get(k) not in (None, bench.short(did))}
    assert not changed, f"{name} does something else on {len(changed)} neighbours, {AGAIN}:\n" + "\n".join(
        f"{k}: {did}" for k, did in list(changed.items())[:3]
    )
    assert 2 * len(known.keys() & found.keys()) >= len(found), f"too few are recorded, {AGAIN}"
