"""Break the passes on purpose and report which changes their tests, and parity at compile time, notice.

    python benchmarks/mutants.py [--pass FILE ...] [--sample N | --lines | --all] [--seed S] [--jobs J] [--parity]

A mutant is one change of one file of passes/ or backends/lower_*.py: an operator, a comparison, a constant, a
condition, an argument, a statement or a result that goes (benchmarks/mutation.py). It runs the tests of its own pass
only: the files of tests/passes and tests/backends that import the module, or a pass that a helper serves, and the
varied instances of the pass; in a forked child, up to the first failure or ``--seconds``. ``--lines`` takes a mutant a
line, and another one when it lives, up to three; ``--sample`` draws from all. ``--parity`` compiles graphs of the
corpus on which the pass applies with the mutant in place, and says whether a wrong result was noticed. Mutants listed
in equivalent_mutants.txt change nothing that can be observed, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation import File, Mutant

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "benchmarks" / "equivalent_mutants.txt"
TESTS = sorted(p for t in ("passes", "backends") for p in (ROOT / "tests" / t).glob("test_*.py"))
BACKENDS = sorted((ROOT / "backends").glob("*.py"))
UPPER = ("api", "cli", "compiled", "driver", "lossy", "plugins", "trial")  # what else imports passes
TRIES = 3
LIKELY = 6  # tests that killed most mutants of a file so far are tried first


@dataclass
class Result:
    """What became of a mutant."""

    mutant: Mutant
    killed: bool
    seconds: float
    parity: str = ""


def sources() -> list[Path]:
    """Return the files that are mutated."""
    passes = [p for p in (ROOT / "passes").glob("*.py") if p.name not in ("__init__.py", "graphsurgeon.py")]
    return sorted(passes) + sorted((ROOT / "backends").glob("lower*.py"))


def imports(path: Path) -> set[str]:
    """Return the modules of passes/ and backends/ that a file imports, by their last name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if node.level or parts[:2] in (["fcc", "passes"], ["fcc", "backends"]):
                found |= {parts[-1]} if parts[-1] not in ("passes", "backends", "") else {a.name for a in node.names}
    return found


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
    for path in sources():
        if path.stem in files:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "name" and node.value is not None:
                    found.append(str(ast.literal_eval(node.value)))
    return found


def replace_source(path: Path, code: object) -> None:
    """Let the import of a file give other code."""
    get_code = importlib.machinery.SourceFileLoader.get_code
    wanted = path.resolve()

    def mutated(self: importlib.machinery.SourceFileLoader, fullname: str) -> object:
        return code if Path(self.get_filename(fullname)).resolve() == wanted else get_code(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = mutated  # type: ignore[assignment,method-assign]


def child(
    path: Path, code: object, tests: list[Path], names: list[str], likely: list[str], seconds: int, parity: bool
) -> str:
    """Run the tests of a mutant in this process; return "killed" or "survived", and what parity said."""
    import pytest

    replace_source(path, code)
    forget(path)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    if parity:
        sys.path[:0] = [str(ROOT / "benchmarks")]
        from mutant_parity import judged

        return judged(names)

    signal.alarm(seconds)
    varied = ROOT / "tests" / "passes" / "test_varied.py"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--no-header", "--tb=no"]
    options += ["-Wignore::pytest.PytestAssertRewriteWarning", f"--rootdir={ROOT}"]
    files = [[str(t)] for t in tests if t != varied] + [[f"{varied}::test_instances[{n}]"] for n in names]
    for some in ([likely] if likely else []) + files:
        first = First()
        if pytest.main([*options, *some], [first]) not in (0, 5):
            return f"killed: {first.failed}"
    return "survived"


class First:
    """A plugin that keeps the first test that failed."""

    failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def forked(*args: object) -> tuple[int, int]:
    """Start a child; return its pid and the pipe that its answer comes from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            answer = child(*args)  # type: ignore[arg-type]
        except BaseException as error:
            answer = f"killed by {type(error).__name__}: {error}"
        os.write(writer, answer.encode()[:4000])
        os._exit(0)
    os.close(writer)
    return pid, reader


def answer_of(pid: int, reader: int) -> str:
    """Wait for a child; one that died or ran out of time noticed the mutant."""
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text or "killed: the process died"


def run(jobs: list[tuple[File, Path, Mutant, list[Path], list[str]]], given: argparse.Namespace) -> Iterator[Result]:
    """Run mutants, several at a time, in order."""
    killers: dict[Path, Counter[str]] = defaultdict(Counter)
    waiting, running = list(jobs), []
    while waiting or running:
        while waiting and len(running) < given.jobs:
            file, path, mutant, tests, names = waiting.pop(0)
            try:
                code = file.code(mutant, str(path))
            except (SyntaxError, ValueError):
                continue
            likely = [t for t, _ in killers[path].most_common(LIKELY)]
            handles = [forked(path, code, tests, names, likely, given.seconds, False)]
            if given.parity:
                handles.append(forked(path, code, tests, names, [], given.seconds, True))
            running.append((path, mutant, time.perf_counter(), handles))
        if running:
            path, mutant, begin, handles = running.pop(0)
            answers = [answer_of(*h) for h in handles]
            killer = answers[0].removeprefix("killed: ")
            if "::" in killer:
                killers[path][killer] += 1
            yield Result(mutant, not answers[0].startswith("survived"), time.perf_counter() - begin, *answers[1:])


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


def warm() -> None:
    """Import in the parent what every child needs."""
    import gc

    import hypothesis  # noqa: F401
    import networkx  # noqa: F401
    import pytest  # noqa: F401
    import scipy.linalg  # noqa: F401

    import fcc.testing  # noqa: F401

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.freeze()


def forget(path: Path) -> None:
    """Forget the module of a file and all that import it, so that they are imported anew."""
    stale, users = {path.stem}, {p.stem: imports(p) for p in (*(ROOT / "passes").glob("*.py"), *BACKENDS)}
    while more := {stem for stem, used in users.items() if used & stale} - stale:
        stale |= more
    backends = any(p.stem in stale for p in BACKENDS)
    for name in [n for n in sys.modules if n.startswith("fcc.")]:
        top, _, last = name.removeprefix("fcc.").partition(".")
        layer = top == "passes" or (backends and top == "backends")
        if (layer and (not last or last in stale)) or top in UPPER or (backends and top == "testing"):
            del sys.modules[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="passes", nargs="+", default=[], help="stems of files, such as fold_affine")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.chdir(ROOT)
    warm()
    paths, skip = sources(), equivalent()
    files = [(File(str(p.relative_to(ROOT)), p.read_text()), p) for p in paths]
    files = [(f, p) for f, p in files if not given.passes or p.stem in given.passes]
    served = {p: tests_of(p, paths) for _, p in files}
    for _, path in files:
        tests, passes = served[path]
        unchanged = answer_of(
            *forked(path, compile(path.read_text(), str(path), "exec"), tests, pass_names(passes), [], 600, False)
        )
        if unchanged != "survived":
            raise SystemExit(f"the tests of {path.name} fail without a mutant: {unchanged}")
    results: list[Result] = []
    if given.lines:
        for file, path in files:
            results += report(file, lines(file, path, served[path], given, skip))
    else:
        pool = [(f, p, m) for f, p in files for rows in chosen(f, given, skip) for m in rows]
        pool.sort(key=lambda row: row[2].key)
        if not given.all:
            pool = random.Random(given.seed).sample(pool, min(given.sample or 300, len(pool)))
        jobs = [(f, p, m, served[p][0], pass_names(served[p][1])) for f, p, m in pool]
        for r in run(jobs, given):
            results.append(r)
            if not r.killed or r.parity:
                what = "killed" if r.killed else "SURVIVED"
                print(f"{what} {r.mutant.path}:{r.mutant.line} {r.mutant.change} {r.parity}", flush=True)
    return closed(results, given)


def lines(
    file: File, path: Path, served: tuple[list[Path], set[str]], given: argparse.Namespace, skip: set[str]
) -> Iterator[Result]:
    """Run one mutant of every line; where it lives another one, up to ``TRIES``."""
    tests, names = served[0], pass_names(served[1])
    rows = chosen(file, given, skip)
    for k in range(TRIES):
        jobs = [(file, path, ms[k], tests, names) for ms in rows if len(ms) > k]
        lived = []
        for r in run(jobs, given):
            yield r
            if not r.killed:
                lived.append(r.mutant.line)
        rows = [ms for ms in rows if ms[0].line in lived]


def report(file: File, results: Iterator[Result]) -> list[Result]:
    """Print the survivors of a file and its line."""
    found = []
    begin = time.perf_counter()
    for r in results:
        found.append(r)
        if not r.killed:
            print(
                f"SURVIVED {r.mutant.path}:{r.mutant.line} ({r.mutant.function}) {r.mutant.change} {r.parity}",
                flush=True,
            )
    all_lines, dead = {r.mutant.line for r in found}, {r.mutant.line for r in found if r.killed}
    killed = sum(r.killed for r in found)
    print(
        f"{file.path}: {killed} of {len(found)} mutants killed, {len(dead)} of {len(all_lines)} lines, "
        f"{time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    return found


def closed(results: list[Result], given: argparse.Namespace) -> int:
    """Print the totals, write the JSON file; 1 when fewer than 95 % were killed."""
    killed = sum(r.killed for r in results)
    print(f"{len(results)} mutants, {killed} killed ({100 * killed / max(1, len(results)):.1f} %)")
    if given.parity:
        print("parity:", dict(Counter(r.parity.partition(":")[0] for r in results)))
    if given.json:
        rows = [
            {"file": r.mutant.path, "line": r.mutant.line, "key": r.mutant.key, "killed": r.killed, "parity": r.parity}
            for r in results
        ]
        given.json.write_text(json.dumps(rows, indent=1))
    return int(killed < 0.95 * len(results))


if __name__ == "__main__":
    sys.exit(main())
