"""Damaged files through the command line: a documented exit code, one line, no file unless it is right.

    python -m fcc.fuzz.hostile [--count N] [--seed S] [--keep FOLDER] FILE ...

Each file is damaged ``count`` times (consecutive seeds) and compiled in a child process, at a level and for a target
drawn from the seed. Exit code 1 when anything is found; the damaged files are kept with the command that replays them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from fcc.__main__ import main as fcc_main
from fcc.runtime import open_session
from fcc.testing.oracle import Array, difference

from .child import Child, Ended, Say
from .damage import damaged, declared_only
from .judge import LEVELS, TARGETS
from .source import TOLERANCE, all_feeds, coarsest, same

CODES = frozenset({0, 2, 3, 4, 5, 6, 7})
SECONDS, BYTES = 120.0, 6 << 30  # of address space, of which the runtime reserves most
Job = tuple[bytes, int, str]
LARGEST = 1 << 24  # elements that an input may declare where the answers are compared


@dataclass
class Answer:
    """What a compile said: exit code, problems ("kind: words"), peak resident bytes of the process so far."""

    code: int
    problems: list[str] = field(default_factory=list)
    peak: int = 0
    compared: bool = False


def ask(data: bytes, level: int, target: str, folder: Path) -> Answer:
    """Compile a file with the command line and judge the answer."""
    source, output = folder / "in.onnx", folder / "out.onnx"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = fcc_main([str(source), "-o", str(output), f"-O{level}", "--target", target])
    said = err.getvalue()
    answer = Answer(code, peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if code not in CODES:
        answer.problems.append(f"code: {code}: {said[-600:]}")
    if "Traceback" in said or "internal error" in said:
        answer.problems.append(f"traceback: {said[-600:]}")
    errors = [line for line in said.splitlines() if line.startswith("fcc: error:")]
    if (code != 0) != (len(errors) == 1):
        answer.problems.append(f"line: exit code {code} with {len(errors)} error lines: {said[-300:]}")
    if code != 0 and output.exists():
        answer.problems.append(f"output: exit code {code}, and there is one")
    if sorted(p.name for p in folder.iterdir()) not in (["in.onnx"], ["in.onnx", "out.onnx"]):
        answer.problems.append(f"files: {sorted(p.name for p in folder.iterdir())}")
    if code == 0 and not answer.problems:
        answer.problems += list(compared(source, output, answer))
    return answer


def compared(source: Path, output: Path, answer: Answer) -> Iterator[str]:
    """Yield how the answers differ, where the runtime takes the source and agrees with itself about it."""
    model = onnx.load(source, load_external_data=False)
    if not declared_only(model) or not small(model):
        return
    try:
        old = [open_session(str(source), optimize=optimize) for optimize in (False, True)]
    except Exception:
        return
    coarse, names = coarsest(model), [o.name for o in model.graph.output]
    new = None
    for feeds in all_feeds(model):
        try:
            before, fast = ([np.asarray(s.run(dict(feeds))[n]) for n in names] for s in old)
        except Exception:
            continue
        if not same(before, fast, coarse, 0.5):
            continue
        try:
            new = new or open_session(str(output))
            after = [np.asarray(new.run(dict(feeds))[n]) for n in names]
        except Exception as error:
            yield f"run: the source runs, the output does not: {str(error)[:300]}"
            return
        answer.compared = True
        if why := _apart(before, after, coarse):
            yield f"answer: {why}"
            return


def _apart(before: Sequence[Array], after: Sequence[Array], coarse: str) -> str:
    pairs = zip(before, after, strict=True)
    return next((w for a, b in pairs if (w := difference(a, b, TOLERANCE[coarse]))), "")


def small(model: onnx.ModelProto) -> bool:
    """Return whether inputs are of sizes that can be fed."""
    for v in model.graph.input:
        size = 1
        for d in v.type.tensor_type.shape.dim:
            size *= d.dim_value if d.HasField("dim_value") else 3
        if not 0 <= size <= LARGEST or v.type.tensor_type.elem_type not in range(1, 17):
            return False
    return True


def begin(limit: int) -> Callable[[Job, Say], Answer]:
    """Bound the memory of this process, and return what it does with a file, a level and a target."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    home = tempfile.TemporaryDirectory()

    def answer(job: Job, say: Say) -> Answer:
        for path in Path(home.name).iterdir():
            path.unlink()
        return ask(*job, Path(home.name))

    return answer


def how(seed: int) -> tuple[int, str]:
    """Return the level and target of a seed."""
    rng = random.Random(f"how {seed}")
    return rng.choice(LEVELS), rng.choice(TARGETS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m fcc.fuzz.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    given = parser.parse_args(argv)
    child, codes, kinds, found = Child(begin, BYTES), Counter[int](), Counter[str](), 0
    peak, slowest, compares, started = 0, 0.0, 0, time.monotonic()
    for path in given.files:
        model = path.read_bytes()
        for seed in range(given.seed, given.seed + given.count):
            kind, data = damaged(model, seed)
            level, target = how(seed)
            start = time.monotonic()
            try:
                answer = child.ask((data, level, target), SECONDS)
            except Ended as why:
                answer = Answer(-1, [str(why)])
                child.close()
                child = Child(begin, BYTES)
            slowest = max(slowest, time.monotonic() - start)
            codes[answer.code] += 1
            kinds[kind] += 1
            compares += answer.compared
            peak = max(peak, answer.peak)
            for problem in answer.problems:
                found += 1
                given.keep.mkdir(parents=True, exist_ok=True)
                kept = given.keep / f"{path.stem}_{seed}.onnx"
                kept.write_bytes(data)
                print(f"{path.name} seed {seed} ({kind}) -O{level} {target}: {problem}", flush=True)
                print(f"  replay: fcc {kept} -o /tmp/out.onnx -O{level} --target {target}", flush=True)
    child.close()
    seconds = time.monotonic() - started
    print(f"{sum(codes.values())} damaged files in {seconds:.0f} s, exit codes {dict(sorted(codes.items()))}")
    print(f"answers compared {compares}, slowest {slowest:.1f} s, peak {peak / 2**20:.0f} MiB, problems {found}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
