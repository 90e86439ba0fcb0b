"""graphsurgeon: a user's gs.Graph -> gs.Graph function as a verified pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fcc import ir
from fcc.analysis import shapes
from fcc.interop import from_graphsurgeon, to_graphsurgeon
from fcc.rewrite import ModulePass, PassContext


@dataclass(frozen=True)
class GraphSurgeonPass(ModulePass):
    """Run ``fn(gs.Graph) -> gs.Graph | None`` (None: changed in place) inside the pipeline, under the name of ``fn``.

    graph -> fn(graph), judged by parity like any other pass; the inputs and outputs must stay what they were.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
    """

    fn: Callable[[Any], Any]

    @property
    def name(self) -> str:  # type: ignore[override]  # one class serves all functions; reports and --passes tell them apart
        """The name of the function in kebab-case."""
        words = re.findall(r"[A-Za-z0-9]+", getattr(self.fn, "__name__", ""))
        return "-".join(words) or "graphsurgeon"

    def options(self) -> dict[str, Any]:
        """Return none: the function is what the pass is called."""
        return {}

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        graph = to_graphsurgeon(module)
        before = _signature(module)
        result = self.fn(graph)
        changed = from_graphsurgeon(graph if result is None else result)
        if _signature(changed) != before:
            raise ValueError(f"{self.name} changed the inputs or outputs: {_signature(changed)}, were {before}")
        module.model = changed.model
        module.reindex()
        shapes.infer(module)
        return 1


def _signature(module: ir.Module) -> list[tuple[str | None, Any]]:
    overridable = module.graph.initializers
    inputs = [v for v in module.graph.inputs if v.name not in overridable]
    return [(v.name, v.dtype) for v in (*inputs, *module.graph.outputs)]
