"""Which operands of a node may be float16: by the type variables of its schema and the target's kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fcc import ir
from fcc.target import TargetSpec

from .node_facts import dtypes_of, support_of

FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Format:
    """A type of 16 bits: its names in ONNX, on the command line, and its largest finite number.

    ``narrow``: values of ordinary models leave its range.
    """

    dtype: ir.DataType
    name: str
    short: str
    largest: float
    narrow: bool


FP16 = Format(ir.DataType.FLOAT16, "float16", "fp16", 65504.0, narrow=True)
BF16 = Format(ir.DataType.BFLOAT16, "bfloat16", "bf16", float.fromhex("0x1.fep127"), narrow=False)
FORMATS = {f.short: f for f in (FP16, BF16)}


@dataclass(frozen=True)
class Operands:
    """The float32 inputs and outputs of a node that would be float16, by index."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def is_type_blind(node: ir.Node) -> bool:
    """Return whether the node looks at shapes only."""
    return node.domain == "" and node.op_type in ("Shape", "Size")


def convertible(node: ir.Node, module: ir.Module, spec: TargetSpec, form: Format) -> Operands:
    """Return the operands that the op's schema lets be of 16 bits; a contrib op without a schema: all of them."""
    if is_type_blind(node):
        return Operands((), ())
    kept = spec.keep_float.get((node.domain, node.op_type), frozenset())
    schema = ir.schema_of(node.op_type, node.domain, module.opset(node.domain))
    inputs = [i for i, v in enumerate(node.inputs) if _is_float(v) and i not in kept]
    outputs = [i for i, v in enumerate(node.outputs) if _is_float(v)]
    if schema is None:
        return Operands(tuple(inputs), tuple(outputs))
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    return Operands(
        tuple(i for i in inputs if _takes_half(schema.inputs, i, allowed, form)),
        tuple(i for i in outputs if _takes_half(schema.outputs, i, allowed, form)),
    )


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and bool(value.name) and isinstance(value.type, ir.TensorType) and value.dtype == FLOAT


def _takes_half(formals: Any, index: int, allowed: dict[str, set[str]], form: Format) -> bool:
    if not formals:
        return False
    formal = formals[min(index, len(formals) - 1)]
    return f"tensor({form.name})" in allowed.get(formal.type_str, ())


def runs_in_half(node: ir.Node, operands: Operands, module: ir.Module, spec: TargetSpec, form: Format) -> bool:
    """Return whether the target runs the node with those operands in 16 bits."""
    schema = ir.schema_of(node.op_type, node.domain, module.opset(node.domain))
    kinds = dtypes_of(node, module.model.opset_imports)
    if schema is None:
        kinds = {"T": form.name, "T1": form.name} if operands.inputs else kinds
    else:
        for formals, indices in ((schema.inputs, operands.inputs), (schema.outputs, operands.outputs)):
            for i in indices:
                kinds[formals[min(i, len(formals) - 1)].type_str] = form.name
    return support_of(node, module, spec, kinds).refusal is None
