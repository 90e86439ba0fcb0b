"""Results of calibration on disk, so that a later or interrupted compile need not gather them again.

One .npz per result, named by the SHA-256 of what it depends on: model, tensors, samples, versions, processor.  Files
are replaced whole, so that processes may share a folder; what is not whole, or not fcc's, counts as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fcc.data.identity import digest
from fcc.errors import SaveError

from .codec import decode, encode

FORMAT = 1
LIMIT = 4 << 30  # bytes of one folder
_FILE = re.compile(r"fcc-[0-9a-f]{64}\.npz")
_HALF = re.compile(r"fcc-.*\.half")
_OLD_S = 86400.0  # a file that was not finished by then never will be


@dataclass(frozen=True)
class Entry:
    """What was gathered over the first ``samples`` samples; ``done`` when these are all."""

    total: Any
    samples: int
    done: bool


@dataclass(frozen=True)
class Cache:
    """A folder of at most ``limit`` bytes: what was used longest ago goes first."""

    folder: Path
    limit: int = LIMIT

    @classmethod
    def open(cls, where: Any) -> Cache | None:
        """Return the cache in a folder, made if it is not there; "on" is the user's own, "off" and None are none.

        Raises:
            SaveError: it cannot be written.
        """
        if where is None or where == "off" or isinstance(where, Cache):
            return where if isinstance(where, Cache) else None
        folder = user_folder() if where == "on" else Path(where)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as e:
            raise SaveError(f"the cache {folder} cannot be written: {e.strerror}", "give --cache DIR, or off") from e
        return cls(folder)

    def load(self, key: str) -> Entry | None:
        """Return the entry of a key, None when there is none."""
        path = self._path(key)
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
                head = json.loads(found["head"].tobytes())
                if (head["format"], head["key"]) != (FORMAT, key):
                    return None
                arrays = {int(n): found[n] for n in found.files if n != "head"}
            entry = Entry(decode(head["total"], arrays), int(head["samples"]), bool(head["done"]))
            os.utime(path)
        except Exception:  # whatever a damaged or foreign file raises: it is gathered again, and replaced
            return None
        return entry

    def store(self, key: str, entry: Entry) -> None:
        """Keep an entry; nothing where it is too large, holds what fcc does not know, or the disk does not take it."""
        arrays: list[np.ndarray[Any, Any]] = []
        try:
            tree = encode(entry.total, arrays)
        except TypeError:  # an accumulator of a user's pass
            return
        if sum(a.nbytes for a in arrays) > self.limit // 2:
            return
        head = {"format": FORMAT, "key": key, "samples": entry.samples, "done": entry.done, "total": tree}
        members = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
        with contextlib.suppress(OSError):
            self._write(self._path(key), members | {str(i): a for i, a in enumerate(arrays)})
            self._shrink(self._path(key))

    def _path(self, key: str) -> Path:
        return self.folder / f"fcc-{key}.npz"

    def _write(self, path: Path, members: Mapping[str, Any]) -> None:
        handle, half = tempfile.mkstemp(prefix="fcc-", suffix=".half", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **members)
            os.replace(half, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(half)
            raise

    def _shrink(self, newest: Path) -> None:
        """Remove files until the rest is within the limit, and what a killed process left half written."""
        known: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                if _HALF.fullmatch(path.name) and state.st_mtime < time.time() - _OLD_S:
                    path.unlink()
                elif _FILE.fullmatch(path.name) and path != newest:
                    known.append((state.st_mtime, state.st_size, path))
        left = self.limit - newest.stat().st_size
        for _, size, path in sorted(known, reverse=True):
            left -= size
            if left < 0:
                with contextlib.suppress(OSError):
                    path.unlink()


def user_folder() -> Path:
    """Return the user's own folder: fcc/calibration in XDG_CACHE_HOME, or in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "fcc" / "calibration"


def key_of(thing: Any) -> str:
    """Return the SHA-256 of what a result depends on, and of this installation.

    Raises:
        TypeError: something in it has no contents that tell it apart.
    """
    return digest((FORMAT, installation(), thing))


@cache
def installation() -> str:
    """Return what decides how sums are rounded: versions, and the processor."""
    from .versions import versions

    flags = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return json.dumps([versions(), platform.machine(), platform.processor(), flags])
