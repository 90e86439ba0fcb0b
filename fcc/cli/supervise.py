"""``--timeout`` and ``--max-memory``: the compile in a child process that can be ended whatever it is doing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from fcc.errors import LimitError, OptionError

_CHILD = "FCC_SUPERVISOR"  # holds the process id of the parent, and when it started the child
_GRACE_S = 1.0  # for the child to end by itself, with a message of what it was doing
_END_S = 5.0
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_LEAST = 200 * 10**6  # bytes that the libraries take before there is a model
_HINT = "raise --max-memory, give smaller sizes with --opt-shape, or --verify off"


def parse_memory(text: str | None) -> int | None:
    """Return bytes from ``900MB``, ``2GiB`` or ``2g``; None stays None.

    Raises:
        OptionError: not written so, below 200 MB, or a system without such limits.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?([kmg]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise OptionError(f"--max-memory is written 900MB or 2GB, not {text!r}")
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < _LEAST:
        raise OptionError(f"--max-memory is at least {_LEAST // 10**6}MB, not {text!r}")
    if os.name != "posix":
        raise OptionError("--max-memory needs a system with resource limits", "leave it out")
    return size


def since_start() -> float | None:
    """Return the seconds since ``supervised`` started this process; None for a process that it did not start."""
    parent, _, start = os.environ.get(_CHILD, "").partition("@")
    return time.time() - float(start) if parent == str(os.getppid()) else None


def supervised(argv: Sequence[str], timeout: float | None, memory: int | None) -> int:
    """Run a command line in a child process and return its exit code.

    Raises:
        LimitError: the child was ended because its time was up, or died under the memory limit.
    """
    command = [sys.executable, "-P", *(f"-W{w}" for w in sys.warnoptions), "-m", "fcc", *argv]
    env = {**os.environ, _CHILD: f"{os.getpid()}@{time.time()}"}
    with subprocess.Popen(command, env=env) as child:
        try:
            code = child.wait(None if timeout is None else timeout + _GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise LimitError(
                f"the compile did not stop after {timeout:g} s and was killed",
                "raise --timeout, give smaller sizes with --opt-shape, or --verify off",
            ) from None
        except KeyboardInterrupt:
            child.terminate()
            try:
                child.wait(_END_S)
            finally:
                child.kill()
            raise
    if code < 0 and memory is not None:
        raise LimitError(f"the compile died of signal {-code} within {memory} bytes of memory", _HINT)
    return code if code >= 0 else 128 - code


def limit_memory(size: int) -> None:
    """Let allocations of this process beyond ``size`` bytes fail; mapped files do not count."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def out_of_memory(memory: int | None) -> LimitError | None:
    """Return what to say of a MemoryError under a limit; None without one."""
    return None if memory is None else LimitError(f"the compile needs more than {memory} bytes of memory", _HINT)
