"""Run every hostile case through the command line: exit code, message, peak memory, time, and what was written.

    python benchmarks/hostile.py [--only WORD] [--markdown]

Each case is a process of its own in a folder of its own, with a home and a temporary folder that are watched too. A
case fails when its exit code or its message is not the one expected, when it takes more than 1 GB or 30 s, when
stderr holds more than a message and a hint or a control character, or when anything is written but the output.
Exit code 1 when a case fails.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from hostile_cases import CASES, Case

MOST_BYTES = 1 << 30
MOST_SECONDS = 30.0
KILL_S = 90.0


@dataclass
class Outcome:
    """What a case did."""

    code: int
    err: str
    out: str
    peak: int
    seconds: float
    written: list[str]

    @property
    def message(self) -> str:
        lines = [x for x in self.err.splitlines() if not x.startswith("hint: ")]
        return lines[0].removeprefix("fcc: ") if lines else ""


def tree(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return what lies below a folder, links not followed: kind, size, time of change."""
    found = {}
    for base, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(base) / name
            s = path.lstat()
            is_folder = stat.S_ISDIR(s.st_mode)
            found[str(path.relative_to(root))] = (
                s.st_mode,
                0 if is_folder else s.st_size,
                0 if is_folder else s.st_mtime_ns,
            )
    return found


def prepared(case: Case, work: Path) -> list[str]:
    """Build a case in a process of its own, since a child starts with the peak memory of its parent."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, json.dumps(list(case.build(work))).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return list(json.loads(told))


def execute(case: Case, root: Path) -> Outcome:
    """Build a case below a folder and run it."""
    work, home, temporary = (root / name for name in ("work", "home", "tmp"))
    for folder in (work, home, temporary):
        folder.mkdir()
    words = prepared(case, work)
    if "-o" not in words:
        words += ["-o", str(work / "out.onnx")]
    before = tree(root)
    start = time.monotonic()
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", **case.env}
    command = [sys.executable, "-P", "-m", "fcc", str(work / "m.onnx"), *words, *case.words]
    with (root / "stdout").open("wb") as out, (root / "stderr").open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=work, env=env, stdin=subprocess.DEVNULL)
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() - start > KILL_S:
                    process.kill()
                    pid, status, usage = os.wait4(process.pid, 0)
                    break
                time.sleep(0.01)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    after = tree(root)
    for name in ("stdout", "stderr"):
        after.pop(name)
    allowed = {"work/out.onnx"} if process.returncode == 0 else set()
    changed = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n) and n not in allowed]
    changed = [n for n in changed if not any(n == a or n.startswith(f"{a}.") for a in (*allowed, *case.writes))]
    said = [(root / name).read_bytes().decode(errors="replace") for name in ("stderr", "stdout")]
    return Outcome(process.returncode, said[0], said[1], usage.ru_maxrss * 1024, seconds, changed)


def faults(case: Case, found: Outcome) -> list[str]:
    """Return what is wrong with an outcome."""
    wrong = []
    if found.code not in case.codes:
        wrong.append(f"exit code {found.code}, not {' or '.join(map(str, case.codes))}")
    if case.says and case.says not in found.err + found.out:
        wrong.append(f"does not say {case.says!r}")
    if found.peak > MOST_BYTES:
        wrong.append(f"{found.peak / 2**20:.0f} MB")
    if found.seconds > MOST_SECONDS:
        wrong.append(f"{found.seconds:.0f} s")
    if found.written:
        wrong.append(f"wrote {', '.join(found.written[:5])}")
    lines = found.err.splitlines()
    if found.code and (len(lines) > 2 or not lines or not lines[0].startswith("fcc: error: ")):
        wrong.append(f"{len(lines)} lines on stderr")
    if any(not c.isprintable() and c != "\n" for c in found.err + found.out):
        wrong.append("unprintable characters")
    if len(found.err) > 5000 or len(found.out) > 50_000:
        wrong.append(f"{len(found.err) + len(found.out)} characters printed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this word")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many cases")
    parser.add_argument("--markdown", action="store_true", help="print a table for the documentation")
    given = parser.parse_args()
    bad = 0
    worst = [0.0, 0.0]
    if given.markdown:
        print("| case | exit | message | peak MB | s |\n|---|---|---|---|---|")
    for case in CASES[given.skip :]:
        if given.only not in case.name:
            continue
        with tempfile.TemporaryDirectory(prefix="hostile-") as root:
            found = execute(case, Path(root))
            message = found.message.replace(root, "")
        wrong = faults(case, found)
        bad += bool(wrong)
        worst = [max(worst[0], found.peak / 2**20), max(worst[1], found.seconds)]
        message = "".join(c if c.isprintable() else "?" for c in message)
        message = message if len(message) <= 110 else message[:107] + "..."
        cells = (case.name, str(found.code), message, f"{found.peak / 2**20:.0f}", f"{found.seconds:.1f}")
        print(
            f"| {' | '.join(cells)} |"
            if given.markdown
            else f"{cells[0]:34} {cells[1]:>4} {cells[3]:>5} MB {cells[4]:>5} s  {message}"
        )
        for fault in wrong:
            print(f"    FAULT: {fault}")
        sys.stdout.flush()
    print(f"\n{bad} faults; at most {worst[0]:.0f} MB, {worst[1]:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
