"""What happens at a site of insert-qdq, and what runs on int8 between layers: pass-through nodes, guards, sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fcc import ir
from fcc.rewrite import Rewriter, Site
from fcc.target.qdq import QdqScheme

from ._qdq_emit import Activation, dequantized, requantize, spread
from ._qdq_layers import Layer
from ._qdq_plan import TAKEN_OVER


@dataclass(frozen=True)
class Task:
    """What to do at a site: quantize a layer, with its result or without; ``between`` for what reads int8 else; or the
    operand ``skip`` of a residual sum. ``shared``: all tensors that have one scale, by tensor."""

    scheme: QdqScheme
    layer: Layer | None = None
    output: bool = False
    between: Callable[[Site, Rewriter, Activation], None] | None = None
    skip: int | None = None
    shared: Mapping[str, Sequence[str]] = field(default_factory=dict)


def input_of(site: Site, index: int = 0) -> ir.Value:
    """Return an operand of the node of a site."""
    value = site.anchor.inputs[index]
    assert value is not None
    return value


def between_refusal(site: Site, task: Task) -> str | None:
    """Return why a node that is no layer stays as it is."""
    x = dequantized(input_of(site), task.scheme.activation_dtype)
    if x is None:
        return "its input stayed float"
    return "no axis has a known size" if task.between is _guard and _known_axis(x.value) is None else None


def guard_refusal(site: Site, task: Task) -> str | None:
    """Return why a layer stays float that needs a guard and can have none."""
    guarded = task.scheme.guarded and _taken_over(site.anchor)
    return "no axis has a known size" if guarded and _known_axis(input_of(site)) is None else None


def guarded(rw: Rewriter, node: ir.Node, x: Activation, scheme: QdqScheme) -> Activation:
    """Return an operand dequantized by equal scales along an axis where the runtime would quantize the bias else."""
    axis = _known_axis(x.value)
    if not scheme.guarded or not _taken_over(node) or axis is None:
        return x
    return replace(x, value=spread(rw, x, axis))


def _taken_over(node: ir.Node) -> bool:
    return node.op_type in TAKEN_OVER and len(node.inputs) > 2 and node.inputs[2] is not None


def skip_refusal(site: Site, skip: int, task: Task) -> str | None:
    """Return why the skip operand of a sum stays float."""
    layer = input_of(site, 1 - skip).producer()
    reads = layer.inputs[0] if layer is not None else None
    if reads is None or dequantized(reads, task.scheme.activation_dtype) is None:
        return "the layer that would add it stayed float"
    ready = dequantized(input_of(site, skip), task.scheme.activation_dtype) is not None
    return "its operand is int8" if ready else None


def _pass_through(site: Site, rw: Rewriter, x: Activation) -> None:
    """Let a node run on int8: the same scale and zero point before and behind it."""
    result = rw.like(site.anchor, x.value)
    rw.replace(site.anchor.outputs[0], requantize(rw, result, x.scale, x.zero_point).value)
    rw.erase(site.anchor)


def _guard(site: Site, rw: Rewriter, x: Activation) -> None:
    """Keep a float layer float: the runtime quantizes its weight per tensor behind a scalar scale, not behind equal
    scales along an axis."""
    axis = _known_axis(x.value)
    assert axis is not None
    rw.set_input(site.anchor, 0, spread(rw, x, axis))


def _known_axis(value: ir.Value) -> int | None:
    dims = ir.known_dims(value)
    return next((i for i, d in enumerate(dims) if isinstance(d, int) and d > 1), None)


BETWEEN = {"pass": _pass_through, "guard": _guard}
