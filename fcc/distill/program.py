"""A module as a function in torch: nodes one by one through a table from operators to torch functions.

onnx2torch was looked at first: it has neither LSTM and GRU nor the operators since opset 21 that fcc writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from fcc import ir

from . import attention, layers, moves, points, quantized, recurrent, reductions
from .call import Call, NoForm, Table, Tensor
from .types import constant

LOWEST = 13  # below, Softmax and others mean something else
TABLES = (points, layers, moves, reductions, recurrent, attention, quantized)
TABLE: Table = {name: f for tables in TABLES for name, f in tables.TABLE.items()}
_Env = dict[ir.Value, Tensor]


class Program:
    """Computes the outputs of a module.

    Raises:
        NoForm: an operator, or what it is asked for, has no torch form here.
    """

    def __init__(self, module: ir.Module) -> None:
        if module.opset() < LOWEST:
            raise NoForm(f"opset {module.opset()}")
        missing = sorted(
            {_name(n) for n in module.nodes() if n.domain or (n.op_type not in TABLE and n.op_type != "If")}
        )
        if missing:
            raise NoForm(", ".join(missing))
        self.module = module
        self._constants: dict[ir.Value, Tensor] = {}
        for graph in module.graphs():
            for value in graph.initializers.values():
                self._constants[value] = constant(value)

    def constant(self, value: ir.Value) -> Tensor:
        """Return a constant as it was read."""
        return self._constants[value]

    def __call__(self, feeds: Mapping[str, Any], weights: Mapping[ir.Value, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the outputs by name; ``weights`` take the place of constants."""
        env: _Env = {**self._constants, **(weights or {})}
        graph = self.module.graph
        env |= {v: feeds[v.name] for v in graph.inputs if v.name is not None and v.name in feeds}
        self._run(graph, env)
        return {v.name or "": env[v] for v in graph.outputs}

    def _run(self, graph: ir.Graph, env: _Env) -> None:
        for node in graph:
            inputs: tuple[Tensor, ...] = tuple(None if v is None else env[v] for v in node.inputs)
            if node.op_type == "If":
                found: Any = tuple(self._branch(node, bool(inputs[0].item()), env))
            else:
                found = TABLE[node.op_type](Call(node, inputs, self.module.opset()))
            made = found if isinstance(found, tuple) else (found,)
            if any(v.uses() or v.is_graph_output() for v in node.outputs[len(made) :]):
                raise NoForm(f"{node.op_type} with {len(node.outputs)} outputs")
            env.update(zip(node.outputs, made, strict=False))

    def _branch(self, node: ir.Node, taken: bool, env: _Env) -> Iterator[Tensor]:
        graph = node.attributes["then_branch" if taken else "else_branch"].as_graph()
        self._run(graph, env)
        yield from (env[v] for v in graph.outputs)


def _name(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def tensors(feeds: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return arrays as tensors, those that may not be written as copies."""
    return {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in feeds.items()}
