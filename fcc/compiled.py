"""CompiledModel: the result of a compile."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import ir
from .backends import Emitted
from .backends import save as save_emitted
from .plan import Plan
from .report import Report


@dataclass(frozen=True)
class CompiledModel:
    """An optimized model, with the report of how it came to be.

    ``session_options`` and ``provider_options`` are recommended: they may add speed, never correctness. ``custom_ops``
    are the libraries of operators that its sessions register. ``plan`` replays its choices (``fcc.compile(plan=...)``);
    ``measured`` are the rows that --tune-seconds added.
    """

    emitted: Emitted
    report: Report
    module: ir.Module = field(repr=False)
    log: Any = field(default=None, repr=False)
    custom_ops: tuple[str, ...] = ()
    plan: Plan | None = field(default=None, repr=False)
    measured: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def session_options(self) -> dict[str, str]:
        """Recommended entries of the session configuration."""
        return dict(self.emitted.session_options)

    @property
    def provider_options(self) -> dict[str, dict[str, str]]:
        """Providers in order, each with its recommended options."""
        return {k: dict(v) for k, v in self.emitted.provider_options.items()}

    def save(self, path: str | os.PathLike[str]) -> list[str]:
        """Write the model atomically and return the files written.

        Raises:
            SaveError: the folder is missing or not writable, the disk is full, or the path is the input.
        """
        return save_emitted(self.emitted, path)

    def proto(self) -> Any:
        """Return the model as an onnx.ModelProto (below 2 GiB)."""
        return self.emitted.proto()

    def to_bytes(self) -> bytes:
        """Return the serialized model (below 2 GiB)."""
        return self.emitted.to_bytes()

    def session(self, *, threads: int = 1, recommended: bool = True) -> Any:
        """Return a runtime session (``run(feeds) -> outputs`` by name) of the model on its target.

        Raises:
            TargetUnavailable: onnxruntime or the provider is not installed here.
        """
        from .runtime import open_session

        provider = next(iter(self.emitted.provider_options), "CPUExecutionProvider")
        with Runnable(self.emitted) as model:
            return open_session(
                model,
                provider=provider,
                threads=threads,
                custom_ops=self.custom_ops,
                options=self.session_options if recommended else {},
                provider_options=self.provider_options.get(provider, {}) if recommended else {},
            )


class Runnable:
    """What a session opens: the bytes of an output, or a temporary file when its weights lie outside."""

    def __init__(self, emitted: Emitted) -> None:
        self.emitted = emitted
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> bytes | str:
        if not self.emitted.external:
            return self.emitted.to_bytes()
        self._folder = tempfile.TemporaryDirectory(prefix="fcc-")
        path = str(Path(self._folder.name) / "model.onnx")
        save_emitted(self.emitted, path)
        return path

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()
