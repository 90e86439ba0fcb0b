"""Run every pass on random instances of the graphs it is tested on, and report what is wrong.

    python benchmarks/vary.py [--pass NAME ...] [--count 100] [--seed S] [--jobs J] [--record | --outcomes]

``--count`` instances of every seed, in child processes: onnxruntime can die of an invalid model. ``--record`` first
runs the tests of passes and backends and writes the graphs that passes apply to there to tests/passes/seeds.jsonl.gz,
what passes do on the instances of the suite to outcomes.json.gz, and what they do on the neighbours of the seeds to
neighbours.json.gz: after a change that is meant to do other things. ``--outcomes`` writes the latter two only.
Exit code 1 when anything is found.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path

import onnx

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import get_backend
from fcc.errors import LoadError, VerifyError
from fcc.frontend import read
from fcc.passes import BY_NAME
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.rewrite.pipeline import parse
from fcc.runtime.protos import nodes
from fcc.target import get_target
from fcc.testing import Tally, vary
from fcc.testing.altered import altered
from fcc.testing.corpus import Seed, load, save
from fcc.testing.differential import said
from fcc.testing.neighbours import foreign, neighbours

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "tests" / "passes" / "seeds.jsonl.gz"
OUTCOMES = ROOT / "tests" / "passes" / "outcomes.json.gz"
NEIGHBOURS = ROOT / "tests" / "passes" / "neighbours.json.gz"
INSTANCES = 150
MOST = 24
CHUNK = 50
Chunk = tuple[Seed, int, str]
SHORT = 6000
LONG = frozenset({"factorize-linear"})  # a weight must be large to be worth it
LOWERINGS: dict[str, type[Pass]] = {
    p.name: type(p) for t in ("cpu", "cuda", "tensorrt") for p in get_backend(get_target(t)).lowerings.passes()
}
KNOWN: dict[str, type[Pass] | Pass] = {**LOWERINGS, **BY_NAME}
LOSSY = frozenset(  # judged against a budget; the graphs are those of their tests
    {"factorize-linear", *(p.name for p in BY_NAME.values() if not p.exact)}
)
# passes that drop or copy whatever is there: what nothing uses, a branch, a body, what gives a known number
DROPPING = frozenset(
    {
        "convert-mapped-loops",
        "convert-sequence-states",
        "eliminate-dead-code",
        "eliminate-full-lengths",
        "eliminate-loop-values",
        "fuse-recurrent",
        "inline-constant-ifs",
        "lower-shape-chains",
        "unroll-loops",
    }
)
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


def corpus() -> dict[str, list[Seed]]:
    """Return the seeds of every pass; a pass without seeds has an empty list."""
    found: dict[str, list[Seed]] = {name: [] for name in KNOWN}
    for seed in load(SEEDS):
        found[seed.pass_name].append(seed)
    return found


def suite(seeds: list[Seed]) -> Tally:
    """Run the instances of one pass that the test suite runs: the same every time."""
    total = Tally()
    for k, seed in enumerate(seeds):
        some = INSTANCES // len(seeds) + (k < INSTANCES % len(seeds))
        tally = run_seed(pass_of(seed), seed, some, f"suite:{k}")
        total.counts.update(tally.counts)
        total.failures += tally.failures
        total.outcomes.update(tally.outcomes)
    return total


def suite_apart(seeds: list[Seed]) -> Tally:
    """Run ``suite`` in a child process: onnxruntime can die of an invalid model."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_suite_child, args=(writer, seeds))
    child.start()
    writer.close()
    try:
        return reader.recv()  # type: ignore[no-any-return]
    except EOFError:
        return Tally(failures=["the process died"])
    finally:
        child.join()


def _suite_child(writer: Connection, seeds: list[Seed]) -> None:
    writer.send(suite(seeds))


def swept(seeds: list[Seed]) -> dict[str, str]:
    """Return what one pass does on every neighbour of its seeds and where one thing is altered, by what it is.

    Raises:
        AssertionError: the pass raised, left the graph invalid, or took a foreign operator for its own.
    """
    found: dict[str, str] = {}
    for seed in seeds:
        p, model = pass_of(seed), seed.model()
        if p.needs_stats:
            continue
        key = hashlib.sha1(f"{p} {seed.target} {seed.opset} {seed.text}".encode()).hexdigest()[:8]
        for what, neighbour in chain(neighbours(_known(model)), _altered(model)):
            log, before = Log(strict=True, explain=frozenset({p.name})), foreign(neighbour)
            sound = _sound(neighbour)
            try:
                applied = run_pass(p, neighbour, PassContext(get_target(seed.target), log))
                if sound:
                    ir.verify(neighbour)
            except Exception as error:
                raise AssertionError(f"{p} raised on {what} of {seed.text}: {error}") from error
            kept = p.name in DROPPING or foreign(neighbour) == before
            assert kept, f"{p} took a foreign operator for its own: {what} of {seed.text}"
            found[f"{key}:{what}"] = said(neighbour if applied else None, log.refused)
    return found


def _sound(module: ir.Module) -> bool:
    """Return whether a neighbour is valid itself: at another opset, an operator may want other operands."""
    try:
        ir.verify(module)
    except VerifyError:
        return False
    return True


def _altered(model: onnx.ModelProto) -> Iterator[tuple[str, ir.Module]]:
    for what, made in altered(model):
        with contextlib.suppress(LoadError):
            yield what, _known(made)


def _known(model: onnx.ModelProto) -> ir.Module:
    module = read(model)
    shapes.infer(module)
    return module


def short(did: str) -> str:
    """Return what is kept of the outcome on a neighbour: too many to keep as they are."""
    return hashlib.sha1(did.encode()).hexdigest()[:6]


def recorded_neighbours() -> dict[str, dict[str, str]]:
    """Return what each pass did on the neighbours of its seeds when that was last recorded, in short."""
    found: dict[str, dict[str, str]] = json.loads(gzip.decompress(NEIGHBOURS.read_bytes()))
    return found


def record_neighbours() -> None:
    """Write what passes make of the neighbours of their seeds."""
    found = {name: {k: short(did) for k, did in swept(seeds).items()} for name, seeds in corpus().items()}
    NEIGHBOURS.write_bytes(gzip.compress(json.dumps(found, indent=0).encode(), mtime=0))


def outcomes() -> dict[str, dict[str, str]]:
    """Return what each pass did on the instances of the suite when that was last recorded."""
    found: dict[str, dict[str, str]] = json.loads(gzip.decompress(OUTCOMES.read_bytes()))
    return found


def of_fcc(seed: Seed) -> Seed | None:
    """Return a seed with the options that fcc's own pass has: tests also run classes derived from one."""
    kind = KNOWN.get(seed.pass_name)
    if kind is None:
        return None
    known = {f.name for f in fields(kind)}
    options = seed.pass_text.partition("{")[2].removesuffix("}").split(",")
    kept = ",".join(o for o in options if o.partition("=")[0].replace("-", "_") in known)
    made = replace(seed, pass_text=f"{seed.pass_name}{{{kept}}}" if kept else seed.pass_name)
    module = read(made.model())
    shapes.infer(module)
    applies = run_pass(pass_of(made), module, PassContext(get_target(made.target), Log()))
    return made if applies or made.pass_text == seed.pass_text else None


def chosen(seeds: Iterable[Seed]) -> list[Seed]:
    """Return at most ``MOST`` seeds a pass: those that differ in operators and options first, the shortest of each."""
    kinds: dict[str, dict[str, list[Seed]]] = {}
    own = filter(None, map(of_fcc, seeds))
    for s in sorted(own, key=lambda s: (s.pass_name, len(s.text), s.text, s.pass_text, s.opset, s.target)):
        if len(s.text) + len(str(s.constants)) <= SHORT or s.pass_name in LONG:
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


def record() -> None:
    """Run the tests with recording on and write the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "seeds.jsonl"
        tests = [str(ROOT / "tests" / t) for t in ("passes", "backends")]
        command = [sys.executable, "-P", "-m", "pytest", "-q", *tests, "--ignore", "tests/passes/test_varied.py"]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "FCC_RECORD": str(raw)})
        save(SEEDS, chosen(load(raw)))


def record_outcomes() -> None:
    """Write what passes make of the instances of the suite."""
    found = {name: dict(sorted(suite_apart(seeds).outcomes.items())) for name, seeds in corpus().items()}
    OUTCOMES.write_bytes(gzip.compress(json.dumps(found, indent=0).encode(), mtime=0))


def isolated(chunks: list[Chunk], jobs: int) -> Iterator[Tally | None]:
    """Run chunks in child processes and yield their results in order; None where the runtime ended the process."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(chunks), []
    while waiting or running:
        while waiting and len(running) < jobs:
            reader, writer = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(writer, *waiting.pop(0)))
            child.start()
            writer.close()
            running.append((child, reader))
        child, reader = running.pop(0)
        try:
            yield reader.recv()
        except EOFError:
            yield None
        child.join()


def _child(writer: Connection, seed: Seed, count: int, draw: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    writer.send(run_seed(pass_of(seed), seed, count, draw))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="passes", nargs="+", default=[])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--outcomes", action="store_true")
    given = parser.parse_args()
    if given.record:
        record()
    if given.record or given.outcomes:
        record_outcomes()
        record_neighbours()
        return 0
    total: Counter[str] = Counter()
    begin, failed = time.perf_counter(), 0
    by_pass: dict[str, Counter[str]] = {}
    chunks = [
        (seed, min(CHUNK, given.count - at), f"{given.seed}:{at}")
        for seed in load(SEEDS)
        if not given.passes or seed.pass_name in given.passes
        for at in range(0, given.count, CHUNK)
    ]
    for (seed, count, _), tally in zip(chunks, isolated(chunks, given.jobs), strict=True):
        if tally is None:
            tally = Tally(Counter(crashed=count), [f"{seed.pass_text} (runtime) wrong: the process died\n{seed.text}"])
        by_pass.setdefault(seed.pass_name, Counter()).update(tally.counts)
        for failure in tally.failures:
            failed += 1
            print(failure, "\n", "-" * 100, flush=True)
    for name, counts in sorted(by_pass.items()):
        total.update(counts)
        print(f"{name:34}", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    print(f"{sum(total.values())} instances in {time.perf_counter() - begin:.0f} s: {dict(total)}, {failed} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
