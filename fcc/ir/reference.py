"""One node by onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx_ir import Graph, Model, Node, Value, serde

from .uses import subgraphs_of

SLOW = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LSTM", "GRU", "RNN", "Resize", "STFT", "DFT"})


def run_node(node: Node, inputs: Sequence[np.ndarray[Any, Any] | None], opset: int) -> list[Any] | None:
    """Return the outputs of a node without nested graphs, or None when the evaluator lacks it or is too slow for it."""
    if any(True for _ in subgraphs_of(node)) or node.domain not in ("", "ai.onnx") or node.op_type in SLOW:
        return None
    from onnx.reference import ReferenceEvaluator

    values = [None if a is None else Value(name=f"i{k}") for k, a in enumerate(inputs)]
    outputs = [Value(name=f"o{k}" if v.name else "") for k, v in enumerate(node.outputs)]
    copy = Node("", node.op_type, values, node.attributes.values(), outputs=outputs)
    used = [o for o in outputs if o.name]
    graph = Graph([v for v in values if v is not None], used, nodes=[copy], opset_imports={"": opset}, name="g")
    try:
        evaluator = ReferenceEvaluator(serde.serialize_model(Model(graph, ir_version=10)))
        feeds = {f"i{k}": a for k, a in enumerate(inputs) if a is not None}
        results = dict(zip((o.name for o in used), evaluator.run(None, feeds), strict=True))
    except (NotImplementedError, RuntimeError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
    return [results.get(o.name) for o in outputs]
