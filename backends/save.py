"""save(): an output becomes a file, or a file and its data, atomically."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Mapping

from fcc.errors import SaveError

from .atomic import Pending, alone, pending
from .emit import Emitted
from .size import opened
from .weights import Place

ALIGNMENT = 64
_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk with -o",
    errno.EDQUOT: "free some space, or write to another disk with -o",
    errno.EACCES: "choose a folder you may write to with -o",
    errno.EPERM: "choose a folder you may write to with -o",
    errno.EFBIG: "write to another disk with -o",
    errno.ENAMETOOLONG: "choose a shorter name with -o",
    errno.EROFS: "choose a folder you may write to with -o",
}


def save(emitted: Emitted, path: str | os.PathLike[str]) -> list[str]:
    """Write an output to ``path`` and return the files written.

    Complete or not at all: an existing file is replaced at the end in one step, and a failed save leaves it as it was.
    Weights above 1.5 GiB, or of a source with external data, go to ``NAME.<hash of the contents>.data`` beside it;
    the data file of the replaced output is removed. Two saves to one path follow each other. One tensor is in memory
    at a time.

    Raises:
        SaveError: no such folder, not writable, disk full, or the path is the input itself or a data file of it.
    """
    target = os.path.realpath(os.fspath(path))
    _check(emitted, target)
    folder, name = os.path.split(target)
    try:
        if not emitted.external:
            with pending(folder, name) as model:
                model.file.writelines(emitted.chunks())
                model.file.flush()
                with alone(folder):
                    stale = _stale(emitted, target)
                    model.publish(target)
                    _remove(folder, stale)
            return [target]
        return _save_external(emitted, folder, name)
    except OSError as error:
        if error.errno is None:
            raise
        why = os.strerror(error.errno).lower()
        raise SaveError(
            f"cannot write {target}: {why}", _HINTS.get(error.errno, "choose another path with -o")
        ) from error


def _save_external(emitted: Emitted, folder: str, name: str) -> list[str]:
    target = os.path.join(folder, name)
    with pending(folder, name) as data, pending(folder, name) as model:
        digest, places = _write_data(emitted, data)
        data_name = f"{name}.{digest}.data"
        model.file.writelines(emitted.chunks({k: Place(data_name, *place) for k, place in places.items()}))
        model.file.flush()
        with alone(folder):  # else what another compile finds stale could be what this one is about to name
            stale = _stale(emitted, target) - {data_name}
            fresh = not os.path.exists(os.path.join(folder, data_name))
            data.publish(os.path.join(folder, data_name))
            try:
                model.publish(target)
            except BaseException:
                if fresh:
                    _remove(folder, {data_name})
                raise
            _remove(folder, stale)
    return [target, os.path.join(folder, data_name)]


def _write_data(emitted: Emitted, out: Pending) -> tuple[str, Mapping[str, tuple[int, int]]]:
    """Write the large weights one after the other; return the hash of all and (offset, length) of each by name."""
    total, at = hashlib.sha256(), 0
    places: dict[str, tuple[int, int]] = {}
    written: dict[int, tuple[int, int]] = {}
    for weight in emitted.weights:
        if not weight.may_be_external:
            continue
        place = written.get(id(weight.tensor))
        if place is None:
            padding = bytes(-at % ALIGNMENT)
            payload = weight.payload()
            for piece in (padding, payload):
                out.file.write(piece)
                total.update(piece)
            place = (at + len(padding), len(payload))
            at = sum(place)
            written[id(weight.tensor)] = place
        places[weight.name] = place
    return total.hexdigest()[:16], places


def _check(emitted: Emitted, target: str) -> None:
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise SaveError(f"cannot write {target}: the folder {folder} does not exist", "create it first")
    if os.path.islink(target):  # what is left of links in a circle
        raise SaveError(f"cannot write {target}: it is a link to itself", "choose another path with -o")
    if os.path.isdir(target):
        raise SaveError(f"cannot write {target}: it is a folder", "give the name of a file with -o")
    if os.path.exists(target) and not os.path.isfile(target):
        raise SaveError(f"cannot write {target}: it is no regular file", "give the name of a file with -o")
    source = emitted.source
    if source is not None and source.path is not None and _same(source.path, target):
        raise SaveError(f"the output {target} is the input itself", "choose another path with -o")
    if any(_same(file, target) for file in _source_data(emitted)):
        raise SaveError(f"the output {target} holds weights of the input", "choose another path with -o")


def _source_data(emitted: Emitted) -> tuple[str, ...]:
    return emitted.source.data_files if emitted.source is not None else ()


def _same(a: str, b: str) -> bool:
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def _stale(emitted: Emitted, target: str) -> set[str]:
    """Return the data files to remove when ``target`` is replaced: its own, unless the input uses them."""
    folder = os.path.dirname(target)
    return {n for n in _data_files(target) if not any(_same(f, os.path.join(folder, n)) for f in _source_data(emitted))}


def _data_files(target: str) -> set[str]:
    """Return the data files that the model at ``target`` uses and that an earlier save named after it."""
    name = os.path.basename(target)
    pattern = re.compile(re.escape(name.encode()) + rb"\.[0-9a-f]{16}\.data")
    try:
        with opened(target) as data:
            return {m.group().decode() for m in pattern.finditer(data)}
    except (OSError, ValueError):
        return set()


def _remove(folder: str, names: set[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
