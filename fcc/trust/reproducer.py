"""The folder that reproduces a complaint: model, feeds, skip list, and one command."""

from __future__ import annotations

import io
import json
import os
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ir
from ..backends.atomic import pending
from ..data.spec import Array, Feeds, is_float
from ..errors import SaveError
from ..options import Options
from ..plan import Plan
from ..version import __version__
from .complaint import Complaint, Parity, Script, Slower
from .reduce import Reduced

if TYPE_CHECKING:
    from .subject import Bisection, Subject

_LARGEST = 64 << 20  # bytes of a model that is copied whole
_WORDS = ("target", "opt_level", "passes", "disable", "cpu_isa", "threads", "seed", "custom_ops", "plugins")
_SPELLED = {"opt_level": "-O{}", "disable": "--disable={}", "passes": "--passes={}", "plugins": "--plugin={}"}


def write(
    folder: str | os.PathLike[str], subject: Subject, found: Bisection, options: Options, reduced: Reduced | None
) -> list[str]:
    """Write the reproducer and return its files; an existing folder is used, its files are replaced.

    Raises:
        SaveError: the folder cannot be made or written.
    """
    kind = subject.complaint
    assert kind is not None
    where = Path(folder).resolve()
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"cannot make the folder {where}: {error.strerror}", "choose another") from error
    model, feeds = _model(subject, reduced), reduced.feeds if reduced is not None else tuple(subject.feeds())
    parts: dict[str, bytes] = {} if model is None else {"model.onnx": model}
    data = _data(feeds)
    parts |= data
    name = "model.onnx" if model is not None else _path(subject)
    command = _command(name, options, kind, "inputs.npz" if "inputs.npz" in data else "inputs" if data else "")
    parts["plan.json"] = (_plan(subject, found).to_json() + "\n").encode()
    parts["bisect.json"] = (json.dumps(_facts(subject, found, options, reduced), indent=1) + "\n").encode()
    parts["README.md"] = _readme(subject, found, reduced, command).encode()
    return [_put(where / name, content) for name, content in parts.items()]


def _put(path: Path, content: bytes) -> str:
    try:
        path.parent.mkdir(exist_ok=True)
        with pending(str(path.parent), path.name) as made:
            made.file.write(content)
            made.publish(str(path))
    except OSError as error:
        raise SaveError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    return str(path)


def _model(subject: Subject, reduced: Reduced | None) -> bytes | None:
    """Return the reduced model, else the whole one where it is a file of moderate size."""
    if reduced is not None:
        return reduced.model
    source = subject.source.source
    if source is None or source.data_files or source.bytes_size > _LARGEST:
        return None
    loaded = source.load()
    return loaded if isinstance(loaded, bytes) else Path(loaded).read_bytes()


def _data(feeds: Sequence[Feeds]) -> dict[str, bytes]:
    """Return the feeds as files: one where there is one feed, else a folder."""
    if not any(feeds):
        return {}
    if len(feeds) == 1:
        return {"inputs.npz": _npz(feeds[0])}
    return {f"inputs/{k:03}.npz": _npz(feed) for k, feed in enumerate(feeds)}


def _npz(feed: Feeds) -> bytes:
    """Return a feed as the bytes of an .npz file, one row an input; the same feed gives the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, a in feed.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, _storable(np.asarray(a))[None], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _storable(a: Array) -> Array:
    """Return values in a type that NumPy files know, from which they are cast back without loss."""
    if a.dtype.hasobject:
        return a.astype(np.str_)
    if a.dtype.kind == "V" or a.dtype.isbuiltin != 1:
        return a.astype(np.float32 if is_float(a.dtype) else np.int8)
    return a


def _command(model: str, options: Options, kind: Complaint, data: str) -> str:
    words = ["fcc", "bisect", model, *(["--data", data] if data else []), *_spelled(options), *_said(kind)]
    return shlex.join(words)


def _spelled(options: Options) -> Iterator[str]:
    """Yield the options as words, those that are the defaults left out."""
    defaults = Options()
    for name in _WORDS:
        value = getattr(options, name)
        if value != getattr(defaults, name):
            spelling = _SPELLED.get(name, f"--{name.replace('_', '-')}={{}}")
            yield from (spelling.format(_text(v)) for v in (value if isinstance(value, tuple) else (value,)))
    for word, sizes in (("--shape", options.shapes), ("--opt-shape", options.opt_shapes)):
        yield from (f"{word}={name}={_sizes(size)}" for name, size in (sizes or {}).items() if _sizes(size))


def _sizes(size: Any) -> str:
    known = size if isinstance(size, tuple | list) else (size,)
    return "x".join(map(str, known)) if all(isinstance(n, int) for n in known) else ""


def _text(value: Any) -> str:
    """Return a value as a word: a file by its whole path, a plugin that is no file as FILE."""
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return os.path.abspath(path) if os.path.isfile(path) else path
    return str(value) if isinstance(value, int | float) else "FILE"


def _said(kind: Complaint) -> list[str]:
    if isinstance(kind, Parity):
        return [] if kind.tolerance is None else ["--tolerance", f"{kind.tolerance:g}"]
    if isinstance(kind, Slower):
        return ["--slower", f"{kind.ratio:g}"]
    return ["--test", kind.command[-1]] if isinstance(kind, Script) else ["--crash"] if kind.name == "crash" else []


def _plan(subject: Subject, found: Bisection) -> Plan:
    """Return the skip list: a plan by which the whole model compiles without what is to blame."""
    reasons = {b.guilty[-1].key: b.reason for b in found.blames}
    skip = tuple({"pass_name": n, "site": s, "reason": r} for (n, s), r in sorted(reasons.items()))
    options = subject.driver.options
    return Plan(options.target, options.opt_level, source=_path(subject), version=__version__, skip=skip)


def _facts(subject: Subject, found: Bisection, options: Options, reduced: Reduced | None) -> dict[str, Any]:
    return {
        "version": __version__,
        "complaint": found.complaint,
        "reason": found.reason,
        "blames": [asdict(b) for b in found.blames],
        "pipeline": str(subject.driver.pipeline),
        "options": list(_spelled(subject.driver.options)),
        "reduced": {"nodes": reduced.nodes, "reason": reduced.reason} if reduced else {},
        "reduced_pipeline": options.passes,
        "compiles": found.compiles,
    }


def _readme(subject: Subject, found: Bisection, reduced: Reduced | None, command: str) -> str:
    nodes = sum(1 for _ in subject.source.nodes())
    size = f"{reduced.nodes} of {nodes} nodes" if reduced is not None else f"{nodes} nodes: no part of it was enough"
    lines = ["# Reproducer of fcc bisect", "", f"{found.complaint}: {found.reason}", "", "To blame:", ""]
    lines += [line for b in found.blames for line in said(b)]
    lines += ["", f"The model here has {size}. Run in this folder:", "", "```sh", command, "```", ""]
    plugins = [getattr(p, "name", p) for p in subject.driver.options.plugins if not isinstance(p, str | os.PathLike)]
    lines += [f"FILE defines {', '.join(map(str, plugins))}.", ""] if plugins else []
    lines += ["The whole model without what is to blame:", "", "```sh", f"{_workaround(subject)}", "```", ""]
    return "\n".join(lines)


def _path(subject: Subject) -> str:
    source = subject.source.source
    return (source.path if source is not None else None) or "MODEL"


def _workaround(subject: Subject) -> str:
    words = ["fcc", _path(subject), "--from-plan", "plan.json"]
    return shlex.join([*words, *_spelled(subject.driver.options)])


def said(blame: Any) -> Iterator[str]:
    """Yield what is to blame in words, one line per application."""
    for k, rewrite in enumerate(blame.guilty):
        more = "" if k == 0 else " (together with the one above)"
        yield f"- {_place(rewrite)}{more}"
    yield from (f"  after {_place(r)}, which makes its site" for r in blame.needed)
    yield f"  {blame.reason}"


def _place(rewrite: ir.Rewrite) -> str:
    return f"pass {rewrite.pass_name} at {rewrite.site}" if rewrite.site else f"pass {rewrite.pass_name}"
