"""Run every pass on random instances of the graphs it is tested on, and report what is wrong.

    python benchmarks/vary.py [--pass NAME ...] [--count 100] [--seed S] [--jobs J] [--record]

``--count`` instances of every seed, in child processes: onnxruntime can die of an invalid model. ``--record`` first runs the tests of passes and backends and writes the graphs that
their positive checks accept to tests/passes/seeds.jsonl.gz. Exit code 1 when anything is found.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "passes")]

from varied import SEEDS, chosen, pass_of, run_seed  # noqa: E402

from fcc.testing import Tally  # noqa: E402
from fcc.testing.corpus import Seed, load, save  # noqa: E402

CHUNK = 50
Chunk = tuple[Seed, int, str]


def record() -> None:
    """Run the tests with recording on and write the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "seeds.jsonl"
        tests = [str(ROOT / "tests" / t) for t in ("passes", "backends")]
        command = [sys.executable, "-P", "-m", "pytest", "-q", *tests, "--deselect", "tests/passes/test_varied.py"]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "FCC_RECORD": str(raw)})
        save(SEEDS, chosen(load(raw)))


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
    given = parser.parse_args()
    if given.record:
        record()
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
