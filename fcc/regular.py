"""Open files that others name: only regular ones, so that nothing blocks or never ends, and of bounded size."""

from __future__ import annotations

import os
import stat
from typing import IO

MAX_TEXT = 64 << 20  # bytes of a plan or a table


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file to read.

    Raises:
        OSError: it cannot be opened, or it is a folder, a device, a pipe or a socket.
        ValueError: the path holds a NUL.
    """
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no regular file")
    return os.fdopen(descriptor, "rb")


def read_text(path: str | os.PathLike[str], most: int = MAX_TEXT) -> str:
    """Return the text of a regular UTF-8 file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be read, or is too large.
        ValueError: it is not UTF-8.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"it has {size} bytes, more than {most}")
        return file.read(most).decode("utf-8")
