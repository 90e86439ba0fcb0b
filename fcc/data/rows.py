"""Arrays read one row at a time: members of an .npz without loading them, and arrays in memory."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np

from fcc.errors import DataError
from fcc.regular import open_regular

from .identity import digest, file_state
from .spec import Array

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # version of the format -> bytes of the length of its header
_HEADER = {2: np.lib.format.read_array_header_1_0, 4: np.lib.format.read_array_header_2_0}
_MAX_HEADER = 1 << 16
MAX_ROW = 1 << 30  # bytes of the rows that are read at once


class Rows(Protocol):
    """An array whose rows (slices along axis 0) come in order, any number of times."""

    @property
    def where(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def blocks(self, size: int) -> Iterator[Array]:
        """Yield slices of ``size`` rows; the last may be shorter."""

    def identity(self) -> Any:
        """Return what tells this array apart from others."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows of an array in memory."""

    array: Array
    where: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def blocks(self, size: int) -> Iterator[Array]:
        for start in range(0, self.shape[0], size):
            yield self.array[start : start + size]

    def identity(self) -> Any:
        return digest(self.array)


@dataclass(frozen=True)
class NpzRows:
    """Rows of one member of an .npz file, stored or deflated, read from the stream of the zip member."""

    path: str
    member: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    state: Any = None

    def identity(self) -> Any:
        return self.member, self.state

    def blocks(self, size: int) -> Iterator[Array]:
        try:
            with open_regular(self.path) as file, zipfile.ZipFile(file) as archive, archive.open(self.member) as stream:
                read_header(stream, self.where)
                yield from self._rows(stream, size)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as e:
            raise DataError(f"{self.where} cannot be read: {e}", "write the file again") from e

    def _rows(self, stream: IO[bytes], size: int) -> Iterator[Array]:
        if self.fortran and len(self.shape) > 1:  # rows are not contiguous on disk
            whole = np.frombuffer(self._read(stream, self._bytes(self.shape)), self.dtype)
            yield from ArrayRows(whole.reshape(self.shape, order="F"), self.where).blocks(size)
            return
        for start in range(0, self.shape[0], size):
            block = (min(size, self.shape[0] - start), *self.shape[1:])
            yield np.frombuffer(self._read(stream, self._bytes(block)), self.dtype).reshape(block)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def _read(self, stream: IO[bytes], count: int) -> bytes:
        if count > MAX_ROW:
            raise DataError(f"{self.where}: {count} bytes would be read at once", "give smaller samples, in C order")
        parts: list[bytes] = []
        missing = count
        while missing:
            part = stream.read(missing)
            if not part:
                raise DataError(f"{self.where} ends {missing} bytes early", "write the file again")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def open_npz(path: str | os.PathLike[str]) -> dict[str, Rows]:
    """Return the members of an .npz file by name; only their headers are read.

    Raises:
        DataError: not an .npz, or a member that is no plain array.
    """
    name = os.fspath(path)
    state = file_state(name)
    try:
        with open_regular(name) as file, zipfile.ZipFile(file) as archive:
            found: dict[str, Rows] = {}
            for info in archive.infolist():
                member = info.filename.removesuffix(".npy")
                where = f"{name}:{member}"
                with archive.open(info) as stream:
                    shape, fortran, dtype = read_header(stream, where)
                found[member] = NpzRows(name, info.filename, where, shape, dtype, fortran, state)
            return found
    except FileNotFoundError:
        raise DataError(f"{name} does not exist", "check the path") from None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as e:
        raise DataError(f"{name} is not an .npz file: {e}", "write it with numpy.savez") from e


def read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return (shape, Fortran order, dtype) of the .npy that starts here, leaving the stream at its data.

    Raises:
        DataError: no .npy header, or one of Python objects.
    """
    try:
        width = _LENGTH_BYTES[np.lib.format.read_magic(stream)]
        count = stream.read(width)
        size = int.from_bytes(count, "little")
        if size > _MAX_HEADER:
            raise ValueError(f"its header has {size} bytes")
        shape, fortran, dtype = _HEADER[width](io.BytesIO(count + stream.read(size)))
    except (ValueError, KeyError, TypeError, MemoryError, RecursionError) as e:
        what = " ".join(str(e).split())[:200]
        raise DataError(f"{where} is not a plain .npy array: {what}", "write it with numpy.savez") from e
    if any(n < 0 for n in shape):
        raise DataError(f"{where} has a negative size", "write it with numpy.savez")
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects", "save strings with dtype 'U', never object arrays")
    return shape, fortran, dtype
