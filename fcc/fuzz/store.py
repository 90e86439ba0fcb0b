"""Failing models as text files: what was wrong, how to see it again, and the model in ONNX's syntax."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from .judge import How

REPEATED = frozenset({"deterministic", "idempotent", "again"})
BINARY = "base64:"


@dataclass(frozen=True)
class Kept:
    """A model that failed once: how it was compiled, and what was wrong."""

    model: onnx.ModelProto
    how: How
    said: str


def write(folder: Path, model: onnx.ModelProto, how: How, said: str, kind: str) -> Path:
    """Write a failure and return its file, named after what it is: the same for the same model."""
    text = str(onnx.printer.to_text(model))
    try:
        exact = bare_bytes(onnx.parser.parse_model(text)) == bare_bytes(model)
    except onnx.parser.ParseError:
        exact = False
    if not exact:
        text = f"{BINARY}{base64.b64encode(model.SerializeToString(deterministic=True)).decode()}\n" + "".join(
            f"# {line}\n" for line in text.splitlines()
        )
    digest = hashlib.sha1(model.SerializeToString(deterministic=True)).hexdigest()[:8]
    name = f"{kind}_{how.lossy or f'O{how.level}'}_{how.target}_{digest}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    head = f"# {said}\n# level={how.level} target={how.target} lossy={how.lossy} whole={int(how.whole)}\n"
    path.write_text(f"{head}# replay: python -m fcc.fuzz --replay {path}\n{text.rstrip()}\n")
    return path


def bare_bytes(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model in one form of its tensors."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for t in copy.graph.initializer:
        if t.data_type != onnx.TensorProto.STRING:
            t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(t), t.name))
    copy.producer_name = copy.graph.name = ""
    return bytes(copy.SerializeToString(deterministic=True))


def read(path: Path) -> Kept:
    """Read what ``write`` wrote."""
    lines = path.read_text().splitlines()
    said = lines[0].removeprefix("# ")
    given = dict(word.split("=") for word in lines[1].removeprefix("# ").split())
    how = How(int(given["level"]), given["target"], given["lossy"], bool(int(given["whole"])))
    body = [line for line in lines if not line.startswith("#")]
    if body[0].startswith(BINARY):
        return Kept(onnx.ModelProto.FromString(base64.b64decode(body[0].removeprefix(BINARY))), how, said)
    return Kept(onnx.parser.parse_model("\n".join(body)), how, said)


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, in the order of their names."""
    yield from sorted(folder.glob("*.txt"))
