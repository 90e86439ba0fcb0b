"""Run every pass on random instances of the graphs it is tested on, and report what is wrong.

    python benchmarks/vary.py [--pass NAME ...] [--count 100] [--seed S] [--record]

``--count`` instances of every seed. ``--record`` first runs the tests of passes and backends and writes the graphs that
their positive checks accept to tests/passes/seeds.jsonl.gz. Exit code 1 when anything is found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "passes")]

from varied import SEEDS, chosen, pass_of, run_seed  # noqa: E402

from fcc.testing.corpus import load, save  # noqa: E402


def record() -> None:
    """Run the tests with recording on and write the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "seeds.jsonl"
        tests = [str(ROOT / "tests" / t) for t in ("passes", "backends")]
        command = [sys.executable, "-P", "-m", "pytest", "-q", *tests, "--deselect", "tests/passes/test_varied.py"]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "FCC_RECORD": str(raw)})
        save(SEEDS, chosen(load(raw)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="passes", nargs="+", default=[])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    if given.record:
        record()
    total: Counter[str] = Counter()
    begin, failed = time.perf_counter(), 0
    by_pass: dict[str, Counter[str]] = {}
    for k, seed in enumerate(load(SEEDS)):
        if given.passes and seed.pass_name not in given.passes:
            continue
        tally = run_seed(pass_of(seed), seed, given.count, f"{given.seed}:{k}")
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
