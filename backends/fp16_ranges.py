"""What float16 would do to the values that samples made: overflow, vanish, or divide by nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fcc import ir

from .fp16_constants import MASKING
from .fp16_types import FLOAT, FP16, Operands

LARGEST = FP16.largest
MARGIN = 2.0  # samples are not all there is: what comes within half of the range counts as beyond it
SMALLEST = 2.0**-14  # below, float16 loses digits, and below 2^-25 everything
SQUARE = LARGEST**0.5
OVERFLOW = "its values leave the range of float16 in the data"
UNDERFLOW = "its values are too small for float16 in the data"
DIVISOR = "a divisor is too small for float16 in the data"
SQUARED = "it squares values beyond 255, as the data shows"
# Kernels of these compute squares of their operand in its own type.
_SQUARING = frozenset({"LpNormalization", "LRN", "LpPool", "GlobalLpPool"})
_MASKED = MASKING | {"Reshape", "Unsqueeze", "Squeeze", "Expand", "Transpose", "Slice", "Concat", "Identity"}
_DIVISORS: Mapping[str, int] = {"Div": 1, "Reciprocal": 0, "Log": 0}


@dataclass
class Ranges:
    """The ranges of tensors by name, from calibration (None: there is no data); ``worst`` is what islands are for."""

    stats: Mapping[str, Any] | None = None
    worst: dict[str, dict[str, float]] = field(default_factory=dict)

    def reason(self, node: ir.Node, operands: Operands) -> str | None:
        """Return why a node must compute in float32, given what it reads and writes."""
        if self.stats is None:
            return None
        reads = [node.inputs[i] for i in operands.inputs]
        for value in (*reads, *(node.outputs[i] for i in operands.outputs)):
            if value is None or ir.Module.is_constant(value):
                continue
            low, high = self._range(value)
            if low * MARGIN < -LARGEST and _masks(value):
                low = min(high, 0.0)  # clipped with the constant that masks, and exp of it is 0 all the same
            largest = max(-low, high)
            if largest * MARGIN > LARGEST:
                return self._because(OVERFLOW, value, largest)
            if 0 < largest < SMALLEST:
                return self._because(UNDERFLOW, value, largest)
            if node.op_type in _SQUARING and value in reads and largest * MARGIN**0.5 > SQUARE:
                return self._because(SQUARED, value, largest)
            if self._divides(value) and 0 < (smallest := low if low > 0 else -high) < SMALLEST:
                return self._because(DIVISOR, value, smallest)
        return None

    def said(self, reason: str) -> str:
        """Return the tensors that a reason is about, the worst three with their figures."""
        found = self.worst.get(reason, {})
        sign = 1 if reason in (UNDERFLOW, DIVISOR) else -1
        worst = sorted(found.items(), key=lambda item: (sign * item[1], item[0]))[:3]
        return f" ({', '.join(f'{name} {figure:.3g}' for name, figure in worst)})" if worst else ""

    def _range(self, value: ir.Value) -> tuple[float, float]:
        assert self.stats is not None
        seen = self.stats.get(value.name or "")
        return (0.0, 0.0) if seen is None or not seen.count else (float(seen.min), float(seen.max))

    def _because(self, reason: str, value: ir.Value, figure: float) -> str:
        self.worst.setdefault(reason, {})[value.name or ""] = figure
        return reason

    @staticmethod
    def _divides(value: ir.Value) -> bool:
        return any(_DIVISORS.get(u.node.op_type) == u.idx and not u.node.domain for u in value.uses())


def _masks(value: ir.Value, depth: int = 8) -> bool:
    """Return whether a value is large and negative because of a constant mask, which conversion clips."""
    made = value.producer()
    if made is None or made.op_type not in _MASKED or depth == 0:
        return False
    operands = [v for v in made.inputs if v is not None and v.dtype == FLOAT]
    return any(map(_is_mask, operands)) or any(_masks(v, depth - 1) for v in operands if not ir.Module.is_constant(v))


def _is_mask(value: ir.Value) -> bool:
    array = ir.Module.constant(value) if ir.Module.is_constant(value) else None
    return array is not None and bool(array.size) and float(array.min()) * MARGIN < -LARGEST and float(array.max()) <= 0


def ranged(module: ir.Module) -> list[str]:
    """Return the names of the float32 tensors of the main graph that are computed or given."""
    made = (v for node in module.graph for v in node.outputs if v.name and ir.is_used(v))
    given = (v for v in module.graph.inputs if not v.is_initializer())
    return [v.name or "" for v in (*given, *made) if v.dtype == FLOAT and isinstance(v.type, ir.TensorType)]
