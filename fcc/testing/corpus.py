"""Seeds: the graphs that checks accepted, recorded where FCC_RECORD names a file, and read back for ``vary``."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx_ir import serde

import fcc.rewrite
from fcc import ir
from fcc.rewrite import Pass, PassContext

from .texts import model_from

LONGEST = 200_000
BINARY = "base64:"


@dataclass(frozen=True)
class Seed:
    """A graph on which a pass applies: ``pass_text`` as in a pipeline, the graph and its constants as ``check`` has.

    A graph that was not written for ``check`` is a model in base64.
    """

    pass_text: str
    text: str
    opset: int = 21
    target: str = "cpu"
    constants: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def pass_name(self) -> str:
        """The name without the options."""
        return self.pass_text.partition("{")[0]

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        if self.text.startswith(BINARY):
            return onnx.ModelProto.FromString(base64.b64decode(self.text.removeprefix(BINARY)))
        return model_from(self.text, self.opset, self.constants, self.seed)


def text_of(p: Pass) -> str:
    """Return a pass as in a pipeline; of a class that a test derives, as the pass of fcc that it comes from."""
    kind = next((k for k in type(p).__mro__ if k.__module__.startswith("fcc.")), type(p))
    given = {f.name: getattr(p, f.name) for f in fields(kind) if getattr(p, f.name) != f.default}
    return f"{p.name}{{{','.join(f'{k}={v}' for k, v in given.items())}}}" if given else p.name


def record(seed: Seed) -> None:
    """Append a seed to the file that FCC_RECORD names, if it does; very long ones are left out."""
    path = os.environ.get("FCC_RECORD")
    if not path:
        return
    line = json.dumps(_plain(seed))
    if len(line) <= LONGEST:
        with open(path, "a") as file:
            file.write(line + "\n")


def watch() -> None:
    """Record what tests run passes on themselves, without ``check``, from now on: replaces ``fcc.rewrite.run_pass``."""
    run = fcc.rewrite.run_pass

    def recorded(p: Pass, module: ir.Module, ctx: PassContext) -> int:
        before = module.clone()
        applied = run(p, module, ctx)
        if applied and not any(isinstance(t, ir.ExternalTensor) for t in _held(before)):
            proto = serde.serialize_model(before.model)
            text = BINARY + base64.b64encode(proto.SerializeToString(deterministic=True)).decode()
            record(Seed(text_of(p), text, module.opset(), ctx.target.name))
        return applied

    fcc.rewrite.run_pass = recorded


def _held(module: ir.Module) -> list[object]:
    return [v.const_value for g in module.graphs() for v in g.initializers.values()]


def _plain(seed: Seed) -> dict[str, Any]:
    constants = {k: np.asarray(v).tolist() for k, v in seed.constants.items() if v is not None}
    return {**asdict(seed), "constants": constants}


def save(path: Path, seeds: Iterable[Seed]) -> None:
    """Write a corpus: one seed a line, compressed, the same bytes for the same seeds."""
    text = "".join(json.dumps(_plain(s)) + "\n" for s in seeds)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> list[Seed]:
    """Read what ``save`` or ``record`` wrote."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    return [Seed(**json.loads(line)) for line in text.splitlines()]
