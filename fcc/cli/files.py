"""Where a command writes: names, checks before any work, and text files that appear complete or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from fcc.errors import OptionError, SaveError


def output_of(model: str, given: str | None) -> Path:
    """Return the path to write: ``given``, or NAME.fcc.onnx beside the model."""
    if given is not None:
        return Path(given)
    path = Path(model)
    if not path.name:  # "", ".", "/": no model, which reading it will say
        return Path("model.fcc.onnx")
    return path.with_name(f"{path.name.removesuffix('.onnx')}.fcc.onnx")


def check_output(model: str, output: Path) -> None:
    """Check, before any work, that the output can be written.

    Raises:
        SaveError: its folder is missing or not writable, it is a folder, or it is the model (also through a link).
    """
    writable(output)
    if os.path.exists(output) and os.path.exists(model) and os.path.samefile(output, model):
        raise SaveError(f"the output {output} is the input itself", "choose another path with -o")


def resolved(path: str | Path) -> Path:
    """Return a path without links; links in a circle stay, for the system to name them."""
    return Path(os.path.realpath(path))


def writable(path: Path) -> None:
    """Check that a file can be written.

    Raises:
        SaveError: its folder is missing or not writable, or it is no regular file.
    """
    folder = resolved(path).parent
    if not folder.is_dir():
        raise SaveError(f"cannot write {path}: the folder {folder} does not exist", "create it first")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:  # a name that is too long, links in a circle
        raise SaveError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}", "choose another name"
        ) from None
    if stat.S_ISDIR(mode):
        raise SaveError(f"cannot write {path}: it is a folder", "give the name of a file")
    if not stat.S_ISREG(mode):
        raise SaveError(f"cannot write {path}: it is no regular file", "give the name of a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SaveError(f"cannot write {path}: no permission in {folder}", "choose another folder with -o")


def check_report(
    report: str | None, *others: Path, option: str = "--report", kinds: tuple[str, ...] = (".json", ".md")
) -> None:
    """Check, before any work, that the report can be written.

    Raises:
        OptionError: none of the kinds of file, or the same file as the model or the output.
        SaveError: it cannot be written.
    """
    if report is None:
        return
    path = Path(report)
    if path.suffix.lower() not in kinds:
        raise OptionError(f"{option} writes {' or '.join(kinds)}, not {report!r}")
    if resolved(path) in map(resolved, others):
        raise OptionError(f"{option} {report} would overwrite a model", "choose another name")
    writable(path)


def check_libraries(paths: Sequence[str]) -> None:
    """Check that libraries of custom operators exist.

    Raises:
        OptionError: one does not.
    """
    for path in paths:
        if not Path(path).is_file():
            raise OptionError(f"--custom-ops {path} does not exist", "check the path")


def write_text(path: Path, text: str) -> None:
    """Write a text file complete or not at all.

    Raises:
        SaveError: the disk is full or the folder is gone.
    """
    from fcc.backends.atomic import pending

    target = resolved(path)
    try:
        with pending(str(target.parent), target.name) as made:
            made.file.write(text.encode())
            made.publish(str(target))
    except OSError as error:
        raise SaveError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
