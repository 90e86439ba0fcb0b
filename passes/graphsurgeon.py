"""graphsurgeon: a user's gs.Graph -> gs.Graph function as a verified pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fcc import ir
from fcc.analysis import shapes
from fcc.interop import from_graphsurgeon, to_graphsurgeon
from fcc.rewrite import ModulePass, PassContext


@dataclass(frozen=True)
class GraphSurgeonPass(ModulePass):
    """Run ``fn(gs.Graph) -> gs.Graph | None`` (None: changed in place) inside the pipeline.

    graph -> fn(graph), judged by parity like any other pass; the inputs and outputs must stay what they were.

    Raises:
        OptionError: onnx-graphsurgeon is not installed.
    """

    name: ClassVar[str] = "graphsurgeon"
    fn: Callable[[Any], Any]

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        graph = to_graphsurgeon(module)
        before = _signature(module)
        result = self.fn(graph)
        changed = from_graphsurgeon(graph if result is None else result)
        if _signature(changed) != before:
            raise ValueError(f"{self.fn.__name__} changed the inputs or outputs: {_signature(changed)}, were {before}")
        module.model = changed.model
        module.reindex()
        shapes.infer(module)
        return 1


def _signature(module: ir.Module) -> list[tuple[str | None, Any]]:
    overridable = module.graph.initializers
    inputs = [v for v in module.graph.inputs if v.name not in overridable]
    return [(v.name, v.dtype) for v in (*inputs, *module.graph.outputs)]
