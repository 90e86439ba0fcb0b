"""Break the passes on purpose and report which changes their tests, and parity at compile time, notice.

    python benchmarks/mutants.py [--pass FILE ...] [--sample N | --lines | --all] [--seed S] [--jobs J] [--parity]
        [--json FILE] [--again FILE]

A mutant is one change of one file of passes/ or backends/lower_*.py: an operator, a comparison, a constant, a
condition, an argument, a statement or a result that goes (benchmarks/mutation.py). It runs the tests of its own pass
only: the files of tests/passes and tests/backends that import the module, or a pass that a helper serves, and the
varied instances of the pass; in a forked child, up to the first failure, or a test that takes ``--seconds`` of CPU.
``--lines`` takes a mutant a line, and another one when it lives, up to three; ``--sample`` draws one of every file and
the rest of all files alike, ``--all`` runs all. Survivors are printed as a diff of the file without its comments.
``--parity`` runs no tests: it compiles graphs of the corpus on which the pass applies with the mutant in place, and
says whether a wrong result was noticed (benchmarks/mutant_parity.py).
Mutants listed in equivalent_mutants.txt change nothing that can be observed, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mutant_server import How, drive, imports, warm
from mutation import File, Mutant

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "benchmarks" / "equivalent_mutants.txt"
TESTS = sorted(p for t in ("passes", "backends") for p in (ROOT / "tests" / t).glob("test_*.py"))
TRIES = 3
SURVIVED = "survived"


@dataclass(frozen=True)
class Row:
    """What became of one mutant: what killed it, what parity said of it, and how to see it."""

    path: str
    line: int
    key: str
    answer: str
    parity: str
    diff: str

    @property
    def killed(self) -> bool:
        """Whether a test failed."""
        return self.answer != SURVIVED


def sources() -> list[Path]:
    """Return the files that are mutated."""
    passes = [p for p in (ROOT / "passes").glob("*.py") if p.name not in ("__init__.py", "graphsurgeon.py")]
    return sorted(passes) + sorted((ROOT / "backends").glob("lower*.py"))


def tests_of(path: Path, files: list[Path]) -> tuple[list[Path], set[str]]:
    """Return the test files of a module and the passes (by file) that it serves."""
    served, todo = {path.stem}, [path.stem]
    users = {f.stem: imports(f) for f in files}
    while todo:
        name = todo.pop()
        for stem, used in users.items():
            if name in used and stem not in served and (name.startswith("_") or name == "lowering"):
                served.add(stem)
                todo.append(stem)
    passes = {s for s in served if not s.startswith("_") and s != "lowering"}
    stems = [f.stem for f in files]
    own = [t for t in TESTS if path.stem in imports(t) or path.stem == _named_after(t, stems)]
    others = [t for t in TESTS if t not in own and (imports(t) & passes or _named_after(t, stems) in passes)]
    return [t for t in (*own, *others) if not t.stem.endswith("_zoo")], passes


def _named_after(test: Path, stems: list[str]) -> str:
    """Return the file that a test file is named after: test_insert_qdq_limits after insert_qdq."""
    return max((s for s in stems if test.stem.removeprefix("test_").startswith(s)), key=len, default="")


def pass_names(files: set[str]) -> list[str]:
    """Return the kebab-case names of the passes in some files."""
    found = []
    for path in (p for p in sources() if p.stem in files):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "name" and node.value is not None:
                found.append(str(ast.literal_eval(node.value)))
    return found


def chosen(file: File, given: argparse.Namespace, skip: set[str]) -> list[list[Mutant]]:
    """Return the mutants to run, those of one line together; lines of functions and tables alike."""
    by_line: dict[int, list[Mutant]] = defaultdict(list)
    for m in file.mutants:
        if m.key not in skip:
            by_line[m.line].append(m)
    rng = random.Random(f"{given.seed}:{file.path}")
    rows = [rng.sample(ms, len(ms)) for _, ms in sorted(by_line.items())]
    return rows


def equivalent() -> set[str]:
    """Return the keys of the mutants that were reviewed and change nothing."""
    if not EQUIVALENT.exists():
        return set()
    rows = [line.split(" || ")[0] for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    return {r.strip() for r in rows}


def work(path: Path, text: str, picked: list[str] | None, given: argparse.Namespace, writer: int) -> None:
    """Run the mutants of one file, ``picked`` by key or line by line, and write a row of JSON for each."""
    file, paths = File(str(path.relative_to(ROOT)), text), sources()
    tests, served = tests_of(path, paths)
    pipe = os.fdopen(writer, "w")

    def tell(mutant: Mutant, answer: str, parity: str) -> None:
        diff = "" if answer != SURVIVED and not parity.startswith("missed") else file.diff(mutant)
        pipe.write(json.dumps(asdict(Row(file.path, mutant.line, mutant.key, answer, parity, diff))) + "\n")
        pipe.flush()

    def plan(attempt: Callable[[Mutant], bool]) -> None:
        for ms in chosen(file, given, equivalent()):
            some = [m for m in ms if picked is None or m.key in picked]
            for k, mutant in enumerate(some):
                if attempt(mutant) and picked is None and not given.all:
                    break
                if picked is None and not given.all and k + 1 == TRIES:
                    break

    how = How(given.seconds, given.budget, given.quick, given.parity)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    drive(file, path, tests, pass_names(served), plan, tell, how, picked is None)


def start(path: Path, picked: list[str] | None, given: argparse.Namespace) -> tuple[Path, int, int]:
    """Start the process of one file; return its number, and where its rows come from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            work(path, path.read_text(), picked, given, writer)
        except BaseException as error:
            print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(0)
    os.close(writer)
    return path, pid, reader


def results(plan: dict[Path, list[str] | None], given: argparse.Namespace) -> Iterator[list[Row]]:
    """Yield the rows of each file as it ends."""
    waiting, running, read = list(plan), dict[int, tuple[Path, int]](), dict[int, bytes]()
    while waiting or running:
        while waiting and len(running) < given.jobs:
            path, pid, reader = start(waiting[0], plan[waiting.pop(0)], given)
            running[reader], read[reader] = (path, pid), b""
        for reader in select.select(list(running), [], [])[0]:
            data = os.read(reader, 1 << 16)
            read[reader] += data
            if not data:
                path, pid = running.pop(reader)
                os.close(reader)
                os.waitpid(pid, 0)
                yield [Row(**json.loads(line)) for line in read.pop(reader).splitlines()]


def report(rows: list[Row]) -> None:
    """Print the survivors of a file and its totals."""
    for row in sorted(rows, key=lambda r: (r.line, r.key)):
        if not row.killed or row.parity.startswith("missed"):
            print(f"{'SURVIVED' if not row.killed else ''} {row.path}:{row.line} {row.parity}\n  {row.key}\n{row.diff}")
    lines, dead = {r.line for r in rows}, {r.line for r in rows if r.killed}
    for name in {r.path for r in rows}:
        print(f"{name}: {sum(r.killed for r in rows)} of {len(rows)} mutants killed, {len(dead)} of {len(lines)} lines")
    sys.stdout.flush()


def planned(paths: list[Path], given: argparse.Namespace) -> dict[Path, list[str] | None]:
    """Return the keys of mutants to run by file, None for those that ``--lines`` and ``--all`` choose."""
    if given.lines or given.all:
        return dict.fromkeys(paths)
    if given.again is None:
        return sample(paths, given.sample, given.seed)
    rows = [Row(**row) for row in json.loads(given.again.read_text())]
    open_ = [r for r in rows if not r.killed or r.parity.startswith("missed")]
    return {p: keys for p in paths if (keys := [r.key for r in open_ if ROOT / r.path == p])}


def sample(paths: list[Path], count: int, seed: str) -> dict[Path, list[str] | None]:
    """Return the keys of mutants to run: one of every file, and the rest of all files alike."""
    skip, rng = equivalent(), random.Random(seed)
    pools = {p: sorted({m.key for m in File(str(p.relative_to(ROOT)), p.read_text()).mutants} - skip) for p in paths}
    drawn = [(p, rng.choice(keys)) for p, keys in pools.items() if keys]
    rest = [(p, k) for p, keys in pools.items() for k in keys if (p, k) not in drawn]
    drawn += rng.sample(rest, max(0, min(count - len(drawn), len(rest))))
    return {p: [k for q, k in drawn if q == p] for p in pools if any(q == p for q, _ in drawn)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="passes", nargs="+", default=[], help="stems of files, such as fold_affine")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--budget", type=int, default=1200, help="CPU seconds, then a mutant counts as alive")
    parser.add_argument("--unchecked", action="store_true", help="the tests are known to pass without a mutant")
    parser.add_argument("--quick", action="store_true", help="without the varied instances, which take longest")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--again", type=Path, help="such a file: what survived or was missed in it is run again")
    given = parser.parse_args()
    os.chdir(ROOT)
    begin = time.perf_counter()
    paths = [p for p in sources() if not given.passes or p.stem in given.passes]
    plan = planned(paths, given)
    warm()
    for test in TESTS:
        imports(test)
    if not given.lines and not given.all and not given.unchecked:
        tests = [str(ROOT / "tests" / t) for t in ("passes", "backends")]
        if subprocess.run([sys.executable, "-P", "-m", "pytest", "-q", *tests], stdout=subprocess.DEVNULL).returncode:
            raise SystemExit("the tests fail without a mutant")
    total: list[Row] = []
    for rows in results(plan, given):
        report(rows)
        total += rows
    killed, died = sum(r.killed for r in total), sum("::" not in r.answer and r.killed for r in total)
    share = 100 * killed / max(1, len(total))
    seconds = time.perf_counter() - begin
    if given.parity:
        print(f"parity, {seconds:.0f} s:", dict(Counter(r.parity.partition(":")[0] for r in total)))
    else:
        print(
            f"{len(total)} mutants in {seconds:.0f} s, {killed} killed ({share:.1f} %), {died} by a crash or slowness"
        )
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in total], indent=1))
    return int(share < 95)


if __name__ == "__main__":
    sys.exit(main())
