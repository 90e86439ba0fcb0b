"""What TensorRT's parser refuses beyond its op table."""

from __future__ import annotations

from collections.abc import Iterator

from fcc import ir
from fcc.target import TargetSpec

from .facts import DATA_DEPENDENT, dynamic_inputs
from .lint import LintRow, name_of


def uint8_inside(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """uint8 is a type of network inputs and outputs only."""
    for node in module.nodes():
        for value in node.outputs:
            if value.dtype == ir.DataType.UINT8 and not value.is_graph_output() and ir.is_used(value):
                yield LintRow(name_of(node), f"{value.name} is uint8, which TensorRT takes at inputs and outputs only")


def unknown_types(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Every tensor at the border of a TensorRT subgraph needs a type and a shape; one row for all that lack one."""
    names = [
        value.name
        for node in module.nodes()
        for value in node.outputs
        if value.name and ir.is_used(value) and (value.type is None or value.shape is None)
    ]
    if names:
        yield LintRow("", f"the type or rank of {len(names)} values is not known, {names[0]} first", "warning")


def missing_profile(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """An input of unknown rank cannot be in a profile: onnxruntime then rebuilds engines as shapes arrive."""
    for value in dynamic_inputs(module):
        if value.shape is None:
            yield LintRow("", f"input {value.name} has no declared rank, so no optimization profile", "warning")


def data_dependent(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Ops whose output shape depends on data are excluded from TensorRT by the recommended options."""
    for node in module.nodes():
        if node.op_type in DATA_DEPENDENT and node.domain == "":
            yield LintRow(name_of(node), f"{node.op_type} has data-dependent shapes and is left to CUDA", "warning")
