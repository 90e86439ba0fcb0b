"""Which nodes compute the same constant on every run, and how to compute it: a plan that holds no graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.evaluate import RULES, evaluate

Array = np.ndarray[Any, Any]
RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
# Operators that cannot fail on operands whose static shapes were inferred, and whose result is one rounding or none.
DEFERRABLE = frozenset(
    {"Add", "Cast", "Concat", "Identity", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def refusal(node: ir.Node, table_limit: int, other_limit: int, whole: int) -> str | None:
    """Return why a node whose inputs are constant must not be evaluated, by its kind and the sizes it declares.

    ``whole``: elements of all constants of the module; what moves them may take as many, but not double them each time.
    """
    if node.domain:
        return f"{node.domain}.{node.op_type} has no evaluator"
    if node.op_type in RANDOM:
        return f"{node.op_type} draws anew on every run"
    if node.op_type in QUANTIZED:
        return "a quantized model keeps its Q and DQ"
    if any(True for _ in ir.subgraphs_of(node)):
        return "control flow"
    limit = table_limit if node.op_type in RULES and len(node.outputs) == 1 else other_limit
    if node.op_type in DEFERRABLE:  # what is no larger than its operands together costs no more than reading them
        limit = max(limit, min(whole, sum(shapes.static_size(v) or 0 for v in node.inputs if v is not None)))
    for value in node.outputs:
        if value.name and (reason := _unfit(value, limit)):
            return reason
    return None


def _unfit(value: ir.Value, limit: int) -> str | None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return f"{value.name!r} is no tensor"
    if value.dtype is None or value.dtype == ir.DataType.STRING:
        return f"{value.name!r} holds no numbers"
    size = shapes.static_size(value)
    if size is None:
        return f"the shape of {value.name!r} is not known"
    return f"{value.name!r} has {size} elements, more than {limit}" if size > limit else None


def is_source(value: ir.Value) -> bool:
    """Return whether the contents of a value are at hand: a constant, or integers known from shapes."""
    if ir.Module.is_constant(value):
        return value.dtype != ir.DataType.STRING
    found = shapes.elements(value)
    return (
        found is not None
        and value.dtype is not None
        and not any(isinstance(x, ir.Dim) for x in found.reshape(-1).tolist())
    )


@dataclass(frozen=True)
class Step:
    """One node, detached: the keys of its inputs and of its outputs."""

    node: ir.Node
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Nodes in order and the tensors they start from; may be computed later, elsewhere, and again."""

    steps: tuple[Step, ...]
    sources: dict[int, Any]
    opset: int

    @staticmethod
    def of(nodes: Sequence[ir.Node], opset: int) -> Plan:
        """Return the plan of ``nodes`` (producers first)."""
        made = {id(v) for n in nodes for v in n.outputs}
        sources = {id(v): _contents(v) for n in nodes for v in n.inputs if v is not None and id(v) not in made}
        steps = tuple(
            Step(_copy(n), tuple(None if v is None else id(v) for v in n.inputs), tuple(id(v) for v in n.outputs))
            for n in nodes
        )
        return Plan(steps, sources, opset)

    def deferrable(self) -> bool:
        """Return whether the plan may be computed when the model is saved: nothing in it can fail or differ then."""
        return all(s.node.op_type in DEFERRABLE and s.node.outputs[0].dtype in FLOATS for s in self.steps)

    def run(self) -> list[Array]:
        """Return the outputs of the last node; what no later node needs is forgotten.

        Raises:
            NotImplementedError: no evaluator knows one of the nodes.
        """
        arrays: dict[int | None, Any] = {}
        last = {k: i for i, step in enumerate(self.steps) for k in (*step.outputs, *step.inputs)}
        dying: dict[int, list[int | None]] = defaultdict(list)
        for key, i in last.items():
            dying[i].append(key)
        for i, step in enumerate(self.steps[:-1]):
            self._run(step, arrays)
            for key in dying[i]:
                arrays.pop(key, None)
        self._run(self.steps[-1], arrays)
        return [arrays[k] for k in self.steps[-1].outputs]

    def _run(self, step: Step, arrays: dict[int | None, Any]) -> None:
        inputs = [None if k is None else arrays[k] if k in arrays else self._source(k) for k in step.inputs]
        results = evaluate(step.node, inputs, self.opset)
        if results is None:
            raise NotImplementedError(f"no evaluator knows {step.node.op_type}")
        arrays.update(zip(step.outputs, results, strict=True))

    def _source(self, key: int) -> Array:
        found = self.sources[key]
        return found if isinstance(found, np.ndarray) else np.asarray(found.numpy())


def _contents(value: ir.Value) -> Any:
    if ir.Module.is_constant(value):
        return value.const_value
    assert value.dtype is not None
    return np.asarray(shapes.elements(value)).astype(value.dtype.numpy())


def _copy(node: ir.Node) -> ir.Node:
    inputs = [None if v is None else ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.inputs]
    outputs = [ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.outputs]
    return ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=outputs, name=node.name)
