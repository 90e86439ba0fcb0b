"""Run mutants of one file: the tests are collected once, a mutant is a fork with other code in some functions."""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mutation import File, Mutant

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = sorted((ROOT / "backends").glob("*.py"))
UPPER = ("api", "cli", "compiled", "driver", "lossy", "plugins", "trial")  # what else imports passes
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--no-header", "--tb=no"]
OPTIONS += ["-Wignore::pytest.PytestAssertRewriteWarning", f"--rootdir={ROOT}"]
VARIED = ROOT / "tests" / "passes" / "test_varied.py"
VARYING = ("test_neighbours", "test_instances")
NOT_RUN = "not run"
LIKELY = 6  # tests that killed most mutants of a file so far are tried first


def files_of(tests: list[Path], names: list[str], quick: bool) -> list[str]:
    """Return what pytest is given: test files, then the neighbours of the passes, last their varied instances."""
    varying = [f"{VARIED}::{t}[{n}]" for t in VARYING[: 1 if quick else None] for n in names]
    return [str(t) for t in tests if t != VARIED] + varying


@dataclass(frozen=True)
class How:
    """CPU seconds that a test may take, and after which a mutant that lives is given up; which tests run, or parity."""

    seconds: int
    budget: int
    quick: bool
    parity: bool


def spent() -> float:
    """Return the CPU seconds of this process and its children."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


class Session:
    """A pytest plugin that hands the collected tests to ``drive`` instead of running them.

    A test may take ``seconds`` of CPU time, then its process ends: other work on the machine kills no mutant.
    """

    def __init__(self, drive: Callable[[Session], None], how: How | None = None) -> None:
        self.drive, self.items, self.failed = drive, [], ""
        self.seconds, self.budget = (how.seconds, how.budget) if how is not None else (0, 0)
        self.killers: Counter[str] = Counter()

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = list(session.items)
        self.drive(self)
        return True

    def pytest_runtest_logstart(self) -> None:
        if self.seconds:
            limit = int(time.process_time()) + self.seconds
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def likely(self) -> list[str]:
        """Return the tests that are tried first."""
        return [t for t, _ in self.killers.most_common(LIKELY)]

    def run(self, patched: list[tuple[Any, CodeType]]) -> str:
        """Run the tests in a fork with other code in some functions, up to the first failure."""

        def answer() -> str:
            for function, code in patched:
                function.__code__ = code
            first = self.likely()
            for item in sorted(self.items, key=lambda i: first.index(i.nodeid) if i.nodeid in first else len(first)):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if self.failed:
                    return f"killed: {self.failed}"
                if spent() > self.budget:
                    break
            return "survived"

        return self.counted(answer_of(*forked(answer)))

    def counted(self, answer: str) -> str:
        """Remember which test killed a mutant."""
        killer = answer.removeprefix("killed: ")
        if "::" in killer:
            self.killers[killer] += 1
        return answer


def patches(old: CodeType, new: CodeType, module: ModuleType) -> list[tuple[Any, CodeType]] | None:
    """Return the functions of a loaded module that a mutant changes and their new code; None when it changes more."""
    changed = _changed(old, new)
    if not changed:
        return None
    found = []
    for name, code in changed:
        function: Any = module
        for part in name.split("."):
            function = vars(function).get(part)
            function = getattr(function, "fget", None) or getattr(function, "__func__", None) or function
        function = getattr(function, "__wrapped__", function)
        if not hasattr(function, "__code__") or function.__code__.co_freevars != code.co_freevars:
            return None
        found.append((function, code))
    return found


def _changed(old: CodeType, new: CodeType) -> list[tuple[str, CodeType]] | None:
    """Return the functions in a body that differ; None when the body itself does."""
    a, b = ([c for c in code.co_consts if isinstance(c, CodeType)] for code in (old, new))
    bare = [[c for c in code.co_consts if not isinstance(c, CodeType)] for code in (old, new)]
    if len(a) != len(b) or old.co_code != new.co_code or repr(bare[0]) != repr(bare[1]) or old.co_names != new.co_names:
        return None
    found: list[tuple[str, CodeType]] = []
    for x, y in zip(a, b, strict=True):
        if x == y:
            continue
        if x.co_name.startswith("<"):
            return None
        function = x.co_flags & 2  # CO_NEWLOCALS is set for functions only
        inner = None if function else _changed(x, y)
        if (inner is None and not function) or (function and _nested(x) != _nested(y)):
            return None
        found += [(x.co_qualname, y)] if inner is None else inner
    return found


def _nested(code: CodeType) -> list[CodeType]:
    """Return the functions defined in a function: those that it returned at import have their code already."""
    found = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [c for c in found if c.co_name == "<lambda>" or not c.co_name.startswith("<")]


class Zygote:
    """A process from before the tests were collected; forks children that import the mutated file anew."""

    def __init__(self, file: File, path: Path, tests: list[Path], names: list[str], how: How) -> None:
        self.requests, self.answers = os.pipe(), os.pipe()
        self.sound: set[str] = set()
        if os.fork() == 0:
            os.close(self.requests[1])
            with os.fdopen(self.requests[0]) as requests, os.fdopen(self.answers[1], "w") as answers:
                for line in requests:
                    index, likely, what = json.loads(line)
                    code = compile(path.read_text(), str(path), "exec")
                    code = code if index is None else file.code(file.mutants[index], str(path))
                    answer = answer_of(*forked(partial(fresh, path, code, tests, names, likely, how, what)))
                    answers.write(json.dumps(answer) + "\n")
                    answers.flush()
            os._exit(0)
        os.close(self.requests[0])
        os.close(self.answers[1])
        self.writer, self.reader = os.fdopen(self.requests[1], "w"), os.fdopen(self.answers[0])

    def ask(self, index: int | None, likely: list[str], what: str = "tests") -> str:
        """Return what became of a mutant (None: the file as it is): all tests, the likely only, or parity."""
        self.writer.write(json.dumps([index, likely, what]) + "\n")
        self.writer.flush()
        return str(json.loads(self.reader.readline()))

    def tests(self, index: int, session: Session) -> str:
        """Return what became of a mutant.

        Raises:
            SystemExit: the test that failed also fails without the mutant when the file is imported anew.
        """
        answer = session.counted(self.ask(index, session.likely()))
        killer = answer.removeprefix("killed: ")
        if answer != "survived" and killer not in self.sound:
            if self.ask(None, [killer] if "::" in killer else [], "likely") != "survived":
                raise SystemExit(f"{killer}: so without a mutant")
            self.sound.add(killer)
        return answer


def replace_source(path: Path, code: object) -> None:
    """Let the import of a file give other code."""
    get_code = importlib.machinery.SourceFileLoader.get_code
    wanted = path.resolve()

    def mutated(self: importlib.machinery.SourceFileLoader, fullname: str) -> object:
        return code if Path(self.get_filename(fullname)).resolve() == wanted else get_code(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = mutated  # type: ignore[assignment,method-assign]


def fresh(
    path: Path,
    code: object,
    tests: list[Path],
    names: list[str],
    likely: list[str],
    how: How,
    what: str,
) -> str:
    """Import a file with other code and run its tests, or judge it by parity; return the answer."""
    import pytest

    replace_source(path, code)
    forget(path)
    if what == "parity":
        from mutant_parity import judged, seeds_of

        return judged(seeds_of(names))

    for some in ([likely] if likely else []) + [[f] for f in files_of(tests, names, how.quick) if what == "tests"]:
        if spent() > how.budget:
            break
        session = Session(lambda s: None, how)
        session.pytest_runtestloop = None  # type: ignore[assignment,method-assign]
        if pytest.main([*OPTIONS, *some], [session]) not in (0, 5):
            return f"killed: {session.failed}"
    return "survived"


def forked(work: Callable[[], str]) -> tuple[int, int]:
    """Start a child that does some work; return its pid and the pipe that its answer comes from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        try:
            answer = work()
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
    return text or "killed: the process died, or ran out of time"


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules of passes/ and backends/ that a file imports, by their last name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if node.level or parts[:2] in (["fcc", "passes"], ["fcc", "backends"]):
                found |= {parts[-1]} if parts[-1] not in ("passes", "backends", "") else {a.name for a in node.names}
    return frozenset(found)


def warm() -> None:
    """Import, read and collect in the parent what every child needs."""
    import gc

    import hypothesis  # noqa: F401
    import networkx  # noqa: F401
    import pytest
    import scipy.linalg  # noqa: F401

    import fcc.testing  # noqa: F401

    for path in (*(ROOT / "passes").glob("*.py"), *BACKENDS):
        imports(path)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    collected = Session(lambda session: None)
    pytest.main([*OPTIONS, *(str(ROOT / "tests" / t) for t in ("passes", "backends"))], [collected])
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
    for name in [n for n, m in sys.modules.items() if _is_test(m)]:
        del sys.modules[name]


def _is_test(module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(ROOT / "tests"))


def drive(
    file: File,
    path: Path,
    tests: list[Path],
    names: list[str],
    plan: Callable[[Callable[[Mutant], bool]], None],
    tell: Callable[[Mutant, str, str], None],
    how: How,
    first: bool,
) -> None:
    """Collect the tests of a file and let ``plan`` run mutants; ``tell`` hears what became of each.

    ``first``: run the tests without a mutant before.

    Raises:
        SystemExit: the tests fail without a mutant.
    """
    import pytest

    zygote = Zygote(file, path, tests, names, how)
    numbers = {id(m): i for i, m in enumerate(file.mutants)}

    def judge(mutant: Mutant) -> bool:
        tell(mutant, NOT_RUN, zygote.ask(numbers[id(mutant)], [], "parity"))
        return True

    if how.parity:
        plan(judge)
        return
    package = "fcc.passes" if path.parent.name == "passes" else "fcc.backends"
    module = importlib.import_module(f"{package}.{path.stem}")
    plain = compile(ast.fix_missing_locations(file.tree), str(path), "exec", dont_inherit=True)

    def loop(session: Session) -> None:
        if first and session.run([]) != "survived":
            raise SystemExit(f"the tests of {path.name} fail without a mutant: {session.killers}")

        def attempt(mutant: Mutant) -> bool:
            try:
                code = file.code(mutant, str(path))
            except (SyntaxError, ValueError):
                return True
            assert isinstance(code, CodeType)
            patched = patches(plain, code, module)
            number = numbers[id(mutant)]
            answer = session.run(patched) if patched else zygote.tests(number, session)
            tell(mutant, answer, "")
            return answer != "survived"

        plan(attempt)

    code = pytest.main([*OPTIONS, *files_of(tests, names, how.quick)], [Session(loop, how)])
    if code not in (0, 5):
        raise SystemExit(f"pytest cannot collect the tests of {path.name}: {code}")
