"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import IO, Any

_PROC = "/proc/self/fd"
_LABEL_BYTES = 200  # of a name's 255, the rest tells temporary files apart
_PATIENCE_S = 10.0


class Pending:
    """A file being written in ``folder``; ``publish`` gives it a name in one step, ``discard`` forgets it.

    Where the system can (Linux), it has no name until then, so that even a killed process leaves nothing behind.
    """

    def __init__(self, folder: str, label: str) -> None:
        self._folder = folder
        kept = os.fsencode(label)[:_LABEL_BYTES].decode(errors="ignore")
        self._temporary = os.path.join(folder, f".{kept}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        self._named = True
        descriptor = self._anonymous()
        if descriptor is None:
            descriptor = os.open(
                self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
            )
        self.file: IO[bytes] = os.fdopen(descriptor, "wb")

    def _anonymous(self) -> int | None:
        if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_PROC):
            return None
        try:
            descriptor = os.open(self._folder, os.O_TMPFILE | os.O_RDWR, 0o666)
        except OSError:
            return None  # the file system has no unnamed files; the named way reports what is wrong
        self._named = False
        return descriptor

    def publish(self, path: str) -> None:
        """Flush, and let ``path`` name the file in place of whatever it named before."""
        self.file.flush()
        if os.path.exists(path):
            with contextlib.suppress(OSError):
                os.chmod(self.file.fileno(), os.stat(path).st_mode & 0o777)
        if not self._named:
            self._link()
        self.file.close()
        os.replace(self._temporary, path)

    def _link(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.link(f"{_PROC}/{self.file.fileno()}", self._temporary, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
        self._named = True

    def discard(self) -> None:
        """Close the file and remove it unless it was published."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._named:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)


@contextlib.contextmanager
def pending(folder: str, label: str) -> Iterator[Pending]:
    """Open a file that is discarded on leaving unless it was published."""
    made = Pending(folder, label)
    try:
        yield made
    finally:
        made.discard()


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Keep other savers out of a folder, where the system can lock one; for the moment in which names change.

    A holder that does not let go within 10 s is passed by: it has stopped between two renames.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        end = time.monotonic() + _PATIENCE_S
        while not _locked(fcntl, descriptor) and time.monotonic() < end:
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(fcntl: Any, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True
