"""Facts of a module that recommended options depend on (the names are ``fcc.target.FACTS``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fcc import ir

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
DATA_DEPENDENT = frozenset({"NonMaxSuppression", "NonZero", "RoiAlign"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_SCANNED = 1 << 28  # bytes of weights looked at


def dynamic_inputs(module: ir.Module) -> list[ir.Value]:
    """Return the required inputs of the model that have a dimension, or a rank, not known at compile time."""
    required = (v for v in module.graph.inputs if not v.is_initializer())
    return [v for v in required if v.shape is None or not v.shape.is_static()]


def _fp16_conv(module: ir.Module) -> bool:
    return any(n.op_type in CONVOLUTIONS and n.outputs[0].dtype == ir.DataType.FLOAT16 for n in module.nodes())


def _denormal_weights(module: ir.Module) -> bool:
    left = _SCANNED
    for value in (v for graph in module.graphs() for v in graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or isinstance(tensor, ir.LazyTensor):
            continue
        left -= tensor.nbytes
        if left < 0:
            return False
        if _has_denormals(tensor):
            return True
    return False


def _has_denormals(tensor: ir.TensorProtocol) -> bool:
    bits = np.ascontiguousarray(tensor.numpy(), np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF)
    return bool(((bits - np.uint32(1)) < np.uint32(0x007FFFFF)).any())


_CHECKS: Mapping[str, Callable[[ir.Module], bool]] = {
    "denormal-weights": _denormal_weights,
    "fp16-conv": _fp16_conv,
    "dynamic-shapes": lambda m: bool(dynamic_inputs(m)),
    "data-dependent-shapes": lambda m: any(n.op_type in DATA_DEPENDENT for n in m.nodes()),
}


def facts_of_module(module: ir.Module, asked: frozenset[str], lacks: Callable[[], bool]) -> frozenset[str]:
    """Return the facts among ``asked`` that hold; ``lacks`` says whether the provider cannot run some node.

    "graph-capture": static shapes, no control flow, and every node on the provider.
    """
    found = {name for name, holds in _CHECKS.items() if name in asked and holds(module)}
    if "graph-capture" in asked and not dynamic_inputs(module):
        control = any(n.op_type in CONTROL_FLOW | DATA_DEPENDENT for n in module.nodes())
        if not control and not lacks():
            found.add("graph-capture")
    return frozenset(found)
